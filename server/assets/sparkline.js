// A measure over the tokens of a text, small.

import { make, makeSvg, number } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 44;
/** Points at most: more are thinned to the least and the greatest of each stretch, so that no peak is lost. */
const STRETCHES = WIDTH;

export class Sparkline {
  constructor() {
    this.line = makeSvg("path", { class: "curve" });
    this.dot = makeSvg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.svg = makeSvg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      this.line,
      this.dot,
    );
    this.high = make("span", { className: "high" });
    this.low = make("span", { className: "low" });
    this.caption = make("figcaption");
    this.element = make(
      "figure",
      { className: "spark", hidden: true },
      this.caption,
      make("div", { className: "plot" }, this.svg, this.high, this.low),
    );
    this.values = [];
  }

  /** Draws values (what is no number is a gap) between the ends of the scale. `sign` is −1 where values are shown negated. */
  draw(values, scale, label, unit, sign = 1) {
    const known = values.filter(Number.isFinite);
    this.values = values;
    this.element.hidden = known.length === 0;
    if (!known.length) return;
    const x = (at) => ((values.length > 1 ? at / (values.length - 1) : 0.5) * WIDTH).toFixed(1);
    // Where values are shown negated, the least of them is the highest.
    const height = (value) => (sign < 0 ? 1 - scale.place(value) : scale.place(value));
    const y = (value) => ((1 - height(value)) * (HEIGHT - 4) + 2).toFixed(1);
    let path = "";
    let pen = "M";
    for (const [at, value] of thin(values)) {
      if (value === null) pen = "M";
      else {
        path += `${pen}${x(at)} ${y(value)}`;
        pen = "L";
      }
    }
    // A single point has no length; a cap makes it a dot.
    this.line.setAttribute("d", values.length === 1 ? `${path}h0` : path);
    const shown = (value) => number(sign * value, 2);
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const [least, most] = known.reduce(
      ([a, b], value) => [Math.min(a, value), Math.max(b, value)],
      [Infinity, -Infinity],
    );
    const ends = sign < 0 ? [most, least] : [least, most];
    const nats = unit ? ` ${unit}` : "";
    this.caption.replaceChildren(make("strong", { textContent: label }), ` mean ${shown(mean)}${nats}`);
    this.svg.setAttribute(
      "aria-label",
      `${label} of ${known.length} tokens in their order: mean ${shown(mean)}${nats}, from ${shown(ends[0])} to ${shown(ends[1])}`,
    );
    [this.low.textContent, this.high.textContent] =
      sign < 0 ? [shown(scale.high), shown(scale.low)] : [shown(scale.low), shown(scale.high)];
  }

  /** Marks a token's place; none with null. */
  mark(index) {
    const off = index === null || this.values.length < 2;
    this.dot.setAttribute("visibility", off ? "hidden" : "visible");
    if (off) return;
    const at = (index / (this.values.length - 1)) * WIDTH;
    this.dot.setAttribute("x1", at);
    this.dot.setAttribute("x2", at);
  }

  /** Which token lies under a pointer. */
  under(event) {
    const box = this.svg.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return Math.round(part * (this.values.length - 1));
  }
}

function* thin(values) {
  const size = Math.ceil(values.length / STRETCHES);
  if (size <= 1) {
    for (const [at, value] of values.entries()) yield [at, Number.isFinite(value) ? value : null];
    return;
  }
  for (let from = 0; from < values.length; from += size) {
    let [low, high] = [-1, -1];
    for (let at = from; at < Math.min(from + size, values.length); at++) {
      if (!Number.isFinite(values[at])) continue;
      if (low < 0 || values[at] < values[low]) low = at;
      if (high < 0 || values[at] > values[high]) high = at;
    }
    if (low < 0) yield [from, null];
    else for (const at of low < high ? [low, high] : low > high ? [high, low] : [low]) yield [at, values[at]];
  }
}

// What the shades mean.

import { make, number } from "./dom.js";
import { AGREEMENT } from "./measures.js";

export function drawLegend(box, { measure, scale }) {
  const key = (kind, value, text) => {
    const swatch = make("span", { className: "t", textContent: text });
    swatch.dataset[kind] = value;
    return swatch;
  };
  if (measure.id === "agreement") {
    box.replaceChildren(...AGREEMENT.map((words, at) => key("d", at, words)));
    return;
  }
  const sign = measure.sign ?? 1;
  const end = (value) => make("span", { textContent: number(sign * value, 2) });
  box.replaceChildren(
    end(scale.low),
    make(
      "span",
      { className: "ramp", "aria-hidden": "true" },
      ...[0, 1, 2, 3, 4, 5, 6].map((shade) => key("s", shade, " ")),
    ),
    end(scale.high),
    make("span", {
      className: "muted",
      textContent: [measure.unit, sign < 0 ? "darker is less probable" : ""].filter(Boolean).join(", "),
    }),
  );
}

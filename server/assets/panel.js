// What is known of one token: its numbers, and what each role would have said in its place.

import { make, number, visible } from "./dom.js";
import { AGREEMENT, agreement, columnName, traceName, unitOf } from "./measures.js";
import { tokenText } from "./ribbon.js";

const percent = (logprob) => {
  const p = 100 * Math.exp(logprob);
  return p < 0.05 ? "<0.1 %" : `${p.toFixed(p >= 99.95 ? 0 : 1)} %`;
};
const quoted = (record) => `“${visible(tokenText(record))}”`;

export class Panel {
  constructor(element) {
    this.element = element;
    this.token = null;
    this.summary = make("p", { id: "panel-summary", className: "hidden" });
    this.close = make("button", { type: "button", className: "close", textContent: "Close", tabIndex: -1 });
  }

  show(token, model) {
    if (this.token === token && !this.element.hidden) return;
    this.hide();
    const { record, node, index, ribbon } = token;
    if (!record) return;
    this.token = token;
    const head = make(
      "div",
      { className: "head" },
      make("strong", { className: "token", textContent: visible(tokenText(record)) }),
      make("span", {
        className: "muted",
        textContent: `token ${index + 1} of ${ribbon.tokens.length}, id ${record.id}`,
      }),
      this.close,
    );
    const roles = Object.entries(record.sources ?? {}).filter(([, choices]) => choices?.length);
    this.element.replaceChildren(head, this.summary, this.numbers(record, model), this.roles(record, roles, model));
    this.summary.textContent = this.sentence(record, roles);
    this.element.hidden = false;
    node.setAttribute("aria-describedby", this.summary.id);
    node.classList.add("open");
    this.place(node);
  }

  hide() {
    if (!this.token) return;
    this.token.node.removeAttribute("aria-describedby");
    this.token.node.classList.remove("open");
    this.element.hidden = true;
    this.token = null;
  }

  numbers(record, model) {
    const list = make("dl", { className: "numbers" });
    const put = (name, value, unit) =>
      list.append(
        make(
          "div",
          {},
          make("dt", { textContent: name }),
          make("dd", {}, value, unit ? make("span", { className: "unit", textContent: ` ${unit}` }) : ""),
        ),
      );
    put("log-probability", number(record.logprob), "nats");
    put("probability", percent(record.logprob));
    const columns = new Map((model.fusion?.trace ?? []).map((column) => [columnName(column), column]));
    for (const [name, value] of Object.entries(record.trace ?? {})) {
      if (value !== null) put(traceName(name), number(value), unitOf(columns.get(name) ?? name));
    }
    const agrees = agreement(record);
    if (agrees !== null) put("chosen", AGREEMENT[agrees]);
    return list;
  }

  roles(record, roles, model) {
    const box = make("div", { className: "roles" });
    for (const [role, choices] of roles) {
      const source = [model.fusion?.roles?.[role] ?? []].flat().join(", ");
      const rows = choices.map((choice) => {
        const taken = choice.id === record.id;
        const bar = make("span", { className: "bar", "aria-hidden": "true" });
        bar.style.setProperty("--p", Math.exp(choice.logprob));
        return make(
          "li",
          { className: taken ? "taken" : "" },
          make("span", { className: "word", textContent: visible(tokenText(choice)) }),
          taken ? make("span", { className: "hidden", textContent: " (chosen)" }) : null,
          make("span", { className: "p", textContent: percent(choice.logprob) }),
          bar,
        );
      });
      const absent = choices.some((choice) => choice.id === record.id)
        ? null
        : make("p", { className: "absent", textContent: `chosen token not in the top ${choices.length}` });
      const kind = role === "base" || role.startsWith("anti") ? role.replace(/^anti.*/, "anti") : "expert";
      box.append(
        make(
          "div",
          { className: `role ${kind}` },
          make("h4", {}, role, source ? make("span", { className: "muted", textContent: ` ${source}` }) : ""),
          make("ol", {}, ...rows),
          absent,
        ),
      );
    }
    return box;
  }

  /** The same in one sentence, for who hears it. */
  sentence(record, roles) {
    const tops = roles.map(([role, [top]]) => `${role}'s top token ${quoted(top)} ${percent(top.logprob)}`);
    const alpha = record.trace?.alpha;
    return [
      `Log-probability ${number(record.logprob)} nats`,
      typeof alpha === "number" ? `alpha ${number(alpha)}` : null,
      ...tops,
    ]
      .filter(Boolean)
      .join("; ");
  }

  /** Beside the token, where it hides neither the token nor runs off the window. On narrow screens it is a sheet at the bottom. */
  place(node) {
    const { style } = this.element;
    style.removeProperty("left");
    style.removeProperty("top");
    if (getComputedStyle(this.element).position === "fixed") {
      const covered = node.getBoundingClientRect().bottom - this.element.getBoundingClientRect().top + 12;
      if (covered > 0) scrollBy({ top: covered });
      return;
    }
    // Of a token that is broken over two lines, the part with the word: the space before it may end the line above.
    const at = [...(node.querySelector("b") ?? node).getClientRects()].reduce(
      (widest, part) => (part.width > widest.width ? part : widest),
      new DOMRect(),
    );
    const wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left, wide - this.element.offsetWidth - 8));
    const below = at.bottom + 8;
    const above = at.top - this.element.offsetHeight - 8;
    const top = below + this.element.offsetHeight > innerHeight && above > 0 ? above : below;
    style.setProperty("left", `${left + scrollX}px`);
    style.setProperty("top", `${top + scrollY}px`);
  }
}

// One decode: a model's ribbon with its sparkline, speed and errors.

import { copyText, fresh, make, number } from "./dom.js";
import { explain } from "./errors.js";
import { Scale } from "./measures.js";
import { Ribbon } from "./ribbon.js";
import { Sparkline } from "./sparkline.js";

/** "dynamic-kl: base big, expert tuned, anti small". */
export function describe(model) {
  const roles = Object.entries(model.fusion?.roles ?? {}).map(
    ([role, source]) => `${role} ${[source].flat().join(" + ")}`,
  );
  const strategy = model.fusion?.strategy;
  if (Object.values(model.fusion?.roles ?? {}).flat().length < 2) return "one model alone, no fusion";
  return [strategy, roles.join(", ")].filter(Boolean).join(": ");
}

export class Column {
  constructor(model, view) {
    Object.assign(this, {
      model,
      view,
      started: null,
      firstAt: null,
      lastAt: null,
      usage: null,
      finish: null,
      done: false,
      moved: false,
    });
    const id = fresh("column");
    this.ribbon = new Ribbon(`Tokens of ${model.id}`, view);
    this.spark = new Sparkline();
    this.waiting = make("p", { className: "hint waiting", textContent: "Waiting for the first token…" });
    this.error = make("p", { className: "error", role: "alert", hidden: true });
    this.stats = make("dl", { className: "stats" });
    this.changed = make("p", { className: "moved" });
    this.copy = make("button", {
      type: "button",
      className: "quiet copy",
      textContent: "Copy text",
      "aria-label": `Copy the text of ${model.id}`,
    });
    this.copy.addEventListener("click", async () => {
      this.copy.textContent = (await copyText(this.ribbon.text)) ? "Copied" : "Copying failed";
      setTimeout(() => {
        this.copy.textContent = "Copy text";
      }, 1500);
    });
    this.element = make(
      "article",
      { className: "column", "aria-labelledby": id },
      make("header", {}, make("h3", { id, textContent: model.id }), this.copy),
      make("p", { className: "what", textContent: describe(model) }),
      make("div", { className: "said" }, this.waiting, this.ribbon.element, this.error),
      this.changed,
      this.spark.element,
      this.stats,
    );
    this.element.column = this;
  }

  /** Streams an answer. Whatever happens is told in the column; resolves to `"done"`, `"stopped"` or `"failed"`. */
  async run(chunks, signal, wake) {
    this.started = performance.now();
    let outcome = "done";
    try {
      for await (const chunk of chunks) {
        this.take(chunk);
        wake();
      }
    } catch (error) {
      outcome = signal.aborted ? "stopped" : "failed";
      if (outcome === "failed") this.fail(error);
    }
    this.done = true;
    this.outcome = outcome;
    this.moved = true;
    wake();
    return outcome;
  }

  take(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const text = choice.text ?? choice.delta?.content ?? "";
    const records = choice.fusion?.tokens ?? [];
    if (choice.finish_reason) this.finish = choice.finish_reason;
    if (!text && !records.length) return;
    this.lastAt = performance.now();
    this.firstAt ??= this.lastAt;
    this.ribbon.append(text, records);
    this.moved = true;
  }

  fail(error) {
    const [what, remedy] = explain(error);
    this.error.replaceChildren(make("strong", { textContent: `${what}.` }), ` ${remedy}`);
    this.error.hidden = false;
    this.failure = error;
  }

  /** Brings the page up to what came; whether the ends of the shared scale moved. */
  draw() {
    if (!this.moved) return false;
    this.moved = false;
    const box = this.ribbon.element;
    const follows = !box.contains(document.activeElement) && box.scrollTop + box.clientHeight >= box.scrollHeight - 30;
    const grew = this.ribbon.draw();
    if (follows) box.scrollTop = box.scrollHeight;
    this.waiting.hidden = this.done || this.ribbon.tokens.length > 0;
    box.hidden = this.ribbon.tokens.length === 0;
    this.drawSpark();
    this.drawStats();
    return grew;
  }

  /** The chosen measure where it is a number; otherwise alpha, and for a single model how sure it is. */
  drawSpark() {
    const { measure, scale, alpha, logprob } = this.view;
    const records = this.ribbon.tokens.map((token) => token.record);
    const known = (one) => one && records.some((record) => record && Number.isFinite(one.of(record)));
    const [shown, ends] =
      measure.id !== "agreement" && known(measure) ? [measure, scale] : known(alpha) ? [alpha, null] : [logprob, null];
    const values = records.map((record) => (record ? shown.of(record) : null));
    const own = ends ?? values.reduce((all, value) => (all.include(value), all), new Scale(shown));
    this.spark.draw(values, own, shown.label, shown.unit, shown.sign);
  }

  drawStats() {
    const { tokens, moved } = this.ribbon;
    const put = (name, value) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }));
    const parts = [put("tokens", String(this.usage?.completion_tokens ?? tokens.length))];
    // The first token pays for the prompt; speed is that of the others.
    const seconds = (this.lastAt - this.firstAt) / 1000;
    if (tokens.length > 2 && seconds > 0) parts.push(put("tokens/s", number((tokens.length - 1) / seconds, 1)));
    if (this.firstAt !== null) parts.push(put("first token", `${Math.round(this.firstAt - this.started)} ms`));
    if (this.usage)
      parts.push(put("prompt", `${this.usage.prompt_tokens} token${this.usage.prompt_tokens === 1 ? "" : "s"}`));
    const ended =
      this.outcome === "stopped"
        ? "stopped"
        : ({ stop: "by itself", length: "at max tokens" }[this.finish] ?? this.finish);
    if (this.done && ended) parts.push(put("ended", ended));
    this.stats.replaceChildren(...(this.firstAt === null && !this.done ? [] : parts));
    this.changed.textContent = moved.known ? `${moved.by} of ${moved.known} tokens are not the base's top token` : "";
  }
}

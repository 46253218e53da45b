// A text as its tokens: nodes are appended, never rebuilt, so that thousands of them stay smooth.

import { make } from "./dom.js";
import { agreement } from "./measures.js";

/** A browser lays a paragraph out as a whole, at every token; so a long text is made of blocks that are left alone once full. */
const BLOCK = 200;

export class Ribbon {
  /** `view` is what the page's ribbons share: `{ measure, scale }`. */
  constructor(label, view) {
    this.view = view;
    this.tokens = [];
    this.current = 0;
    /** Where tokens are put now. */
    this.block = make("div", { className: "block", role: "presentation" });
    this.element = make("div", {
      className: "ribbon",
      role: "listbox",
      "aria-label": label,
      "aria-orientation": "horizontal",
    });
    this.element.append(this.block);
    /** How many tokens the base would have chosen otherwise, of those where that is known. */
    this.moved = { known: 0, by: 0 };
    /** Tokens whose text has not come yet: a half of a character, or text that may still become a stop string. */
    this.waiting = [];
    /** Tokens that the page does not show as they are, in their order. */
    this.changed = new Set();
  }

  get text() {
    return this.tokens.map((token) => token.text).join("");
  }

  /** A chunk: its text, and the records of its tokens. The text is what counts; records say which token which part of it is. */
  append(text, records) {
    const added = records.map((record) => this.add(record));
    const queue = [...this.waiting, ...added];
    if (!queue.length) {
      if (!text) return;
      const token = this.add(null);
      token.text = text;
      this.changed.add(token);
    } else {
      for (const token of queue) this.changed.add(token);
      this.waiting = distribute(text, queue);
    }
  }

  add(record) {
    const node = make("span", {
      className: "t",
      role: "option",
      tabIndex: this.tokens.length ? -1 : 0,
      "aria-selected": "false",
    });
    const token = { record, text: "", node, index: this.tokens.length, drawn: null, ribbon: this };
    this.tokens.push(token);
    node.token = token;
    if (record && agreement(record) !== null) {
      this.moved.known++;
      if (record.sources.base[0].id !== record.id) this.moved.by++;
    }
    return token;
  }

  /** Puts what came since into the page. */
  draw() {
    const { measure, scale } = this.view;
    let grew = false;
    const fragment = document.createDocumentFragment();
    for (const token of this.changed) {
      if (token.drawn === null) {
        fragment.append(token.node);
        if (token.record && measure.id !== "agreement") grew = scale.include(measure.of(token.record)) || grew;
      }
      if (token.drawn !== token.text) {
        this.write(token);
        if (token.text) token.node.removeAttribute("data-raw");
        else if (token.record) token.node.dataset.raw = tokenText(token.record);
        token.drawn = token.text;
      }
      this.shade(token);
    }
    this.changed.clear();
    this.block.append(fragment);
    if (this.block.childElementCount > BLOCK) this.seal();
    return grew;
  }

  /** Begins a new block where a line begins anyway, so that the text looks the same. */
  seal() {
    const nodes = [...this.block.children];
    const top = (node) => (node.querySelector("b") ?? node).getClientRects()[0]?.top;
    let from = nodes.length - 1;
    const line = top(nodes[from]);
    while (from > 0 && !(top(nodes[from - 1]) < line - 2)) from--;
    if (from < BLOCK / 2) return;
    this.block = make("div", { className: "block", role: "presentation" });
    this.block.append(...nodes.slice(from));
    this.element.append(this.block);
  }

  /** Finds the blocks anew: lines break elsewhere now. */
  reflow() {
    if (this.element.childElementCount < 2) return;
    const nodes = this.tokens.filter((token) => token.drawn !== null).map((token) => token.node);
    this.block = make("div", { className: "block", role: "presentation" });
    this.element.replaceChildren(this.block);
    for (let at = 0; at < nodes.length; at += BLOCK / 2) {
      this.block.append(...nodes.slice(at, at + BLOCK / 2));
      if (this.block.childElementCount > BLOCK) this.seal();
    }
  }

  /** The space before a word is a part of the token, but is not shaded: where a line is broken it would hang alone. */
  write({ node, text }) {
    const word = text.replace(/^[ ]+/, "");
    const apart = word !== "" && word !== text;
    if (apart) node.replaceChildren(text.slice(0, text.length - word.length), make("b", { textContent: word }));
    else node.textContent = text;
    node.classList.toggle("apart", apart);
    node.classList.toggle("blank", /^\s*\n\s*$/.test(text));
  }

  shade({ record, node }) {
    const { measure, scale } = this.view;
    const value = record ? measure.of(record) : null;
    const [set, other] = measure.id === "agreement" ? ["d", "s"] : ["s", "d"];
    const shade = measure.id === "agreement" ? value : scale.shade(value);
    delete node.dataset[other];
    if (shade === null || shade === undefined) delete node.dataset[set];
    else node.dataset[set] = shade;
  }

  /** Shades everything anew: the measure changed, or its ends moved. */
  shadeAll() {
    for (const token of this.tokens) this.shade(token);
  }

  /** Makes a token the one that the Tab key stops at. */
  choose(index) {
    const token = this.tokens[index];
    if (!token) return null;
    const before = this.tokens[this.current];
    before.node.tabIndex = -1;
    before.node.setAttribute("aria-selected", "false");
    token.node.tabIndex = 0;
    token.node.setAttribute("aria-selected", "true");
    this.current = index;
    return token;
  }
}

/** Gives each token its part of the text, and returns the tokens whose text is still to come. */
function distribute(text, queue) {
  let [first, last] = [0, queue.length - 1];
  const fits = (token) => token.record.token && !token.record.token.includes("\ufffd");
  while (text && first <= last && fits(queue[first]) && text.startsWith(queue[first].record.token)) {
    const token = queue[first++];
    token.text = token.record.token;
    text = text.slice(token.text.length);
  }
  if (!text) return queue.slice(first);
  while (text && last > first && fits(queue[last]) && text.endsWith(queue[last].record.token)) {
    const token = queue[last--];
    token.text = token.record.token;
    text = text.slice(0, -token.text.length);
  }
  // What is left belongs to pieces that make a text only together: the last of them carries it.
  if (first <= last) queue[last].text = text;
  else queue.at(-1).text += text;
  return [];
}

/** What a token is, to be read: its text, or its bytes where they are no text by themselves. */
export function tokenText(record) {
  if (record.bytes && record.token.includes("\ufffd")) {
    return `⟨${record.bytes.map((byte) => byte.toString(16).toUpperCase().padStart(2, "0")).join(" ")}⟩`;
  }
  return record.token;
}

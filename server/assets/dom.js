// Elements. Whatever a model or a server says enters the page as text nodes only.

/** An element with properties; what begins with `aria-` or `data-`, and `role`, is set as an attribute. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (/^(aria-|data-|role$|for$)/.test(key)) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function makeSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Prose from a schema: its `code` set as code, its links (rustdoc's, which lead nowhere here) as their words. */
export function prose(text) {
  const plain = text.replace(/\[([^\]]+)\]\([^)]*\)/g, "$1").replace(/\s*\n\s*/g, " ");
  return plain.split(/`([^`]+)`/).map((part, at) => (at % 2 ? make("code", { textContent: part }) : part));
}

let names = 0;
/** A fresh id, for labels. */
export const fresh = (stem) => `${stem}-${++names}`;

/** Puts text on the clipboard; the old way where the page is not in a secure context (plain HTTP from another machine). */
export async function copyText(text) {
  if (navigator.clipboard && isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // A refused permission: the old way may still work.
    }
  }
  const area = make("textarea", { value: text, className: "hidden", "aria-hidden": "true" });
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus?.();
  return done;
}

const MINUS = "\u2212";
/** A number of few digits, with a true minus sign. */
export function number(value, digits = 3) {
  if (typeof value !== "number" || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  const text =
    size === 0
      ? "0"
      : size < 0.0005 || size >= 1e6
        ? value.toExponential(1)
        : Number.isInteger(value)
          ? String(value)
          : value.toFixed(size >= 100 ? 0 : size >= 10 ? Math.min(1, digits) : digits);
  return text.replace("-", MINUS);
}

/** What a token says, made visible: spaces at its ends stay, line breaks and tabs get signs. */
export function visible(token) {
  return token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/\r/g, "␍");
}

"use strict";
// The page is whole without this file: here tokens answer to pointer and keyboard, and the theme can be switched.
(() => {
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // Theme: follows the system until it is chosen.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const button = make("button", { type: "button", className: "theme" });
  const isDark = () => (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`); };
  button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();
  document.querySelector("header").append(button);

  // Tokens: one stop of the Tab key for each ribbon, arrows within it; the panel repeats the token's row of the table.
  const ribbons = [...document.querySelectorAll(".tokens")];
  if (!ribbons.length) return;
  const tip = make("div", { className: "tip", id: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  let open = null;

  const close = () => {
    if (!open) return;
    open.removeAttribute("aria-describedby");
    open.setAttribute("aria-expanded", "false");
    tip.hidden = true;
    open = null;
  };
  const show = (token) => {
    if (open === token) return;
    close();
    const ribbon = token.closest(".ribbon");
    const heads = [...ribbon.querySelectorAll("thead th")];
    const row = ribbon.querySelectorAll("tbody tr")[[...token.parentElement.querySelectorAll(".t")].indexOf(token)];
    const cells = [...row.cells];
    const isNumber = (cell) => cell.classList.contains("number");
    const numbers = make("p", {}, make("strong", { textContent: `“${cells[0].textContent}”` }));
    const head = make("tr", {}), body = make("tr", {});
    cells.slice(1).forEach((cell, i) => {
      const title = heads[i + 1].textContent;
      if (isNumber(cell)) numbers.append(` · ${title} ${cell.textContent}`);
      else {
        head.append(make("th", { scope: "col", textContent: title }));
        body.append(make("td", {}, ...[...cell.childNodes].map((node) => node.cloneNode(true))));
      }
    });
    tip.replaceChildren(numbers, make("table", {}, make("thead", {}, head), make("tbody", {}, body)));
    tip.hidden = false;
    open = token;
    token.setAttribute("aria-describedby", "tip");
    token.setAttribute("aria-expanded", "true");
    const at = token.getClientRects()[0], wide = root.clientWidth;
    const left = Math.max(8, Math.min(at.left, wide - tip.offsetWidth - 8));
    const below = at.bottom + 8, above = at.top - tip.offsetHeight - 8;
    const top = below + tip.offsetHeight > innerHeight && above > 0 ? above : below;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${top + scrollY}px`;
  };
  const move = (token, to) => {
    if (!to) return;
    token.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };

  for (const ribbon of ribbons) {
    const tokens = [...ribbon.querySelectorAll(".t")];
    tokens.forEach((token, i) => {
      token.tabIndex = i === 0 ? 0 : -1;
      token.setAttribute("role", "button");
      token.setAttribute("aria-expanded", "false");
      token.addEventListener("focus", () => show(token));
      token.addEventListener("blur", close);
      token.addEventListener("click", () => { tokens.forEach((other) => { other.tabIndex = -1; }); token.tabIndex = 0; token.focus(); show(token); });
      token.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse" && document.activeElement?.closest(".tokens") == null) show(token); });
      token.addEventListener("keydown", (event) => {
        const beside = (step) => { const visible = ribbons.filter((r) => r.offsetParent); return visible[visible.indexOf(ribbon) + step]?.querySelector('[tabindex="0"]'); };
        const to = { ArrowRight: () => tokens[i + 1], ArrowLeft: () => tokens[i - 1], Home: () => tokens[0], End: () => tokens.at(-1) }[event.key];
        const other = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (event.key === "Escape") close();
        else if (event.key === "Enter" || event.key === " ") { if (open === token) close(); else show(token); }
        else if (to) move(token, to());
        else if (other) beside(other)?.focus();
        else return;
        event.preventDefault();
      });
    });
    // The pointer may wander from the token onto the panel without losing it.
    ribbon.addEventListener("pointerleave", (event) => { if (event.relatedTarget !== tip && !tip.contains(event.relatedTarget) && document.activeElement !== open) close(); });
  }
  tip.addEventListener("pointerleave", () => { if (document.activeElement !== open) close(); });
  addEventListener("resize", close);
})();

// Pointer and keyboard over the tokens of all columns: one listener of each kind, however many tokens there are.

/** How long the pointer may be off a token on its way to the panel. */
const GRACE_MS = 150;

export function inspect(area, panel) {
  let leaving = 0;
  const columnOf = (token) => token.node.closest(".column").column;
  const tokenAt = (target) => target.closest?.(".t")?.token ?? null;
  const focused = () => document.activeElement?.token ?? null;

  const show = (token) => {
    clearTimeout(leaving);
    const before = panel.token;
    panel.show(token, columnOf(token).model);
    if (before && before.ribbon !== token.ribbon) columnOf(before)?.spark.mark(null);
    columnOf(token).spark.mark(token.index);
  };
  const hide = () => {
    clearTimeout(leaving);
    if (panel.token?.node.isConnected) columnOf(panel.token).spark.mark(null);
    panel.hide();
  };
  // A token that has the focus keeps the panel; the pointer only borrows it.
  const leave = () => {
    clearTimeout(leaving);
    leaving = setTimeout(() => (focused() ? show(focused()) : hide()), GRACE_MS);
  };
  const focus = (token) => {
    if (!token) return;
    token.ribbon.choose(token.index);
    token.node.focus();
  };

  area.addEventListener("focusin", ({ target }) => {
    const token = tokenAt(target);
    if (!token) return;
    token.ribbon.choose(token.index);
    show(token);
  });
  area.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (tokenAt(target) && !tokenAt(relatedTarget ?? document.body) && !panel.element.contains(relatedTarget)) hide();
  });
  area.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pointerType !== "mouse") return;
    const token = tokenAt(target);
    if (token?.record) show(token);
  });
  area.addEventListener("pointerout", ({ target, pointerType }) => {
    if (pointerType === "mouse" && tokenAt(target)) leave();
  });
  area.addEventListener("click", ({ target }) => {
    const token = tokenAt(target);
    if (!token) return;
    focus(token);
    show(token);
  });
  panel.element.addEventListener("pointerenter", () => clearTimeout(leaving));
  panel.element.addEventListener("pointerleave", ({ pointerType }) => {
    if (pointerType === "mouse" && panel.token) leave();
  });
  panel.close.addEventListener("click", () => {
    const token = focused() ?? panel.token;
    hide();
    token?.node.blur();
  });

  area.addEventListener("keydown", (event) => {
    const token = tokenAt(event.target);
    if (!token || event.ctrlKey || event.metaKey || event.altKey) return;
    const { tokens } = token.ribbon;
    const beside = (step) => {
      const columns = [...area.querySelectorAll(".column")]
        .map((node) => node.column)
        .filter((column) => column.ribbon.tokens.length);
      const other = columns[columns.indexOf(columnOf(token)) + step];
      return other && other.ribbon.tokens[Math.min(token.index, other.ribbon.tokens.length - 1)];
    };
    const to = {
      ArrowRight: () => tokens[token.index + 1],
      ArrowLeft: () => tokens[token.index - 1],
      Home: () => tokens[0],
      End: () => tokens.at(-1),
      ArrowDown: () => beside(1),
      ArrowUp: () => beside(-1),
    }[event.key];
    if (to) focus(to());
    else if (event.key === "Enter" || event.key === " ") panel.token ? hide() : show(token);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !panel.token) return;
    hide();
    event.preventDefault();
  });

  // The sparkline is a way to the tokens for the pointer; the keyboard has the tokens themselves.
  area.addEventListener("pointermove", (event) => {
    const svg = event.target.closest?.(".spark svg");
    if (!svg || event.pointerType !== "mouse") return;
    const { ribbon, spark } = svg.closest(".column").column;
    const token = ribbon.tokens[spark.under(event)];
    if (token?.record) show(token);
  });
  area.addEventListener("pointerout", (event) => {
    if (event.target.closest?.(".spark svg")) leave();
  });
  // A selection over blocks would get line breaks that the text has not.
  area.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (!selection.rangeCount || !selection.anchorNode?.parentElement.closest(".ribbon")) return;
    const range = selection.getRangeAt(0);
    if (!range.commonAncestorContainer.parentElement?.closest(".column")) return;
    event.clipboardData.setData("text/plain", range.cloneContents().textContent);
    event.preventDefault();
  });

  // Where it stood, something else is now.
  addEventListener("resize", hide);
  area.addEventListener(
    "scroll",
    () => {
      if (panel.token) panel.place(panel.token.node);
    },
    { capture: true, passive: true },
  );
  return { hide };
}

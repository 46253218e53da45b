// The request as the address's fragment, so that a link shows the same. The prompt is in it only where a person copies a link.

const FIELDS = ["temperature", "top_p", "max_tokens", "seed"];

/** `{ mode, models, measure, temperature, …, parameters: { model: {…} }, prompt, system }`, as far as the fragment says. */
export function readState(fragment = location.hash) {
  const query = new URLSearchParams(fragment.replace(/^#/, ""));
  const state = { parameters: {} };
  for (const key of ["mode", "measure", "prompt", "system", ...FIELDS]) if (query.has(key)) state[key] = query.get(key);
  if (query.has("models")) state.models = query.getAll("models");
  for (const [key, value] of query) {
    if (!key.startsWith("parameters.")) continue;
    try {
      const parsed = JSON.parse(value);
      if (parsed && typeof parsed === "object") state.parameters[key.slice("parameters.".length)] = parsed;
    } catch {
      // A link that was cut off: the rest of it is of use.
    }
  }
  return state;
}

export function fragmentOf(state, withPrompt = false) {
  const query = new URLSearchParams();
  for (const key of ["mode", "measure", ...FIELDS]) if (state[key] !== undefined) query.set(key, state[key]);
  for (const model of state.models ?? []) query.append("models", model);
  for (const [model, values] of Object.entries(state.parameters)) {
    if (Object.keys(values).length) query.set(`parameters.${model}`, JSON.stringify(values));
  }
  if (withPrompt) for (const key of ["system", "prompt"]) if (state[key]) query.set(key, state[key]);
  return `#${query}`;
}

export { FIELDS };

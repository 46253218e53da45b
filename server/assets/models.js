// Which models run, and with which parameters.

import { fresh, make } from "./dom.js";
import { describe } from "./column.js";
import { parameterForm } from "./params.js";

/** Single models that are shown beside the fusion unless a person chooses others. */
const MOST_SINGLES = 3;

const sourcesOf = (model) => Object.values(model.fusion?.roles ?? {}).flat();
const isFusion = (model) => sourcesOf(model).length > 1;

/** The first fusion, and the models that it is made of alone, its base and experts first. */
export function defaults(models) {
  const fusion = models.find(isFusion);
  if (!fusion) return models.slice(0, 1).map((model) => model.id);
  const rank = (model) => {
    const role = Object.entries(fusion.fusion.roles).find(([, source]) =>
      [source].flat().includes(sourcesOf(model)[0]),
    )?.[0];
    return role === "base" ? 0 : role?.startsWith("anti") ? 2 : role ? 1 : 3;
  };
  const singles = models.filter((model) => sourcesOf(model).length === 1).sort((a, b) => rank(a) - rank(b));
  const chosen = new Set([fusion, ...singles.slice(0, MOST_SINGLES)].map((model) => model.id));
  return models.filter((model) => chosen.has(model.id)).map((model) => model.id);
}

function sourcesList(model) {
  const entries = Object.entries(model.fusion?.sources ?? {});
  if (!entries.length) return null;
  return make(
    "ul",
    { className: "sources" },
    ...entries.map(([name, { sha256, license } = {}]) =>
      make(
        "li",
        {},
        name,
        license ? ` · ${license}` : "",
        sha256
          ? make("span", { className: "muted" }, " · sha256 ", make("code", { textContent: `${sha256.slice(0, 12)}…` }))
          : "",
      ),
    ),
  );
}

function item(model, checked) {
  const id = fresh("model");
  const box = make("input", { type: "checkbox", id, value: model.id, checked, "aria-describedby": `${id}-what` });
  const form = parameterForm(model.fusion?.parameters_schema, model.fusion?.parameters ?? {});
  const reset = make("button", {
    type: "button",
    className: "quiet",
    textContent: "Reset",
    "aria-label": `Reset the parameters of ${model.id}`,
  });
  const summary = make("summary", {});
  const details = make(
    "details",
    { className: "settings" },
    summary,
    form.count ? form.node : null,
    form.count ? reset : null,
    sourcesList(model),
  );
  const show = () => {
    details.hidden = !box.checked;
    summary.textContent = form.count ? `Parameters of ${model.id}${form.changed() ? ", changed" : ""}` : "Source";
    reset.hidden = !form.changed();
  };
  reset.addEventListener("click", () => {
    form.reset();
    show();
    details.dispatchEvent(new Event("input", { bubbles: true }));
    summary.focus();
  });
  const node = make(
    "div",
    { className: "model" },
    make("label", { for: id }, box, make("span", { textContent: model.id })),
    make("p", { className: "hint", id: `${id}-what`, textContent: describe(model) }),
    details,
  );
  node.addEventListener("input", show);
  show();
  return { model, form, node, box, show };
}

/** Fills the list: `{ chosen, items }`, `chosen()` in the server's order. */
export function modelList(fieldset, models, wanted, parameters) {
  const known = (wanted ?? []).filter((id) => models.some((model) => model.id === id));
  const checked = known.length ? known : defaults(models);
  const items = models.map((model) => item(model, checked.includes(model.id)));
  for (const one of items) {
    one.form.restore(parameters[one.model.id]);
    one.show();
  }
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...items.map((one) => one.node));
  return { items, chosen: () => items.filter((one) => one.box.checked) };
}

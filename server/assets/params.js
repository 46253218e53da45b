// A form made from a strategy's JSON Schema. Only what differs from what the server runs with is sent.

import { fresh, make, prose } from "./dom.js";

const DEEPEST = 4;

const same = (a, b) => canonical(a) === canonical(b);
const canonical = (value) =>
  JSON.stringify(value ?? null, (_, v) =>
    v && typeof v === "object" && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );

/** Follows references; what stands beside one wins over what it leads to. */
function resolve(schema, root) {
  for (let hops = 0; schema && typeof schema.$ref === "string" && hops < 8; hops++) {
    const { $ref, ...beside } = schema;
    const found =
      $ref.startsWith("#/") &&
      $ref
        .slice(2)
        .split("/")
        .reduce((at, key) => at?.[key.replace(/~1/g, "/").replace(/~0/g, "~")], root);
    schema = { ...(found || {}), ...beside };
  }
  return schema && typeof schema === "object" ? schema : {};
}

/** What a value is edited with: `{ kind, schema, nullable, choices }`. */
export function examine(schema, root) {
  schema = resolve(schema, root);
  let nullable = false;
  for (const list of ["anyOf", "oneOf"]) {
    const some = schema[list]?.filter((one) => one.type !== "null");
    if (some?.length !== schema[list]?.length) nullable = true;
    if (nullable && some?.length === 1) {
      const { [list]: _, ...beside } = schema;
      schema = { ...resolve(some[0], root), ...beside };
    }
  }
  const types = [schema.type].flat().filter((type) => type && type !== "null");
  nullable ||= [schema.type].flat().includes("null");
  const consts = schema.oneOf?.every((one) => "const" in one) ? schema.oneOf : null;
  const listed =
    consts?.map((one) => ({ value: one.const, about: one.description ?? "" })) ??
    schema.enum?.filter((value) => value !== null).map((value) => ({ value, about: "" }));
  const plain = !schema.anyOf && !(schema.oneOf && !consts);
  const kind = listed
    ? "choice"
    : plain && types.length === 1 && ["boolean", "number", "integer", "string"].includes(types[0])
      ? types[0]
      : plain && schema.properties
        ? "object"
        : "json";
  return { kind, schema, nullable, choices: listed };
}

/** What is wrong with a number, in words; none where nothing is. */
function misfit(value, schema, kind) {
  if (!Number.isFinite(value)) return "Enter a number.";
  if (kind === "integer" && !Number.isInteger(value)) return "Enter a whole number.";
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (value < minimum) return `Must be ${minimum} or more.`;
  if (value <= exclusiveMinimum) return `Must be above ${exclusiveMinimum}.`;
  if (value > maximum) return `Must be ${maximum} or less.`;
  if (value >= exclusiveMaximum) return `Must be below ${exclusiveMaximum}.`;
  return null;
}

function range({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
  const low =
    minimum !== undefined ? `${minimum} or more` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "";
  const high =
    maximum !== undefined ? `${maximum} or less` : exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : "";
  return [low, high].filter(Boolean).join(", ");
}

/** The control of one value: `{ node, read, write }`. `read` gives `{ value }`, absent where it is left out, or `{ wrong }`. */
function control(found, id, describedBy) {
  const { kind, schema, choices } = found;
  const common = { id, "aria-describedby": describedBy };
  if (kind === "choice") {
    const options = [{ value: undefined, about: "" }, ...choices];
    const node = make(
      "select",
      common,
      ...options.map(({ value }, at) => new Option(value === undefined ? "unset" : String(value), at)),
    );
    return {
      node,
      read: () => ({ value: options[node.value].value }),
      write: (value) =>
        (node.value = Math.max(
          0,
          options.findIndex((one) => same(one.value, value)),
        )),
      about: () => options[node.value].about,
    };
  }
  if (kind === "boolean") {
    const node = make("input", { ...common, type: "checkbox" });
    return { node, read: () => ({ value: node.checked }), write: (value) => (node.checked = value === true) };
  }
  if (kind === "number" || kind === "integer") {
    const { minimum, maximum } = schema;
    const step = kind === "integer" ? 1 : minimum !== undefined && maximum - minimum <= 1 ? 0.05 : 0.1;
    const node = make("input", { ...common, type: "number", step, min: minimum, max: maximum, placeholder: "unset" });
    const read = () => {
      if (node.value === "" && !node.validity.badInput) return { value: undefined };
      const wrong = misfit(node.valueAsNumber, schema, kind);
      return wrong ? { wrong } : { value: node.valueAsNumber };
    };
    return { node, read, write: (value) => (node.value = value ?? "") };
  }
  if (kind === "string") {
    const node = make("input", { ...common, type: "text", placeholder: "unset", spellcheck: false });
    return { node, read: () => ({ value: node.value || undefined }), write: (value) => (node.value = value ?? "") };
  }
  const node = make("textarea", { ...common, rows: 1, placeholder: "unset", spellcheck: false, className: "json" });
  const read = () => {
    if (!node.value.trim()) return { value: undefined };
    try {
      return { value: JSON.parse(node.value) };
    } catch {
      return { wrong: 'Enter JSON, such as [0, 1] or "paper".' };
    }
  };
  return {
    node,
    read,
    write: (value) => (node.value = value === undefined || value === null ? "" : JSON.stringify(value)),
  };
}

/** One parameter with its label, its description and what is wrong with it. */
function leaf(name, path, found, served) {
  const id = fresh("parameter");
  const about = found.schema.description?.split("\n\n")[0] ?? "";
  const unset = served === undefined || served === null;
  const facts = [range(found.schema), found.kind === "json" ? "JSON" : ""].filter(Boolean);
  // A box that is not ticked says `false`; where nothing is set, there are three answers.
  if (found.kind === "boolean" && unset)
    found = { ...found, kind: "choice", choices: [true, false].map((value) => ({ value, about: "" })) };
  const input = control(found, id, `${id}-about ${id}-wrong`);
  const choice = make("p", { className: "hint choice", hidden: true });
  const wrong = make("p", { className: "wrong", id: `${id}-wrong`, hidden: true });
  const mark = make("span", {
    className: "changed",
    hidden: true,
    textContent: unset ? "changed" : `changed from ${JSON.stringify(served)}`,
  });
  const label = make("label", { for: id }, make("code", { textContent: name }), " ", mark);
  const hint = make(
    "p",
    { className: "hint", id: `${id}-about` },
    ...prose(about),
    facts.length ? `${about ? " " : ""}(${facts.join("; ")})` : "",
  );
  const node = make(
    "div",
    { className: `field parameter of-${found.kind}`, "data-path": path.join(".") },
    label,
    hint,
    input.node,
    choice,
    wrong,
  );
  const field = {
    node,
    path,
    read: input.read,
    changed() {
      const { value } = input.read();
      return !same(value, served);
    },
    value: () => (field.changed() ? (input.read().value ?? null) : served),
    write: (value) => (input.write(value), field.show()),
    reset: () => field.write(served),
    say(text) {
      wrong.textContent = text ?? "";
      wrong.hidden = !text;
      if (text) input.node.setAttribute("aria-invalid", "true");
      else input.node.removeAttribute("aria-invalid");
    },
    show() {
      field.say(input.read().wrong);
      mark.hidden = !field.changed();
      const words = input.about?.();
      choice.replaceChildren(...(words ? prose(words) : []));
      choice.hidden = !words;
    },
    focus: () => input.node.focus(),
    leaves: () => [field],
  };
  node.addEventListener("input", field.show);
  field.reset();
  return field;
}

function group(name, path, found, served, root) {
  const fields = fieldsOf(found.schema, path, served ?? {}, root);
  const about = found.schema.description?.split("\n\n")[0] ?? "";
  const node = make(
    "fieldset",
    { className: "group" },
    make("legend", {}, make("code", { textContent: name })),
    about ? make("p", { className: "hint" }, ...prose(about)) : null,
    ...fields.map((field) => field.node),
  );
  const field = {
    node,
    path,
    changed: () => fields.some((inner) => inner.changed()),
    // Together with what is served: a server may take a table of parameters as a whole.
    value: () => (field.changed() ? { ...(served ?? {}), ...changes(fields) } : served),
    write: (value) =>
      fields.forEach((inner) => {
        if (value && inner.path.at(-1) in value) inner.write(value[inner.path.at(-1)]);
      }),
    reset: () => fields.forEach((inner) => inner.reset()),
    leaves: () => fields.flatMap((inner) => inner.leaves()),
  };
  return field;
}

function fieldsOf(schema, path, served, root) {
  return Object.entries(schema.properties ?? {}).map(([name, property]) => {
    let found = examine(property, root);
    if (found.kind === "object" && path.length >= DEEPEST) found = { ...found, kind: "json" };
    const value = served?.[name] ?? found.schema.default ?? undefined;
    const here = [...path, name];
    return found.kind === "object" ? group(name, here, found, value, root) : leaf(name, here, found, value);
  });
}

const changes = (fields) =>
  Object.fromEntries(fields.filter((field) => field.changed()).map((field) => [field.path.at(-1), field.value()]));

/** The form of a model: `{ node, overrides, restore, reset, wrong, refuse, count }`. */
export function parameterForm(schema, served) {
  const fields = fieldsOf(schema ?? {}, [], served, schema ?? {});
  const leaves = fields.flatMap((field) => field.leaves());
  // Most parameters that a strategy lists are switched off; they would bury the others.
  const off = (field) => !("read" in field) || same(field.value(), null);
  const first = fields.filter((field) => !off(field));
  const later = fields.filter(off);
  const few = first.length === 0 || later.length < 2;
  const node = make("div", { className: "parameters" }, ...(few ? fields : first).map((field) => field.node));
  if (!few) {
    const summary = make("summary", { textContent: `Unset parameters (${later.length})` });
    node.append(
      make("details", {}, summary, make("div", { className: "parameters" }, ...later.map((field) => field.node))),
    );
  }
  const open = (field) => {
    for (let box = field.node.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  };
  return {
    node,
    count: leaves.length,
    overrides: () => changes(fields),
    restore: (values) =>
      fields.forEach((field) => {
        if (values && field.path[0] in values) field.write(values[field.path[0]]);
      }),
    reset: () => fields.forEach((field) => field.reset()),
    changed: () => fields.some((field) => field.changed()),
    /** Brings the first field that cannot be sent into view; none where all can. */
    wrong() {
      const field = leaves.find((one) => one.read().wrong);
      if (!field) return false;
      open(field);
      field.focus();
      return true;
    },
    /** Puts what the server says about a parameter where it stands. */
    refuse(param, message) {
      const path = String(param ?? "")
        .split(/[./]/)
        .filter(Boolean)
        .join(".")
        .replace(/^fusion\.parameters\./, "");
      const field =
        leaves.find((one) => one.path.join(".") === path) ??
        leaves.find((one) => path.startsWith(`${one.path.join(".")}.`));
      if (!field) return;
      open(field);
      field.say(message);
    },
  };
}

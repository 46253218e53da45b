// The page: its form, its runs, its address.

import { Api } from "./api.js";
import { Column } from "./column.js";
import { copyText, make } from "./dom.js";
import { explain } from "./errors.js";
import { inspect } from "./inspect.js";
import { drawLegend } from "./legend.js";
import { measures, Scale } from "./measures.js";
import { modelList } from "./models.js";
import { Panel } from "./panel.js";
import { FIELDS, fragmentOf, readState } from "./state.js";

const TOP_CHOICES = 5;
const FRAME_MS = 16;
const EXAMPLE = "Why does a rainbow form, and where do I have to stand to see one?";

const $ = (id) => document.getElementById(id);
const panel = new Panel($("panel"));
const inspector = inspect($("columns"), panel);
const api = new Api(document.querySelector("meta[name=logitfuse-api]").content, askKey);

let list = null;
let columns = [];
let controller = null;
let known = measures([]);
const view = { measure: known[0], scale: new Scale(known[0]), alpha: null, logprob: known[1] };

// ---- what a request is made of

const mode = () => document.querySelector("input[name=mode]:checked").value;

function state() {
  const values = Object.fromEntries(FIELDS.map((field) => [field, $(field).value]));
  return {
    mode: mode(),
    measure: view.measure.id,
    ...values,
    prompt: $("prompt").value,
    system: mode() === "chat" ? $("system").value : "",
    models: list?.chosen().map(({ model }) => model.id),
    parameters: Object.fromEntries((list?.items ?? []).map(({ model, form }) => [model.id, form.overrides()])),
  };
}

/** A sampling field's number; `undefined` where it is empty. Throws what is wrong with it. */
function sampling(field) {
  const input = $(field);
  if (input.value === "" && !input.validity.badInput) return undefined;
  const value = input.valueAsNumber;
  const whole = input.step === "1";
  const [low, high] = [Number(input.min), input.max === "" ? Infinity : Number(input.max)];
  if (!Number.isFinite(value) || value < low || value > high || (whole && !Number.isInteger(value))) {
    const range = high === Infinity ? `${low} or more` : `from ${low} to ${high}`;
    throw Object.assign(
      new Error(`${input.labels[0].textContent} must be a ${whole ? "whole " : ""}number, ${range}.`),
      { input },
    );
  }
  return value;
}

function body({ model, form }) {
  const { prompt, system } = state();
  const messages = [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];
  const overrides = form.overrides();
  return {
    model: model.id,
    ...(mode() === "chat" ? { messages } : { prompt }),
    ...Object.fromEntries(FIELDS.map((field) => [field, sampling(field)])),
    fusion: {
      ...(Object.keys(overrides).length ? { parameters: overrides } : {}),
      trace: true,
      top_choices: TOP_CHOICES,
    },
  };
}

// ---- runs

function say(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

/** Refuses to start: says why, and brings what is to be changed into view. */
function refuse(text, input) {
  say(text, true);
  for (let box = input.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

async function run() {
  controller?.abort();
  document
    .querySelectorAll("#request [aria-invalid]:not(.parameter *)")
    .forEach((input) => input.removeAttribute("aria-invalid"));
  const chosen = list?.chosen() ?? [];
  if (!list) return load();
  if (!$("prompt").value) return refuse("Enter a prompt first.", $("prompt"));
  if (!chosen.length) return refuse("Choose a model first.", list.items[0]?.box ?? $("prompt"));
  if (chosen.some(({ form }) => form.wrong()))
    return say("A parameter cannot be used as it is; what is wrong stands below it.", true);
  // One seed for all columns, and one that can be seen and used again.
  if ($("seed").value === "" && !$("seed").validity.badInput) $("seed").value = Math.floor(Math.random() * 2 ** 31);
  let requests;
  try {
    requests = chosen.map(body);
  } catch (error) {
    return refuse(error.message, error.input);
  }
  keepAddress();

  const { signal } = (controller = new AbortController());
  const path = mode() === "chat" ? "chat/completions" : "completions";
  inspector.hide();
  measure(view.measure.id);
  columns = chosen.map(({ model }) => new Column(model, view));
  $("columns").replaceChildren(...columns.map((column) => column.element));
  $("columns").dataset.count = columns.length;
  $("stop").disabled = false;
  document.body.classList.add("running", "ran");
  say(`Running ${chosen.map(({ model }) => model.id).join(", ")}.`);
  // Where the form fills the window, the results are below it.
  if (matchMedia("(max-width: 60rem)").matches) $("results").scrollIntoView({ block: "start" });

  const outcomes = await Promise.all(
    columns.map((column, at) => column.run(api.stream(path, requests[at], signal), signal, wake)),
  );
  columns.forEach((column, at) => {
    if (column.failure?.param) chosen[at].form.refuse(column.failure.param, column.failure.message);
  });
  if (controller?.signal !== signal) return;
  finish(outcomes);
}

function finish(outcomes) {
  draw();
  controller = null;
  document.body.classList.remove("running");
  // A button that is switched off lets go of the focus.
  if (document.activeElement === $("stop")) $("run").focus();
  $("stop").disabled = true;
  const count = (outcome) => outcomes.filter((one) => one === outcome).length;
  const tokens = columns.reduce((sum, column) => sum + column.ribbon.tokens.length, 0);
  const failed = count("failed");
  if (count("stopped")) say(`Stopped after ${tokens} tokens.`);
  else if (failed) say(`${failed} of ${outcomes.length} failed; the reason stands in the column.`, true);
  else say(`Done: ${tokens} tokens in ${outcomes.length} column${outcomes.length === 1 ? "" : "s"}.`);
}

// ---- drawing: at most once a frame, however fast tokens come

let due = false;
let rest = 0;
function wake() {
  if (due) return;
  due = true;
  const start = () =>
    requestAnimationFrame(() => {
      due = false;
      const from = performance.now();
      draw();
      // A slow machine spends no more than a third of its time here.
      rest = 2 * (performance.now() - from);
    });
  if (rest > FRAME_MS) setTimeout(start, rest);
  else start();
}

function draw() {
  // Every column, also after one that moved the ends: no short circuit.
  const grew = columns.map((column) => column.draw()).some(Boolean);
  if (grew) {
    for (const column of columns) {
      column.ribbon.shadeAll();
      column.drawSpark();
    }
    drawLegend($("legend"), view);
  }
}

/** Shades by another measure. */
function measure(id) {
  view.measure = known.find((one) => one.id === id) ?? known[0];
  view.scale = new Scale(view.measure);
  if (view.measure.id !== "agreement") {
    for (const { ribbon } of columns)
      for (const { record } of ribbon.tokens) if (record) view.scale.include(view.measure.of(record));
  }
  for (const column of columns) {
    column.ribbon.shadeAll();
    column.drawSpark();
  }
  drawLegend($("legend"), view);
}

function offerMeasures(models, wanted) {
  known = measures(models.flatMap((model) => model.fusion?.trace ?? []));
  view.alpha = known.find((one) => one.id === "trace.alpha") ?? null;
  view.logprob = known.find((one) => one.id === "logprob");
  $("measure").replaceChildren(
    ...known.map(({ id, label, unit }) => new Option(unit ? `${label} (${unit})` : label, id)),
  );
  measure(wanted);
  $("measure").value = view.measure.id;
}

// ---- the address

let keeping = 0;
function keepAddress() {
  clearTimeout(keeping);
  keeping = setTimeout(() => {
    history.replaceState(null, "", fragmentOf(state()));
    summarise();
  }, 150);
}

function summarise() {
  const { temperature, max_tokens: most, seed } = state();
  $("models-count").textContent = list ? `${list.chosen().length} of ${list.items.length}` : "";
  $("sampling-count").textContent =
    `temperature ${temperature || "default"}, seed ${seed || "random"}, ${most || "default"} tokens`;
}

function restore(wanted) {
  for (const field of [...FIELDS, "prompt", "system"]) if (wanted[field] !== undefined) $(field).value = wanted[field];
  const radio = [...document.querySelectorAll("input[name=mode]")].find((one) => one.value === wanted.mode);
  if (radio) radio.checked = true;
  showMode();
}

function showMode() {
  const chat = mode() === "chat";
  $("system-field").hidden = !chat;
  $("prompt-label").textContent = chat ? "User message" : "Prompt";
}

// ---- the key

function askKey(why) {
  const dialog = $("key");
  $("key-why").textContent = why;
  $("key-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  $("key-value").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? $("key-value").value.trim() : null), {
      once: true,
    });
  });
}

// ---- start

async function load() {
  const wanted = readState();
  try {
    const models = await api.models();
    if (!models.length) {
      $("models-hint").textContent = "The server has no models. Name some in its configuration and start it again.";
      return;
    }
    list = modelList($("models"), models, wanted.models, wanted.parameters);
    offerMeasures(models, wanted.measure);
    say("");
    welcome();
  } catch (error) {
    const [what, remedy] = explain(error);
    $("models-hint").textContent = "The models are not known yet.";
    say(`${what}. ${remedy.replace("run again", "press Run to load the models again")}`, true);
  }
  summarise();
}

function welcome() {
  if (columns.length) return;
  const use = make("button", { type: "button", textContent: "Fill in an example" });
  use.addEventListener("click", () => {
    $("prompt").value = mode() === "chat" ? EXAMPLE : `Question: ${EXAMPLE}\nAnswer:`;
    $("run").focus();
  });
  $("columns").replaceChildren(
    make(
      "div",
      { className: "empty" },
      make("p", {
        textContent:
          "No tokens yet. Enter a prompt and press Run: the chosen models answer side by side, token by token.",
      }),
      use,
    ),
  );
}

const narrow = matchMedia("(max-width: 60rem)");
if (narrow.matches) for (const id of ["models-box", "sampling-box"]) $(id).open = false;
restore(readState());
offerMeasures([], readState().measure);
$("request").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
$("request").addEventListener("input", () => {
  showMode();
  keepAddress();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
});
$("stop").addEventListener("click", () => controller?.abort());
$("measure").addEventListener("change", () => {
  measure($("measure").value);
  keepAddress();
});
$("link").addEventListener("click", async () => {
  const link = new URL(fragmentOf(state(), true), location.href);
  say((await copyText(link.href)) ? "Link copied; it holds the prompt." : `Copying failed. The link: ${link.href}`);
});
let width = innerWidth;
let resizing = 0;
addEventListener("resize", () => {
  // A phone's keyboard changes the height alone.
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(resizing);
  resizing = setTimeout(() => columns.forEach((column) => column.ribbon.reflow()), 200);
});
// The fragment is the settings': a jump within the page must not replace it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("results").focus();
});
addEventListener("hashchange", () => location.reload());
load();

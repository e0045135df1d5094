// The Script section below a form: which script, its options, and before the click what it would make.  What is chosen is kept in this
// browser, and goes to Python beside the form (attachment.js); Python answers what a script would make ("planned" in main.js).

import { duration, getJson, h } from "../dom.js";
import { currentTab } from "../tabs.js";
import { fields } from "./form.js";
import { check, number, select, text, textarea } from "./script_fields.js";
import { xyzForm } from "./script_xyz.js";
import { factorSize, wholeSize } from "./size.js";

const SOON_MS = 400; // after the last change
const SCRIPTS = { xyz: "X/Y/Z plot", matrix: "Prompt matrix", prompts: "Prompts from file or textbox", loopback: "Loopback", upscale: "SD upscale", detail: "Detail pass" };
const FORMS = { xyz: xyzForm, matrix: matrixForm, prompts: promptsForm, loopback: loopbackForm, upscale: upscaleForm, detail: detailForm };
const TABS = { loopback: ["img2img", "inpaint"], upscale: ["img2img"] }; // the others are on every tab

const states = new Map(); // tab -> {name, xyz: {...}, matrix: {...}, ...}
let send = () => {};
let asking = 0; // the number of the newest question

const keyOf = (tab) => `atelier.script.${tab}`;

function stateOf(tab) {
  if (!states.has(tab)) {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(keyOf(tab)) ?? "{}") ?? {};
    } catch {
      /* nothing was kept, or it is no JSON */
    }
    states.set(tab, { name: "", ...kept });
  }
  return states.get(tab);
}

/** The script of a tab as Python takes it, null where none is chosen. */
export function scriptOf(tab) {
  const { name, ...all } = stateOf(tab);
  return name ? { ...all[name], name } : null;
}

/** `bridge` as in main.js, `jobs` the list of jobs: what ends has been measured. */
export function startScripts(bridge, jobs) {
  jobs.addEventListener("over", () => askSoon(currentTab()));
  send = (data) => bridge.send("plan", data);
  for (const box of document.querySelectorAll("#workspace .script")) build(box);
  document.addEventListener("atelier:form", ({ detail }) => askSoon(detail.tab));
  document.addEventListener("atelier:tab", () => askSoon(currentTab()));
}

function build(box) {
  const { tab } = box.dataset;
  const state = stateOf(tab);
  const choose = box.querySelector("select");
  const offered = Object.entries(SCRIPTS).filter(([name]) => TABS[name]?.includes(tab) ?? true);
  choose.append(...offered.map(([name, label]) => h("option", { value: name }, label)));
  if (!offered.some(([name]) => name === state.name)) state.name = "";
  choose.value = state.name;
  choose.addEventListener("change", () => {
    state.name = choose.value;
    keep(tab);
    show(box);
  });
  show(box);
}

function show(box) {
  const { tab } = box.dataset;
  const state = stateOf(tab);
  const place = box.querySelector(".script-form");
  const own = (state[state.name] ??= {});
  const form = FORMS[state.name];
  box.dataset.script = state.name;
  document.getElementById(`${tab}_generate`)?.setAttribute("data-script", "");
  place.replaceChildren(...(form ? form({ tab, own, changed: () => changed(tab), again: () => show(box) }) : []));
  if (!state.name) delete state[""];
  changed(tab);
}

function keep(tab) {
  try {
    localStorage.setItem(keyOf(tab), JSON.stringify(stateOf(tab)));
  } catch {
    /* forbidden or full: then it is kept only while this page is open */
  }
}

function changed(tab) {
  keep(tab);
  askSoon(tab);
}

// ---- what it would make

const timers = new Map();

function askSoon(tab) {
  clearTimeout(timers.get(tab));
  if (!document.getElementById(`${tab}_script`)) return;
  if (!scriptOf(tab)) return say(tab, "", "", []);
  timers.set(tab, setTimeout(() => ask(tab), SOON_MS));
}

function ask(tab) {
  const script = scriptOf(tab);
  if (!script || tab !== currentTab()) return;
  const whole = tab === "txt2img" ? null : wholeSize(tab);
  const size = whole ? factorSize(fields(tab), whole.width, whole.height) : null;
  if (whole) script.picture = [whole.width, whole.height];
  send({ tab, number: ++asking, values: fields(tab), script, size });
}

/** Python's answer to "plan". */
export function planned({ tab, number, error, fields: ids = [], cells, pictures, seconds, notes = [] }) {
  if (number !== asking || !scriptOf(tab)) return;
  if (error) return say(tab, error, "bad", ids);
  const many = pictures === cells ? `${pictures} ${pictures === 1 ? "picture" : "pictures"}` : `${pictures} pictures in ${cells} cells`;
  const time = seconds === null ? "How long they take is not measured yet." : `Takes ${duration(seconds)}.`;
  const list = Number(document.getElementById(`${tab}_generate`)?.dataset.batch) || 0;
  const each = list > 1 && scriptOf(tab).name === "loopback" ? ["That is for each of the many pictures."] : [];
  say(tab, [`${many}. ${time}`, ...each, ...notes].join(" "), "note", []);
  document.getElementById(`${tab}_generate`)?.setAttribute("data-script", String(pictures));
}

function say(tab, words, kind, ids) {
  const place = document.querySelector(`#${tab}_script .script-preview`);
  if (!place) return;
  place.id = `${tab}_script_said`;
  place.textContent = words;
  place.dataset.kind = kind;
  place.hidden = !words;
  if (kind !== "note") document.getElementById(`${tab}_generate`)?.setAttribute("data-script", "");
  for (const input of document.querySelectorAll(`#${tab}_script [aria-invalid]`)) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  for (const id of ids) {
    for (const input of document.querySelectorAll(`#${CSS.escape(id)} :is(input, textarea, select)`)) {
      if (!input.closest(".script") || input.closest(".script-fill")) continue; // a field of the form itself says so when it is sent
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", place.id);
    }
  }
}

// ---- the smaller scripts

function matrixForm(form) {
  return [
    h("p", { class: "script-help" }, "Write parts that vary behind | in the prompt: a cat | red | at night. Every combination of them becomes a picture."),
    select(form, "prompt_type", "Prompt", { positive: "Prompt", negative: "Negative prompt" }),
    select(form, "variations_delimiter", "Joined by", { comma: "Comma", space: "Blank" }),
    check(form, "put_at_start", "Put the varying parts at the start"),
    check(form, "different_seeds", "A different seed for each picture"),
    number(form, "margin_size", "Margin between pictures (px)", 0),
  ];
}

function promptsForm(form) {
  const text = textarea(form, "prompts", "Prompts, one on each line", 'a red apple\n--prompt "a cat" --steps 30 --width 512');
  const file = h("input", { type: "file", accept: ".txt,text/plain", "aria-label": "Take the prompts from a text file" });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    form.own.prompts = (await file.files[0].text()).slice(0, 1 << 20);
    file.value = ""; // the same file may be chosen again
    form.again();
  });
  return [
    text,
    h("label", { class: "script-file quiet" }, "From a file …", file),
    select(form, "prompt_position", "The form's prompt", { start: "stands behind each line", end: "stands before each line", none: "is not used" }),
    check(form, "iterate_seed", "Count the seed on with every line"),
    check(form, "same_seed", "One random seed for all lines"),
  ];
}

function loopbackForm(form) {
  return [
    number(form, "loops", "Loops", 4),
    number(form, "final_denoising_strength", "Final denoising strength", 0.5),
    select(form, "denoising_curve", "Denoising strength curve", { Linear: "Linear", Aggressive: "Aggressive", Lazy: "Lazy" }),
  ];
}

let upscalers = ["Lanczos", "Nearest", "None"]; // names; those of files come with the first form

function upscaleForm(form) {
  const optionsOf = (names) => Object.fromEntries(names.map((name) => [name, name]));
  const kept = form.own.upscaler && !upscalers.includes(form.own.upscaler) ? [form.own.upscaler] : [];
  const field = select(form, "upscaler", "Upscaler", optionsOf([...upscalers, ...kept]));
  getJson("internal/upscalers").then((found) => {
    upscalers = [...new Set([...upscalers.slice(0, 3), ...(found ?? []).map(({ name }) => name)])];
    const box = field.querySelector("select");
    const there = new Set([...box.options].map((option) => option.value));
    box.append(...upscalers.filter((name) => !there.has(name)).map((name) => h("option", { value: name }, name)));
  }).catch(() => {}); // asked again when the form is opened next
  return [
    h("p", { class: "script-help" }, "Enlarges the picture and paints it again in tiles of the size above. A denoising strength of 0.2 to 0.4 keeps what is on it."),
    field,
    number(form, "scale_factor", "Scale factor", 2),
    number(form, "overlap", "Tile overlap (px)", 64),
  ];
}

let detectors = null; // names, once they are known

function detailForm(form) {
  if (detectors === null) {
    detectors = [];
    getJson("internal/scripts/detectors").then((names) => {
      detectors = names ?? [];
      if (detectors.length) form.again();
    }).catch(() => (detectors = null)); // asked again when the form is opened next
  }
  const alone = form.tab !== "txt2img" && !form.own.after; // else the form's picture comes first, and a detector looks into it
  const named = Object.fromEntries((detectors ?? []).map((name) => [name, name]));
  const choices = alone ? { "": "None: boxes, or the areas of the mask", ...named } : named;
  if (form.own.detector !== undefined && !(form.own.detector in choices) && detectors?.length) form.own.detector = alone ? "" : detectors[0];
  const help = detectors?.length ? [] : ["A detector of faces comes with OpenCV: pip install 'opencv-python-headless<5'."];
  const first = check(form, "after", "Paint the form's picture first, then its details");
  first.addEventListener("change", () => form.again());
  const after = [number(form, "most", "Details at most", 4), number(form, "growth", "Grow each detail by (px)", 4)];
  return [
    h("p", { class: "script-help" }, ["Paints each detail again at the model's own size, and puts it back.", ...(form.tab === "inpaint" ? ["Each area of the mask is one."] : []), ...help].join(" ")),
    ...(form.tab === "txt2img" ? [] : [first]),
    ...(detectors?.length ? [select(form, "detector", "Detector", choices)] : []),
    ...(alone ? [text(form, "boxes", "Boxes: left, top, width, height", "120 80 96 96; 300 60 96 96")] : after),
    number(form, "denoising_strength", "Denoising strength", 0.4),
    number(form, "padding", "Padding (px)", 32),
    number(form, "mask_blur", "Mask blur (px)", 8),
    textarea(form, "prompt", "Prompt of the details", "empty: the form's", 2),
    textarea(form, "negative_prompt", "Negative prompt of the details", "empty: the form's", 2),
  ];
}

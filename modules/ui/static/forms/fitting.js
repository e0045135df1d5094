// What the chosen checkpoint cannot use, said before Generate: samplers and schedules that make no sense with it are dimmed in their
// lists, one that is chosen gets a line below its field, with one that fits at a click; and where there is no guidance, CFG scale and
// negative prompt are dimmed.  What does not fit, and why, the server says of each checkpoint (`unfit`, `unguided`).

import { listed } from "../checkpoints.js";
import { h } from "../dom.js";
import { fields } from "./form.js";
import { sentence } from "./recipes.js";

const SAME = "Same as the first pass";
const LISTS = ["sampler", "schedule", "hires_sampler", "hires_schedule"];
const COMBINED = ["apg", "cfg_zero"]; // guidance that looks at the negative prompt at any scale
const SCALES = ["mimic_scale", "cfg_rescale", "sag_scale"];
const NO_PART = "At a CFG scale of 1 the negative prompt has no part in the picture.";

let models = new Map(); // name -> what the server says of the checkpoint
const unknown = new Set(); // names that were asked for and not in the list
let sending = () => {};
let asked = 0; // the newest question

/** Begin to look at the forms; `send` as in results.py. */
export function startFitting(send) {
  sending = send;
  for (const block of document.querySelectorAll(LISTS.map((name) => `[id$="_${name}"].block`).join())) {
    const [tab, field] = placeOf(block.id);
    if (tab) new MutationObserver(() => dim(block, tab, field)).observe(block, { childList: true, subtree: true });
  }
  document.addEventListener("atelier:form", ({ detail }) => look(detail.tab));
  document.addEventListener("atelier:models", read);
  read();
}

async function read() {
  const mine = ++asked;
  const found = await listed().catch(() => null);
  if (!found || mine !== asked) return; // the next change asks again
  models = new Map(found.map((model) => [model.name, model]));
  for (const name of models.keys()) unknown.delete(name);
  for (const tab of Object.keys(window.atelierForms ?? {})) look(tab);
}

const placeOf = (id) => {
  const field = LISTS.findLast((name) => id.endsWith(`_${name}`) && !id.endsWith(`_hires_${name}`));
  return [field ? id.slice(0, -field.length - 1) : "", field];
};

/** The checkpoints whose networks a field is for. */
function checkpointsOf(values, field) {
  const refines = values.refiner && Number(values.refiner_switch_at) < 1;
  const own = field.startsWith("hires_") && values.hires_checkpoint && values.hires_checkpoint !== SAME ? values.hires_checkpoint : values.checkpoint;
  return [own, ...(refines && !field.startsWith("hires_") ? [values.refiner] : [])].map((name) => models.get(name)).filter(Boolean);
}

/** Why a value makes no sense with what is chosen: {title, reason, instead}; null where it does. */
export function misfit(values, field, value) {
  for (const model of checkpointsOf(values, field)) {
    const found = model.unfit?.find((one) => one.field === field.replace("hires_", "") && one.names.includes(value));
    if (found) return { title: model.title, reason: sentence(found.reason), instead: found.instead };
  }
  return null;
}

/** The list of a field while it is open. */
function dim(block, tab, field) {
  const values = fields(tab);
  const names = new Map();
  for (const model of checkpointsOf(values, field)) for (const one of model.unfit ?? []) for (const name of one.names) names.set(atelierText(name), name);
  for (const option of block.querySelectorAll("[role=option]")) {
    const words = option.textContent.replace("✓", "").trim();
    const why = names.has(words) ? misfit(values, field, names.get(words)) : null;
    if (option.classList.contains("unfit") !== Boolean(why)) option.classList.toggle("unfit", Boolean(why));
    if (why && option.title !== atelierText(why.reason)) option.title = why.reason;
    else if (!why && option.title) option.removeAttribute("title");
  }
}

/** The lines below the fields of a tab. */
function look(tab) {
  const values = fields(tab);
  const checkpoint = models.get(values.checkpoint);
  if (!models.size) return;
  if (values.checkpoint && !checkpoint && !unknown.has(values.checkpoint)) {
    unknown.add(values.checkpoint); // it came after the list; asked for once, for its file may be gone
    return void read();
  }
  for (const field of LISTS) {
    if (!document.getElementById(`${tab}_${field}`)) continue;
    const why = shownOf(values, field);
    const words = why && [`${why.value} does not fit ${why.title}.`, why.reason];
    say(tab, field, words, why ? why.instead : null);
  }
  const alone = Number(values.cfg_scale) === 1;
  const guided = checkpoint?.unguided && checkpoint.prompt !== "nothing" ? checkpoint : null;
  say(tab, "cfg_scale", guided && [`${guided.title} is run at 1.`, sentence(guided.unguided)], guided && !alone ? 1 : null, alone);
  const idle = alone && checkpoint?.prompt !== "nothing" && !hasPart(values, checkpoint);
  say(tab, "negative_prompt", idle && [NO_PART], null, true);
}

/** What is said of a field's value: of one that the second pass takes over, only where its own checkpoint is another. */
function shownOf(values, field) {
  const [second, base] = [field.startsWith("hires_"), field.replace("hires_", "")];
  if (second && !values.hires) return null;
  const same = second && (!values[field] || values[field] === SAME);
  const value = same ? values[base] : values[field];
  if (same && checkpointsOf(values, field)[0] === checkpointsOf(values, base)[0]) return null;
  const why = misfit(values, field, value);
  return why && { ...why, value };
}

/** Whether the negative prompt counts although the CFG scale is 1: as `pipelines.denoisers.composed` has it. */
function hasPart(values, checkpoint) {
  const again = values.hires && Number(values.hires_cfg_scale || 1) !== 1;
  const pair = /CFG\+\+/.test(`${values.sampler} ${values.hires ? values.hires_sampler : ""}`);
  const parts = / AND /.test(` ${values.prompt ?? ""} `) || checkpoint?.takes === "picture";
  return again || pair || parts || COMBINED.some((name) => values[name] === true) || SCALES.some((name) => Number(values[name]) > 0);
}

/** A line below a field, or none; `use` is the value that the button at its end puts there, `idle` whether the field is dimmed. */
function say(tab, field, words, use = null, idle = false) {
  const block = document.getElementById(`${tab}_${field}`);
  if (!block) return;
  const text = JSON.stringify(words ? [words, use, idle] : null);
  const old = block.querySelector(":scope > .fitting");
  if ((old?.dataset.says ?? "null") === text) return;
  old?.remove();
  block.classList.toggle("no-part", Boolean(words) && idle);
  block.classList.toggle("misfit", Boolean(words) && LISTS.includes(field));
  if (!words) return;
  const act = () => sending("choose", { tab, fields: { [field]: use } });
  const button = use === null ? null : h("button", { type: "button", class: "quiet", onclick: act }, `Use ${use}`);
  const line = h("p", { class: "fitting", role: "status" }, ...words.flatMap((one) => [h("span", {}, one), " "]), button);
  line.dataset.says = text;
  block.append(line);
}

// Below the size, before the click: how long it takes, by what was measured here; how much memory, and what helps where that is too
// much; and what size the checkpoint was made for, where another is asked for.

import { duration } from "../dom.js";
import { fields } from "./form.js";
import { factorSize, wholeSize } from "./size.js";
import { currentTab } from "../tabs.js";

const SOON_MS = 250; // after the last change
const AGAIN_MS = [4000, 60_000]; // while nothing was measured: a checkpoint is timed when it is loaded.  First and longest pause
const NUMBERS = ["width", "height", "count", "steps", "cfg_scale", "denoising_strength"];
const MATTER = ["checkpoint", "vae", "vae_decoder", "vae_encoder", "sampler", "pag_scale", "sag_scale", "fix_steps", "refiner", "refiner_switch_at", "refiner_pass", "refiner_by_steps", "tiled_diffusion", "tile_method", "tile_width", "tile_height", "tile_overlap", "tile_batch", ...NUMBERS];
const FAR = 2.3; // times as many pixels as it was made for: things come out twice
const SOURCE = "0".repeat(64); // whatever the picture is, it costs the same

/** `jobs` as in jobs.js: what ends has been measured. */
export function startEstimates(jobs) {
  let timer = 0;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(ask, SOON_MS);
  };
  for (const event of ["atelier:form", "atelier:canvas", "atelier:tab", "visibilitychange"]) document.addEventListener(event, soon);
  jobs.addEventListener("over", () => {
    asked = "";
    soon();
  });
  soon();
}

let asked = "";
let number = 0; // of the newest question
let pause = AGAIN_MS[0];
let again = 0;

async function ask() {
  const tab = currentTab();
  const place = document.getElementById(`${tab}_estimate`);
  if (!place || document.hidden) return;
  const question = JSON.stringify([tab, questionOf(tab)]);
  if (question === asked) return;
  asked = question;
  clearTimeout(again);
  const mine = ++number;
  try {
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(questionOf(tab)) };
    const response = await fetch("internal/quote", options);
    const found = response.ok ? await response.json() : { error: true };
    if (mine !== number) return;
    show(place, found, JSON.parse(question)[1]);
    if (found.seconds !== null) pause = AGAIN_MS[0];
    else askAgain();
  } catch {
    if (mine !== number) return;
    asked = ""; // the next change asks again
    show(place, { error: true });
  }
}

/** Later, and ever later. */
function askAgain() {
  again = setTimeout(() => {
    asked = "";
    ask();
  }, pause);
  pause = Math.min(AGAIN_MS[1], 2 * pause);
}

function questionOf(tab) {
  const form = fields(tab);
  const given = Object.fromEntries(MATTER.filter((name) => form[name] !== null && form[name] !== undefined && form[name] !== "").map((name) => [name, form[name]]));
  for (const name of ["pag_scale", "sag_scale", "refiner_switch_at", "tile_width", "tile_height", "tile_overlap", "tile_batch"]) if (name in given) given[name] = Number(given[name]);
  if (tab === "txt2img") return form.hires === true ? { ...given, hires: secondPass(form) } : given;
  const whole = wholeSize(tab);
  return { ...given, ...(whole && factorSize(form, whole.width, whole.height)), source: SOURCE };
}

const STEP = 8; // of a picture's sides
export const SAME = "Same as the first pass"; // what stands in a list where nothing is chosen

/** What of the second pass decides what it takes (second_pass.py reads the form in the same way). */
function secondPass(form) {
  const down = (side) => Math.floor(side / STEP) * STEP;
  const [width, height, factor] = [form.hires_width, form.hires_height, form.hires_factor].map((value) => Math.floor(100 * Number(value)) / 100 || 0);
  const [first, beside] = [Number(form.width), Number(form.height)];
  const sides = width || height ? [width || (height * first) / beside, height || (width * beside) / first] : [first * factor, beside * factor];
  const own = Number(form.hires_steps) || 0;
  const checkpoint = form.hires_checkpoint && form.hires_checkpoint !== SAME ? { checkpoint: form.hires_checkpoint } : {};
  return { width: down(sides[0]), height: down(sides[1]), denoising_strength: form.hires_denoising_strength, upscaler: form.hires_upscaler, steps: own, ...checkpoint };
}

function show(place, found, question) {
  const words = found.error ? [] : sentences(found, question);
  place.toggleAttribute("data-far", !found.error && times(found, question) > FAR);
  place.toggleAttribute("data-short", Boolean(found.memory && !found.memory.possible));
  const text = words.join(" ");
  if (place.textContent !== text) place.textContent = text;
}

const times = ({ native: [width, height] }, question) => (question.width * question.height) / (width * height);

function sentences({ seconds, beyond, native: [width, height], weights, memory }, question) {
  const words = question.hires ? [`Becomes ${question.hires.width} × ${question.hires.height}.`] : [];
  const share = times({ native: [width, height] }, question);
  const other = question.width !== width || question.height !== height;
  if (other) words.push(`Made for ${width} × ${height}${share > FAR || share < 1 / FAR ? `; this is ${inWords(share)} the pixels` : ""}.`);
  if (seconds === null) words.push("How long it takes is not measured yet.");
  else words.push(`${beyond ? "At least" : "Takes"} ${duration(seconds)}${question.count > 1 ? ` for ${question.count} pictures` : ""}.`);
  if (memory?.room) words.push(...memory.said);
  else if (weights) words.push(`The model takes ${bytes(weights)}${other && share > 1 ? ", and what is computed grows with the pixels" : ""}.`);
  return words;
}

const inWords = (share) => (share >= 1 ? `${share >= 10 ? Math.round(share) : Number(share.toFixed(1))} times` : `${Math.max(1, Math.round(100 * share))} % of`);
const bytes = (count) => (count >= 1e9 ? `${(count / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(count / 1e6))} MB`);

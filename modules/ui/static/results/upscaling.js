// "Second pass" beside a picture: over one that is finished, as "Second pass (hires)" in txt2img says, whether that is switched on or not.  A
// picture from words alone is made again by its seed, with the second pass behind it; any other picture is repainted at that size.

import { getJson, pictureUrl } from "../dom.js";
import { SAME } from "../forms/estimate.js";

const STEP = 8; // of a request's sides
const OWN = /^(source|mask|box|pictures|hires|outpaint_\w+|upscaler_noise_level|inpaint_area)$/; // of what a picture was made from
const TEXTS = ["prompt", "negative_prompt", "sampler", "schedule", "checkpoint"];

/** Submit it; promises the job's id.  Rejects with the server's words.  `form` are the fields of txt2img. */
export async function upscale(job, picture, form) {
  const { request } = job;
  const varied = request.variation_strength > 0;
  const seeds = varied ? { variation_seed: String((BigInt(request.variation_seed) + BigInt(picture.index)) % 2n ** 64n) } : { seed: picture.seed };
  const hires = secondPass(form, picture);
  const again = !request.source && !request.hires;
  const fields = again ? { ...request, ...seeds, count: 1, hires } : { ...repainted(request, hires), ...seeds, source: await sourceOf(job, picture) };
  const made = await getJson("internal/jobs", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(fields) });
  return made.id;
}

/** The request's `hires` for a picture of this size (second_pass.py reads the form in the same way). */
function secondPass(form, { width, height }) {
  const down = (side) => Math.floor(Math.floor(side) / STEP) * STEP;
  const [wide, high] = [Number(form.hires_width) || 0, Number(form.hires_height) || 0];
  const factor = Number(form.hires_factor) || 2;
  const sides = wide || high ? [wide || (high * width) / height, high || (wide * height) / width] : [width * factor, height * factor];
  const own = Object.fromEntries(TEXTS.map((name) => [name, form[`hires_${name}`]]).filter(([, value]) => value && value !== SAME));
  const numbers = Object.fromEntries(["steps", "cfg_scale"].map((name) => [name, form[`hires_${name}`]]).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const how = { upscaler: form.hires_upscaler, denoising_strength: form.hires_denoising_strength };
  return { width: down(sides[0]), height: down(sides[1]), ...how, ...own, ...numbers };
}

/** The settings of a picture from a picture that does what such a second pass does: exactly its steps, from this picture. */
function repainted(request, { upscaler, ...hires }) {
  if (!upscaler.startsWith("Latent") && upscaler !== "Lanczos") {
    throw new Error(`A second pass over such a picture enlarges it by Lanczos or in its latent, not by ${upscaler}: choose one of them, or enlarge it in Extras first.`);
  }
  const kept = Object.fromEntries(Object.entries(request).filter(([name]) => !OWN.test(name)));
  const before = Object.fromEntries(Object.entries(request.hires ?? {}).filter(([name, value]) => [...TEXTS, "steps", "cfg_scale"].includes(name) && value));
  return { ...kept, ...before, ...hires, count: 1, fix_steps: true, resize_mode: upscaler.startsWith("Latent") ? "Just resize (latent upscale)" : "Crop and resize" };
}

async function sourceOf(job, picture) {
  const file = await fetch(pictureUrl(job, picture));
  if (!file.ok) throw new Error("The picture's file is not in the outputs folder any more.");
  const kept = await getJson("internal/sources", { method: "POST", headers: { "content-type": file.headers.get("content-type") ?? "image/png" }, body: await file.blob() });
  return kept.id;
}

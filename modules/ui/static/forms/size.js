// How large a picture becomes that is made from one on a canvas: what suits the model when a new one comes, its own size on demand, or
// a factor of it.

import { canvas } from "../canvas/registry.js";
import { fields, typeInto } from "./form.js";

const STEP = 8;
const [LOW, HIGH, TILED] = [64, 2048, 8192]; // of a request's sides, and with tiled diffusion
const AS_IT_IS = [0.5, 2.3]; // times the model's own number of pixels: within, a picture's own size is right
const MOST_TO_KEEP = 4; // times as many: within, inpainting keeps a picture's own size, because what is not masked holds it together
const BY_FACTOR = "By a factor";

/** The most pixels of a side that a form may ask for. */
export const mostSide = (form) => (form.tiled_diffusion ? TILED : HIGH);

/** Both sides within what a request may have, in the same proportion as far as that goes; `most` as of `mostSide`. */
export function allowed(width, height, scale = 1, most = HIGH) {
  const fit = Math.min(scale, most / Math.max(width, height));
  const inStep = (side) => Math.min(most, Math.max(LOW, Math.round(side / STEP) * STEP));
  return { width: inStep(width * fit), height: inStep(height * fit) };
}

/** What suits a model that is at home at `native` pixels. */
export function suited(width, height, native) {
  const share = (width * height) / native;
  return allowed(width, height, share < AS_IT_IS[0] || share > AS_IT_IS[1] ? Math.sqrt(1 / share) : 1);
}

/** The picture's own size as a request may have it: not a pixel less, as long as that is allowed. */
export function ownSize({ width, height }, most = HIGH) {
  const up = (side) => Math.ceil(side / STEP) * STEP;
  return Math.max(width, height) <= most ? { width: Math.max(LOW, up(width)), height: Math.max(LOW, up(height)) } : allowed(width, height, 1, most);
}

/** What inpainting makes of a picture when nobody says: its own size, where the model can be asked for it. */
function inpaintSize(width, height, native) {
  const share = (width * height) / native;
  const keeps = share >= AS_IT_IS[0] && share <= MOST_TO_KEEP && Math.max(width, height) <= HIGH;
  return keeps ? ownSize({ width, height }) : suited(width, height, native);
}

/** Of what is on a canvas, with what it is extended by; null when it is empty. */
export function wholeSize(tab) {
  const size = canvas(tab).size();
  return size && whole(size);
}

function whole({ width, height, outpaint }) {
  const { left = 0, right = 0, up = 0, down = 0 } = outpaint ?? {};
  return { width: width + left + right, height: height + up + down };
}

/** The size by the form's factor; null where the form says a size. */
export const factorSize = (form, width, height) =>
  form.size_by === BY_FACTOR ? allowed(width, height, Number(form.size_factor) || 1, mostSide(form)) : null;

/** The size that a form asks for, of a picture of this size; null while it makes no sense. */
export function becomesSize(form, { width, height }) {
  const size = factorSize(form, width, height) ?? { width: Number(form.width), height: Number(form.height) };
  return size.width > 0 && size.height > 0 ? size : null;
}

/** Have a tab's result as large as the picture on its canvas, whichever way its size is said. */
export function makeOwnSize(tab) {
  const size = wholeSize(tab);
  if (!size) return;
  if (fields(tab).size_by === BY_FACTOR) typeNumber(`${tab}_size_factor`, 1);
  else setSize(tab, ownSize(size, mostSide(fields(tab))));
}

/** The size of the picture on a canvas where it is larger than `picture`, else null. */
export function largerOnCanvas(tab, picture) {
  const now = document.getElementById(`${tab}_canvas`) && canvas(tab).size();
  return now && (picture.width < now.width || picture.height < now.height) ? now : null;
}

/** Type a size into the form of a tab. */
export function setSize(tab, { width, height }) {
  for (const [name, value] of Object.entries({ width, height })) {
    const box = document.querySelector(`#${tab}_${name} input`);
    if (box && Number(box.value) !== value) typeInto(box, String(value));
  }
}

/** `native(tab)` promises the number of pixels that the chosen model is at home at. */
export function startSizes(native) {
  const seen = {}; // what size each canvas had, so that a change of the mask is none
  const coming = new Set(); // canvases whose size comes with settings

  document.addEventListener("atelier:send", ({ detail }) => detail.fields?.width && coming.add(detail.tab));
  document.addEventListener("atelier:canvas", async ({ detail: { name, outpaint, what, restored, ...picture } }) => {
    const before = seen[name];
    const size = picture.width ? whole({ ...picture, outpaint }) : null; // a canvas that brings its picture back has no handle yet
    seen[name] = size ? `${size.width}x${size.height}` : "";
    show(name);
    showSides(name, outpaint);
    const known = restored || (before === undefined && what !== "picture"); // it was there with its size before
    if (!size || seen[name] === before || known) return;
    if (coming.delete(name)) return;
    const home = await native(name);
    const { width, height } = size;
    const fit = name === "inpaint" ? inpaintSize : suited;
    if (seen[name] === `${width}x${height}`) setSize(name, fit(width, height, home));
  });
  document.addEventListener("atelier:form", ({ detail }) => {
    show(detail.tab);
    takeSides(detail.tab);
  });
  for (const below of document.querySelectorAll(".below")) {
    const tab = below.id.replace(/_below$/, "");
    below.querySelector("[data-do=size]").addEventListener("click", () => {
      const size = wholeSize(tab);
      const most = mostSide(fields(tab));
      if (size) setSize(tab, tab === "inpaint" ? ownSize(size, most) : allowed(size.width, size.height, 1, most));
    });
    show(tab);
  }
}

function show(tab) {
  const below = document.getElementById(`${tab}_below`);
  if (!below) return;
  const form = fields(tab);
  const size = wholeSize(tab);
  const becomes = size && becomesSize(form, size);
  const differs = becomes && (becomes.width !== size.width || becomes.height !== size.height);
  const whole = (form.inpaint_area ?? "Whole picture") === "Whole picture"; // else only a part is painted at that size
  document.getElementById(`${tab}_settings`).dataset.size = form.size_by === BY_FACTOR ? "factor" : "size";
  below.querySelector(".canvas-size").textContent = differs && whole ? `becomes ${becomes.width} × ${becomes.height}` : "";
  below.querySelector("[data-do=size]").hidden = !size || form.size_by === BY_FACTOR;
}

// ---- how far a picture is extended: the same numbers on the canvas and in the form

const SIDES = ["left", "right", "up", "down"];
const told = {}; // tab -> the canvas' numbers as they were last put into the form

function showSides(tab, outpaint) {
  if (!outpaint) return;
  const now = SIDES.map((side) => outpaint[side] ?? 0);
  if (String(told[tab] ?? [0, 0, 0, 0]) === String(now)) return;
  told[tab] = now;
  if (document.getElementById(`${tab}_outpaint_left`)) SIDES.forEach((side, place) => typeNumber(`${tab}_outpaint_${side}`, now[place]));
}

function typeNumber(id, value) {
  const box = document.querySelector(`#${id} input`);
  if (box && Number(box.value) !== value) typeInto(box, String(value));
}

/** What was typed goes to the canvas, which answers with what is possible. */
function takeSides(tab) {
  const form = fields(tab);
  if (form.outpaint_left === undefined || !canvas(tab).size()) return;
  const now = SIDES.map((side) => Number(form[`outpaint_${side}`]) || 0);
  const known = told[tab] ?? [0, 0, 0, 0];
  const box = document.activeElement?.closest?.("[id*=_outpaint_]");
  if (String(now) === String(known) || !box) return;
  canvas(tab).setOutpaint(Object.fromEntries(SIDES.map((side, place) => [side, now[place]])));
}

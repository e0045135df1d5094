// Aspect ratios below the size: a click makes the size of that ratio that the checkpoint is at home at, and holds the ratio: a side that is
// typed brings the other along, until another size comes from elsewhere or the ratio is let go.  "768 x 512" may be pasted into a side.

import { h } from "../dom.js";
import { fields, typeInto } from "./form.js";
import { mostSide, setSize } from "./size.js";

const RATIOS = ["1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16"];
const KEY = "atelier.ratio";
const [LOW, HIGH] = [64, 2048]; // of a request's sides
const STEP = 8; // that any network of ours is asked for
const COARSE = 64; // the step of the sizes that SDXL and its relatives were trained at
const LARGE = 768 * 768; // pixels from which a checkpoint counts as one of these
const NEAR = 0.06; // what rounding makes of a ratio: a size beyond is another one
const SETTLED_MS = 250; // until both sides of a size from elsewhere are there
const PASTED = /^\s*(\d{2,4})\s*[x×*,;]\s*(\d{2,4})\s*$/i;

const number = (ratio) => {
  const [across, down] = ratio.split(":").map(Number);
  return across / down;
};
const inStep = (side, step = STEP, most = HIGH) => Math.min(most, Math.max(LOW, Math.round(side / step) * step));
const apart = (width, height, ratio) => Math.abs(Math.log(width / height / number(ratio)));

/** The size of a ratio that is nearest to it and to `native` pixels. */
export function ratioSize(ratio, native) {
  const step = native >= LARGE ? COARSE : STEP;
  const width = Math.sqrt(native * number(ratio));
  const around = (side) => [-3, -2, -1, 0, 1, 2, 3].map((steps) => inStep(side + steps * step, step));
  let best = null;
  for (const w of around(width)) {
    for (const h of around(width / number(ratio))) {
      const cost = apart(w, h, ratio) + Math.abs(Math.log((w * h) / native));
      if (!best || cost < best.cost - 1e-9) best = { width: w, height: h, cost };
    }
  }
  return { width: best.width, height: best.height };
}

let held = load(); // tab -> ratio

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function hold(tab, ratio) {
  held = { ...held, [tab]: ratio };
  try {
    localStorage.setItem(KEY, JSON.stringify(held));
  } catch {
    /* forbidden: then a reload lets it go */
  }
  show(tab);
}

/** `native(tab)` promises the number of pixels that the chosen model is at home at. */
export function startRatios(native) {
  for (const row of document.querySelectorAll("[id$=_size].pair")) startAt(row, row.id.replace(/_size$/, ""), native);
}

function startAt(row, tab, native) {
  const click = async (ratio) => {
    if (held[tab] === ratio) return hold(tab, null);
    const size = ratioSize(ratio, await native(tab));
    hold(tab, ratio);
    setSize(tab, size);
  };
  const chip = (ratio) => h("button", { type: "button", class: "ratio", "data-ratio": ratio, "aria-pressed": "false", title: `${ratio}: sets the size, and holds the ratio until it is pressed again`, onclick: () => click(ratio) }, ratio);
  row.after(h("div", { class: "ratios", id: `${tab}_ratios`, role: "group", "aria-label": "Aspect ratio" }, ...RATIOS.map(chip)));
  show(tab);

  let before = null; // {width, height} as the form last had them
  document.addEventListener("atelier:form", ({ detail }) => {
    if (detail.tab !== tab) return;
    const now = sides(tab);
    const was = before;
    before = now;
    if (now && held[tab]) follow(tab, was, now);
  });
  row.addEventListener("paste", (event) => {
    const found = PASTED.exec(event.clipboardData?.getData("text/plain") ?? "");
    if (!found) return;
    event.preventDefault();
    const most = mostSide(fields(tab));
    setSize(tab, { width: inStep(Number(found[1]), STEP, most), height: inStep(Number(found[2]), STEP, most) });
  }, true);
}

function sides(tab) {
  const [width, height] = [Number(fields(tab).width), Number(fields(tab).height)];
  return width > 0 && height > 0 ? { width, height } : null;
}

/** What a change of the size means for the ratio that is held. */
function follow(tab, was, now) {
  const ratio = held[tab];
  const typed = ["width", "height"].find((side) => document.getElementById(`${tab}_${side}`)?.contains(document.activeElement));
  if (typed && was && was[typed] !== now[typed]) {
    const [name, side] = typed === "width" ? ["height", now.width / number(ratio)] : ["width", now.height * number(ratio)];
    const box = document.querySelector(`#${tab}_${name} input`);
    const value = inStep(side, STEP, mostSide(fields(tab)));
    if (box && Number(box.value) !== value) typeInto(box, String(value));
    return;
  }
  if (!typed) setTimeout(() => settle(tab), SETTLED_MS);
}

/** A size that came from elsewhere, whose two sides come one after the other: it has the ratio that is held, or lets it go. */
function settle(tab) {
  const ratio = held[tab];
  const now = sides(tab);
  if (!ratio || !now || apart(now.width, now.height, ratio) <= NEAR) return;
  const turned = ratio.split(":").reverse().join(":"); // width and height were swapped
  hold(tab, apart(now.width, now.height, turned) <= NEAR ? turned : null);
}

function show(tab) {
  for (const chip of document.querySelectorAll(`#${tab}_ratios button`)) chip.setAttribute("aria-pressed", String(chip.dataset.ratio === held[tab]));
}

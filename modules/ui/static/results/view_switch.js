// In tabs with a canvas, one place has two faces: the canvas, and the pictures that were made.  Generating turns to the pictures; one of
// them may be accepted, which puts it onto the canvas to go on painting.  Accepted pictures are kept as steps to go back to.

import { canvas } from "../canvas/registry.js";
import { h } from "../dom.js";
import { complain } from "../forms/form.js";
import { currentTab, hasTab } from "../tabs.js";

const KEY = "atelier.steps";
const MOST = 24; // steps kept of one canvas
const root = document.documentElement;

const hasCanvas = (tab) => Boolean(document.getElementById(`${tab}_canvas`));
const FACES = "atelier.faces";

function load(storage, key) {
  try {
    return JSON.parse(window[storage].getItem(key) ?? "{}");
  } catch {
    return {};
  }
}

const faces = load("sessionStorage", FACES); // tab -> "canvas" | "pictures", for this window, over a reload
const steps = load("localStorage", KEY); // tab -> {list: [{url}|{id}], at}
const filled = {}; // tab -> whether there is a picture on its canvas, from when that was last said

/** Turn to a face of the tab that is seen. */
export function turn(face, tab = currentTab()) {
  faces[tab] = face;
  try {
    sessionStorage.setItem(FACES, JSON.stringify(faces));
  } catch {
    /* forbidden: then a reload begins with the canvas */
  }
  if (tab !== currentTab()) return;
  root.dataset.face = hasCanvas(tab) ? face : "pictures";
  document.dispatchEvent(new Event("atelier:face"));
}

/** Whether the pictures are what is seen. */
export const showsPictures = () => root.dataset.face === "pictures";

export function startViewSwitch() {
  const showFace = () => turn(faces[currentTab()] ?? "canvas");
  document.addEventListener("atelier:tab", showFace);
  showFace();
  document.addEventListener("atelier:send", ({ detail }) => detail.source && turn("canvas", detail.tab));
  document.addEventListener("atelier:canvas", ({ detail }) => {
    filled[detail.name] = detail.width > 0; // a canvas that is put back after a reload says so before it can be asked
    show(detail.name);
  });
  document.addEventListener("atelier:canvas-accepted", ({ detail }) => remember(detail.name, { url: detail.url }));
  for (const below of document.querySelectorAll(".below")) {
    const tab = below.id.replace(/_below$/, "");
    const other = tab === "inpaint" ? "img2img" : "inpaint";
    const send = below.querySelector("[data-do=send]");
    send.textContent = other === "inpaint" ? "To Inpaint" : "To img2img";
    send.hidden = !hasTab(other);
    send.addEventListener("click", () => sendCanvas(tab, other));
    below.querySelector("[data-do=pictures]").addEventListener("click", () => turn("pictures", tab));
    show(tab);
  }
}

/** What is painted here, as a picture to start from there. */
async function sendCanvas(from, to) {
  try {
    const drawn = JSON.parse((await canvas(from).flush()) || "null");
    if (!drawn) return;
    document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab: to, source: { id: drawn.source } } }));
  } catch (error) {
    complain(`The picture could not be sent. ${error.message}`);
  }
}

/** Put a finished picture onto the canvas of the tab that is seen, and turn to it. */
export async function accept(job, url) {
  const tab = currentTab();
  const before = canvas(tab).size();
  if (!steps[tab]?.list.length && job.request.source) remember(tab, { id: job.request.source });
  const there = await canvas(tab).load({ url }, { keepMask: true }).catch(() => false);
  if (!there) return complain("The picture could not be put on the canvas: its file is not in the outputs folder any more.");
  complain(shrunk(before, canvas(tab).size()), [], "note");
  remember(tab, { url });
  turn("canvas", tab);
}

/** In words, that the canvas has a smaller picture than before; "" where it has not. */
function shrunk(before, now) {
  if (!before || !now || (now.width >= before.width && now.height >= before.height)) return "";
  return `The picture on the canvas is ${now.width} × ${now.height} now; the one before it was ${before.width} × ${before.height}. Undo on the canvas takes it back.`;
}

function remember(tab, step) {
  const mine = (steps[tab] ??= { list: [], at: -1 });
  mine.list = [...mine.list.slice(0, mine.at + 1), step].slice(-MOST);
  mine.at = mine.list.length - 1;
  keep(tab);
}

function keep(tab) {
  try {
    localStorage.setItem(KEY, JSON.stringify(steps));
  } catch {
    /* forbidden or full: then the steps last as long as the page */
  }
  show(tab);
}

async function goTo(tab, at) {
  const there = await canvas(tab).load(steps[tab].list[at], { keepMask: true }).catch(() => false);
  if (!there) return complain("This picture is not kept here any more.");
  steps[tab].at = at;
  keep(tab);
}

function show(tab) {
  const below = document.getElementById(`${tab}_below`);
  if (!below) return;
  const there = filled[tab] ?? Boolean(canvas(tab).size());
  below.querySelector("[data-do=send]").hidden = !there;
  const { list = [], at = -1 } = steps[tab] ?? {};
  const place = below.querySelector(".steps");
  place.hidden = list.length < 2 || !there;
  place.replaceChildren(
    ...list.map((step, number) => {
      const words = number ? `Back to accepted picture ${number} of ${list.length - 1}` : "Back to the picture from before";
      const src = step.url ? `${step.url}/thumbnail` : `internal/sources/${step.id}`;
      const button = h("button", { type: "button", "aria-label": words, title: words, "aria-current": String(number === at), onclick: () => goTo(tab, number) });
      button.append(h("img", { src, alt: "", loading: "lazy" }));
      return h("li", {}, button);
    }),
  );
}

/** Whether there are pictures to turn to. */
export function offerPictures(any) {
  for (const button of document.querySelectorAll(".below [data-do=pictures]")) button.hidden = !any;
}

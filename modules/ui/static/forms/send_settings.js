// Sending settings and pictures to a tab: "Use these settings", "Send to", and code that dispatches `atelier:send` on the document with
// {tab, fields?, source?, mask?, note?}: fields by the request's names; the source as the canvas loads it, {url}, {id} or a File; the mask
// as the id of a kept picture.  The settings go through Python, which knows what is here and says what is not.

import { canvas } from "../canvas/registry.js";
import { complain, untilOpened } from "./form.js";
import { hasTab, showTab } from "../tabs.js";

const PLACE = ["box", "outpaint_left", "outpaint_right", "outpaint_up", "outpaint_down"];

/** The tab that a request was made in, by what is in it. */
export function tabOf(request) {
  if (request.upscaler_1) return "extras";
  if (!request.source) return "txt2img";
  const inpaints = request.mask || PLACE.slice(1).some((name) => request[name] > 0);
  return inpaints ? "inpaint" : "img2img";
}

let kept = "";

/** The sender's own words for when the form is filled, once. */
export function takeNote() {
  const note = kept;
  kept = "";
  return note;
}

/** `bridge` as in main.js. */
export function startSending(bridge) {
  const reuse = async (tab, fields, note) => {
    await untilOpened;
    kept = note;
    bridge.send("reuse", { tab, fields });
  };
  document.addEventListener("atelier:send", async ({ detail }) => {
    const { tab, fields = null, source = null, mask = null, note = "" } = detail;
    if (!hasTab(tab)) return complain(`These settings belong in the tab ${tab}, which this page is built without.`, [], "note");
    if (fields) reuse(tab, fields, note);
    else complain("");
    showTab(tab);
    if (!source || tab === "txt2img") return;
    const place = Object.fromEntries(PLACE.filter((name) => fields?.[name] !== undefined).map((name) => [name, fields[name]]));
    const what = source instanceof Blob ? source : { ...source, mask, ...place };
    const there = await canvas(tab).load(what).catch((error) => error);
    if (there === true) return;
    const why = there instanceof Error ? there.message : "It is not kept here any more.";
    complain(`The picture could not be put on the canvas. ${why}`);
  });
}

/** The settings of a picture, in the tab that it was made in, with what it was made from. */
export function useSettings(request) {
  const tab = tabOf(request);
  const source = request.source ? { id: request.source } : null;
  document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab, fields: request, source, mask: request.mask ?? null } }));
}

// From the gallery to the other tabs: "Send to", and drops on the tab bar.  A drag out of the gallery carries the picture's address,
// which every place that takes drops understands; held above a tab, that tab opens.

import { addToBatch } from "../forms/batch.js";
import { pickedFrom } from "../forms/picking.js";
import { complain } from "../forms/form.js";
import { read, send } from "../forms/recipes.js";
import { hasTab, showTab } from "../tabs.js";
import { gallery, pictureUrl } from "./routes.js";

export const TARGETS = { txt2img: "txt2img", img2img: "img2img", inpaint: "Inpaint", extras: "Extras", pnginfo: "PNG Info" };
const FROM_SOURCE = ["source", "mask", "box", "outpaint_left", "outpaint_right", "outpaint_up", "outpaint_down"];
const HOLD_MS = 450;

/** `answer` is that of the recipe's route, asked for where it is not at hand. */
export async function sendTo(tab, item, answer = null) {
  if (tab === "pnginfo" || tab === "extras") return toTool(tab, await fileOf(item));
  const { found } = answer ?? (await gallery.recipe(item.id)) ?? {};
  const source = tab === "txt2img" ? null : { url: pictureUrl(item.id) };
  pass(tab, found, source);
}

/** Settings go along where the picture says any; as a source, the picture itself. */
function pass(tab, found, source) {
  const fields = { ...found?.fields };
  for (const name of FROM_SOURCE) delete fields[name]; // how its own source was cut
  if (Object.keys(fields).length) send({ ...found, fields }, tab, { source });
  else if (source) document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab, source } }));
  else complain("This picture does not say how it was made, so there is nothing to fill txt2img with.", [], "note");
}

async function fileOf(item) {
  const response = await fetch(pictureUrl(item.id));
  if (!response.ok) throw new Error("The picture's file is not there any more.");
  return new File([await response.blob()], item.name);
}

/** Several pictures at once, to where several are taken. */
function sendMany(tab, files) {
  showTab(tab);
  if (tab === "extras") return document.dispatchEvent(new CustomEvent("atelier:extras", { detail: { files } }));
  if (tab !== "img2img" && tab !== "inpaint") return complain("One picture at a time goes there; img2img, Inpaint and Extras take several.", [], "note");
  const count = addToBatch(tab, files);
  complain(`${count} pictures are in the list “Many pictures” below the settings.`, [], "note");
}

/** To a tab that takes a picture's file as it is. */
function toTool(tab, file) {
  showTab(tab);
  document.dispatchEvent(new CustomEvent(`atelier:${tab}`, { detail: { file } }));
}

/** The tab bar takes pictures: held above a tab it opens, and dropped there the picture goes to it. */
export function startTabDrops() {
  const bar = document.getElementById("tab_bar");
  let timer = 0;
  const tabOf = (event) => event.target.closest?.("[role=tab]")?.hash.slice(1) ?? "";
  bar.addEventListener("dragenter", (event) => {
    const tab = tabOf(event);
    if (!tab || !pickedFrom.may(event.dataTransfer)) return;
    clearTimeout(timer);
    timer = setTimeout(() => showTab(tab), HOLD_MS);
  });
  bar.addEventListener("dragleave", (event) => bar.contains(event.relatedTarget) || clearTimeout(timer));
  bar.addEventListener("dragover", (event) => {
    if (!(tabOf(event) in TARGETS) || !pickedFrom.may(event.dataTransfer)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragend", () => clearTimeout(timer));
  bar.addEventListener("drop", async (event) => {
    const tab = tabOf(event);
    if (!(tab in TARGETS) || !hasTab(tab) || !pickedFrom.may(event.dataTransfer)) return;
    event.preventDefault();
    event.stopPropagation();
    clearTimeout(timer);
    const files = await pickedFrom.all(event.dataTransfer);
    if (files.length > 1) return sendMany(tab, files);
    const [file] = files;
    if (!file) return;
    if (tab === "pnginfo" || tab === "extras") return toTool(tab, file);
    try {
      pass(tab, tab === "txt2img" ? await read(file) : null, tab === "txt2img" ? null : file);
    } catch (error) {
      complain(error.message);
    }
  });
}

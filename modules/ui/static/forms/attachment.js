// What goes to Python beside the form when the user generates: the job's own key, so that a request that is sent twice is one job;
// the script that is chosen; whether it goes on forever; and in tabs with a canvas what is on it, the files chosen without it, or the pictures of a batch, as ids of kept pictures.

import { batchItems } from "./batch.js";
import { canvas } from "../canvas/registry.js";
import { fields } from "./form.js";
import { scriptOf } from "./script.js";
import { factorSize, wholeSize } from "./size.js";
import { uploaded } from "./upload.js";

/** Unlike crypto.randomUUID, this also works on plain http. */
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

let forever = false; // whether the next click on Generate means it

/** Generate forever with the form of a tab, as if Generate were pressed. */
export function generateForever(tab) {
  forever = true;
  document.getElementById(`${tab}_generate`).click();
}

async function attach(tab) {
  const attachment = { key: newKey(), script: scriptOf(tab), forever };
  forever = false;
  if (!document.getElementById(`${tab}_canvas`)) return JSON.stringify(attachment);
  tell("Sending the picture …");
  try {
    const batch = await batchItems(tab, (number, all) => tell(`Sending picture ${number} of ${all} …`));
    if (batch.length) attachment.batch = batch;
    else {
      const drawn = await canvas(tab).flush();
      if (drawn) attachment.canvas = JSON.parse(drawn);
      else attachment.upload = await uploaded(tab);
      const size = wholeSize(tab) ?? attachment.upload;
      if (size) attachment.size = factorSize(fields(tab), size.width, size.height);
    }
  } catch (error) {
    attachment.error = error.message || "The picture could not be sent. Is the server still running?";
  }
  tell("");
  return JSON.stringify(attachment);
}

/** What goes on before the server is asked, which may take as long as it takes; "" when it is done. */
const tell = (words) => document.dispatchEvent(new CustomEvent("atelier:sending", { detail: { words } }));

globalThis.atelier = Object.assign(globalThis.atelier ?? {}, { attach });

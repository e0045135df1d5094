// Pictures and texts that say how they were made: asking the server what they say, and handing it to a form.
// The server reads every program's pictures (api/page/reading.py); everything that it answers is shown as text and nothing else.

import { pickedFrom } from "./picking.js";

const ROUTE = "internal/read";
const MOST_BYTES = 64 << 20;

/** What a picture (File or Blob) or a pasted text says; throws Error with words for the user. */
export async function read(what) {
  if (what instanceof Blob && what.size > MOST_BYTES) {
    throw new Error(`The file has ${what.size >> 20} MB; at most ${MOST_BYTES >> 20} MB are read.`);
  }
  const type = what instanceof Blob ? (what.type.startsWith("image/") ? what.type : "image/png") : "text/plain;charset=utf-8";
  let response;
  try {
    response = await fetch(ROUTE, { method: "POST", body: what, headers: { "content-type": type }, cache: "no-store" });
  } catch {
    throw new Error("The server does not answer. Is it still running? Try again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(sentence(answer.error ?? `The server answered with ${response.status}`));
  return answer;
}

/** The words of one thing that is not here: by its hash first, because names change. */
export const nameOf = ({ name, hash }) => (hash ? `${hash} (${name})` : name);

/** What was found, as a form of this tab takes it, with a sentence about what did not come along. */
export function forTab(found, tab) {
  const fields = { ...found.fields };
  const [other, own] = [window.atelierForms?.img2img ?? {}, window.atelierForms?.txt2img ?? {}];
  if (tab === "txt2img") for (const name of Object.keys(fields)) if (name in other && !(name in own)) delete fields[name];
  const checkpoint = found.missing.find((one) => one.kind === "checkpoint");
  if (checkpoint) fields.checkpoint = nameOf(checkpoint); // Python says that it is not here
  const rest = found.missing.filter((one) => one.kind !== "checkpoint").map((one) => `${KINDS[one.kind] ?? one.kind} ${nameOf(one)}`);
  const here = rest.length ? [`Not here: ${rest.join(", ")}.`] : [];
  return { fields, note: [...here, ...found.notes.map(sentence)].join(" ") };
}

export const KINDS = { checkpoint: "Checkpoint", lora: "LoRA", embedding: "Embedding" };

/** Fill the form of a tab with what was found. */
export function send(found, tab, more = {}) {
  document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab, ...forTab(found, tab), ...more } }));
}

/** Make `target` take dropped pictures; `onPicture(file)` gets the first.  The class "drop" is on it while one is above. */
export function takeDrops(target, onPicture) {
  let depth = 0; // enter and leave come for every child too
  const over = (on) => {
    depth = on === null ? 0 : Math.max(0, depth + (on ? 1 : -1));
    target.classList.toggle("drop", depth > 0);
  };
  target.addEventListener("dragenter", (event) => pickedFrom.may(event.dataTransfer) && over(true));
  target.addEventListener("dragleave", (event) => pickedFrom.may(event.dataTransfer) && over(false));
  target.addEventListener("dragover", (event) => {
    if (!pickedFrom.may(event.dataTransfer)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  target.addEventListener("drop", async (event) => {
    if (!pickedFrom.may(event.dataTransfer)) return;
    event.preventDefault();
    event.stopPropagation();
    over(null);
    const file = await pickedFrom.transfer(event.dataTransfer);
    if (file) onPicture(file);
  });
}

export const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

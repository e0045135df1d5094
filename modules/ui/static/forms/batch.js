// Many pictures at once: a list of files below the settings, each of which becomes a job.  A file is uploaded when the user generates,
// and not before.

import { h, postFile } from "../dom.js";
import { fields } from "./form.js";
import { pickedFrom } from "./picking.js";
import { factorSize } from "./size.js";

const MASK = /[-_ ]mask$/i;
const MOST = 500; // files of one batch
const FIELDS = { Prompt: "prompt", "Negative prompt": "negative_prompt", Seed: "seed", "CFG scale": "cfg_scale", Sampler: "sampler", Steps: "steps" };

const lists = new Map(); // tab -> [File]

const stem = (file) => file.name.replace(/\.[^.]+$/, "");

/** Pictures with their masks: by the same name, with or without "_mask" at its end; the first of two of one name is the picture. */
export function paired(files) {
  const pictures = new Map();
  const masks = [];
  for (const file of files) {
    if (MASK.test(stem(file)) || pictures.has(stem(file))) masks.push(file);
    else pictures.set(stem(file), { file, mask: null });
  }
  for (const mask of masks) {
    const of = pictures.get(stem(mask).replace(MASK, "")) ?? pictures.get(stem(mask));
    if (of && !of.mask) of.mask = mask;
    else pictures.set(mask.name, { file: mask, mask: null }); // alone, it is a picture
  }
  return [...pictures.values()];
}

export function startBatches() {
  for (const box of document.querySelectorAll(".batch")) listen(box);
  document.addEventListener("atelier:batch", (event) => listen(event.detail.querySelector(".batch")));
}

/** Put files on the list of a tab; how many pictures there were among them. */
export function addToBatch(tab, files) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/") || /\.(png|jpe?g|webp|avif)$/i.test(file.name));
  lists.set(tab, [...(lists.get(tab) ?? []), ...pictures].slice(0, MOST));
  show(tab);
  return pictures.length;
}

function listen(box) {
  if (!box || box.dataset.ready) return;
  box.dataset.ready = "";
  const tab = box.id.replace(/_batch$/, "");
  const input = box.querySelector("input[type=file]");
  const add = (files) => addToBatch(tab, files);
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // the same file may be chosen again
  });
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    add(await pickedFrom.all(event.dataTransfer));
  });
  box.querySelector("[data-do=clear]").addEventListener("click", () => clearBatch(tab));
  show(tab);
}

export function clearBatch(tab) {
  if (!lists.get(tab)?.length) return;
  lists.set(tab, []);
  show(tab);
}

function show(tab) {
  const pairs = paired(lists.get(tab) ?? []);
  document.getElementById(`${tab}_generate`).dataset.batch = pairs.length || "";
  const box = document.getElementById(`${tab}_batch`);
  if (!box) return;
  const rows = pairs.map(({ file, mask }) =>
    h("li", { "data-name": file.name }, h("span", { class: "file" }, file.name), h("span", { class: "mask" }, mask ? `mask ${mask.name}` : "")),
  );
  box.querySelector(".files").replaceChildren(...rows);
  box.querySelector("[data-do=clear]").hidden = !rows.length;
}

/** The batch of a tab as Python takes it, [] when there is none: every file uploaded, as `tell(number, all)` says.  Rejects with words
 *  that name the file. */
export async function batchItems(tab, tell) {
  const form = fields(tab);
  const wanted = (form.batch_recall ?? []).map((label) => FIELDS[label]);
  const items = [];
  const pairs = paired(lists.get(tab) ?? []);
  for (const { file, mask } of pairs) {
    tell(items.length + 1, pairs.length);
    const picture = await postFile("internal/sources", file);
    const { width, height } = picture;
    const item = { source: picture.id, mask: mask ? (await postFile("internal/sources", mask)).id : null };
    item.size = factorSize(form, width, height);
    if (wanted.length) {
      const said = (await postFile("internal/read", file)).fields ?? {};
      item.fields = Object.fromEntries(wanted.filter((name) => said[name] !== undefined).map((name) => [name, said[name]]));
      if (wanted.includes("sampler") && said.schedule !== undefined) item.fields.schedule = said.schedule;
    }
    items.push(item);
  }
  return items;
}

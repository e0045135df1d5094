// File inputs for a source picture and a mask, for browsers whose canvas does not work.  A file goes to `internal/sources` when the user
// generates, as the canvas' picture does, and not through Gradio, whose upload route answers with a path of the server.

import { postFile } from "../dom.js";

const chosen = new Map(); // tab -> {picture: File, mask: File}, kept here as Gradio may make the accordion's content anew

export function startUploads() {
  for (const box of document.querySelectorAll(".plain-upload")) listen(box);
  document.addEventListener("atelier:upload", (event) => listen(event.detail.querySelector(".plain-upload")));
}

function listen(box) {
  if (!box || box.dataset.ready) return;
  box.dataset.ready = "";
  const { tab, name } = box.dataset;
  const input = box.querySelector("input[type=file]");
  const take = (file) => {
    chosen.set(tab, { ...chosen.get(tab), [name]: file });
    show(box);
  };
  input.addEventListener("change", () => {
    if (input.files.length) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  box.addEventListener("dragover", (event) => event.preventDefault());
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  box.querySelector("[data-do=remove]").addEventListener("click", () => {
    take(null);
    input.focus();
  });
  show(box);
}

function show(box) {
  const file = chosen.get(box.dataset.tab)?.[box.dataset.name];
  const [line, image] = [box.querySelector(".chosen"), box.querySelector(".chosen img")];
  if (image.src) URL.revokeObjectURL(image.src);
  line.hidden = !file;
  if (!file) return image.removeAttribute("src");
  image.src = URL.createObjectURL(file);
  line.querySelector(".file").textContent = file.name;
}

/** What was chosen in a tab, kept by the server: {source, mask, width, height}, mask null where none was chosen; null without a picture.
 *  Rejects with words that name the file. */
export async function uploaded(tab) {
  const { picture, mask } = chosen.get(tab) ?? {};
  if (!picture) return null;
  const { id, width, height } = await postFile("internal/sources", picture);
  return { source: id, mask: mask ? (await postFile("internal/sources", mask)).id : null, width, height };
}

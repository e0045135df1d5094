// Deleting a picture, or a job with all its pictures: the button below the picture's label, and the question before.

import { getJson, h, pictureUrl } from "../dom.js";
import { complain } from "../forms/form.js";

/** Ask, and then delete `picture` of the job, or the whole job without one.  True when it is gone. */
export async function deleteAsked(job, picture = null) {
  const many = job.pictures.length;
  const what = picture ? "this picture" : many > 1 ? `all ${many} pictures` : many ? "this picture" : "this job";
  const files = picture || many === 1 ? "Its file is" : "Their files are";
  const words = many ? `${files} deleted from the outputs folder, for good.` : "It has no pictures.";
  if (!(await confirmed(`Delete ${what}?`, words))) return false;
  const path = picture && many > 1 ? `${pictureUrl(job, picture)}/delete` : `internal/jobs/${job.id}/delete`;
  try {
    const answer = await getJson(path, { method: "POST" });
    if (answer?.deleted === false) throw new Error("It is still being painted: cancel it first.");
    return true;
  } catch (error) {
    complain(`It could not be deleted. ${error.message}`);
    return false;
  }
}

function confirmed(question, words) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "confirm", "aria-label": question });
    const keep = h("button", { type: "button", onclick: () => dialog.close() }, "Keep");
    const yes = h("button", { type: "button", class: "yes", onclick: () => dialog.close("yes") }, "Delete");
    dialog.append(h("h2", {}, question), h("p", {}, words), h("p", { class: "choices" }, keep, yes));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    (document.querySelector(".gradio-container") ?? document.body).append(dialog);
    dialog.showModal();
    keep.focus();
  });
}

/** Below the label: what was left out of the picture, and the button that deletes it, where the job is over. */
export function finishPictureInfo(label, job, picture, over, onDeleted) {
  const key = `${job.id}.${picture?.index ?? ""}.${job.pictures.length}.${over}`;
  if (label.dataset.finished === key && label.querySelector(".left-out, .delete")) return; // and keeps its focus
  label.dataset.finished = key;
  label.querySelectorAll(".left-out, .delete").forEach((node) => node.remove());
  const left = picture ? leftOut(picture.infotext) : "";
  if (left) label.append(h("p", { class: "left-out" }, `Painted without ${left}: its notes say why.`));
  if (!over || !job.pictures.length) return;
  const words = picture ? "Delete this picture" : `Delete all ${job.pictures.length}`;
  const button = h("button", { type: "button", class: "delete", id: "result_delete" }, words);
  button.addEventListener("click", async () => {
    if (await deleteAsked(job, picture)) onDeleted(job, picture);
  });
  label.append(button);
}

/** What a picture's text says of networks that it was painted without. */
function leftOut(infotext) {
  const found = infotext.match(/, Networks left out: (?:"((?:[^"\\]|\\.)*)"|([^,]*))/);
  return (found?.[1] ?? found?.[2] ?? "").replace(/\\(.)/g, "$1");
}

// What one sees before the first picture: what the model is, words that it paints well, and how to bring another model.

import { h } from "../dom.js";

const HOW = [
  "To paint anything else, put a Stable Diffusion checkpoint (a ",
  ".safetensors",
  " file) into the ",
  "models",
  " folder and press Rescan, the circling arrows beside the checkpoint.",
];

/** How to bring another model: a sentence, or with `behind` the end of one. */
const how = (behind) => [behind ? HOW[0].replace("To", "to") : HOW[0], h("code", {}, HOW[1]), HOW[2], h("code", {}, HOW[3]), HOW[4]];

/** `checkpoint` as /internal/checkpoints lists it, or null when there is none; `onPick` gets the words of a chip. */
export function showEmpty(root, checkpoint, broken, onPick) {
  if (!checkpoint) {
    root.replaceChildren(
      h("h2", {}, "There is no model here yet"),
      h("p", { class: "what" }, "Pictures are painted by a checkpoint file, and the models folder has none that can be used."),
      ...broken.map((info) => h("p", { class: "what broken" }, `${info.name}: ${info.problem}`)),
      h("p", { class: "how" }, ...how(false)),
    );
    return;
  }
  const chips = checkpoint.prompts.map((words) => h("button", { type: "button", class: "chip", onclick: () => onPick(words) }, words));
  const about = checkpoint.description || `The checkpoint ${checkpoint.title} is ready. It has no description of its own.`;
  const group = h("div", { class: "chips", role: "group", "aria-label": "Prompts that this model does well" }, ...chips);
  const motifs = checkpoint.motifs.length;
  const all = h("details", { class: "motifs" }, h("summary", {}, `All ${motifs} things that it can paint`), h("p", {}, checkpoint.motifs.join(", ")));
  root.replaceChildren(h("h2", {}, "What shall we paint?"), h("p", { class: "what" }, `${about.replace(/\.$/, "")}; `, ...how(true)), group, all);
  group.hidden = !chips.length;
  all.hidden = !motifs;
}

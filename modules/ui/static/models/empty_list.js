// What stands where no model does: what to do about it.

import { h } from "../dom.js";
import { kindName } from "./routes.js";

const FOLDERS = [
  ["models", "checkpoints, in folders of your own if you like"],
  ["models/loras", "LoRAs"],
  ["models/embeddings", "textual inversions"],
  ["models/hypernetworks", "hypernetworks"],
];
const FEW = 2; // what comes with the program: a starter, and a LoRA for it

const sumOf = (kinds) => Object.values(kinds).reduce((sum, count) => sum + count, 0);

const where = () => h("dl", {}, ...FOLDERS.flatMap(([folder, what]) => [h("dt", {}, h("code", {}, folder)), h("dd", {}, what)]));

/** `root` takes the place of the grid, `hint` stands above it; `everything` shows all models again. */
export function showEmptyList(root, hint, { query, total, kinds }, everything) {
  const here = sumOf(kinds);
  const narrowed = Boolean(query.q || query.folder);
  const drawn = JSON.stringify([query, total, here]);
  root.hidden = total > 0;
  hint.hidden = !(total > 0 && here <= FEW && !narrowed);
  if (!hint.hidden && !hint.textContent) {
    hint.append("Only what came with Atelier is here yet. Put .safetensors files into ", h("code", {}, "models"), ", LoRAs into ", h("code", {}, "models/loras"), ", and press Refresh.");
  }
  if (total > 0 || root.dataset.drawn === drawn) return;
  root.dataset.drawn = drawn;
  const all = h("button", { type: "button", onclick: everything }, "Show all models");
  if (narrowed) {
    const what = query.q ? `Nothing of the name, trigger word or tag “${query.q}”` : "Nothing";
    const place = [query.kind && `among ${kindName(query.kind, true)}`, query.folder && `in ${query.folder}`].filter(Boolean).join(" ");
    root.replaceChildren(h("h2", {}, "Nothing found"), h("p", {}, `${what} is here${place ? ` ${place}` : ""}.`), all);
  } else if (query.kind && here) {
    root.replaceChildren(h("h2", {}, `No ${kindName(query.kind, true)} yet`), h("p", {}, "Put their files into one of these folders, then press Refresh:"), where(), all);
  } else {
    root.replaceChildren(h("h2", {}, "There is no model here yet"), h("p", {}, "The models folder is empty or missing. Put .safetensors files into these folders, then press Refresh:"), where());
  }
}

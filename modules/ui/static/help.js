// Help: the page's keys, the version, where everything of A1111's page is here, and what is not here yet.  One list, kept true: a change that
// adds a feature moves its line.  In a modal <dialog>, so that Esc and focus are the browser's business.

import { h } from "./dom.js";
import { SHORTCUTS, shownKeys } from "./shortcuts.js";

/** [A1111's thing, where it is here]. */
const HERE = [
  ["txt2img, img2img, Inpaint", "the tabs; “Send to” below each picture's settings, PNG Info beside them"],
  ["Checkpoint", "at the top; the arrows rescan the models folder (Stable Diffusion 1.x and 2.x, SDXL and its relatives, .safetensors; inpainting and InstructPix2Pix models too)"],
  ["VAE", "Advanced, or the Models tab; NAME.vae.safetensors beside NAME.safetensors is taken by itself"],
  ["Refiner", "Advanced: any checkpoint of the same kind goes on from a share of the noise schedule on"],
  ["Hires. fix", "“Second pass”, in the settings of txt2img, with a sampler, prompts and a checkpoint of its own"],
  ["Upscale this one (✨)", "“Second pass” beside each picture, with the settings of “Second pass”"],
  ["Extras, upscalers", "the tab Extras, or “Upscale” beside a picture; models (.safetensors) in the folder ESRGAN, also for the second pass"],
  ["Outpainting", "Inpaint: drag the frame beyond the picture (O), or the fields “Extend”"],
  ["Only masked, Sketch, Inpaint upload", "Inpaint: “Inpaint area” and the box (X); “Colour” above the canvas; a mask from a file (arrow at its side)"],
  ["Batch, Loopback", "img2img and Inpaint: “Many pictures”; Loopback in the field Script, also of many pictures"],
  ["Resize by", "img2img and Inpaint: “Size”, “By a factor”"],
  ["Extra seeds, Clip skip, ENSD, eta, churn, RNG", "Advanced, at the end of the settings"],
  ["Soft inpainting, Dynamic thresholding, PAG, SAG, CFG rescale", "built in: Inpaint, and Advanced"],
  ["Styles", "a field above the sampler as soon as there are any; the editor is in Settings"],
  ["Wildcards, Dynamic Prompts", "built in: __name__ and {this|that}; their files are in Settings"],
  ["Textual inversion, hypernetworks", "models/embeddings, by name in a prompt; models/hypernetworks, <hypernet:name:1>"],
  ["Checkpoint merger, and .ckpt, .pt, .bin", "Models, “Tools”: merge, bake, extract; pickles are converted there, in a process of their own, and never opened otherwise"],
  ["Extra networks (the cards under the prompt)", "the tab Models, or “+ LoRA” above the prompt: a click puts in, a second one takes out; weights below the prompt"],
  ["Checkpoint's own settings, notes, preferred weight, preview", "Models: the i on a card; kept beside the file as A1111 keeps it"],
  ["Paste settings (the arrow)", "paste the text into the prompt and press “Read settings”; or drop any picture on the prompt; in an empty prompt, “Last settings”"],
  ["Batch count, Batch size", "“Pictures”: how many are painted at once follows from the memory"],
  ["Aspect ratios (an extension)", "below the size: pressed, a ratio is held; “768 x 512” can be pasted into a side"],
  ["Interrupt", "Cancel (Esc); whether it keeps the unfinished picture, and whether Ctrl+Enter interrupts, is said in the menu at Generate"],
  ["Generate forever", "the menu at Generate (its arrow, or the right mouse button); it goes on with the page closed, until Stop"],
  ["Skip", "beside Cancel while more pictures are to come (Alt+Enter); the skipped one is kept as it is"],
  ["v-prediction, zero terminal SNR", "NAME.yaml beside the checkpoint, its own marks, or Advanced: Prediction, Zero terminal SNR"],
  ["Image browser (an extension)", "Gallery: every picture in the outputs folder, with search, albums, tags, ratings and a trash"],
  ["Settings", "Advanced for pictures; the tab Settings for the program, for you and for API calls"],
  ["Images filename pattern, Directory name pattern", "Settings: output_name, output_folder, with A1111's tags"],
  ["X/Y/Z plot, prompt matrix, prompts from file, loopback", "Script: the last field of each tab; their grids go on after a restart"],
  ["Presets, ui-config.json", "Settings: the form of a tab under a name"],
  ["Notification sound", "Settings: “When a job is done”"],
  ["API", "A1111's own (/sdapi/v1) and one of ours (/api/v1)"],
];

/** [A1111's thing, what there is instead]. */
const NOT_YET = [
  ["ControlNet", "nothing"],
  ["Face restoration", "nothing"],
  ["Tiling", "nothing"],
  ["SD 3, Flux", "refused by name"],
  ["Extensions", "nothing can be installed"],
  ["Train", "python -m modules.training lora, without a page"],
  ["Interrogate", "nothing"],
];

const list = (lines, term) => h("dl", {}, ...lines.flatMap(([name, words]) => [h("dt", {}, ...term(name)), h("dd", {}, words)]));

/** The keys, place by place. */
function shortcuts() {
  const places = [...new Set(SHORTCUTS.map(({ where }) => where))];
  const line = (row) => [h("dt", {}, ...shownKeys(row).map((key) => h("kbd", {}, key))), h("dd", {}, row.words)];
  const of = (place) => SHORTCUTS.filter(({ where, file }) => where === place && file !== "canvas/help.js").flatMap(line);
  return places.flatMap((place) => [h("h4", {}, place), h("dl", {}, ...of(place))]);
}

export function startHelp() {
  const button = document.getElementById("help");
  if (!button) return;
  button.addEventListener("click", () => show(button));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable], .drawing")) return;
    event.preventDefault();
    show(button);
  });
}

function show(button) {
  const dialog = h("dialog", { class: "help", "aria-labelledby": "help_title" });
  const close = h("button", { type: "button", class: "help-close", onclick: () => dialog.close() }, "Close");
  const docs = h("a", { href: "docs", target: "_blank", rel: "noopener" }, "All calls of the API");
  dialog.append(
    h("header", {}, h("h2", { id: "help_title" }, "Atelier ", h("span", { class: "help-version" }, button.dataset.version)), docs, close),
    h("section", {}, h("h3", {}, "Keys"), ...shortcuts()),
    h("section", { class: "help-here" }, h("h3", {}, "Coming from A1111: what is here"), list(HERE, (name) => [name])),
    h("section", { class: "help-not" }, h("h3", {}, "What is not here yet"), list(NOT_YET, (name) => [name])),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    button.focus({ preventScroll: true });
  });
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  dialog.showModal();
  dialog.scrollTop = 0;
}

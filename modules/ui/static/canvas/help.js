// All keys and gestures of the canvas, in a dialog.

import { h } from "../dom.js";
import { SHORTCUTS, shownKeys } from "../shortcuts.js";

/** `tools` as a canvas has them. */
export function showHelp(tools) {
  const here = (scope) => scope === "" || scope === tools || (scope === "paint" && tools !== "picture");
  const rows = SHORTCUTS.filter(({ where, scope }) => where === "Canvas" && here(scope));
  const lines = rows.flatMap((row) => [h("dt", {}, ...shownKeys(row).map((key) => h("kbd", {}, key))), h("dd", {}, row.words)]);
  const dialog = h("dialog", { class: "drawing-help", "aria-label": "Keys of the canvas" });
  dialog.append(h("h2", {}, "Keys of the canvas"), h("dl", {}, ...lines), h("button", { type: "button", onclick: () => dialog.close() }, "Close"));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => event.key === "?" && dialog.close());
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.({ preventScroll: true });
  });
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  dialog.showModal();
}

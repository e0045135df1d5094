// All keys and gestures of the canvas, in a dialog.

import { h } from "../dom.js";

const KEYS = [
  ["B  E", "brush, eraser; the right button erases too", "paint"],
  ["R  L  F", "rectangle, lasso, fill", "paint"],
  ["C", "paint on the mask or in colour", "inpaint"],
  ["[  ]", "smaller, larger brush; also Shift and wheel", "paint"],
  ["{  }", "softer, harder edge; also Alt and wheel", "paint"],
  ["Shift click", "straight line from the last stroke", "paint"],
  ["Alt click", "take a colour from the picture", "paint"],
  ["I  H", "invert the mask, hide and show it", "inpaint"],
  ["Delete", "clear what is painted", "paint"],
  ["X", "box: the part to work on for “Only masked”", "inpaint"],
  ["O", "frame: drag its edges to extend the picture", "inpaint"],
  ["Ctrl Z", "undo; Ctrl Shift Z or Ctrl Y redoes", ""],
  ["Wheel, + −", "zoom; two fingers do as well", ""],
  ["Space drag", "move the picture; also the middle button", ""],
  ["0  1", "all of the picture, 100 %", ""],
  ["Ctrl V", "paste a picture", ""],
  ["Arrows", "move the brush (Shift: farther)", "paint"],
  ["Enter", "set the brush down, lift it again", "paint"],
  ["Esc", "give up the stroke", "paint"],
];

/** `tools` as a canvas has them. */
export function showHelp(tools) {
  const here = (scope) => scope === "" || scope === tools || (scope === "paint" && tools !== "picture");
  const lines = KEYS.filter(([, , scope]) => here(scope)).flatMap(([keys, words]) => [
    h("dt", {}, ...keys.split("  ").map((key) => h("kbd", {}, key))),
    h("dd", {}, words),
  ]);
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

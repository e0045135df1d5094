// Numbers beside sliders.  Gradio turns an empty one into the least and one out of range into the nearest, without a word; here what was
// typed is put right with a word: an empty field gets back what stood there, and what is out of range says the range.

import { complain, typeInto } from "./form.js";

const BOX = "#workspace input[data-testid=number-input]";
const good = new WeakMap(); // box -> the last text of it that was a number in range

const inRange = ({ value, min, max }) => value !== "" && Number(value) >= Number(min) && Number(value) <= Number(max);

export function startSliders() {
  const remember = ({ target }) => {
    if (target instanceof Element && target.matches(BOX) && inRange(target)) good.set(target, target.value);
  };
  document.addEventListener("focusin", remember);
  document.addEventListener("input", remember);
  // In the capture phase: before Gradio's own listener, which would find nothing to change any more.
  document.addEventListener("blur", ({ target }) => target instanceof Element && target.matches(BOX) && !inRange(target) && putRight(target), true);
}

function putRight(box) {
  const name = box.closest(".block")?.querySelector("[data-testid=block-info]")?.textContent.trim() ?? "The number";
  const { value, min, max } = box;
  const to = value === "" ? (good.get(box) ?? min) : Number(value) < Number(min) ? min : max;
  typeInto(box, to);
  complain(value === "" ? `${name} was left empty, so ${to} is set again.` : `${name} goes from ${min} to ${max}: ${to} is set and not ${value}.`, [], "note");
}

// Two pictures over each other, with a slider between them: left of it the one, right of it the other.

import { h } from "../dom.js";
import { show } from "./labels.js";
import { pictureUrl } from "./routes.js";

export function compare(left, right) {
  const picture = (item, side) => h("img", { class: `compare-${side}`, src: pictureUrl(item.id), alt: item.prompt || item.name, draggable: "false" });
  const slider = h("input", { type: "range", min: "0", max: "100", step: "0.5", value: "50", "aria-label": "Where the left picture ends" });
  const stage = h("div", { class: "compare-stage" }, picture(right, "right"), picture(left, "left"), h("i", { class: "compare-line" }));
  const dialog = h(
    "dialog",
    { class: "look compare", "aria-label": "Compare two pictures" },
    h("header", {}, name(left), name(right), h("button", { type: "button", "data-do": "close", onclick: () => dialog.close() }, "Close")),
    stage,
    slider,
  );
  const set = (percent) => {
    slider.value = percent;
    const at = Number(slider.value);
    stage.querySelector(".compare-left").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    stage.querySelector(".compare-line").style.left = `${at}%`;
    dialog.dataset.at = String(at);
  };
  slider.addEventListener("input", () => set(slider.value));
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    set((100 * (event.clientX - box.left)) / box.width);
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => event.buttons && follow(event));
  set(50);
  show(dialog);
  slider.focus();
}

/** What tells the two apart. */
function name(item) {
  const facts = [item.seed && `seed ${item.seed}`, item.sampler, item.model, item.width && `${item.width} × ${item.height}`].filter(Boolean);
  return h("span", { title: item.prompt }, h("b", {}, item.name), ` ${facts.join(" · ")}`);
}

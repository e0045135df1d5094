// Inpainting's area, as the canvas shows it: a box means "Only masked", and with "Whole picture" it is said before Generate how large the
// result becomes where that is less than the picture.

import { canvas } from "../canvas/registry.js";
import { fields } from "./form.js";
import { becomesSize, factorSize, makeOwnSize, mostSide, ownSize, wholeSize } from "./size.js";

const WHOLE = "Whole picture";

export function startArea() {
  for (const note of document.querySelectorAll(".canvas-note")) {
    const tab = note.dataset.tab;
    const masked = document.getElementById(`${tab}_only_masked`); // Gradio's button, which sets the field
    if (!masked) continue;
    const [words, own, only] = [note.querySelector("span"), note.querySelector("[data-do=own]"), note.querySelector("[data-do=masked]")];
    own.addEventListener("click", () => makeOwnSize(tab));
    only.addEventListener("click", () => masked.click());
    const show = () => {
      const about = noteOf(tab);
      note.hidden = !about;
      if (!about) return;
      if (words.textContent !== about.words) words.textContent = about.words;
      own.hidden = !about.own;
      own.textContent = about.own ?? "";
    };
    document.addEventListener("atelier:form", ({ detail }) => detail.tab === tab && show());
    document.addEventListener("atelier:canvas", ({ detail }) => {
      if (detail.name !== tab) return;
      if (detail.what === "box" && detail.box && fields(tab).inpaint_area === WHOLE) masked.click();
      show();
    });
    show();
  }
}

/** What is to be said before Generate, or null: {words, own}; `own` is the button that keeps the picture's size, if there is one. */
function noteOf(tab) {
  const form = fields(tab);
  const whole = wholeSize(tab);
  if (!whole || form.inpaint_area !== WHOLE) return null;
  if (canvas(tab).box()) return { words: "The box counts with “Only masked” alone." };
  const becomes = becomesSize(form, whole);
  if (!becomes || (becomes.width >= whole.width && becomes.height >= whole.height)) return null;
  const own = ownSize(whole, mostSide(form));
  const larger = own.width > becomes.width || own.height > becomes.height;
  const all = own.width >= whole.width && own.height >= whole.height;
  const keeps = factorSize(form, 1, 1) ? "Factor 1" : `${all ? "Keep" : "At most"} ${own.width} × ${own.height}`;
  return {
    words: `The whole picture becomes ${becomes.width} × ${becomes.height}, smaller than its ${whole.width} × ${whole.height}.`,
    own: larger ? keeps : null,
  };
}

// The result pane: one picture, a grid of several, or the picture that is being painted.

import { h, pictureUrl } from "../dom.js";
import { largerOnCanvas } from "../forms/size.js";
import { currentTab } from "../tabs.js";
import { openViewer } from "./viewer.js";

const SMALL = 512; // pictures below this many pixels are shown larger, up to this size and at most four times

/** Width in CSS pixels at which a picture looks good. */
function shownWidth(width, height) {
  const side = Math.max(width, height);
  return Math.round(width * (side < SMALL ? Math.min(4, SMALL / side) : 1));
}

export class ResultPane {
  #root;
  #onPick;
  #onAccept;
  #list;
  #url = ""; // object URL of the preview
  #turn = 0; // grows with each thing shown, so that a slow picture never replaces a later one

  /** `list()` gives all pictures, [{job, picture}], for the viewer. */
  constructor(root, onPick, onAccept, list) {
    this.#root = root;
    this.#onPick = onPick;
    this.#onAccept = onAccept;
    this.#list = list;
  }

  /** One finished picture.  Stays with what is shown until the new one is decoded, so that nothing flickers. */
  async picture(job, picture) {
    const turn = ++this.#turn;
    const image = h("img", {
      id: "result_picture",
      src: pictureUrl(job, picture),
      alt: job.request.prompt || "Picture without a prompt",
      draggable: "true",
    });
    this.#measure(image, picture.width, picture.height);
    const open = h("button", { type: "button", class: "picture-button", "aria-label": "Show the picture in full size" }, image);
    open.addEventListener("click", () => openViewer({ job, picture }, this.#list, this.#onPick));
    await image.decode().catch(() => {});
    if (turn !== this.#turn) return;
    if (!image.naturalWidth) this.#put("gone", h("p", { class: "gone" }, "This picture's file is not in the outputs folder any more."));
    else this.#put("picture", open);
  }

  /** All pictures of a job side by side. */
  grid(job) {
    this.#turn++;
    const buttons = job.pictures.map((picture) => {
      const image = h("img", { src: pictureUrl(job, picture), alt: `Picture ${picture.index + 1}, seed ${picture.seed}` });
      const label = `Picture ${picture.index + 1} of ${job.pictures.length}, seed ${picture.seed}`;
      const button = h("button", { type: "button", class: "picture-button", "aria-label": label, onclick: () => this.#onPick(job, picture) }, image);
      if (!job.request.source || job.request.upscaler_1) return button;
      const larger = largerOnCanvas(currentTab(), picture);
      const words = `Accept picture ${picture.index + 1}: put it onto the canvas${larger ? `, which has a larger one of ${larger.width} × ${larger.height}` : ""}`;
      const take = h("button", { type: "button", class: "accept", "aria-label": words, onclick: () => this.#onAccept(job, picture) }, larger ? `Accept at ${picture.width} × ${picture.height}` : "Accept");
      return h("div", { class: "candidate" }, button, take);
    });
    const columns = Math.ceil(Math.sqrt(buttons.length));
    const grid = h("div", { class: "picture-grid" }, ...buttons);
    this.#measure(grid, job.pictures[0].width, job.pictures[0].height);
    grid.style.setProperty("--columns", columns);
    grid.style.setProperty("--rows", Math.ceil(buttons.length / columns));
    this.#put("grid", grid);
  }

  /** A job that is not begun: its place in the line, in words. */
  waiting(words) {
    const said = this.#root.querySelector(".waiting");
    if (said) {
      if (said.textContent !== words) said.replaceChildren(h("b", {}, words));
      return;
    }
    this.#turn++;
    this.#put("waiting", h("p", { class: "waiting" }, h("b", {}, words)));
  }

  /** A job that ended without a picture: how, and what can be done. */
  ended(words, ...buttons) {
    this.#turn++;
    this.#put("ended", h("div", { class: "waiting" }, h("b", {}, words), h("p", { class: "choices" }, ...buttons)));
  }

  /** The place of a picture to come; keeps the preview when there is one already. */
  pending(job) {
    if (this.#root.dataset.job === job.id) return;
    this.#turn++;
    const place = h("div", { class: "picture-button pending" });
    this.#measure(place, job.request.width || SMALL, job.request.height || SMALL); // of one that is only enlarged it is not known yet
    this.#put("pending", place);
    this.#root.dataset.job = job.id;
  }

  async preview(job, blob) {
    if (this.#root.dataset.job !== job.id) return;
    const turn = this.#turn;
    const url = URL.createObjectURL(blob);
    const image = h("img", { id: "result_preview", src: url, alt: "The picture as it is being painted" });
    await image.decode().catch(() => {});
    const place = this.#root.querySelector(".pending");
    if (turn !== this.#turn || !place || !image.naturalWidth) {
      URL.revokeObjectURL(url);
      return;
    }
    place.replaceChildren(image);
    // One latent pixel is 8 pixels of the picture: soften the squares, so that it looks unfinished and not broken.
    image.style.setProperty("--soft", `${(0.3 * place.clientWidth) / Math.min(image.naturalWidth, job.request.width / 8)}px`);
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = url;
  }

  clear() {
    this.#turn++;
    this.#put("nothing");
  }

  #measure(node, width, height) {
    node.style.setProperty("--w", `${shownWidth(width, height)}px`);
    node.style.setProperty("--ratio", `${width} / ${height}`);
    node.style.setProperty("--fit", width / height); // times the height at hand is the width that fits
  }

  #put(what, ...nodes) {
    delete this.#root.dataset.job;
    this.#root.dataset.shows = what;
    this.#root.replaceChildren(...nodes);
  }
}

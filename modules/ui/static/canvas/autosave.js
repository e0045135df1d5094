// Keeps a canvas over a reload: writes what has changed soon after it has, and puts it back at the next visit.

import { Store } from "./store.js";

const SOON_MS = 250; // after the last change

export class Autosave {
  #drawing;
  #store;
  #timer = 0;
  #kept = undefined; // the picture that the store holds; not known before `restore` or the first picture

  constructor(drawing) {
    this.#drawing = drawing;
    this.#store = new Store(drawing.name);
    drawing.addEventListener("change", ({ detail }) => detail !== "frame-moving" && this.soon());
    document.addEventListener("visibilitychange", () => document.hidden && this.now());
    window.addEventListener("pagehide", () => this.now());
  }

  soon() {
    clearTimeout(this.#timer);
    this.#drawing.root.dataset.unsaved = "";
    this.#timer = setTimeout(() => this.now(), SOON_MS);
  }

  async now() {
    clearTimeout(this.#timer);
    const turn = this.#timer;
    const { root, settings, renderer } = this.#drawing;
    const { picture, mask, sketch, box, frame } = this.#drawing.document;
    if (mask?.step || sketch?.step) return this.soon(); // in the middle of a stroke
    if (picture || this.#kept) {
      const { scale, x, y, fitted } = renderer.view;
      const meta = {
        settings, box, frame, view: { scale, x, y, fitted },
        picture: picture && { id: picture.id, width: picture.width, height: picture.height, name: picture.name },
      };
      const other = this.#kept !== picture;
      this.#kept = picture;
      await this.#store.save(meta, other ? (picture?.blob ?? null) : undefined, { mask, sketch });
    }
    if (turn === this.#timer) root.removeAttribute("data-unsaved");
  }

  /** What the store has; `decode` makes a bitmap of a picture's file. */
  async restore(decode) {
    const found = await this.#store.load();
    if (!found) return;
    const { meta, blob, mask, sketch } = found;
    if (!blob || !meta.picture) return this.#drawing.reopen(meta.settings, null, null);
    const bitmap = await decode(blob);
    this.#kept = { ...meta.picture, blob, sending: null };
    this.#drawing.reopen(meta.settings, { picture: this.#kept, mask, sketch, box: meta.box, frame: meta.frame }, bitmap);
    for (const layer of [this.#drawing.mask, this.#drawing.sketch]) layer?.unsaved.clear(); // that is where they come from
    if (!meta.view.fitted) Object.assign(this.#drawing.renderer.view, meta.view);
  }
}

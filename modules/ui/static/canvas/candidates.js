// Results to choose from, shown in place of the picture until one is accepted or all are put away.  Accepting is a step that can be
// taken back: the mask stays, so that one goes on painting at once.

import { h } from "../dom.js";

export class Candidates {
  #drawing;
  #loader;
  #bar;
  #all = []; // {url, label}
  #at = 0;
  #bitmap = null;
  #peeking = false; // looking at the picture as it is without them

  constructor(drawing, loader) {
    this.#drawing = drawing;
    this.#loader = loader;
    this.#bar = drawing.root.querySelector(".drawing-candidates");
    drawing.addEventListener("change", (event) => event.detail === "picture" && this.clear());
    this.#bar.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.show(this.#at + step);
    });
  }

  /** `all`: [{url, label}], of results as large as the picture with its frame, or of any size. */
  async set(all, { selected = 0 } = {}) {
    this.clear();
    if (!all.length || !this.#drawing.picture) return;
    this.#all = all;
    const button = (words, does, name) => h("button", { type: "button", class: name, onclick: does }, words);
    const compare = button("Compare", () => {}, "compare");
    compare.title = "Hold to see the picture as it was";
    const peek = (on) => () => this.#peek(on);
    for (const [name, on] of [["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["blur", false]]) compare.addEventListener(name, peek(on));
    compare.addEventListener("keydown", (event) => event.key === " " && !event.repeat && this.#peek(true));
    compare.addEventListener("keyup", (event) => event.key === " " && this.#peek(false));
    this.#bar.replaceChildren(
      h("button", { type: "button", "aria-label": "Previous result", onclick: () => this.show(this.#at - 1) }, "‹"),
      h("span", { class: "which", "aria-live": "polite" }),
      h("button", { type: "button", "aria-label": "Next result", onclick: () => this.show(this.#at + 1) }, "›"),
      compare,
      button("Discard", () => this.discard(), "discard"),
      button("Accept", () => this.accept(), "accept"),
    );
    this.#bar.hidden = false;
    await this.show(selected);
  }

  async show(index) {
    const count = this.#all.length;
    if (!count) return;
    this.#at = (index + count) % count;
    const { url, label } = this.#all[this.#at];
    this.#bar.querySelector(".which").textContent = `${this.#at + 1} of ${count}${label ? ` · ${label}` : ""}`;
    const wanted = url;
    const bitmap = await fetch(url, { cache: "no-cache" }).then((answer) => answer.blob()).then((blob) => createImageBitmap(blob)).catch(() => null);
    if (this.#all[this.#at]?.url !== wanted) return bitmap?.close();
    if (!bitmap) {
      this.#loader.tell("This result cannot be fetched; it may have been deleted.");
      return;
    }
    this.#put(bitmap);
  }

  #put(bitmap) {
    const { renderer } = this.#drawing;
    this.#bitmap?.close();
    this.#bitmap = bitmap;
    renderer.imageLayer.candidate = this.#peeking ? null : bitmap;
    renderer.viewport.toggleAttribute("data-candidate", Boolean(bitmap));
    renderer.refresh();
    this.#drawing.settled();
  }

  #peek(on) {
    if (this.#peeking === on) return;
    this.#peeking = on;
    this.#drawing.renderer.imageLayer.candidate = on ? null : this.#bitmap;
    this.#drawing.renderer.refresh();
  }

  async accept() {
    const [index, { url }] = [this.#at, this.#all[this.#at]];
    if (!(await this.#loader.load({ url, keepMask: true }))) return;
    this.clear();
    this.#tell("atelier:canvas-accepted", { index, url });
    this.#drawing.renderer.viewport.focus({ preventScroll: true });
    this.#drawing.say("Accepted; undo takes it back");
  }

  discard() {
    this.clear();
    this.#tell("atelier:canvas-discarded", {});
    this.#drawing.renderer.viewport.focus({ preventScroll: true });
  }

  clear() {
    if (!this.#all.length) return;
    this.#all = [];
    this.#bar.hidden = true;
    this.#peeking = false;
    this.#put(null);
  }

  /** Esc puts them away.  Whether there were any. */
  escape() {
    if (!this.#all.length) return false;
    this.discard();
    return true;
  }

  #tell(name, detail) {
    document.dispatchEvent(new CustomEvent(name, { detail: { name: this.#drawing.name, ...detail } }));
  }
}

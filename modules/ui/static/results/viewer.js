// The picture viewer: one's pictures over the whole window, one after the other, at any zoom.  A modal <dialog>, so that Esc, focus and
// what lies behind are the browser's business.

import { h, pictureUrl } from "../dom.js";

const MOST = 32; // CSS pixels per pixel of the picture
const STEP = 1.25; // of a key or a button
const WHEEL = 0.0015; // of ln(zoom) per pixel of wheel
const SWIPE = 60; // CSS pixels to the side, at the fitted size

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** All finished pictures of these jobs, in their order: [{job, picture}]. */
export const allPictures = (jobs) => jobs.flatMap((job) => job.pictures.map((picture) => ({ job, picture })));

const same = (a, b) => a.job.id === b.job.id && a.picture.index === b.picture.index;

/** Open the viewer at `shown`, a {job, picture}.  `list()` gives all there are, in order, each time it is asked; `onShow(job, picture)` hears
 *  of every other one that is turned to. */
export function openViewer(shown, list, onShow) {
  new Viewer(shown, list, onShow).open();
}

class Viewer {
  #shown;
  #list;
  #onShow;
  #dialog;
  #viewport;
  #image;
  #zoom = null; // CSS pixels per pixel of the picture; null = all of it in the window
  #centre = { x: 0, y: 0 }; // of the picture, from the window's centre, CSS pixels
  #fingers = new Map(); // pointerId -> {x, y}
  #begin = null; // where the one finger or the mouse came down, and whether it moved

  constructor(shown, list, onShow) {
    this.#shown = shown;
    this.#list = list;
    this.#onShow = onShow;
    const button = (name, words, act, mark = words) =>
      h("button", { type: "button", "data-do": name, "aria-label": words, title: words, onclick: act }, mark);
    this.#image = h("img", { draggable: "false" });
    this.#viewport = h("div", { class: "viewer-viewport" }, this.#image);
    const said = h("span", { class: "viewer-said", role: "status", "aria-live": "polite" });
    const bar = h(
      "div",
      { class: "viewer-bar" },
      said,
      button("out", "Smaller (-)", () => this.#zoomBy(1 / STEP), "−"),
      button("actual", "100 %: one pixel of the picture is one of the screen (1)", () => this.#actual(), "100 %"),
      button("in", "Larger (+)", () => this.#zoomBy(STEP), "+"),
      button("fit", "All of the picture (0)", () => this.#fit(), "Fit"),
      h("a", { "data-do": "download", role: "button" }, "Download"),
      button("close", "Close (Esc)", () => this.#dialog.close(), "Close"),
    );
    const before = button("before", "Newer picture (←)", () => this.#turn(-1), "‹");
    const after = button("after", "Older picture (→)", () => this.#turn(1), "›");
    this.#dialog = h("dialog", { class: "viewer", "aria-label": "Picture in full size" }, this.#viewport, bar, before, after);
  }

  open() {
    const focused = document.activeElement;
    const onResize = () => this.#place();
    this.#dialog.addEventListener("close", () => {
      window.removeEventListener("resize", onResize);
      this.#dialog.remove();
      if (focused?.isConnected) focused.focus({ preventScroll: true });
      else document.querySelector("#results .result-pane .picture-button")?.focus({ preventScroll: true });
    });
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
    this.#image.addEventListener("load", () => this.#place());
    window.addEventListener("resize", onResize);
    this.#listenToPointers();
    (document.querySelector(".gradio-container") ?? document.body).append(this.#dialog);
    this.#dialog.showModal();
    this.#show();
  }

  #$(name) {
    return this.#dialog.querySelector(`[data-do=${name}]`);
  }

  // ---- which

  #show() {
    const { job, picture } = this.#shown;
    const { all, place } = this.#neighbours();
    this.#zoom = null;
    this.#centre = { x: 0, y: 0 };
    this.#image.src = pictureUrl(job, picture);
    this.#image.alt = picture.prompt || job.request.prompt || "Picture without a prompt";
    this.#dialog.dataset.picture = `${job.id}.${picture.index}`;
    const link = this.#$("download");
    link.href = `${pictureUrl(job, picture)}?download=1`;
    link.download = picture.name;
    this.#$("before").hidden = place <= 0;
    this.#$("after").hidden = place < 0 || place >= all.length - 1;
    this.#place();
  }

  /** Pictures come and go while one looks, so the place is found anew. */
  #neighbours() {
    const all = this.#list();
    return { all, place: all.findIndex((one) => same(one, this.#shown)) };
  }

  #turn(by) {
    const { all, place } = this.#neighbours();
    const next = place < 0 ? undefined : all[place + by];
    if (!next) return;
    const focused = document.activeElement;
    this.#shown = next;
    this.#show();
    if (focused?.hidden) this.#$(by > 0 ? "before" : "after").focus(); // the last one's own button is gone
    this.#onShow(next.job, next.picture);
  }

  // ---- how large

  /** CSS pixels per pixel at which all of it is in the window; small pictures are not blown up beyond four times. */
  get #fitted() {
    const { width, height } = this.#shown.picture;
    const { clientWidth, clientHeight } = this.#viewport;
    return Math.min(clientWidth / width, clientHeight / height, 4) || 1;
  }

  #place() {
    const { job, picture } = this.#shown;
    const scale = this.#zoom ?? this.#fitted;
    const room = { x: Math.max(0, (picture.width * scale - this.#viewport.clientWidth) / 2), y: Math.max(0, (picture.height * scale - this.#viewport.clientHeight) / 2) };
    this.#centre = { x: clamp(this.#centre.x, -room.x, room.x), y: clamp(this.#centre.y, -room.y, room.y) };
    Object.assign(this.#image.style, {
      width: `${picture.width * scale}px`,
      height: `${picture.height * scale}px`,
      transform: `translate(-50%, -50%) translate(${this.#centre.x}px, ${this.#centre.y}px)`,
      imageRendering: scale * devicePixelRatio >= 3 ? "pixelated" : "auto",
    });
    const percent = Math.round(100 * scale * devicePixelRatio);
    this.#dialog.dataset.zoom = String(percent);
    this.#dialog.toggleAttribute("data-pans", room.x > 0 || room.y > 0);
    const { all, place } = this.#neighbours();
    const said = [`${picture.width} × ${picture.height}`, `seed ${picture.seed}`, `${percent} %`];
    if (place >= 0 && all.length > 1) said.unshift(`${place + 1} of ${all.length}`);
    this.#dialog.querySelector(".viewer-said").textContent = said.join(" · ");
    this.#dialog.setAttribute("aria-label", `Picture in full size, seed ${picture.seed}${job.pictures.length > 1 ? `, number ${picture.index + 1} of its job` : ""}`);
  }

  #fit() {
    this.#zoom = null;
    this.#place();
  }

  #actual() {
    this.#zoomTo(1 / devicePixelRatio);
  }

  #zoomBy(factor, at) {
    this.#zoomTo((this.#zoom ?? this.#fitted) * factor, at);
  }

  /** What is under `at` (CSS pixels from the viewport's centre) stays there. */
  #zoomTo(scale, at = { x: 0, y: 0 }) {
    const now = this.#zoom ?? this.#fitted;
    const next = clamp(scale, Math.min(this.#fitted, 1 / devicePixelRatio) / 4, MOST);
    const factor = next / now;
    this.#centre = { x: at.x + (this.#centre.x - at.x) * factor, y: at.y + (this.#centre.y - at.y) * factor };
    this.#zoom = next;
    this.#place();
  }

  // ---- by what

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      ArrowLeft: () => this.#turn(-1),
      ArrowRight: () => this.#turn(1),
      Home: () => this.#turn(-this.#neighbours().place),
      End: () => this.#turn(this.#neighbours().all.length - 1 - this.#neighbours().place),
      "+": () => this.#zoomBy(STEP),
      "=": () => this.#zoomBy(STEP),
      "-": () => this.#zoomBy(1 / STEP),
      0: () => this.#fit(),
      1: () => this.#actual(),
      d: () => this.#$("download").click(),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #from(event) {
    const box = this.#viewport.getBoundingClientRect();
    return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
  }

  #listenToPointers() {
    const viewport = this.#viewport;
    viewport.addEventListener("wheel", (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      this.#zoomBy(Math.exp(-pixels * WHEEL), this.#from(event));
    }, { passive: false });
    viewport.addEventListener("dblclick", (event) => (this.#zoom === null ? this.#zoomTo(Math.max(1 / devicePixelRatio, 2 * this.#fitted), this.#from(event)) : this.#fit()));
    viewport.addEventListener("pointerdown", (event) => {
      viewport.setPointerCapture(event.pointerId);
      this.#fingers.set(event.pointerId, this.#from(event));
      this.#begin = this.#fingers.size === 1 ? { ...this.#from(event), outside: event.target !== this.#image, moved: false } : null;
    });
    viewport.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const name of ["pointerup", "pointercancel"]) viewport.addEventListener(name, (event) => this.#onUp(event, name === "pointerup"));
  }

  #onMove(event) {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const now = this.#from(event);
    const other = [...this.#fingers].find(([id]) => id !== event.pointerId)?.[1];
    this.#fingers.set(event.pointerId, now);
    if (other) {
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      this.#zoomBy(Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y)), middle);
      return;
    }
    if (this.#begin && Math.hypot(now.x - this.#begin.x, now.y - this.#begin.y) > 4) this.#begin.moved = true;
    this.#centre = { x: this.#centre.x + now.x - before.x, y: this.#centre.y + now.y - before.y };
    this.#place();
  }

  #onUp(event, meant) {
    const begin = this.#begin;
    const by = begin ? this.#from(event).x - begin.x : 0;
    this.#fingers.delete(event.pointerId);
    this.#begin = null;
    if (!meant || !begin) return;
    if (!begin.moved && begin.outside) this.#dialog.close();
    else if (event.pointerType === "touch" && this.#zoom === null && Math.abs(by) > SWIPE) this.#turn(by > 0 ? -1 : 1);
  }
}

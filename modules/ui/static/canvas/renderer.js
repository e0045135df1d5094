// The viewport: what is seen of a document and where.  Gathers changes and draws them once a frame.  It changes nothing of the document.

import { Region } from "./layer.js";
import { Overlay } from "./overlay.js";
import { ImageLayer } from "./image_layer.js";
import { View } from "./view.js";

export class Renderer {
  #asked = false; // for a frame
  #everything = true;
  #region = new Region();

  /** `document` gives {picture, mask, sketch, box, frame} as they are now; `moved` is called after each look at another place. */
  constructor(viewport, document, moved) {
    this.viewport = viewport;
    this.document = document;
    this.moved = moved;
    this.$ = (selector) => viewport.querySelector(selector);
    this.view = new View();
    this.imageLayer = new ImageLayer(this.$(".drawing-image"));
    this.overlay = new Overlay(this.$(".drawing-layers"));
    this.placed = () => {}; // who puts handles over the picture
    this.cursor = null; // where the brush is, in pixels of the picture
    this.diameter = 0; // of its ring, in pixels of the picture
    this.frames = 0; // drawn so far, for measurements
    new ResizeObserver(() => this.#measure()).observe(viewport);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh());
    new MutationObserver(() => this.refresh()).observe(globalThis.document.body, { attributeFilter: ["class"] });
  }

  /** The picture and what is to be added around it. */
  get area() {
    const { picture, frame } = this.document();
    const [width, height] = [picture?.width ?? 1, picture?.height ?? 1];
    return { x: -frame.left, y: -frame.up, width: width + frame.left + frame.right, height: height + frame.up + frame.down };
  }

  /** Draw at the next frame: everything, or only where layers have changed. */
  refresh(everything = true) {
    this.#everything ||= everything;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  fit() {
    this.view.fit(this.area);
    this.#look();
  }

  zoom(scale, x = this.view.width / 2, y = this.view.height / 2) {
    this.view.zoom(scale, x, y, this.area);
    this.#look();
  }

  pan(dx, dy) {
    this.view.pan(dx, dy, this.area);
    this.#look();
  }

  reveal(point) {
    if (this.view.reveal(point, this.area)) this.#look();
  }

  #look() {
    this.refresh();
    this.moved();
  }

  /** CSS pixels from the viewport's corner, of a pointer event. */
  at(event) {
    const box = this.viewport.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  pictureAt(event) {
    const { x, y } = this.at(event);
    return this.view.toPicture(x, y);
  }

  /** A line over the picture (a lasso, a rectangle being drawn), through points of the picture; none hides it. */
  outline(points = [], closed = false) {
    const places = points.map(({ x, y }) => this.view.toScreen(x, y));
    const d = places.map(({ x, y }, i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    for (const path of this.viewport.querySelectorAll(".drawing-outline path")) path.setAttribute("d", d + (closed && d ? "Z" : ""));
  }

  /** Where the brush is, `null` when it is nowhere. */
  showCursor(point, diameter = this.diameter) {
    this.cursor = point;
    this.diameter = diameter;
    const ring = this.$(".drawing-cursor");
    ring.hidden = !point;
    if (!point) return;
    const { x, y } = this.view.toScreen(point.x, point.y);
    const size = Math.max(5, diameter * this.view.scale);
    ring.style.width = ring.style.height = `${size}px`;
    ring.style.transform = `translate(${x - size / 2}px, ${y - size / 2}px)`;
  }

  #measure() {
    const { clientWidth, clientHeight } = this.viewport;
    if (!clientWidth || !clientHeight) return; // in a tab that is not shown
    const ratio = globalThis.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    this.view.width = clientWidth;
    this.view.height = clientHeight;
    this.imageLayer.canvas.width = width;
    this.imageLayer.canvas.height = height;
    this.overlay.resize(width, height);
    if (this.view.fitted) this.view.fit(this.area);
    this.#everything = true;
    this.#draw(); // at once: a canvas that changed its size is empty
    this.moved();
  }

  #draw() {
    const { picture, mask, sketch, frame } = this.document();
    if (!this.view.width) return;
    const ratio = this.imageLayer.canvas.width / this.view.width;
    const layers = [mask, sketch].filter(Boolean);
    this.#region.reset();
    for (const layer of layers) {
      if (!layer.dirty.empty) this.#region.add(layer.dirty.x0, layer.dirty.y0, layer.dirty.x1, layer.dirty.y1);
      layer.dirty.reset();
    }
    if (this.#everything) this.imageLayer.draw(this.view, frame, ratio);
    const shown = picture ? [this.viewport.hasAttribute("data-mask-hidden") ? null : mask, sketch] : [null, null];
    if (this.#everything || !this.#region.empty) this.overlay.draw(this.view, ratio, ...shown, this.#everything ? null : this.#region);
    if (this.#everything) {
      this.placed();
      this.showCursor(this.cursor);
    }
    this.#everything = false;
    this.frames += 1;
  }
}

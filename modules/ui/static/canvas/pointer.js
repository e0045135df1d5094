// Mouse, pen and fingers on the viewport.  One finger or button paints, two fingers or the middle button move the picture, the right
// button (and a pen's other end) erases.  A stroke may begin and end beside the picture.

import { begin, pick } from "./tools.js";

const MIDDLE = 1;
const RIGHT = 2;
const PEN_ERASER = 5;
const NOT_HERE = "button, input, .drawing-candidates, .drawing-problem"; // on the viewport, but no place to paint

export class Pointer {
  #drawing;
  #viewport;
  #gesture = null; // what is being drawn
  #owner = null; // pointerId that draws or pans
  #panning = null; // {x, y} of the last place
  #fingers = new Map(); // pointerId -> place on the viewport
  #pen = false; // a pen was seen: fingers do not paint any more, a palm would

  constructor(drawing) {
    this.#drawing = drawing;
    this.#viewport = drawing.renderer.viewport;
    this.spaceHeld = false;
    const on = (name, handler, options) => this.#viewport.addEventListener(name, handler.bind(this), options);
    on("pointerdown", this.#down);
    on("pointermove", this.#move);
    on("pointerup", this.#up);
    on("pointercancel", this.#lost);
    on("lostpointercapture", this.#lost);
    on("pointerleave", () => this.#gesture || drawing.renderer.showCursor(null));
    on("contextmenu", (event) => drawing.ready && !event.target.closest(NOT_HERE) && event.preventDefault());
    on("wheel", this.#wheel, { passive: false });
    on("auxclick", (event) => event.button === MIDDLE && event.preventDefault());
  }

  get busy() {
    return this.#gesture !== null;
  }

  /** Esc, or a second finger: as if the stroke had never begun. */
  cancel() {
    this.#gesture?.cancel();
    this.#gesture = null;
    this.#owner = null;
    this.#panning = null;
    this.#drawing.renderer.refresh(false);
  }

  #down(event) {
    const drawing = this.#drawing;
    if (!drawing.ready || event.target.closest(NOT_HERE)) return;
    if (event.pointerType === "touch") {
      this.#fingers.set(event.pointerId, drawing.renderer.at(event));
      if (this.#fingers.size === 2) this.cancel();
      if (this.#fingers.size > 1) return;
      if (this.#pen) this.#panning = drawing.renderer.at(event);
    }
    this.#pen ||= event.pointerType === "pen";
    if (this.#owner !== null) return;
    this.#viewport.focus({ preventScroll: true });
    this.#viewport.setPointerCapture(event.pointerId);
    event.preventDefault();
    this.#owner = event.pointerId;
    if (this.#panning || event.button === MIDDLE || this.spaceHeld || ["extend", "look"].includes(drawing.tool)) {
      this.#panning = drawing.renderer.at(event);
      this.#viewport.toggleAttribute("data-panning", true);
      return;
    }
    const point = this.#point(event);
    if (event.altKey && drawing.sketching) {
      pick(drawing, point);
      return;
    }
    const erase = event.button === RIGHT || event.button === PEN_ERASER;
    this.#gesture = begin(drawing, drawing.tool, point, { erase, straight: event.shiftKey });
  }

  #move(event) {
    const { renderer } = this.#drawing;
    if (this.#fingers.has(event.pointerId) && this.#fingers.size >= 2) {
      this.#pinch(event);
      return;
    }
    if (this.#fingers.has(event.pointerId)) this.#fingers.set(event.pointerId, renderer.at(event));
    if (this.#panning && event.pointerId === this.#owner) {
      const at = renderer.at(event);
      renderer.pan(at.x - this.#panning.x, at.y - this.#panning.y);
      this.#panning = at;
      return;
    }
    if (this.#gesture && event.pointerId === this.#owner) {
      const events = event.getCoalescedEvents?.() ?? [];
      this.#gesture.move((events.length ? events : [event]).map((one) => this.#point(one)));
    }
    if (!this.#drawing.ready || event.target.closest(NOT_HERE) || event.pointerType === "touch") renderer.showCursor(null);
    else renderer.showCursor(renderer.pictureAt(event), this.#drawing.ring);
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
    if (event.pointerId !== this.#owner) return;
    const gesture = this.#gesture;
    this.#release();
    gesture?.end();
  }

  #lost(event) {
    this.#fingers.delete(event.pointerId);
    if (event.pointerId !== this.#owner) return;
    const gesture = this.#gesture;
    this.#release();
    if (event.type === "pointercancel") gesture?.cancel();
    else gesture?.end();
  }

  #release() {
    this.#gesture = null;
    this.#owner = null;
    this.#panning = null;
    this.#viewport.toggleAttribute("data-panning", false);
  }

  /** Two fingers: what lies between them stays between them. */
  #pinch(event) {
    const { renderer } = this.#drawing;
    const before = [...this.#fingers.values()].slice(0, 2);
    this.#fingers.set(event.pointerId, renderer.at(event));
    const after = [...this.#fingers.values()].slice(0, 2);
    const middle = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
    const apart = ([a, b]) => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
    const [from, to] = [middle(before), middle(after)];
    renderer.pan(to.x - from.x, to.y - from.y);
    renderer.zoom((renderer.view.scale * apart(after)) / apart(before), to.x, to.y);
  }

  /** Wheel zooms where the pointer is, sideways it pans; with Shift it changes the brush's size, with Alt its hardness. */
  #wheel(event) {
    const drawing = this.#drawing;
    if (!drawing.ready) return;
    event.preventDefault();
    const unit = [1, 16, 400][event.deltaMode];
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    const along = dy || dx; // Shift turns the wheel's direction on some systems
    if (event.shiftKey) drawing.setSize(drawing.size * Math.exp(-along / 600));
    else if (event.altKey) drawing.setHardness(drawing.hardness - Math.sign(along) * 0.05);
    else if (Math.abs(dx) > Math.abs(dy)) drawing.renderer.pan(-dx, 0);
    else {
      const at = drawing.renderer.at(event);
      const speed = event.ctrlKey ? 120 : 500; // a pinch on a touchpad comes as small steps with Ctrl
      drawing.renderer.zoom(drawing.renderer.view.scale * Math.exp(-Math.max(-400, Math.min(400, dy)) / speed), at.x, at.y);
    }
    if (event.shiftKey || event.altKey) drawing.renderer.showCursor(drawing.renderer.pictureAt(event), drawing.ring);
  }

  #point(event) {
    const { x, y } = this.#drawing.renderer.pictureAt(event);
    return { x, y, pressure: event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 1 };
  }
}

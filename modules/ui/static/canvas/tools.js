// What a drag on the picture does with each tool.  A gesture takes points {x, y, pressure} in pixels of the picture, from wherever they
// come (mouse, pen, finger or arrow keys), and ends as one step that can be taken back, or as nothing.

import { cover, maskRow, sketchRow } from "./brush.js";
import { Region } from "./layer.js";
import { flood, polygon, rectangle } from "./shapes.js";

export const TOOLS = ["brush", "eraser", "rectangle", "lasso", "fill", "box", "extend"];

/** A gesture {move(points), end(), cancel()}; null when the tool does all at once, or nothing here. */
export function begin(drawing, tool, point, { erase = false, straight = false } = {}) {
  if (tool === "box") return new BoxDrag(drawing, point);
  if (tool === "extend" || tool === "look") return null;
  const layer = drawing.targetLayer();
  erase ||= tool === "eraser";
  if (tool === "fill") {
    layer.begin();
    flood(layer, point.x, point.y, drawing.ink(erase));
    drawing.commit(layer, "Fill");
    return null;
  }
  if (tool === "rectangle") return new Rectangle(drawing, layer, point, erase);
  if (tool === "lasso") return new Lasso(drawing, layer, point, erase);
  return new Stroke(drawing, layer, point, erase, straight);
}

/** The colour of the picture and the sketch at a point becomes the one to paint with. */
export function pick(drawing, point) {
  const { picture, sketch, renderer } = drawing;
  const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
  if (x < 0 || y < 0 || x >= picture.width || y >= picture.height) return;
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  context.drawImage(renderer.imageLayer.bitmap, -x, -y);
  const seen = context.getImageData(0, 0, 1, 1).data;
  if (sketch) {
    const over = sketch.data.subarray(4 * (y * sketch.width + x));
    for (let c = 0; c < 3; c += 1) seen[c] += ((over[c] - seen[c]) * over[3]) / 255;
  }
  drawing.set("colour", `#${[...seen.subarray(0, 3)].map((value) => value.toString(16).padStart(2, "0")).join("")}`);
  drawing.say(`Colour ${drawing.settings.colour}`);
}

class Stroke {
  constructor(drawing, layer, point, erase, straight) {
    this.drawing = drawing;
    this.layer = layer;
    this.erase = erase;
    this.covered = new Region();
    layer.begin();
    const { hardness, sketching } = drawing;
    this.strength = sketching ? drawing.strength(layer) : null;
    const apply = sketching ? sketchRow(layer, this.strength, drawing.ink(false), erase) : maskRow(layer, erase);
    this.line = (from, to, first) => {
      const line = { x0: from.x, y0: from.y, r0: this.radius(from), x1: to.x, y1: to.y, r1: this.radius(to) };
      cover(layer, line, hardness, first, apply);
      this.covered.add(...around(line, layer));
    };
    this.last = straight && drawing.lastPoint ? drawing.lastPoint : point;
    this.line(this.last, point, true);
    this.last = point;
    drawing.renderer.refresh(false);
  }

  radius(point) {
    return Math.max(0.5, (this.drawing.size / 2) * (point.pressure ?? 1));
  }

  move(points) {
    for (const point of points) {
      if (Math.hypot(point.x - this.last.x, point.y - this.last.y) < 0.1) continue;
      this.line(this.last, point, false);
      this.last = point;
    }
    this.drawing.renderer.refresh(false);
  }

  end() {
    this.#forget();
    this.drawing.lastPoint = { x: this.last.x, y: this.last.y };
    this.drawing.commit(this.layer, this.erase ? "Eraser stroke" : "Brush stroke");
  }

  cancel() {
    this.#forget();
    this.drawing.rollBack(this.layer);
  }

  #forget() {
    if (!this.strength || this.covered.empty) return;
    const { x0, y0, x1, y1 } = this.covered;
    for (let y = y0; y < y1; y += 1) this.strength.fill(0, y * this.layer.width + x0, y * this.layer.width + x1);
  }
}

/** Generously, the pixels of a layer that a line can cover. */
function around({ x0, y0, r0, x1, y1, r1 }, { width, height }) {
  const reach = Math.max(r0, r1) + 2;
  const clamp = (value, high) => Math.min(high, Math.max(0, value));
  return [
    clamp(Math.floor(Math.min(x0, x1) - reach), width),
    clamp(Math.floor(Math.min(y0, y1) - reach), height),
    clamp(Math.ceil(Math.max(x0, x1) + reach), width),
    clamp(Math.ceil(Math.max(y0, y1) + reach), height),
  ];
}

/** Drawn as an outline until it ends. */
class Outlined {
  constructor(drawing, layer, point, erase) {
    this.drawing = drawing;
    this.layer = layer;
    this.erase = erase;
    this.points = [point];
  }

  end() {
    this.drawing.renderer.outline();
    this.layer.begin();
    this.apply(this.drawing.ink(this.erase));
    this.drawing.commit(this.layer, this.words);
  }

  cancel() {
    this.drawing.renderer.outline();
  }
}

class Rectangle extends Outlined {
  words = "Rectangle";

  move(points) {
    this.points[1] = points.at(-1);
    this.drawing.renderer.outline(corners(...this.points), true);
  }

  apply(ink) {
    const [from, to] = this.points;
    if (to) rectangle(this.layer, from.x, from.y, to.x, to.y, ink);
  }
}

const corners = (a, b) => [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];

class Lasso extends Outlined {
  words = "Lasso";

  move(points) {
    const least = 1 / this.drawing.renderer.view.scale; // no two points on one pixel of the screen
    for (const point of points) {
      const last = this.points.at(-1);
      if (Math.hypot(point.x - last.x, point.y - last.y) >= least) this.points.push(point);
    }
    this.drawing.renderer.outline(this.points, true);
  }

  apply(ink) {
    polygon(this.layer, this.points, ink);
  }
}

/** A new box for "only masked". */
class BoxDrag {
  constructor(drawing, point) {
    this.drawing = drawing;
    this.from = point;
    this.to = point;
  }

  move(points) {
    this.to = points.at(-1);
    this.drawing.renderer.outline(corners(this.from, this.to), true);
  }

  end() {
    this.drawing.renderer.outline();
    this.drawing.drawBox(this.from, this.to);
  }

  cancel() {
    this.drawing.renderer.outline();
  }
}

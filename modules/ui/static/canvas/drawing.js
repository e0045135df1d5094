// A canvas: one document {picture, mask, sketch, box, frame}, what may be done with it, and what can be taken back.  Where it is
// shown is the renderer's, who asks for what is the pointer's, the keyboard's and the toolbar's business.

import { History } from "./history.js";
import { Box, OutpaintFrame, boxBetween, stepped } from "./handles.js";
import { Layer, weight } from "./layer.js";
import { Uploader } from "./upload.js";
import { Renderer } from "./renderer.js";
import { invert, wipe } from "./shapes.js";
import { preference } from "../preferences.js";

const NO_FRAME = Object.freeze({ left: 0, right: 0, up: 0, down: 0 });
const BLANK = Object.freeze({ picture: null, mask: null, sketch: null, box: null, frame: NO_FRAME });

export const LARGEST_BRUSH = 1024; // pixels of the picture
export const DEFAULTS = {
  tool: "brush", target: "mask", size: 64, hardness: 0.8, colour: "#d9482b", maskColour: "#e5342b", maskOpacity: 0.55, maskShown: true,
};

/** What the user prefers on a new canvas. */
const preferred = () => ({
  size: preference("canvas_brush", DEFAULTS.size),
  hardness: preference("canvas_hardness", DEFAULTS.hardness),
  maskOpacity: preference("canvas_mask", DEFAULTS.maskOpacity),
});

export class Drawing extends EventTarget {
  #doc = { ...BLANK };
  #work = Promise.resolve(); // loading, undoing: one after the other
  #strength = null;

  /** `tools`: "picture" takes a picture and no more, "sketch" colours on it too, "inpaint" a mask, a box and a frame as well. */
  constructor(root, name, tools) {
    super();
    this.root = root;
    this.name = name;
    this.tools = tools;
    this.settings = { ...DEFAULTS, ...preferred(), target: tools === "sketch" ? "sketch" : "mask" };
    this.history = new History();
    this.lastPoint = null; // where the last stroke ended
    this.renderer = new Renderer(root.querySelector(".drawing-viewport"), () => this.#doc, () => this.#changed("view"));
    this.uploader = new Uploader((share) => this.#tell("progress", share));
    if (tools === "inpaint") {
      const marks = root.querySelector(".drawing-marks");
      const [box, frame] = [new Box(this, marks), new OutpaintFrame(this, marks)];
      this.renderer.placed = () => {
        box.place(this.renderer, this.ready ? this.#doc.box : null, this.tool === "box");
        frame.place(this.renderer, this.#doc.frame, this.ready && this.tool === "extend");
      };
    }
  }

  // ---- what there is

  /** {picture, mask, sketch, box, frame}, to be looked at only. */
  get document() {
    return this.#doc;
  }

  get picture() {
    return this.#doc.picture;
  }

  get frame() {
    return this.#doc.frame;
  }

  get box() {
    return this.#doc.box;
  }

  get mask() {
    return this.#doc.mask;
  }

  get sketch() {
    return this.#doc.sketch;
  }

  /** Whether there is a picture that can be painted on at this moment. */
  get ready() {
    return this.root.dataset.state === "ready";
  }

  /** Whether it may be changed: not while results are looked at in its place. */
  get editable() {
    return this.ready && !this.renderer.viewport.hasAttribute("data-candidate");
  }

  /** "look" only moves the picture about. */
  get tool() {
    return this.tools === "picture" || !this.editable ? "look" : this.settings.tool;
  }

  get size() {
    return this.settings.size;
  }

  get hardness() {
    return this.settings.hardness;
  }

  get sketching() {
    return this.settings.target === "sketch";
  }

  /** Diameter of the ring at the pointer, in pixels of the picture. */
  get ring() {
    return ["brush", "eraser"].includes(this.tool) ? this.size : 0;
  }

  /** What a tool writes: [value] on the mask, [r, g, b, a] on the sketch. */
  ink(erase) {
    if (!this.sketching) return [erase ? 0 : 255];
    return erase ? [0, 0, 0, 0] : [...rgb(this.settings.colour), 255];
  }

  targetLayer() {
    if (!this.sketching) return this.#doc.mask;
    this.#doc.sketch ??= new Layer(this.picture.width, this.picture.height, 4);
    return this.#doc.sketch;
  }

  /** A mask's worth of zeros for a stroke on `layer`; its user leaves zeros behind. */
  strength(layer) {
    const pixels = layer.width * layer.height;
    if (this.#strength?.length !== pixels) this.#strength = new Uint8Array(pixels);
    return this.#strength;
  }

  // ---- what is chosen

  set(name, value) {
    if (this.settings[name] === value) return;
    this.settings[name] = value;
    if (["maskColour", "maskOpacity", "maskShown"].includes(name)) this.showMask();
    this.renderer.refresh();
    this.#changed("settings");
  }

  setSize(size) {
    this.set("size", Math.max(1, Math.min(LARGEST_BRUSH, size < 12 ? Math.round(10 * size) / 10 : Math.round(size))));
  }

  setHardness(hardness) {
    this.set("hardness", Math.round(100 * Math.min(1, Math.max(0, hardness))) / 100);
  }

  showMask() {
    const { maskColour, maskOpacity, maskShown } = this.settings;
    this.renderer.overlay.setColour(rgb(maskColour), maskOpacity);
    this.renderer.viewport.toggleAttribute("data-mask-hidden", !maskShown);
  }

  // ---- painting

  /** What was painted on `layer` since its `begin` is one step. */
  commit(layer, words) {
    const part = layer.channels === 1 ? "mask" : "sketch";
    const tiles = layer.finish();
    if (!tiles || layer !== this.#doc[part]) return; // another picture has come in the middle of a stroke
    this.history.push({ words, bytes: () => weight(tiles), swap: () => this.#doc[part].swap(tiles) });
    this.renderer.refresh(false);
    this.#changed(part);
  }

  rollBack(layer) {
    const tiles = layer.finish();
    if (tiles) layer.swap(tiles);
    this.renderer.refresh(false);
  }

  #onLayer(words, change) {
    const layer = this.targetLayer();
    if (layer.step) return; // in the middle of a stroke
    layer.begin();
    change(layer);
    this.commit(layer, words);
  }

  wipe() {
    if (!this.editable || !this.targetLayer().painted) return;
    this.#onLayer(this.sketching ? "Clear the sketch" : "Clear the mask", wipe);
    this.say(this.sketching ? "Sketch cleared" : "Mask cleared");
  }

  invert() {
    if (!this.editable || this.sketching) return;
    this.#onLayer("Invert the mask", invert);
    this.say("Mask inverted");
  }

  /** `data`: one byte for each pixel of the picture. */
  setMask(data, words) {
    this.set("target", "mask");
    this.#onLayer(words, (mask) => {
      mask.touchAll();
      mask.data.set(data);
    });
  }

  // ---- box and frame: shown while they are dragged, a step when that is over

  drawBox(a, b) {
    const before = this.box;
    const box = boxBetween(a, b, this.picture);
    if (!box) return;
    this.setBox(box);
    this.settleBox(before);
    this.say(`Box of ${box.width} by ${box.height} pixels`);
  }

  setBox(box) {
    this.#doc.box = box;
    this.renderer.refresh();
  }

  removeBox() {
    const before = this.box;
    this.setBox(null);
    this.settleBox(before);
    this.renderer.viewport.focus({ preventScroll: true });
    this.say("Box removed");
  }

  settleBox(before) {
    this.#settle("box", before, "Box");
  }

  setFrame(frame) {
    this.#doc.frame = frame;
    this.renderer.refresh();
    this.#changed("frame-moving");
  }

  settleFrame(before) {
    this.#settle("frame", before, "Frame");
    if (this.renderer.view.fitted) this.renderer.fit();
  }

  /** As by hand, in whole steps: {left, right, up, down}, pixels. */
  extend(sides) {
    if (!this.picture) return;
    const before = this.frame;
    this.setFrame(Object.fromEntries(Object.keys(NO_FRAME).map((side) => [side, stepped(sides[side] ?? before[side])])));
    this.settleFrame(before);
  }

  #settle(part, before, words) {
    if (JSON.stringify(before) === JSON.stringify(this.#doc[part])) return;
    let other = before;
    const swap = () => {
      [this.#doc[part], other] = [other, this.#doc[part]];
      if (this.renderer.view.fitted) this.renderer.fit();
    };
    this.history.push({ words, bytes: () => 100, swap });
    this.#changed(part);
  }

  // ---- one picture after the other

  /** Do `task` when all before it is done; meanwhile nothing can be painted. */
  queue(task) {
    const next = this.#work.then(task);
    this.#work = next.catch(() => {});
    return next;
  }

  /** Put another document in place of this one, as one step.  `bitmap` is its decoded picture. */
  replace(parts, bitmap, words) {
    const bare = !this.picture && !this.history.canUndo && !this.history.canRedo;
    let other = this.#pack();
    this.#unpack({ ...BLANK, ...parts }, bitmap);
    if (bare) return;
    const swap = async () => {
      const decoded = other.picture ? await createImageBitmap(other.picture.blob) : null;
      const now = this.#pack();
      this.#unpack(other, decoded);
      other = now;
    };
    const bytes = () => (other.picture?.blob.size ?? 0) + weight(other.mask ?? new Map()) + weight(other.sketch ?? new Map());
    this.history.push({ words, bytes, swap });
  }

  #pack() {
    const { mask, sketch, ...rest } = this.#doc;
    return { ...rest, mask: mask?.all() ?? null, sketch: sketch?.painted ? sketch.all() : null };
  }

  #unpack({ picture, mask, sketch, box, frame }, bitmap, restored = false) {
    const layer = (tiles, channels) => {
      const made = new Layer(picture.width, picture.height, channels);
      for (const [tile, bytes] of tiles ?? []) made.put(tile, bytes);
      return made;
    };
    this.#doc = {
      picture, box, frame,
      mask: picture && this.tools === "inpaint" ? layer(mask, 1) : null,
      sketch: picture && sketch?.size ? layer(sketch, 4) : null,
    };
    this.lastPoint = null;
    this.root.dataset.state = picture ? "ready" : "empty";
    this.renderer.imageLayer.show(bitmap, () => this.renderer.refresh());
    if (picture && this.renderer.view.width) this.renderer.fit();
    this.renderer.refresh();
    this.#changed("picture", restored);
  }

  /** As it was at an earlier visit; `parts` hold the layers as Maps of tiles. */
  reopen(settings, parts, bitmap) {
    this.settings = { ...this.settings, ...settings };
    if (parts) this.#unpack(parts, bitmap, true);
    this.showMask();
    this.#changed("settings");
  }

  clear() {
    return this.queue(() => {
      if (this.picture) this.replace({}, null, "Remove the picture");
      this.say("Canvas emptied; undo brings the picture back");
    });
  }

  undo() {
    return this.#step("undo", "Undone");
  }

  redo() {
    return this.#step("redo", "Redone");
  }

  #step(which, words) {
    return this.queue(async () => {
      if (this.mask?.step || this.sketch?.step) return; // in the middle of a stroke
      const step = await this.history[which]();
      this.say(step ? `${words}: ${step.words}` : `Nothing to ${which}`);
      this.renderer.refresh();
      if (step) this.#changed("mask");
    });
  }

  // ---- the outside

  /** The document as fields of a request: JSON, "" when there is no picture. */
  async flush() {
    await this.#work;
    const { picture, box, frame } = this.#doc;
    if (!picture) return "";
    this.#tell("problem", null);
    try {
      const ids = await this.uploader.flush(this.#doc, this.renderer.imageLayer.bitmap);
      this.settled();
      return JSON.stringify({
        ...ids,
        box: box ? [box.x, box.y, box.width, box.height] : [0, 0, 0, 0],
        outpaint_left: frame.left, outpaint_right: frame.right, outpaint_up: frame.up, outpaint_down: frame.down,
      });
    } catch (error) {
      this.#tell("problem", { words: error.message });
      throw error;
    }
  }

  /** For who has changed what belongs to it, and nothing that was painted. */
  settled() {
    this.#changed("view");
  }

  say(words) {
    this.#tell("say", words);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  #changed(what, restored = false) {
    this.#tell("change", what);
    if (["picture", "mask", "sketch", "box", "frame"].includes(what)) {
      const detail = {
        name: this.name, width: this.picture?.width ?? 0, height: this.picture?.height ?? 0,
        hasMask: Boolean(this.mask?.painted), box: Boolean(this.box), outpaint: { ...this.frame }, what, restored,
      };
      document.dispatchEvent(new CustomEvent("atelier:canvas", { detail }));
    }
  }
}

/** "#rrggbb" as numbers 0-255. */
export const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

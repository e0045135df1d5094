// The canvas without a mouse: a brush that arrow keys move and Enter sets down, and a key for everything else.  Keys work while the
// canvas has the focus or the pointer is over it, never while something is typed.

import { visible } from "../dom.js";
import { begin } from "./tools.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const TOOL_KEYS = { b: "brush", e: "eraser", r: "rectangle", l: "lasso", f: "fill", x: "box", o: "extend" };

export class Keyboard {
  #drawing;
  #pointer;
  #commands;
  #gesture = null; // what Enter has begun
  #over = false; // whether the pointer is on the canvas

  /** `commands`: functions by name, those of the toolbar's buttons. */
  constructor(drawing, pointer, commands) {
    this.#drawing = drawing;
    this.#pointer = pointer;
    this.#commands = commands;
    const { root, renderer } = drawing;
    root.addEventListener("pointerenter", () => { this.#over = true; });
    root.addEventListener("pointerleave", () => { this.#over = false; });
    renderer.viewport.addEventListener("blur", () => this.#lift(false));
    renderer.viewport.addEventListener("pointerdown", () => this.#lift(false));
    // In the capture phase of the window: before the page's own Esc, which would cancel the job under way.
    window.addEventListener("keydown", (event) => this.#down(event), true);
    window.addEventListener("keyup", (event) => {
      if (event.key === " ") this.#space(false);
    });
    window.addEventListener("blur", () => this.#space(false));
  }

  #down(event) {
    const drawing = this.#drawing;
    const { viewport } = drawing.renderer;
    if (event.isComposing || !visible(viewport) || document.querySelector("dialog[open]")) return;
    const inside = drawing.root.contains(document.activeElement);
    const idle = document.activeElement === document.body || document.activeElement === null;
    if (!inside && !(this.#over && idle)) return;
    if (event.target.closest?.("input:not([type=range], [type=color], [type=file]), textarea, select")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return; // generates
    const onViewport = event.target === viewport || !inside;
    const did = event.ctrlKey || event.metaKey ? this.#withControl(event) : this.#plain(event, onViewport);
    if (!did) return;
    event.preventDefault();
    event.stopPropagation();
  }

  #withControl(event) {
    const key = event.key.toLowerCase();
    if (event.altKey || !(key === "z" || key === "y")) return false;
    this.#commands[key === "y" || event.shiftKey ? "redo" : "undo"]();
    return true;
  }

  /** Whether the key meant something. */
  #plain(event, onViewport) {
    const drawing = this.#drawing;
    const { key } = event;
    if (key === "Escape") return this.#escape();
    if (key === "?") return this.#do("help");
    if (!drawing.ready || event.altKey) return false;
    if (onViewport) {
      if (key === " ") return this.#space(true);
      if (key in ARROWS && drawing.editable) return this.#walk(ARROWS[key], event.shiftKey ? 10 : 1);
      if (key === "Enter" && drawing.editable) return this.#enter();
    }
    if (drawing.tools === "picture" || !drawing.editable) return this.#look(key);
    const tool = TOOL_KEYS[key.toLowerCase()];
    if (tool && (drawing.tools === "inpaint" || (tool !== "box" && tool !== "extend"))) {
      drawing.set("tool", tool);
      drawing.say(`Tool: ${tool}`);
      return true;
    }
    const grow = Math.max(1, drawing.size / 8);
    if (key === "[") drawing.setSize(drawing.size - grow);
    else if (key === "]") drawing.setSize(drawing.size + grow);
    else if (key === "{") drawing.setHardness(drawing.hardness - 0.1);
    else if (key === "}") drawing.setHardness(drawing.hardness + 0.1);
    else if (key === "i") return this.#do("invert");
    else if (key === "h" && drawing.tools === "inpaint") drawing.set("maskShown", !drawing.settings.maskShown);
    else if (key === "c" && drawing.tools === "inpaint") drawing.set("target", drawing.sketching ? "mask" : "sketch");
    else if (key === "Delete" || key === "Backspace") return onViewport && this.#do("wipe");
    else return this.#look(key);
    if ("[]{}".includes(key)) drawing.say("[]".includes(key) ? `Size ${drawing.size}` : `Hardness ${Math.round(100 * drawing.hardness)} percent`);
    drawing.renderer.showCursor(drawing.renderer.cursor, drawing.ring);
    return true;
  }

  #look(key) {
    const names = { "+": "zoom-in", "=": "zoom-in", "-": "zoom-out", 0: "fit", 1: "actual" };
    return key in names && this.#do(names[key]);
  }

  #do(name) {
    this.#commands[name]();
    return true;
  }

  #escape() {
    if (this.#pointer.busy) this.#pointer.cancel();
    else if (this.#gesture) {
      this.#gesture.cancel();
      this.#gesture = null;
      this.#drawing.say("Given up");
    } else return this.#commands.escape();
    return true;
  }

  /** The brush goes a step of a pixel on the screen, at least one of the picture. */
  #walk([dx, dy], times) {
    const { renderer } = this.#drawing;
    const step = Math.max(1, Math.round(4 / renderer.view.scale)) * times;
    const from = renderer.cursor ?? this.#middle();
    const area = renderer.area;
    const point = {
      x: Math.min(area.x + area.width, Math.max(area.x, Math.round(from.x) + dx * step)),
      y: Math.min(area.y + area.height, Math.max(area.y, Math.round(from.y) + dy * step)),
    };
    renderer.showCursor(point, this.#drawing.ring);
    renderer.reveal(point);
    this.#gesture?.move([point]);
    this.#drawing.say(`${point.x}, ${point.y}`);
    return true;
  }

  #middle() {
    const { x, y, width, height } = this.#drawing.renderer.area;
    return { x: Math.round(x + width / 2), y: Math.round(y + height / 2) };
  }

  /** Sets the brush down, and lifts it again. */
  #enter() {
    const drawing = this.#drawing;
    if (this.#gesture) {
      this.#lift(true);
      return true;
    }
    const point = drawing.renderer.cursor ?? this.#middle();
    drawing.renderer.showCursor(point, drawing.ring);
    this.#gesture = begin(drawing, drawing.tool, { x: point.x, y: point.y });
    drawing.say(this.#gesture ? "Down; arrow keys draw, Enter lifts, Escape gives up" : "Done");
    return true;
  }

  #lift(said) {
    this.#gesture?.end();
    this.#gesture = null;
    if (said) this.#drawing.say("Up");
  }

  #space(held) {
    this.#pointer.spaceHeld = held;
    this.#drawing.renderer.viewport.toggleAttribute("data-pan", held);
    return true;
  }
}

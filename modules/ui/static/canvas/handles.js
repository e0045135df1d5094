// Things on the picture that have edges to drag: the frame, which may stand beyond the picture, and the box for "only masked".  Each
// handle is a button, so that arrow keys move it as a mouse does.

import { h } from "../dom.js";

const STEP = 8; // pixels, of the frame
const FARTHEST = 1024; // pixels on each side
const SMALLEST = 16; // pixels of a box's side
const SIDES = { left: "left side", right: "right side", up: "top", down: "bottom" };
const CORNERS = [["left", "up"], ["right", "up"], ["left", "down"], ["right", "down"]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Calls `change(start, dx, dy)` while a handle is dragged or arrow keys are pressed on it, and `settle(start)` when that is over. */
function draggable(handle, renderer, { step, start, change, settle }) {
  let held = null;
  handle.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    held = { at: renderer.pictureAt(event), start: start() };
  });
  handle.addEventListener("pointermove", (event) => {
    if (!held) return;
    const at = renderer.pictureAt(event);
    change(held.start, at.x - held.at.x, at.y - held.at.y);
  });
  const release = () => {
    if (held) settle(held.start);
    held = null;
  };
  handle.addEventListener("pointerup", release);
  handle.addEventListener("lostpointercapture", release);
  handle.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const before = start();
    const far = step * (event.shiftKey ? 8 : 1);
    change(before, arrow[0] * far, arrow[1] * far);
    settle(before);
  });
}

const place = (node, x, y, w, height) => {
  node.style.transform = `translate(${x}px, ${y}px)`;
  node.style.width = `${w}px`;
  node.style.height = `${height}px`;
};

/** A side of the frame as it can be. */
export const stepped = (pixels) => Math.min(FARTHEST, Math.max(0, STEP * Math.round((Number(pixels) || 0) / STEP)));

/** The frame: how much is to be painted on beyond the picture. */
export class OutpaintFrame {
  constructor(drawing, marks) {
    this.drawing = drawing;
    this.node = h("div", { class: "drawing-frame" });
    this.sliders = {};
    for (const [side, words] of Object.entries(SIDES)) {
      const slider = h("button", {
        type: "button", class: "drawing-handle", "data-side": side, role: "slider", "aria-label": `Extend the ${words}`,
        "aria-valuemin": 0, "aria-valuemax": FARTHEST, "aria-orientation": side === "left" || side === "right" ? "horizontal" : "vertical",
      });
      this.sliders[side] = slider;
      this.#drag(slider, [side]);
      this.node.append(slider);
    }
    for (const sides of CORNERS) {
      const corner = h("button", { type: "button", class: "drawing-handle", "data-side": sides.join(" "), tabindex: -1, "aria-hidden": "true" });
      this.#drag(corner, sides);
      this.node.append(corner);
    }
    marks.append(this.node);
  }

  #drag(handle, sides) {
    const { drawing } = this;
    const moved = (start, side, dx, dy) => {
      const by = { left: -dx, right: dx, up: -dy, down: dy }[side];
      return stepped(start[side] + by);
    };
    draggable(handle, drawing.renderer, {
      step: STEP,
      start: () => ({ ...drawing.frame }),
      change: (start, dx, dy) => drawing.setFrame({ ...start, ...Object.fromEntries(sides.map((side) => [side, moved(start, side, dx, dy)])) }),
      settle: (start) => drawing.settleFrame(start),
    });
  }

  place({ view, area }, frame, active) {
    this.node.hidden = !active && !Object.values(frame).some(Boolean);
    const { x, y } = view.toScreen(area.x, area.y);
    place(this.node, x, y, area.width * view.scale, area.height * view.scale);
    for (const [side, slider] of Object.entries(this.sliders)) {
      slider.setAttribute("aria-valuenow", frame[side]);
      slider.setAttribute("aria-valuetext", `${frame[side]} pixels`);
      slider.dataset.shows = frame[side] ? `+${frame[side]}` : "";
    }
  }
}

/** The box: what the network sees when only the masked part is painted. */
export class Box {
  constructor(drawing, marks) {
    this.drawing = drawing;
    this.node = h("div", { class: "drawing-box" });
    const body = h("button", { type: "button", class: "drawing-box-body", "aria-label": "Move the box" });
    this.#drag(body, ["left", "right", "up", "down"]);
    this.node.append(body);
    for (const sides of [...CORNERS, ["left"], ["right"], ["up"], ["down"]]) {
      const words = sides.map((side) => SIDES[side]).join(" and ");
      const handle = h("button", { type: "button", class: "drawing-handle", "data-side": sides.join(" "), "aria-label": `Move the box's ${words}` });
      this.#drag(handle, sides);
      this.node.append(handle);
    }
    const remove = h("button", { type: "button", class: "drawing-box-remove", "aria-label": "Remove the box", title: "Remove the box (Delete)", onclick: () => drawing.removeBox() }, "×");
    this.node.append(remove);
    this.node.addEventListener("keydown", (event) => {
      if (event.key !== "Delete" && event.key !== "Backspace") return;
      event.preventDefault();
      event.stopPropagation();
      drawing.removeBox();
    });
    marks.append(this.node);
  }

  #drag(handle, sides) {
    const { drawing } = this;
    draggable(handle, drawing.renderer, {
      step: 1,
      start: () => drawing.box,
      change: (start, dx, dy) => drawing.setBox(moved(start, sides, Math.round(dx), Math.round(dy), drawing.picture)),
      settle: (start) => drawing.settleBox(start),
    });
  }

  place({ view }, box, active) {
    this.node.hidden = !box;
    this.node.classList.toggle("drawing-still", !active);
    if (!box) return;
    const { x, y } = view.toScreen(box.x, box.y);
    place(this.node, x, y, box.width * view.scale, box.height * view.scale);
    this.node.querySelector(".drawing-box-body").dataset.shows = `${box.width} × ${box.height}`;
    for (const button of this.node.children) button.tabIndex = active ? 0 : -1;
  }
}

/** `box` with these sides moved; a box whose four sides are moved keeps its size. */
function moved(box, sides, dx, dy, picture) {
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  if (sides.length === 4) {
    return { ...box, x: clamp(box.x + dx, 0, picture.width - box.width), y: clamp(box.y + dy, 0, picture.height - box.height) };
  }
  let [x0, y0, x1, y1] = [box.x, box.y, box.x + box.width, box.y + box.height];
  const [narrowest, lowest] = [Math.min(SMALLEST, picture.width), Math.min(SMALLEST, picture.height)];
  if (sides.includes("left")) x0 = clamp(x0 + dx, 0, x1 - narrowest);
  if (sides.includes("right")) x1 = clamp(x1 + dx, x0 + narrowest, picture.width);
  if (sides.includes("up")) y0 = clamp(y0 + dy, 0, y1 - lowest);
  if (sides.includes("down")) y1 = clamp(y1 + dy, y0 + lowest, picture.height);
  return { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
}

/** The box between two points, on whole pixels of the picture; null when it would be too small to mean anything. */
export function boxBetween(a, b, picture) {
  const clamp = (value, high) => Math.min(high, Math.max(0, Math.round(value)));
  const [x0, x1] = [clamp(Math.min(a.x, b.x), picture.width), clamp(Math.max(a.x, b.x), picture.width)];
  const [y0, y1] = [clamp(Math.min(a.y, b.y), picture.height), clamp(Math.max(a.y, b.y), picture.height)];
  const large = x1 - x0 >= Math.min(SMALLEST, picture.width) && y1 - y0 >= Math.min(SMALLEST, picture.height);
  return large ? { x: x0, y: y0, width: x1 - x0, height: y1 - y0 } : null;
}

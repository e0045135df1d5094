// Buttons, sliders and wells around the viewport, and what is written there: sizes, zoom, messages, progress.

import { LARGEST_BRUSH } from "./drawing.js";
import { showHelp } from "./help.js";

const ZOOM = 1.25; // of a click
const UNDERSTOOD_MS = 9000; // a note that is no complaint goes by itself

// Where sliders are, for what they say: the brush's size by powers, so that 4 and 400 pixels are as easy to set.
const SLIDERS = {
  size: {
    at: (size) => (100 * Math.log(size)) / Math.log(LARGEST_BRUSH),
    value: (at) => LARGEST_BRUSH ** (at / 100),
    words: (size) => `${size} pixels`,
    number: 1,
  },
  hardness: { at: (share) => share, value: (at) => at, words: (share) => `${Math.round(100 * share)} %`, number: 100 },
  maskOpacity: { at: (share) => share, value: (at) => at, words: (share) => `${Math.round(100 * share)} %` },
};

export class Toolbar {
  constructor(drawing, commands) {
    this.drawing = drawing;
    this.root = drawing.root;
    this.$ = (selector) => this.root.querySelector(selector);
    this.$$ = (selector) => [...this.root.querySelectorAll(selector)];
    for (const part of this.$$("[data-for]")) if (!part.dataset.for.split(" ").includes(drawing.tools)) part.remove();
    this.root.dataset.tools = drawing.tools;
    this.#listen(commands);
    drawing.addEventListener("change", () => this.refresh());
    drawing.addEventListener("progress", (event) => this.#progress(event.detail));
    drawing.addEventListener("problem", (event) => this.#problem(event.detail));
    drawing.addEventListener("say", (event) => { this.$(".drawing-said").textContent = event.detail; });
    this.refresh();
  }

  #listen(commands) {
    const { drawing } = this;
    for (const button of this.$$("[data-do]")) button.addEventListener("click", () => commands[button.dataset.do]());
    for (const button of this.$$("[data-tool]")) button.addEventListener("click", () => drawing.set("tool", button.dataset.tool));
    for (const button of this.$$("[data-target]")) button.addEventListener("click", () => drawing.set("target", button.dataset.target));
    for (const input of this.$$("[data-set]")) {
      const name = input.dataset.set;
      input.addEventListener("input", () => {
        const value = SLIDERS[name] ? SLIDERS[name].value(Number(input.value)) : input.value;
        if (name === "size") drawing.setSize(value);
        else if (name === "hardness") drawing.setHardness(value);
        else drawing.set(name, value);
      });
    }
    for (const input of this.$$("[data-number]")) {
      const name = input.dataset.number;
      input.addEventListener("change", () => {
        const value = input.value === "" ? drawing.settings[name] : Number(input.value) / SLIDERS[name].number;
        if (name === "size") drawing.setSize(value);
        else drawing.setHardness(value);
        this.refresh(); // what was typed may have been out of range
      });
    }
    for (const bar of this.$$("[role=toolbar], [role=radiogroup]")) walkWithArrows(bar);
  }

  /** Once a frame at most. */
  refresh() {
    this.asked ??= requestAnimationFrame(() => {
      this.asked = null;
      this.#refresh();
    });
  }

  #refresh() {
    const { drawing } = this;
    const { settings, picture, frame, history } = drawing;
    for (const button of this.$$("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === settings.tool));
    for (const button of this.$$("[data-target]")) button.setAttribute("aria-checked", String(button.dataset.target === settings.target));
    for (const input of this.$$("[data-set]")) this.#fill(input, settings[input.dataset.set]);
    for (const part of this.$$("[data-on]")) part.hidden = part.dataset.on !== settings.target;
    const usable = { undo: history.canUndo, redo: history.canRedo, invert: picture && !drawing.sketching };
    for (const name of ["wipe", "remove", "fit", "zoom-in", "zoom-out", "actual", "mask-file"]) usable[name] = picture;
    // Not `disabled`: that would take the focus away from who has just pressed it.
    for (const [name, able] of Object.entries(usable)) this.$(`[data-do=${name}]`)?.setAttribute("aria-disabled", String(!able));
    const grown = [frame.left + frame.right, frame.up + frame.down];
    const size = picture ? `${picture.width} × ${picture.height}` : "";
    const to = picture && grown.some(Boolean) ? ` → ${picture.width + grown[0]} × ${picture.height + grown[1]}` : "";
    this.$(".drawing-size").textContent = size + to;
    this.$(".drawing-zoom").textContent = picture ? `${Math.round(100 * drawing.renderer.view.scale)} %` : "100 %";
    drawing.renderer.viewport.dataset.hand = drawing.tool;
    roam(this.$$("[data-tool], .drawing-tools [data-do]"), (button) => button.dataset.tool === settings.tool);
    roam(this.$$("[data-target]"), (button) => button.dataset.target === settings.target);
  }

  #fill(input, value) {
    const slider = SLIDERS[input.dataset.set];
    const shown = String(slider ? slider.at(value) : value);
    if (input.value !== shown) input.value = shown;
    if (!slider) return;
    const [low, high] = [Number(input.min), Number(input.max)];
    input.style.setProperty("--range_progress", `${(100 * (slider.at(value) - low)) / (high - low)}%`);
    input.setAttribute("aria-valuetext", slider.words(value));
    const field = this.$(`[data-number=${input.dataset.set}]`);
    if (field && field !== document.activeElement) field.value = String(Math.round(10 * slider.number * value) / 10);
  }

  #progress(share) {
    const bar = this.$(".drawing-progress");
    bar.hidden = share === null;
    if (share === null) return;
    bar.setAttribute("aria-valuenow", Math.round(100 * share));
    bar.firstElementChild.style.width = `${100 * share}%`;
  }

  #problem(problem) {
    clearTimeout(this.fading);
    const line = this.$(".drawing-problem");
    line.hidden = !problem;
    line.dataset.kind = problem?.kind ?? "bad";
    line.querySelector("span").textContent = problem?.words ?? "";
    if (problem?.kind === "note") this.fading = setTimeout(() => this.#problem(null), UNDERSTOOD_MS);
  }
}

/** One stop of the Tab key for the whole group: at the chosen button. */
function roam(buttons, chosen) {
  const first = buttons.find(chosen) ?? buttons[0];
  for (const button of buttons) button.tabIndex = button === first ? 0 : -1;
}

function walkWithArrows(bar) {
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const buttons = [...bar.querySelectorAll("button")];
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    event.preventDefault();
    next.focus();
    if (bar.getAttribute("role") === "radiogroup") next.click();
  });
}

/** What the buttons and keys do, by name. */
export function commandsOf(drawing, loader, candidates) {
  const { renderer } = drawing;
  const withPicture = (action) => () => drawing.picture && action();
  return {
    undo: () => drawing.undo(),
    redo: () => drawing.redo(),
    invert: () => drawing.invert(),
    wipe: () => drawing.wipe(),
    open: () => loader.choose("picture"),
    "mask-file": withPicture(() => loader.choose("mask")),
    remove: withPicture(() => drawing.clear()),
    "zoom-in": withPicture(() => renderer.zoom(renderer.view.scale * ZOOM)),
    "zoom-out": withPicture(() => renderer.zoom(renderer.view.scale / ZOOM)),
    actual: withPicture(() => renderer.zoom(1)),
    fit: withPicture(() => renderer.fit()),
    help: () => showHelp(drawing.tools),
    quiet: () => {
      loader.tell("");
      renderer.viewport.focus({ preventScroll: true });
    },
    escape: () => candidates.escape(),
  };
}

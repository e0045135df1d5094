// The boxes of a layout, drawn: for checkpoints whose prompt lists boxes.  The prompt stays the only place where they are kept; here
// they are shown, and what is drawn is written there, as if it were typed.

import { listed } from "../checkpoints.js";
import { h, replaceBeside } from "../dom.js";
import { fields } from "../forms/form.js";

const BOX = /[^\n;]+/g;
const PARTS = /^(.*\S)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)$/;
const LEAST = 0.02; // of a side: less is a click
const LONGEST = 320; // pixels of the longer side

/** A number from 0 to 1, or a percentage as one; NaN for anything else. */
function part(word) {
  const value = word.endsWith("%") ? Number(word.slice(0, -1)) / 100 : Number(word);
  return word.trim() && value >= 0 && value <= 1 ? value : NaN;
}

/** The boxes that a text lists, each with where it stands in it; what is no box is left to the prompt check to say. */
function boxesIn(text) {
  return [...text.matchAll(BOX)].flatMap((found) => {
    const words = found[0].replaceAll(",", " ").trim().match(PARTS);
    const [left, top, width, height] = words ? words.slice(2).map(part) : [];
    if (!(width > 0 && height > 0) || !(left + width <= 1.0001 && top + height <= 1.0001)) return [];
    return [{ label: words[1], left, top, width, height, from: found.index, to: found.index + found[0].length }];
  });
}

const percent = (value) => `${(value * 100).toFixed(2)}%`;
const placed = ({ left, top, width, height }) => `left:${percent(left)};top:${percent(top)};width:${percent(width)};height:${percent(height)}`;

export class Boxes {
  #tab;
  #area;
  #all;
  #stage;
  #label;
  #labels;
  #seen = ""; // the checkpoint that it was asked about
  #start = null; // where a box is being drawn from
  #draft = null;
  #drawn = null; // {left, top, width, height}

  constructor(tab, root, area) {
    this.#tab = tab;
    this.#area = area;
    this.#labels = h("datalist", { id: `${root.id}_classes` });
    this.#label = h("input", { type: "text", value: "0", list: this.#labels.id, "aria-label": "Class of the next box", autocomplete: "off" });
    this.#stage = h("div", { class: "stage", role: "group", "aria-label": "The boxes in the picture" });
    const how = h("p", {}, "Draw a box for each thing; the prompt lists them.");
    this.#all = h("div", { class: "boxes", hidden: true }, how, h("label", {}, "Class ", this.#label), this.#labels, this.#stage);
    root.append(this.#all);
    area.addEventListener("input", () => this.#draw());
    document.addEventListener("atelier:form", (event) => event.detail.tab === tab && this.#look());
    this.#stage.addEventListener("pointerdown", (event) => this.#begin(event));
    this.#stage.addEventListener("pointermove", (event) => this.#go(event));
    this.#stage.addEventListener("pointerup", () => this.#end());
    this.#stage.addEventListener("pointercancel", () => this.#drop());
    this.#look();
  }

  /** Whether the checkpoint takes boxes, its classes, and the shape of the picture. */
  async #look() {
    const { checkpoint } = fields(this.#tab);
    if (checkpoint && checkpoint !== this.#seen) {
      this.#seen = checkpoint;
      let info;
      try {
        info = (await listed())?.find(({ name }) => name === checkpoint);
      } catch {
        this.#seen = ""; // the next change asks again
      }
      this.#all.hidden = info?.prompt !== "boxes";
      if (!this.#all.hidden) this.#labels.replaceChildren(...info.motifs.map((name) => h("option", { value: name })));
    }
    if (this.#all.hidden) return;
    const [width, height] = ["width", "height"].map((name) => Number(fields(this.#tab)[name]) || 1);
    this.#stage.style.aspectRatio = `${width} / ${height}`;
    this.#stage.style.width = `min(100%, ${Math.round(LONGEST * Math.min(1, width / height))}px)`;
    this.#draw();
  }

  #draw() {
    if (this.#all.hidden) return;
    const boxes = boxesIn(this.#area.value).map((box) => {
      const remove = h("button", { type: "button", "aria-label": `Remove the box ${box.label}`, onclick: () => this.#remove(box) }, "×");
      return h("div", { class: "box", style: placed(box) }, h("span", {}, box.label), remove);
    });
    this.#stage.replaceChildren(...boxes, ...(this.#draft ? [this.#draft] : []));
  }

  #at(event) {
    const { left, top, width, height } = this.#stage.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return { x: within((event.clientX - left) / width), y: within((event.clientY - top) / height) };
  }

  #begin(event) {
    if (event.button || event.target.closest("button")) return;
    event.preventDefault();
    this.#stage.setPointerCapture(event.pointerId);
    this.#start = this.#at(event);
    this.#draft = h("div", { class: "box", "data-draft": true });
    this.#stage.append(this.#draft);
  }

  #go(event) {
    if (!this.#start) return;
    const { x, y } = this.#at(event);
    const [left, top] = [Math.min(x, this.#start.x), Math.min(y, this.#start.y)];
    this.#drawn = { left, top, width: Math.abs(x - this.#start.x), height: Math.abs(y - this.#start.y) };
    this.#draft.setAttribute("style", placed(this.#drawn));
  }

  #end() {
    const box = this.#start && this.#drawn;
    this.#drop();
    if (!box || box.width < LEAST || box.height < LEAST) return;
    const [left, top] = [box.left, box.top].map((value) => Math.round(value * 100) / 100);
    const width = Math.min(Math.round(box.width * 100) / 100, Math.round((1 - left) * 100) / 100);
    const height = Math.min(Math.round(box.height * 100) / 100, Math.round((1 - top) * 100) / 100);
    const text = this.#area.value.trimEnd();
    const line = [this.#label.value.trim() || "0", left, top, width, height].join(" ");
    replaceBeside(this.#area, text.length, this.#area.value.length, text ? `\n${line}` : line);
    this.#draw();
  }

  #drop() {
    this.#draft?.remove();
    this.#start = this.#draft = this.#drawn = null;
  }

  /** With the line or the semicolon that divided it from the next one, or for the last one from the one before. */
  #remove({ from, to }) {
    const behind = this.#area.value.slice(to).match(/^\s*[\n;]\s*/)?.[0].length ?? 0;
    const before = behind ? 0 : (this.#area.value.slice(0, from).match(/[\n;]\s*$/)?.[0].length ?? 0);
    replaceBeside(this.#area, from - before, to + behind, "");
    this.#draw();
  }
}

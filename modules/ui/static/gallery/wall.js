// The wall: a grid of square cells of which only those in sight are in the document, however many have been scrolled through.
// It knows where cells stand, which is active and which are chosen; what a cell shows is the business of the function that makes it.

import { h } from "../dom.js";

const GAP = 10;
const WIDTH = 172; // at least, of a cell; on phones three stand beside each other
const BEYOND = 2; // rows above and below what is in sight
const AHEAD = 3; // windows of pictures that are asked for ahead

export class Wall {
  #root;
  #space;
  #made;
  #more;
  #items = [];
  #ended = true;
  #cells = new Map(); // index -> element
  #columns = 1;
  #side = WIDTH;
  #active = 0;
  #anchor = 0;
  chosen = new Set(); // ids

  /** `make(item)` fills a cell with its children; `more()` is called when pictures behind the last are wanted; `open(item)` when one
   *  is to be seen whole; `changed()` when others are chosen. */
  constructor(root, { make, more, open, changed }) {
    this.#root = root;
    this.#made = make;
    this.#more = more;
    this.open = open;
    this.changed = changed;
    this.#space = h("div", { class: "wall-space", role: "presentation" });
    root.append(this.#space);
    root.addEventListener("scroll", () => this.#paint(), { passive: true });
    root.addEventListener("keydown", (event) => this.#onKey(event));
    root.addEventListener("click", (event) => this.#onClick(event));
    root.addEventListener("focusin", ({ target }) => target.dataset.index && this.#activate(Number(target.dataset.index), false));
    new ResizeObserver(() => this.#layout()).observe(root);
  }

  get items() {
    return this.#items;
  }

  get active() {
    return this.#items[this.#active];
  }

  get atTop() {
    return this.#root.scrollTop < this.#side / 2;
  }

  /** `ended`: there are none behind these.  `anew`: another list, from its beginning. */
  show(items, ended, anew) {
    const active = this.active?.id;
    this.#items = items;
    this.#ended = ended;
    if (anew) {
      this.#root.scrollTop = 0;
      this.#active = this.#anchor = 0;
    } else {
      const place = items.findIndex(({ id }) => id === active);
      this.#active = place >= 0 ? place : Math.max(0, Math.min(this.#active, items.length - 1));
    }
    const there = new Set(items.map(({ id }) => id));
    const before = this.chosen.size;
    if (anew) for (const id of this.chosen) if (!there.has(id)) this.chosen.delete(id);
    if (this.chosen.size !== before) this.changed();
    this.#redraw();
  }

  /** Take another state of pictures that are shown. */
  replace(items) {
    const fresh = new Map(items.map((item) => [item.id, item]));
    this.#items = this.#items.map((item) => fresh.get(item.id) ?? item);
    this.#redraw();
  }

  remove(ids) {
    const gone = new Set(ids);
    for (const id of ids) this.chosen.delete(id);
    const items = this.#items.filter(({ id }) => !gone.has(id));
    const before = this.#items.slice(0, this.#active).filter(({ id }) => gone.has(id)).length;
    this.#items = items;
    this.#active = Math.max(0, Math.min(this.#active - before, items.length - 1));
    this.#redraw();
    this.changed();
  }

  focus() {
    this.#scrollTo(this.#active);
    this.#paint();
    this.#cells.get(this.#active)?.focus({ preventScroll: true });
  }

  clear() {
    if (!this.chosen.size) return;
    this.chosen.clear();
    this.#mark();
    this.changed();
  }

  chooseAll(ids) {
    this.chosen = new Set(ids);
    this.#mark();
    this.changed();
  }

  // ---- what is drawn

  #redraw() {
    const focused = this.#root.contains(document.activeElement);
    for (const [index, cell] of this.#cells) {
      const item = this.#items[index];
      if (item && cell.item === JSON.stringify(item)) continue;
      cell.remove();
      this.#cells.delete(index);
    }
    this.#layout();
    if (focused && !this.#root.contains(document.activeElement)) this.#cells.get(this.#active)?.focus({ preventScroll: true });
  }

  #layout() {
    const width = this.#root.clientWidth - 2 * GAP;
    if (width <= 0) return; // not seen
    const columns = Math.max(3, Math.floor((width + GAP) / (WIDTH + GAP)));
    const side = (width - (columns - 1) * GAP) / columns;
    const moved = columns !== this.#columns || side !== this.#side;
    const top = moved ? this.#firstSeen() : 0;
    [this.#columns, this.#side] = [columns, side];
    const rows = Math.ceil(this.#items.length / columns);
    this.#space.style.height = `${2 * GAP + rows * (side + GAP)}px`;
    if (moved) {
      for (const [index, cell] of this.#cells) this.#place(cell, index);
      if (top) this.#root.scrollTop = Math.floor(top / columns) * (side + GAP);
    }
    this.#paint();
  }

  #firstSeen() {
    return Math.floor(this.#root.scrollTop / (this.#side + GAP)) * this.#columns;
  }

  #paint() {
    const step = this.#side + GAP;
    const { scrollTop, clientHeight } = this.#root;
    if (!clientHeight) return;
    const first = Math.max(0, Math.floor(scrollTop / step) - BEYOND) * this.#columns;
    const last = Math.min(this.#items.length, (Math.ceil((scrollTop + clientHeight) / step) + BEYOND) * this.#columns);
    for (const [index, cell] of this.#cells) {
      if ((index >= first && index < last) || cell.contains(document.activeElement)) continue;
      cell.remove();
      this.#cells.delete(index);
    }
    for (let index = first; index < last; index++) if (!this.#cells.has(index)) this.#add(index);
    this.#mark();
    const left = (Math.ceil(this.#items.length / this.#columns) * step - scrollTop) / clientHeight;
    if (!this.#ended && left < AHEAD) this.#more();
  }

  #add(index) {
    const item = this.#items[index];
    const cell = h("div", { class: "wall-cell", role: "option", "data-index": index, "data-id": item.id, tabindex: "-1" });
    cell.item = JSON.stringify(item);
    cell.append(...this.#made(item));
    cell.setAttribute("aria-label", labelOf(item));
    cell.setAttribute("aria-posinset", index + 1);
    this.#place(cell, index);
    this.#cells.set(index, cell);
    this.#space.append(cell);
  }

  #place(cell, index) {
    const step = this.#side + GAP;
    const [row, column] = [Math.floor(index / this.#columns), index % this.#columns];
    cell.style.width = cell.style.height = `${this.#side}px`;
    cell.style.transform = `translate(${GAP + column * step}px, ${GAP + row * step}px)`;
  }

  #mark() {
    this.#root.toggleAttribute("data-choosing", this.chosen.size > 0);
    for (const [index, cell] of this.#cells) {
      cell.setAttribute("aria-selected", String(this.chosen.has(this.#items[index]?.id)));
      cell.setAttribute("aria-setsize", this.#ended ? this.#items.length : -1);
      cell.tabIndex = index === this.#active ? 0 : -1;
    }
    // Where the active one is out of sight, Tab comes to the list itself
    this.#root.tabIndex = this.#cells.has(this.#active) ? -1 : 0;
  }

  // ---- by what

  #onClick(event) {
    const cell = event.target.closest("[data-index]");
    if (!cell) return;
    const index = Number(cell.dataset.index);
    const item = this.#items[index];
    if (event.shiftKey) this.#chooseTo(index);
    else if (event.ctrlKey || event.metaKey || event.target.closest(".cell-check") || this.chosen.size) this.#toggle(index);
    else {
      this.#activate(index);
      this.open(item);
      return;
    }
    this.#activate(index);
  }

  #toggle(index) {
    const { id } = this.#items[index];
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.#anchor = index;
    this.#mark();
    this.changed();
  }

  #chooseTo(index) {
    const [from, to] = [Math.min(this.#anchor, index), Math.max(this.#anchor, index)];
    for (const { id } of this.#items.slice(from, to + 1)) this.chosen.add(id);
    getSelection()?.removeAllRanges();
    this.#mark();
    this.changed();
  }

  #activate(index, focus = true) {
    this.#active = index;
    if (!this.chosen.size) this.#anchor = index;
    this.#mark();
    if (focus) this.focus();
  }

  /** Make a picture of the list the active one, such as the one that was seen whole. */
  goTo(id) {
    const place = this.#items.findIndex((item) => item.id === id);
    if (place >= 0) this.#activate(place);
  }

  #scrollTo(index) {
    const step = this.#side + GAP;
    const top = Math.floor(index / this.#columns) * step;
    const { scrollTop, clientHeight } = this.#root;
    if (top < scrollTop) this.#root.scrollTop = top;
    else if (top + step + GAP > scrollTop + clientHeight) this.#root.scrollTop = top + step + GAP - clientHeight;
  }

  #onKey(event) {
    if (event.altKey || !this.#items.length || event.target.closest("button")) return;
    const page = Math.max(1, Math.floor(this.#root.clientHeight / (this.#side + GAP))) * this.#columns;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns, PageUp: -page, PageDown: page };
    const last = this.#items.length - 1;
    if (event.key in moves || event.key === "Home" || event.key === "End") {
      if (event.ctrlKey || event.metaKey) return;
      const to = event.key === "Home" ? 0 : event.key === "End" ? last : this.#active + moves[event.key];
      if (event.shiftKey) this.#chooseTo(Math.max(0, Math.min(last, to)));
      this.#activate(Math.max(0, Math.min(last, to)));
    } else if (event.key === " ") this.#toggle(this.#active);
    else if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) this.open(this.active);
    else return;
    event.preventDefault();
  }
}

/** What a screen reader says of a picture. */
export function labelOf(item) {
  if (item.broken) return `${item.name}, broken: ${item.broken}`;
  const words = [item.prompt || item.name];
  if (item.favourite) words.push("favourite");
  if (item.rating) words.push(`rated ${item.rating}`);
  return words.join(", ");
}

// A grid of cards of which only those in sight are in the document, and the keys that walk through it.
// It knows where cards stand; what they are is the business of the function that makes them.

import { h } from "../dom.js";

const MIN_WIDTH = 158;
const GAP = 12;
const TEXT_HEIGHT = 96; // below the picture of a card
const BEYOND = 2; // rows above and below what is in sight

export class Grid {
  #root;
  #space;
  #cell;
  #need;
  #total = 0;
  #items = [];
  #rows = new Map(); // number -> element
  #columns = 1;
  #height = 1;
  #active = 0;

  /** `cell(item, index)` makes the element of a card, item undefined while it is on its way; `need(first, last)` hears what is seen;
   *  `press(item, event)` hears of clicks, also where a card was made anew between the button's going down and up. */
  constructor(root, { cell, need, press }) {
    this.#root = root;
    this.#cell = cell;
    this.#need = need;
    this.#space = h("div", { class: "grid-space", role: "presentation" });
    root.append(this.#space);
    root.addEventListener("scroll", () => this.#paint(), { passive: true });
    root.addEventListener("keydown", (event) => this.#onKey(event));
    root.addEventListener("click", (event) => {
      const item = this.#items[Number(event.target.closest("[data-index]")?.dataset.index)];
      if (item) press(item, event);
    });
    root.addEventListener("focusin", ({ target }) => this.#onFocus(target));
    new ResizeObserver(() => this.#layout()).observe(root);
  }

  get active() {
    return this.#items[this.#active];
  }

  /** `anew`: another list, from its beginning. */
  show(total, items, anew) {
    this.#total = total;
    this.#items = items;
    if (anew) {
      this.#active = 0;
      this.#root.scrollTop = 0;
      for (const row of this.#rows.values()) row.remove(); // what a card looks like is a matter of the query, too
      this.#rows.clear();
    }
    this.#active = Math.max(0, Math.min(this.#active, total - 1));
    this.#root.setAttribute("aria-rowcount", Math.ceil(total / this.#columns));
    this.#redraw();
  }

  /** Show what there is now.  A card that is as it was stays, as it may be about to be pressed. */
  #redraw(all = false) {
    const focused = this.#root.contains(document.activeElement) && document.activeElement !== this.#root;
    for (const [number, row] of this.#rows) {
      const first = number * this.#columns;
      if (!all && row.children.length === Math.min(this.#columns, this.#total - first)) this.#refill(row, first);
      else {
        row.remove();
        this.#rows.delete(number);
      }
    }
    this.#paint();
    if (focused && !this.#root.contains(document.activeElement)) this.#button()?.focus({ preventScroll: true });
  }

  #refill(row, first) {
    [...row.children].forEach((node, place) => {
      if (node.item !== JSON.stringify(this.#items[first + place])) this.#fill(node, first + place);
    });
  }

  #fill(node, index) {
    node.item = JSON.stringify(this.#items[index]);
    node.replaceChildren(this.#cell(this.#items[index], index));
  }

  /** Call `mark(element, item)` for each card in the document. */
  each(mark) {
    for (const node of this.#root.querySelectorAll("[data-index]")) {
      const item = this.#items[Number(node.dataset.index)];
      if (item) mark(node, item);
    }
  }

  focus() {
    this.#reveal();
    this.#button()?.focus({ preventScroll: true });
  }

  #layout() {
    const width = this.#root.clientWidth - 2 * GAP;
    if (width <= 0) return; // on a tab that is not seen
    const columns = Math.max(1, Math.floor((width + GAP) / (MIN_WIDTH + GAP)));
    const height = Math.floor((width - (columns - 1) * GAP) / columns) + TEXT_HEIGHT + GAP;
    if (columns === this.#columns && height === this.#height) return this.#paint();
    const first = Math.floor(this.#root.scrollTop / this.#height) * this.#columns;
    const seen = this.#inSight();
    this.#columns = columns;
    this.#height = height;
    this.#root.style.setProperty("--columns", columns);
    this.#root.setAttribute("aria-colcount", columns);
    this.#root.setAttribute("aria-rowcount", Math.ceil(this.#total / columns));
    this.#redraw(true);
    this.#root.scrollTop = Math.floor(first / columns) * height;
    if (seen) this.#reveal(); // the details beside it may have taken its place
    else this.#paint();
  }

  #paint() {
    const rows = Math.ceil(this.#total / this.#columns);
    this.#space.style.height = `${rows ? rows * this.#height + GAP : 0}px`;
    if (!this.#root.clientHeight) return;
    const first = Math.max(0, Math.floor(this.#root.scrollTop / this.#height) - BEYOND);
    const last = Math.min(rows - 1, Math.floor((this.#root.scrollTop + this.#root.clientHeight) / this.#height) + BEYOND);
    const focused = document.activeElement?.closest?.("[role=row]");
    for (const [number, row] of this.#rows) {
      if ((number >= first && number <= last) || (row === focused && number < rows)) continue; // a key goes on from where it is
      row.remove();
      this.#rows.delete(number);
    }
    for (let number = first; number <= last; number += 1) if (!this.#rows.has(number)) this.#addRow(number);
    if (last >= first) this.#need(first * this.#columns, Math.min(this.#total, (last + 1) * this.#columns) - 1);
    this.#markActive();
  }

  #addRow(number) {
    const row = h("div", { role: "row", class: "grid-row", "aria-rowindex": number + 1 });
    row.style.top = `${number * this.#height + GAP}px`;
    row.style.height = `${this.#height - GAP}px`;
    const end = Math.min(this.#total, (number + 1) * this.#columns);
    for (let index = number * this.#columns; index < end; index += 1) {
      const node = h("div", { role: "gridcell", class: "grid-cell", "data-index": index, "aria-colindex": (index % this.#columns) + 1 });
      this.#fill(node, index);
      row.append(node);
    }
    const after = [...this.#rows.keys()].filter((other) => other > number);
    this.#space.insertBefore(row, after.length ? this.#rows.get(Math.min(...after)) : null);
    this.#rows.set(number, row);
  }

  #cellOf(index) {
    return this.#space.querySelector(`[data-index="${index}"]`);
  }

  #button() {
    return this.#cellOf(this.#active)?.querySelector("button");
  }

  /** One stop of the Tab key, with what belongs to that card behind it. */
  #markActive() {
    const inSight = this.#cellOf(this.#active) ? this.#active : Math.min(...[...this.#space.querySelectorAll("[data-index]")].map((node) => Number(node.dataset.index)));
    for (const node of this.#space.querySelectorAll("[data-index]")) {
      const tabindex = Number(node.dataset.index) === inSight ? 0 : -1;
      for (const button of node.querySelectorAll("button")) button.tabIndex = tabindex;
    }
  }

  #onFocus(node) {
    const index = node.closest?.("[data-index]")?.dataset.index;
    if (index === undefined || Number(index) === this.#active) return;
    this.#active = Number(index);
    this.#markActive();
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const page = Math.max(1, Math.floor(this.#root.clientHeight / this.#height)) * this.#columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.#columns, ArrowUp: -this.#columns, PageDown: page, PageUp: -page };
    const to = { Home: 0, End: this.#total - 1 }[event.key] ?? (event.key in steps ? this.#active + steps[event.key] : null);
    if (to === null || !this.#total) return;
    event.preventDefault();
    const below = Math.floor(this.#active / this.#columns) < Math.floor((this.#total - 1) / this.#columns);
    const beyond = to < 0 || to >= this.#total;
    if (beyond && !event.key.startsWith("Page") && !(event.key === "ArrowDown" && below)) return; // a row that is not full is reached
    this.#active = Math.max(0, Math.min(this.#total - 1, to));
    this.focus();
  }

  #inSight() {
    const top = Math.floor(this.#active / this.#columns) * this.#height;
    return top + this.#height > this.#root.scrollTop && top < this.#root.scrollTop + this.#root.clientHeight;
  }

  #reveal() {
    const top = Math.floor(this.#active / this.#columns) * this.#height;
    const sight = this.#root.clientHeight;
    if (top < this.#root.scrollTop) this.#root.scrollTop = top;
    else if (top + this.#height + GAP > this.#root.scrollTop + sight) this.#root.scrollTop = top + this.#height + GAP - sight;
    this.#paint();
  }
}

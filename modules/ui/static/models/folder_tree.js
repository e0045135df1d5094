// The folders of the models as a tree: one is chosen, those with folders of their own open and close, arrows walk.

import { h } from "../dom.js";

export class FolderTree {
  #root;
  #pick;
  #chosen = "";
  #open = new Set();
  #folders = [];
  #drawn = "";

  /** `pick(path)` hears which folder is chosen; "" is all of them. */
  constructor(root, pick) {
    this.#root = root;
    this.#pick = pick;
    root.addEventListener("keydown", (event) => this.#onKey(event));
    root.addEventListener("click", ({ target }) => {
      const item = target.closest("[role=treeitem]");
      if (!item) return;
      if (target.closest(".tree-turn")) this.#turn(item.dataset.path);
      else this.#choose(item.dataset.path);
    });
  }

  /** [{path, count}], counts with those of inner folders or without: they are shown as they come. */
  show(folders, chosen) {
    this.#folders = folders.filter(({ path }) => path); // what lies in no folder is with all
    this.#chosen = chosen;
    for (let path = parentOf(chosen); path; path = parentOf(path)) this.#open.add(path);
    this.#draw();
  }

  #draw() {
    const drawn = JSON.stringify([this.#folders, this.#chosen, [...this.#open]]);
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    const focused = this.#root.contains(document.activeElement) ? document.activeElement.dataset.path : null;
    const counts = new Map(this.#folders.map(({ path, count }) => [path, count]));
    const paths = new Set(counts.keys());
    for (const path of counts.keys()) for (let above = parentOf(path); above; above = parentOf(above)) paths.add(above);
    const all = [...paths].sort((one, other) => one.localeCompare(other));
    const parents = new Set(all.map(parentOf));
    const shown = all.filter((path) => {
      for (let above = parentOf(path); above; above = parentOf(above)) if (!this.#open.has(above)) return false;
      return true;
    });
    const item = (path, words, level, count) => {
      const open = parents.has(path) && path ? this.#open.has(path) : null;
      const node = h(
        "li",
        { role: "treeitem", "data-path": path, "aria-level": level, "aria-selected": String(path === this.#chosen), "aria-expanded": open === null ? null : String(open), tabindex: -1 },
        h("span", { class: open === null ? "tree-leaf" : "tree-turn", "aria-hidden": "true" }),
        h("span", { class: "tree-name", translate: path ? "no" : null, title: path || null }, words),
        count === undefined ? null : h("span", { class: "tree-count" }, String(count)),
      );
      node.style.setProperty("--level", level - 1);
      return node;
    };
    const rows = shown.map((path) => item(path, path.slice(path.lastIndexOf("/") + 1), path.split("/").length, counts.get(path)));
    this.#root.replaceChildren(item("", "All folders", 1), ...rows);
    const stop = this.#items().find((node) => node.dataset.path === (focused ?? this.#chosen)) ?? this.#items()[0];
    stop.tabIndex = 0;
    if (focused !== null) stop.focus({ preventScroll: true });
  }

  #items() {
    return [...this.#root.querySelectorAll("[role=treeitem]")];
  }

  #choose(path) {
    this.#chosen = path;
    if (path) this.#open.add(path);
    this.#draw();
    this.#pick(path);
  }

  #turn(path, open = !this.#open.has(path)) {
    if (open) this.#open.add(path);
    else this.#open.delete(path);
    this.#draw();
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const items = this.#items();
    const place = items.indexOf(document.activeElement);
    if (place < 0) return;
    const { path } = items[place].dataset;
    const expanded = items[place].getAttribute("aria-expanded");
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) this.#walk(items, to);
    else if (event.key === "Enter" || event.key === " ") this.#choose(path);
    else if (event.key === "ArrowRight" && expanded === "false") this.#turn(path, true);
    else if (event.key === "ArrowRight" && expanded === "true") this.#walk(items, place + 1);
    else if (event.key === "ArrowLeft" && expanded === "true") this.#turn(path, false);
    else if (event.key === "ArrowLeft") this.#walk(items, items.findIndex((node) => node.dataset.path === parentOf(path)));
    else return;
    event.preventDefault();
  }

  #walk(items, to) {
    const next = items[Math.max(0, Math.min(items.length - 1, to))];
    for (const node of items) node.tabIndex = node === next ? 0 : -1;
    next.focus();
  }
}

const parentOf = (path) => path.slice(0, Math.max(0, path.lastIndexOf("/")));

// The filmstrip of one's pictures, newest first, with a tile for each job under way.  Arrow keys walk along it, Delete deletes; older
// ones come as one gets near its end.  At its head one can look for words of prompts.

import { h, pictureUrl } from "../dom.js";
import { isOver } from "./jobs.js";
import { closed, opened } from "../opened.js";

const NEAR = 800; // CSS pixels from the end at which older ones are fetched
const PAUSE_MS = 250; // after the last key of a search

export class Filmstrip {
  #root;
  #onPick;
  #tiles = new Map(); // key -> button, kept so that images are not loaded anew
  #shown = "";
  #finder;
  #onOlder;

  /** `on` is {pick(id, index), older(), search(words), remove(id, index)}. */
  constructor(root, on) {
    this.#root = root;
    this.#onPick = on.pick;
    this.#finder = this.#makeFinder(on.search);
    root.append(this.#finder);
    root.addEventListener("scroll", () => this.#nearEnd() && on.older(), { passive: true });
    this.#onOlder = on.older;
    root.addEventListener("keydown", (event) => {
      if (!event.target.matches(".tile")) return;
      const key = [...this.#tiles].find(([, tile]) => tile === event.target)?.[0] ?? "";
      if (event.key === "Delete" && key.includes(".")) on.remove(key.split(".")[0], Number(key.split(".")[1]));
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const tiles = [...root.querySelectorAll(".tile")];
      const next = tiles[tiles.indexOf(document.activeElement) + step];
      next?.focus();
      next?.click();
    });
  }

  /** `searching`: these are what a search found, perhaps nothing. */
  render(jobs, searching = false) {
    const wanted = jobs.flatMap((job) => [
      ...(isOver(job) ? [] : [[job.id, job, null]]),
      ...job.pictures.map((picture) => [`${job.id}.${picture.index}`, job, picture]),
    ]);
    const keys = new Set(wanted.map(([key]) => key));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      tile.remove();
      this.#tiles.delete(key);
    }
    wanted.forEach(([key, job, picture], place) => {
      if (!this.#tiles.has(key)) this.#tiles.set(key, picture ? this.#pictureTile(job, picture) : this.#jobTile(job));
      const tile = this.#tiles.get(key);
      if (!picture) this.progress(job);
      const there = this.#root.children[place + 1]; // behind the finder
      if (there !== tile) this.#root.insertBefore(tile, there ?? null);
    });
    this.#root.hidden = wanted.length === 0 && !searching;
    this.#finder.querySelector(".none").hidden = wanted.length > 0 || !searching;
    this.mark(this.#shown);
    if (!this.#root.hidden && this.#nearEnd()) this.#onOlder();
  }

  #nearEnd() {
    const { scrollLeft, clientWidth, scrollWidth } = this.#root;
    return clientWidth > 0 && scrollLeft + clientWidth > scrollWidth - NEAR;
  }

  /** A field behind a button: Esc empties and closes it. */
  #makeFinder(search) {
    const field = h("input", { type: "search", placeholder: "Words of a prompt", "aria-label": "Search your pictures by words of their prompts", maxlength: 400 });
    const button = h("button", { type: "button", class: "find", "aria-label": "Search your pictures", "aria-expanded": "false" }, "Search");
    const none = h("span", { class: "none", role: "status", hidden: true }, "Nothing found");
    const finder = h("div", { class: "finder", role: "search" }, button, field, none);
    let timer = 0;
    const close = () => {
      closed(finder);
      clearTimeout(timer);
      delete finder.dataset.open;
      button.setAttribute("aria-expanded", "false");
      field.value = "";
      search("");
      button.focus();
    };
    button.addEventListener("click", () => {
      if ("open" in finder.dataset) return close();
      finder.dataset.open = "";
      button.setAttribute("aria-expanded", "true");
      field.focus();
      opened(finder, close);
    });
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => search(field.value), PAUSE_MS);
    });
    return finder;
  }

  progress(job) {
    const tile = this.#tiles.get(job.id);
    if (!tile) return;
    tile.style.setProperty("--progress", job.progress);
    tile.dataset.state = job.state;
    const words = job.state === "running" ? `${Math.round(100 * job.progress)} %` : "In line";
    tile.querySelector("span").textContent = words;
    tile.setAttribute("aria-label", `Being painted, ${words}`);
  }

  /** Say which tile is the one in the result pane. */
  mark(key) {
    this.#shown = key;
    const first = this.#root.querySelector(".tile");
    for (const [name, tile] of this.#tiles) {
      const current = name === key;
      tile.setAttribute("aria-current", String(current));
      tile.tabIndex = current || (!this.#tiles.has(key) && tile === first) ? 0 : -1;
      if (current) this.#reveal(tile);
    }
  }

  /** Only the strip moves, never the page. */
  #reveal(tile) {
    const [left, right] = [tile.offsetLeft - this.#root.offsetLeft, tile.offsetLeft - this.#root.offsetLeft + tile.offsetWidth];
    const seen = this.#root.scrollLeft;
    if (left < seen) this.#root.scrollLeft = left - 8;
    else if (right > seen + this.#root.clientWidth) this.#root.scrollLeft = right - this.#root.clientWidth + 8;
  }

  #pictureTile(job, picture) {
    const image = h("img", { src: `${pictureUrl(job, picture)}/thumbnail`, alt: "", loading: "lazy", width: 72, height: 72 });
    image.addEventListener("error", () => image.replaceWith(h("span", {}, "File gone")));
    const words = job.request.prompt.slice(0, 80) || "without a prompt";
    const label = `Picture, seed ${picture.seed}: ${words}`;
    return h("button", { type: "button", class: "tile", "aria-label": label, onclick: () => this.#onPick(job.id, picture.index) }, image);
  }

  #jobTile(job) {
    return h("button", { type: "button", class: "tile under-way", onclick: () => this.#onPick(job.id, null) }, h("span"));
  }
}

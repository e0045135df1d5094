// The strip of one's pictures, newest first, with a tile for each job under way.  Arrow keys walk along it.

import { h, pictureUrl } from "./dom.js";
import { isOver } from "./jobs.js";

export class Film {
  #root;
  #onPick;
  #tiles = new Map(); // key -> button, kept so that images are not loaded anew
  #shown = "";

  constructor(root, onPick) {
    this.#root = root;
    this.#onPick = onPick;
    root.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const tiles = [...root.children];
      const next = tiles[tiles.indexOf(document.activeElement) + step];
      next?.focus();
      next?.click();
    });
  }

  render(jobs) {
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
      if (this.#root.children[place] !== tile) this.#root.insertBefore(tile, this.#root.children[place] ?? null);
    });
    this.#root.hidden = wanted.length === 0;
    this.mark(this.#shown);
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

  /** Say which tile is the one on the easel. */
  mark(key) {
    this.#shown = key;
    const first = this.#root.firstElementChild;
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

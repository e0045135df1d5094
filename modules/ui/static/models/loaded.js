// What is in memory now, and for whom: a line at the bottom of the tab, asked for only while it is seen.

import { h, visible } from "../dom.js";
import { bytes, kindName, models } from "./routes.js";

const EVERY_MS = 4000;

export class Loaded {
  #root;
  #timer = 0;
  #shown = "";

  constructor(root) {
    this.#root = root;
    document.addEventListener("atelier:tab", () => this.#look());
    document.addEventListener("visibilitychange", () => this.#look());
    this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    if (document.hidden || !visible(this.#root)) return;
    const found = await models.loaded().catch(() => null);
    this.#show(found);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), EVERY_MS);
  }

  #show(found) {
    const lines = found?.map(inWords) ?? [];
    const words = found === null ? "What is in memory is not known." : found.length ? "" : "No model is in memory yet. The first picture loads one.";
    const shown = JSON.stringify([lines, words]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const list = h("ul", { tabindex: lines.length ? 0 : null, "aria-label": "Models in memory" }, ...lines.map(([name, more]) => h("li", {}, h("b", {}, name), ` ${more}`)));
    this.#root.replaceChildren(h("h3", {}, "In memory"), words ? h("p", {}, words) : list);
  }
}

function inWords({ name, kind, bytes: size, device, users, idle_seconds: idle }) {
  const who = Array.isArray(users) ? users.join(", ") : users ? `${users} ${users === 1 ? "user" : "users"}` : "";
  const use = who ? `for ${who}` : idle === null || idle === undefined ? "" : `idle for ${since(idle)}`;
  return [name, [kindName(kind), size ? bytes(size) : "", device, use].filter(Boolean).join(" · ")];
}

function since(seconds) {
  if (seconds < 60) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return minutes === 1 ? "a minute" : `${minutes} min`;
  return `${Math.round(minutes / 60)} h`;
}

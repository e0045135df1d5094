// What stands beside the pictures: views, albums, tags and filters, each a part of the search that is not typed.

import { h } from "../dom.js";
import { gallery, quoted } from "./routes.js";

const VIEWS = [
  ["", "All pictures"],
  ["is:favourite", "Favourites"],
  ["is:broken", "Broken files"],
  ["is:trash", "Trash"],
];

export class Side {
  #root;
  #onChange;
  #facets = { models: [], samplers: [], tags: [], albums: [], trash: 0 };
  #view = "";
  #label = null; // {kind, name}
  #filters = { model: "", sampler: "", rating: "" };

  constructor(root, onChange) {
    this.#root = root;
    this.#onChange = onChange;
    root.querySelector(".gallery-filters").open = matchMedia("(min-width: 821px)").matches;
    for (const select of root.querySelectorAll("[data-filter]")) {
      select.addEventListener("change", () => {
        this.#filters[select.dataset.filter] = select.value;
        this.#onChange();
      });
    }
    this.#draw();
  }

  /** What is chosen here, in the search language. */
  get words() {
    const { model, sampler, rating } = this.#filters;
    const label = this.#label ? `${this.#label.kind}:${quoted(this.#label.name)}` : "";
    return [this.#view, label, model && `model:${quoted(model)}`, sampler && `sampler:${quoted(sampler)}`, rating && `rating:>=${rating}`].filter(Boolean).join(" ");
  }

  get inTrash() {
    return this.#view === "is:trash";
  }

  get known() {
    return { tag: this.#facets.tags.map(([name]) => name), album: this.#facets.albums.map(([name]) => name) };
  }

  reset() {
    this.#view = "";
    this.#label = null;
    this.#filters = { model: "", sampler: "", rating: "" };
    this.#draw();
  }

  async refresh() {
    const facets = await gallery.facets().catch(() => null);
    if (!facets) return;
    this.#facets = facets;
    this.#draw();
  }

  #draw() {
    const drawn = JSON.stringify([this.#facets, this.#view, this.#label, this.#filters]);
    if (this.#root.dataset.drawn === drawn) return;
    this.#root.dataset.drawn = drawn;
    const focused = this.#root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const views = VIEWS.map(([view, words]) => this.#button(view, words, view === "is:trash" ? this.#facets.trash : null, view === this.#view, () => (this.#view = view)));
    this.#root.querySelector(".gallery-views").replaceChildren(...views);
    this.#labels("album", "Albums", this.#facets.albums);
    this.#labels("tag", "Tags", this.#facets.tags);
    this.#select("model", "any model", this.#facets.models.map((name) => [name, name]));
    this.#select("sampler", "any sampler", this.#facets.samplers.map((name) => [name, name]));
    this.#select("rating", "any rating", [1, 2, 3, 4, 5].map((one) => [String(one), one === 5 ? "★★★★★" : `${"★".repeat(one)} or more`]));
    if (focused) this.#root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #button(key, words, count, pressed, choose) {
    const act = () => {
      choose();
      this.#draw();
      this.#onChange();
    };
    const number = count ? h("span", { class: "side-count" }, count.toLocaleString(document.documentElement.lang)) : null;
    return h("button", { type: "button", "data-key": key || "all", "aria-pressed": String(pressed), onclick: act }, h("span", { class: "side-name" }, words), number);
  }

  #labels(kind, title, labels) {
    const place = this.#root.querySelector(`[data-kind=${kind}]`);
    const buttons = labels.map(([name, count]) => {
      const pressed = this.#label?.kind === kind && this.#label.name === name;
      return this.#button(`${kind}:${name}`, name, count, pressed, () => (this.#label = pressed ? null : { kind, name }));
    });
    place.replaceChildren(...(buttons.length ? [h("h3", {}, title), ...buttons] : []));
  }

  #select(name, none, options) {
    const select = this.#root.querySelector(`[data-filter=${name}]`);
    const value = this.#filters[name];
    if (value && !options.some(([one]) => one === value)) options = [...options, [value, value]];
    select.replaceChildren(h("option", { value: "" }, none), ...options.map(([one, words]) => h("option", { value: one }, words)));
    select.value = value;
  }
}

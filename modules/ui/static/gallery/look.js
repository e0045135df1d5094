// The gallery's viewer: one picture over the whole window, beside it how it was made, what is written down about it, and where it can go.

import { h } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { labelOf } from "./wall.js";
import { show } from "./labels.js";
import { gallery, pictureUrl } from "./routes.js";
import { sendTo, TARGETS } from "./sending.js";

export class Look {
  #dialog;
  #item;
  #page;
  #answer = null;
  #asked = 0;

  /** `page` has {neighbour(item, by), current(id), edit(items, change), discard(items), restore(items), destroy(items), labels(kind, items),
   *  shown(item), complain(words)}. */
  constructor(item, page) {
    this.#item = item;
    this.#page = page;
    const turn = (name, words, by, mark) => h("button", { type: "button", "data-do": name, "aria-label": words, title: words, onclick: () => this.#turn(by) }, mark);
    this.#dialog = h(
      "dialog",
      { class: "look", "aria-label": "Picture", tabindex: "-1" },
      h("div", { class: "look-stage" }, turn("before", "Before it (←)", -1, "‹"), turn("after", "Behind it (→)", 1, "›"), h("div", { class: "look-picture" })),
      h("div", { class: "look-panel" }),
    );
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
  }

  open() {
    show(this.#dialog, () => this.#page.shown(this.#item));
    this.#show();
  }

  #$(selector) {
    return this.#dialog.querySelector(selector);
  }

  async #show() {
    const item = this.#item;
    const asked = ++this.#asked;
    this.#answer = null;
    this.#dialog.dataset.id = item.id;
    this.#dialog.setAttribute("aria-label", labelOf(item));
    this.#$("[data-do=before]").hidden = !this.#page.neighbour(item, -1);
    this.#$("[data-do=after]").hidden = !this.#page.neighbour(item, 1);
    this.#picture(item);
    this.#panel();
    const focused = document.activeElement;
    if (!this.#dialog.contains(focused) || !focused.getClientRects().length) this.#dialog.focus(); // or no key is heard any more
    try {
      const answer = await gallery.recipe(item.id);
      if (asked !== this.#asked) return;
      this.#answer = answer ?? { found: null, broken: "its file is not there any more" };
    } catch (error) {
      if (asked !== this.#asked) return;
      this.#answer = { found: null, broken: error.message };
    }
    this.#panel();
  }

  #picture(item) {
    const place = this.#$(".look-picture");
    place.removeAttribute("data-actual");
    if (item.broken) return place.replaceChildren(h("p", { class: "look-broken" }, h("b", {}, "This file is broken. "), sentence(item.broken)));
    const image = h("img", { src: pictureUrl(item.id), alt: item.prompt || item.name, width: item.width, height: item.height, draggable: "false" });
    image.addEventListener("click", () => place.toggleAttribute("data-actual"));
    place.replaceChildren(image);
  }

  #turn(by) {
    const next = this.#page.neighbour(this.#item, by);
    if (!next) return;
    this.#item = next;
    this.#show();
  }

  /** What is shown is gone from the list: the next, the one before, or none. */
  async #leave(act) {
    const item = this.#item;
    const next = this.#page.neighbour(item, 1) ?? this.#page.neighbour(item, -1);
    if (!(await act([item]))) return;
    if (!next) return this.#dialog.close();
    this.#item = next;
    this.#show();
  }

  async #edit(change) {
    const item = this.#item;
    await this.#page.edit([item], change);
    if (this.#item.id !== item.id) return;
    this.#item = this.#page.current(item.id) ?? item;
    this.#panel();
  }

  // ---- the panel

  #panel() {
    const item = this.#item;
    const focused = this.#$(".look-panel").contains(document.activeElement) ? document.activeElement.dataset.do : null;
    const close = h("button", { type: "button", "data-do": "close", "aria-label": "Close (Esc)", title: "Close (Esc)", onclick: () => this.#dialog.close() }, "×");
    const found = this.#answer?.found;
    this.#$(".look-panel").replaceChildren(
      ...[
        h("header", {}, h("h2", {}, item.name), close),
        h("p", { class: "look-when" }, factsOf(item)),
        this.#marks(item),
        this.#actions(item, found),
        ...this.#recipe(item, found),
      ].filter(Boolean),
    );
    if (focused) this.#$(`.look-panel [data-do="${focused}"]`)?.focus({ preventScroll: true });
  }

  #marks(item) {
    const heart = h(
      "button",
      { type: "button", "data-do": "favourite", class: "look-heart", "aria-pressed": String(item.favourite), "aria-label": "Favourite (F)", title: "Favourite (F)", onclick: () => this.#edit({ favourite: !this.#item.favourite }) },
      item.favourite ? "♥" : "♡",
    );
    const stars = [1, 2, 3, 4, 5].map((one) =>
      h(
        "button",
        { type: "button", "data-do": `rate${one}`, role: "radio", "aria-checked": String(item.rating === one), "aria-label": `${one} of 5`, title: `${one} of 5 (key ${one})`, onclick: () => this.#edit({ rating: this.#item.rating === one ? 0 : one }) },
        one <= item.rating ? "★" : "☆",
      ),
    );
    const labels = (kind, names, words) =>
      h("button", { type: "button", "data-do": kind, class: "look-labels", onclick: () => this.#page.labels(kind, [this.#item], () => this.#again()) }, names.length ? `${words}: ${names.join(", ")}` : `Add ${kind === "tag" ? "tags" : "to an album"}`);
    return h(
      "div",
      { class: "look-marks" },
      heart,
      h("div", { role: "radiogroup", "aria-label": "Rating (keys 0 to 5)", class: "look-stars" }, ...stars),
      labels("tag", item.tags, "Tags"),
      labels("album", item.albums, "Albums"),
    );
  }

  #again() {
    this.#item = this.#page.current(this.#item.id) ?? this.#item;
    this.#panel();
  }

  #actions(item, found) {
    const button = (name, words, act, extra = {}) => h("button", { type: "button", "data-do": name, onclick: act, ...extra }, words);
    const download = h("a", { "data-do": "download", role: "button", href: `${pictureUrl(item.id)}?download=1`, download: item.name }, "Download");
    if (item.trashed !== null) {
      return h(
        "div",
        { class: "look-actions" },
        button("restore", "Put back", () => this.#leave((items) => this.#page.restore(items))),
        button("destroy", "Delete for good", () => this.#leave((items) => this.#page.destroy(items)), { class: "delete" }),
      );
    }
    const go = async (tab) => {
      this.#dialog.close();
      try {
        await sendTo(tab, item, this.#answer?.found ? this.#answer : null);
      } catch (error) {
        this.#page.complain(error.message);
      }
    };
    const here = Object.keys(TARGETS).filter((tab) => document.getElementById(`${tab}_panel`));
    const without = (tab) => tab === "txt2img" && Boolean(found) && !Object.keys(found.fields).length;
    const to = item.broken ? [] : here.map((tab) => h("button", { type: "button", "data-to": tab, disabled: without(tab), "aria-label": `Send to ${TARGETS[tab]}`, onclick: () => go(tab) }, TARGETS[tab]));
    const send = to.length ? h("div", { class: "look-send", role: "group", "aria-label": "Send to" }, h("span", {}, "Send to"), ...to) : null;
    return h("div", { class: "look-actions" }, send, download, button("trash", "Move to trash", () => this.#leave((items) => this.#page.discard(items)), { class: "delete", title: "Delete" }));
  }

  #recipe(item, found) {
    if (!this.#answer) return [h("p", { class: "look-wait" }, "Reading …")];
    if (!found) return [item.broken ? null : h("p", { class: "look-none" }, sentence(this.#answer.broken || "it cannot be read"))];
    if (!found.program) return [h("p", { class: "look-none" }, "This picture does not say how it was made.")];
    const words = (name, text) => (text ? h("section", {}, h("h3", {}, name), h("p", { class: "look-words" }, text)) : null);
    const rows = found.items.flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]);
    const copy = h("button", { type: "button", "data-do": "copy", class: "look-copy" }, "Copy as text");
    copy.addEventListener("click", async () => {
      const done = await navigator.clipboard?.writeText(found.infotext).then(() => true, () => false);
      copy.textContent = done ? "Copied" : "Not possible here";
    });
    return [
      words("Prompt", found.prompt),
      words("Negative prompt", found.negative_prompt),
      rows.length ? h("section", {}, h("h3", {}, "Settings"), h("dl", {}, ...rows)) : null,
      h("p", { class: "look-program" }, `Made with ${found.version || found.program}`),
      found.infotext ? copy : null,
    ];
  }

  // ---- keys

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    const trashed = this.#item.trashed !== null;
    const acts = {
      ArrowLeft: () => this.#turn(-1),
      ArrowRight: () => this.#turn(1),
      f: () => this.#edit({ favourite: !this.#item.favourite }),
      Delete: () => this.#leave((items) => (trashed ? this.#page.destroy(items) : this.#page.discard(items))),
      d: () => this.#$("[data-do=download]")?.click(),
    };
    for (let rating = 0; rating <= 5; rating++) acts[rating] = () => this.#edit({ rating });
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}

function factsOf({ width, height, bytes, date }) {
  const size = width ? `${width} × ${height}` : "";
  const much = bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
  return [new Date(date).toLocaleString(document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" }), size, much].filter(Boolean).join(" · ");
}

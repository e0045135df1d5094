// The Gallery tab: ties search, side, wall, viewer and what is done with pictures together.

import { h } from "../dom.js";
import { complain } from "../forms/form.js";
import { sentence } from "../forms/recipes.js";
import { closed, opened } from "../opened.js";
import { currentTab } from "../tabs.js";
import { cellOf } from "./cell.js";
import { compare } from "./compare.js";
import { fillGrammar } from "./grammar.js";
import { askLabels, confirmed } from "./labels.js";
import { PictureList } from "./list.js";
import { Look } from "./look.js";
import { gallery, many } from "./routes.js";
import { startTabDrops } from "./sending.js";
import { Side } from "./side.js";
import { Wall } from "./wall.js";

const PAUSE_MS = 200; // after the last key
const STATE_MS = 2500; // between questions whether there is anything new
const SCANNING_MS = 700;

export function startGallery() {
  startTabDrops();
  const root = document.querySelector(".gallery");
  if (root) new GalleryTab(root);
}

class GalleryTab {
  #root;
  #list = new PictureList();
  #side;
  #wall;
  #timer = 0;
  #poll = 0;
  #revision = null; // of the index, as it was when the list was asked for
  #scan = null;
  #loaded = false;
  #undo = [];

  constructor(root) {
    this.#root = root;
    this.#side = new Side(this.#$(".gallery-side"), () => this.#search());
    this.#wall = new Wall(this.#$(".gallery-wall"), {
      make: (item) => cellOf(item, (one) => this.#dragged(one)),
      more: () => this.#list.more(),
      open: (item) => this.#look(item),
      changed: () => this.#showActions(),
    });
    fillGrammar(this.#$(".gallery-grammar"), (words) => this.#type(words));
    this.#list.addEventListener("change", ({ detail }) => this.#show(detail.anew));
    this.#listen();
    if (matchMedia("(hover: none)").matches) this.#$(".gallery-find").placeholder = "Search words, seed:, date:"; // no keyboard
    if (currentTab() === "gallery") this.#enter();
  }

  #$(selector) {
    return this.#root.querySelector(selector);
  }

  #listen() {
    const find = this.#$(".gallery-find");
    find.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#search(), PAUSE_MS);
    });
    find.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        clearTimeout(this.#timer);
        this.#search();
      } else if (event.key === "ArrowDown" && this.#list.items.length) this.#wall.focus();
      else return;
      event.preventDefault();
    });
    this.#$(".gallery-sort select").addEventListener("change", ({ target: { value } }) => this.#list.load({ sort: value }));
    this.#$(".gallery-help").addEventListener("click", () => this.#toggleGrammar());
    this.#$(".gallery-rescan").addEventListener("click", () => this.#rescan());
    document.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("atelier:tab", ({ detail }) => (detail.tab === "gallery" ? this.#enter() : this.#leave()));
    document.addEventListener("visibilitychange", () => !document.hidden && currentTab() === "gallery" && this.#watch());
  }

  // ---- what is asked for

  #enter() {
    if (!this.#loaded) {
      this.#loaded = true;
      this.#search();
      this.#side.refresh();
    }
    this.#watch();
  }

  #leave() {
    clearTimeout(this.#poll);
    this.#poll = 0;
  }

  #search() {
    const q = [this.#$(".gallery-find").value.trim(), this.#side.words].filter(Boolean).join(" ");
    this.#wall.clear();
    this.#list.load({ q });
  }

  #type(words) {
    const find = this.#$(".gallery-find");
    find.value = words;
    this.#search();
    find.focus();
  }

  /** Ask how far the index is, now and every few seconds while the tab is seen; what is new is shown where that moves nothing. */
  async #watch() {
    clearTimeout(this.#poll);
    if (currentTab() !== "gallery" || document.hidden) return;
    const state = await gallery.state().catch(() => null);
    if (state) {
      this.#showScan(state);
      const first = this.#revision === null;
      if (this.#revision !== state.revision && !first) this.#onNews();
      this.#revision = state.revision;
    }
    clearTimeout(this.#poll);
    this.#poll = setTimeout(() => this.#watch(), state?.scanning ? SCANNING_MS : STATE_MS);
  }

  #onNews() {
    if (this.#wall.atTop && !this.#wall.chosen.size && !document.querySelector("dialog[open]")) this.#list.load({}, true);
    else if (!this.#$(".gallery-said[data-shown] button")) this.#say("There are new pictures.", ["Show", () => this.#list.load()]);
    this.#side.refresh();
  }

  async #rescan() {
    await this.#try(() => gallery.rescan());
    this.#watch();
  }

  // ---- what is shown

  #show(anew) {
    const { items, ended, count, error } = this.#list;
    const bad = this.#$(".gallery-bad");
    bad.textContent = error ? sentence(error) : "";
    bad.hidden = !error;
    this.#$(".gallery-find").setAttribute("aria-invalid", String(Boolean(error)));
    if (error) return;
    this.#$(".gallery-count").textContent = count === null ? "" : many(count);
    this.#wall.show(items, ended, anew);
    this.#showEmpty();
    this.#showActions();
  }

  #showEmpty() {
    const none = !this.#list.items.length && this.#list.ended;
    const place = this.#$(".gallery-empty");
    this.#$(".gallery-wall").hidden = none;
    place.hidden = !none;
    if (!none) return;
    const asked = this.#list.query.q;
    if (this.#side.inTrash && asked === "is:trash") return place.replaceChildren(h("p", {}, "The trash is empty."));
    if (asked) {
      const all = h("button", { type: "button", onclick: () => this.#everything() }, "Show all pictures");
      return place.replaceChildren(h("p", {}, "No picture fits what is asked for."), all);
    }
    const words = this.#scan?.scanning ? "The outputs folder is being read; pictures appear here as they are found." : "There are no pictures in the outputs folder yet. What is painted appears here, and so does what other programs put there.";
    place.replaceChildren(h("p", {}, words));
  }

  #everything() {
    this.#$(".gallery-find").value = "";
    this.#side.reset();
    this.#search();
    this.#$(".gallery-find").focus();
  }

  #showScan(state) {
    const before = this.#scan;
    this.#scan = state;
    const place = this.#$(".gallery-scan");
    place.hidden = !state.scanning && !state.problem;
    const progress = place.querySelector("progress");
    progress.hidden = !state.scanning;
    if (state.total) {
      progress.max = state.total;
      progress.value = state.done;
    } else progress.removeAttribute("value");
    const words = state.total ? `Reading pictures: ${state.done.toLocaleString(document.documentElement.lang)} of ${state.total.toLocaleString(document.documentElement.lang)}` : "Looking at the outputs folder";
    place.querySelector("span").textContent = state.scanning ? words : state.problem;
    if (before?.scanning !== state.scanning && this.#loaded && this.#list.count !== null) this.#showEmpty();
  }

  #toggleGrammar(shown = this.#$(".gallery-grammar").hidden) {
    const place = this.#$(".gallery-grammar");
    place.hidden = !shown;
    this.#$(".gallery-help").setAttribute("aria-expanded", String(shown));
    if (shown) opened(place, () => this.#toggleGrammar(false));
    else closed(place);
  }

  /** One line for what was done, with a way back from it. */
  #say(words, [label, act] = []) {
    const place = this.#$(".gallery-said");
    const button = label ? h("button", { type: "button", onclick: () => [this.#say(""), act()] }, label) : null;
    place.querySelector("span").textContent = words;
    place.querySelectorAll("button").forEach((node) => node.remove());
    if (button) place.append(button);
    place.toggleAttribute("data-shown", Boolean(words));
  }

  async #try(act) {
    try {
      return await act();
    } catch (error) {
      complain(sentence(error.message), [], "bad", { everywhere: true });
      return null;
    }
  }

  // ---- what is done with pictures

  /** The chosen pictures that are loaded, else the active one. */
  #meant() {
    const { chosen, items, active } = this.#wall;
    if (chosen.size) return items.filter(({ id }) => chosen.has(id));
    return active ? [active] : [];
  }

  /** What a drag takes along: all that are chosen, where it begins at one of them. */
  #dragged(item) {
    const { chosen, items } = this.#wall;
    if (!chosen.has(item.id) || chosen.size < 2) return [item];
    const loaded = new Set(items.map(({ id }) => id));
    return [...items.filter(({ id }) => chosen.has(id)), ...[...chosen].filter((id) => !loaded.has(id)).map((id) => ({ id }))];
  }

  /** The ids of all that are chosen, also of those that were not scrolled to; in the viewer, of the one that is seen. */
  #ids(items) {
    const one = document.querySelector("dialog.look[open]");
    return this.#wall.chosen.size && !one ? [...this.#wall.chosen] : items.map(({ id }) => id);
  }

  async #edit(items, change) {
    const answer = await this.#try(() => gallery.edit(this.#ids(items), change));
    if (!answer) return false;
    this.#list.replace(answer.items);
    this.#wall.replace(answer.items);
    this.#showActions();
    this.#side.refresh();
    return true;
  }

  #labels(kind, items, done = () => {}) {
    const save = async (add, remove) => {
      const answer = await gallery.edit(this.#ids(items), { [`add_${kind}s`]: add, [`remove_${kind}s`]: remove });
      this.#list.replace(answer.items);
      this.#wall.replace(answer.items);
      this.#side.refresh();
      done();
    };
    askLabels(kind, items, this.#side.known[kind], save);
  }

  #gone(ids) {
    this.#list.drop(ids);
    this.#wall.remove(ids);
    this.#show(false);
    this.#side.refresh();
  }

  async #discard(items) {
    const answer = await this.#try(() => gallery.discard(this.#ids(items)));
    if (!answer) {
      this.#list.load({}, true); // some may be in the trash all the same
      return false;
    }
    this.#gone(answer.ids);
    if (!answer.ids.length) this.#say("Nothing was moved: the files are not there any more.");
    else {
      this.#undo.push(answer.ids);
      this.#say(`${many(answer.ids.length)} moved to the trash.`, ["Undo", () => this.#undoLast()]);
    }
    return answer.ids.length > 0;
  }

  async #undoLast() {
    const ids = this.#undo.pop();
    if (!ids) return;
    const answer = await this.#try(() => gallery.restore(ids));
    if (!answer) return;
    this.#say(`${many(answer.ids.length)} put back.`);
    await this.#list.load({}, true);
    this.#side.refresh();
  }

  async #restore(items) {
    const answer = await this.#try(() => gallery.restore(this.#ids(items)));
    if (!answer) return false;
    this.#gone(answer.ids);
    this.#say(`${many(answer.ids.length)} put back.`);
    return true;
  }

  async #destroy(items) {
    const ids = this.#ids(items);
    const what = ids.length === 1 ? "this picture" : `these ${ids.length} pictures`;
    if (!(await confirmed(`Delete ${what} for good?`, "What is deleted from the trash cannot be brought back.", "Delete"))) return false;
    const answer = await this.#try(() => gallery.destroy(ids));
    if (!answer) return false;
    this.#gone(ids);
    this.#say(`${many(answer.deleted)} deleted.`);
    return true;
  }

  async #empty() {
    if (!(await confirmed("Empty the trash?", "All pictures in the trash are deleted for good.", "Empty"))) return;
    const answer = await this.#try(() => gallery.empty());
    if (!answer) return;
    this.#say(`${many(answer.deleted)} deleted.`);
    this.#search();
    this.#side.refresh();
  }

  async #zip(items) {
    const answer = await this.#try(() => gallery.zip(this.#ids(items)));
    if (!answer) return;
    const link = h("a", { href: answer.url, download: "" });
    this.#root.append(link);
    link.click();
    link.remove();
  }

  #look(item) {
    const at = (id) => this.#list.items.findIndex((one) => one.id === id);
    const page = {
      neighbour: (one, by) => {
        const place = at(one.id);
        if (place + by >= this.#list.items.length - 3) this.#list.more();
        return place < 0 ? null : (this.#list.items[place + by] ?? null);
      },
      current: (id) => this.#list.items[at(id)] ?? null,
      edit: (items, change) => this.#edit(items, change),
      discard: (items) => this.#discard(items),
      restore: (items) => this.#restore(items),
      destroy: (items) => this.#destroy(items),
      labels: (kind, items, done) => this.#labels(kind, items, done),
      shown: (one) => currentTab() === "gallery" && this.#wall.goTo(one.id),
      complain: (words) => complain(sentence(words), [], "bad", { everywhere: true }),
    };
    new Look(item, page).open();
  }

  // ---- what can be done with those that are chosen

  #showActions() {
    const place = this.#$(".gallery-actions");
    const { chosen } = this.#wall;
    const trash = this.#side.inTrash && !chosen.size && this.#list.items.length > 0;
    place.hidden = !chosen.size && !trash;
    if (place.hidden) return closed(place);
    const items = this.#meant();
    const button = (name, words, act, title = "") => h("button", { type: "button", "data-do": name, title, onclick: act }, words);
    if (!chosen.size) return place.replaceChildren(button("empty", "Empty the trash", () => this.#empty()));
    opened(place, () => this.#wall.clear());
    const loved = items.length > 0 && items.every(({ favourite }) => favourite);
    const live = [
      button("favourite", loved ? "Not favourites" : "Favourites", () => this.#edit(items, { favourite: !loved }), "F"),
      this.#ratings(items),
      button("tag", "Tags …", () => this.#labels("tag", items)),
      button("album", "Albums …", () => this.#labels("album", items)),
      items.length === 2 && !items.some(({ broken }) => broken) ? button("compare", "Compare", () => compare(...items)) : null,
      button("zip", "Download as zip", () => this.#zip(items)),
      button("trash", "Move to trash", () => this.#discard(items), "Delete"),
    ];
    const dead = [button("restore", "Put back", () => this.#restore(items)), button("destroy", "Delete for good", () => this.#destroy(items), "Delete")];
    const inTrash = items.some(({ trashed }) => trashed !== null);
    const focused = place.contains(document.activeElement) ? document.activeElement.dataset.do : null;
    place.replaceChildren(
      h("span", { class: "actions-count", role: "status" }, `${chosen.size.toLocaleString(document.documentElement.lang)} chosen`),
      ...(inTrash ? dead : live).filter(Boolean),
      button("clear", "Choose none", () => this.#wall.clear(), "Esc"),
    );
    if (focused) place.querySelector(`[data-do="${focused}"]`)?.focus();
  }

  #ratings(items) {
    const select = h("select", { "data-do": "rating", "aria-label": "Rate them" }, h("option", { value: "" }, "Rate …"), ...[0, 1, 2, 3, 4, 5].map((one) => h("option", { value: one }, one ? "★".repeat(one) : "no rating")));
    select.addEventListener("change", () => this.#edit(items, { rating: Number(select.value) }));
    return select;
  }

  // ---- keys

  #onKey(event) {
    if (currentTab() !== "gallery" || event.defaultPrevented || event.altKey) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    const command = event.ctrlKey || event.metaKey;
    const items = this.#meant();
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (command && key === "a") this.#chooseAll();
    else if (command && key === "z" && this.#undo.length) [this.#say(""), this.#undoLast()];
    else if (command) return;
    else if (key === "/") this.#$(".gallery-find").focus();
    else if (!items.length) return;
    else if (key === "f") this.#edit(items, { favourite: !items.every(({ favourite }) => favourite) });
    else if (/^[0-5]$/.test(key)) this.#edit(items, { rating: Number(key) });
    else if (key === "Delete") items.some(({ trashed }) => trashed !== null) ? this.#destroy(items) : this.#discard(items);
    else return;
    event.preventDefault();
  }

  async #chooseAll() {
    const found = await this.#try(() => gallery.ids(this.#list.query.q));
    if (found?.ids.length) this.#wall.chooseAll(found.ids);
    if (found?.ids.length === found?.most) this.#say(`The newest ${many(found.most)} are chosen; more are not changed at a time.`);
  }
}

// The Models tab: ties the list, the folders, the grid, the details and what is in memory together.

import { h } from "../dom.js";
import { complain, fields } from "../forms/form.js";
import { loraWords } from "../prompt/completion.js";
import { currentTab, showTab } from "../tabs.js";
import { startAdapterPanels } from "./adapter_panel.js";
import { cardElement, markUsed } from "./card.js";
import { Detail } from "./detail.js";
import { showEmptyList } from "./empty_list.js";
import { FolderTree } from "./folder_tree.js";
import { Grid } from "./grid.js";
import { Loaded } from "./loaded.js";
import { ModelList } from "./model_list.js";
import { insertedName } from "./network_reasons.js";
import { KINDS, kindName, models } from "./routes.js";
import { followTabs, isWritten, promptOf, setTarget, target, targets, toggleCard, vaeName, whereUsed } from "./target.js";
import { startTools } from "./tools.js";

const PAUSE_MS = 180; // after the last key
const READING_MS = 1500; // until a list is asked for again of which the server has not read all files
const TRIGGERS = "atelier.models.triggers";

/** `page` has {shown(): {id, index} of the picture that is shown or null, send: the bridge's}. */
export function startModels(page) {
  startAdapterPanels();
  const root = document.querySelector(".models");
  if (!root) return;
  followTabs();
  const tab = new ModelsTab(root, page);
  for (const button of document.querySelectorAll(".networks-button")) button.addEventListener("click", () => tab.open("lora"));
}

class ModelsTab {
  #root;
  #page;
  #list = new ModelList();
  #grid;
  #tree;
  #detail;
  #timer = 0;
  #reading = 0;
  #stale = true;

  constructor(root, page) {
    this.#root = root;
    this.#page = page;
    this.#grid = new Grid(this.#$(".models-list"), {
      cell: (card) => cardElement(card, !this.#list.query.kind),
      press: (card, event) => (event.target.closest(".card-info") ? this.#detail.open(card) : this.#use(card, event)),
      need: (first, last) => this.#list.need(first, last),
    });
    this.#tree = new FolderTree(this.#$("[role=tree]"), (folder) => this.#list.load({ folder }));
    this.#detail = new Detail(this.#$(".models-detail"), {
      toggle: (card, event) => this.#use(card, event),
      changed: (card) => this.#onChanged(card),
      focus: () => this.#grid.focus(),
      shown: () => this.#page.shown(),
      checkpoint: () => fields(target()).checkpoint,
    });
    this.#list.addEventListener("change", ({ detail }) => this.#show(detail.anew));
    this.#listen();
    this.#showTarget();
    if (matchMedia("(hover: none)").matches) this.#$(".models-find").placeholder = "Search names, words, tags"; // no keyboard
    this.#$(".models-folders").open = matchMedia("(min-width: 821px)").matches;
    new Loaded(this.#$(".models-loaded"));
    startTools(this.#$(".models-tools"));
    if (currentTab() === "models") this.#look();
  }

  #$(selector) {
    return this.#root.querySelector(selector);
  }

  /** Show the tab, with the models of one kind. */
  open(kind) {
    this.#stale = true;
    this.#list.query = { ...this.#list.query, kind, folder: "" };
    showTab("models");
    this.#look();
    this.#$(".models-find").focus({ preventScroll: true });
  }

  #listen() {
    const find = this.#$(".models-find");
    find.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#list.load({ q: find.value.trim() }), PAUSE_MS);
    });
    find.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" || !this.#list.total) return;
      event.preventDefault();
      this.#grid.focus();
    });
    this.#$(".models-sort select").addEventListener("change", ({ target: { value } }) => this.#list.load({ sort: value }));
    this.#$(".models-refresh").addEventListener("click", () => this.#refresh());
    this.#$(".models-back").addEventListener("click", () => this.#back());
    this.#$(".models-target select").addEventListener("change", ({ target: { value } }) => setTarget(value));
    this.#listenForTriggers();
    document.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("atelier:tab", ({ detail }) => detail.tab === "models" && this.#look());
    document.addEventListener("atelier:target", () => this.#showTarget());
    document.addEventListener("atelier:form", ({ detail }) => detail.tab === target() && this.#onForm());
    document.addEventListener("atelier:models", () => this.#again());
    document.addEventListener("atelier:models-changed", () => this.#refresh());
  }

  #listenForTriggers() {
    const box = this.#$(".models-triggers input");
    try {
      box.checked = localStorage.getItem(TRIGGERS) === "yes";
      box.addEventListener("change", () => localStorage.setItem(TRIGGERS, box.checked ? "yes" : "no"));
    } catch {
      /* forbidden: then it is not remembered */
    }
  }

  #onKey(event) {
    if (currentTab() !== "models" || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    if (event.key === "/") this.#$(".models-find").focus();
    else if (event.key.toLowerCase() === "i" && event.target.closest?.(".models-list") && this.#grid.active) this.#detail.open(this.#grid.active);
    else return;
    event.preventDefault();
  }

  /** The tab is seen (again). */
  #look() {
    this.#showTarget();
    const { checkpoint = "" } = fields(target());
    if (this.#stale || (checkpoint ?? "") !== this.#list.query.checkpoint) this.#list.load({ checkpoint: checkpoint ?? "" });
    this.#stale = false;
  }

  #onForm() {
    if (currentTab() !== "models") return;
    this.#showTarget();
    const { checkpoint } = fields(target());
    if ((checkpoint ?? "") !== this.#list.query.checkpoint) this.#list.load({ checkpoint: checkpoint ?? "" });
  }

  #onChanged(card) {
    this.#list.replace(card);
    if (card.kind === "checkpoint") document.dispatchEvent(new Event("atelier:models")); // the page knows its defaults
  }

  #again() {
    if (currentTab() === "models") this.#list.load();
    else this.#stale = true;
  }

  async #refresh() {
    const button = this.#$(".models-refresh");
    button.disabled = true;
    await models.refresh().catch(() => null); // who may not is shown what the server found by itself
    document.getElementById("rescan").click(); // the checkpoints in the masthead; `atelier:models` follows
    button.disabled = false;
  }

  // ---- what is shown

  #show(anew) {
    const { query, total, kinds, folders, items, unread, error } = this.#list;
    this.#bad(error ? `The models could not be listed. ${error}` : "");
    if (total === null) return;
    this.#showKinds(kinds, query.kind);
    this.#tree.show(folders, query.folder);
    this.#$(".models-folders").hidden = !folders.some(({ path }) => path);
    const found = total === 1 ? "1 model" : `${total.toLocaleString(document.documentElement.lang)} models`;
    this.#$(".models-count").textContent = unread ? `${found}, ${unread.toLocaleString(document.documentElement.lang)} still to be read` : found;
    clearTimeout(this.#reading);
    if (unread) this.#reading = setTimeout(() => currentTab() === "models" && !document.hidden && this.#list.load(), READING_MS);
    this.#$(".models-list").hidden = !total;
    this.#$(".models-list").setAttribute("aria-label", query.kind ? kindName(query.kind, true) : "Models");
    showEmptyList(this.#$(".models-empty"), this.#$(".models-hint"), this.#list, () => this.#everything());
    this.#grid.show(total, items, anew);
  }

  #showKinds(kinds, chosen) {
    const root = this.#$(".models-kinds");
    const drawn = JSON.stringify([kinds, chosen]);
    if (root.dataset.drawn === drawn) return;
    root.dataset.drawn = drawn;
    const focused = root.contains(document.activeElement) ? document.activeElement.dataset.kind : null;
    const all = Object.values(kinds).reduce((sum, count) => sum + count, 0);
    const button = (kind, words, count) =>
      h(
        "button",
        { type: "button", "data-kind": kind, "aria-pressed": String(kind === chosen), "data-none": !count, onclick: () => this.#list.load({ kind, folder: "" }) },
        h("span", {}, words),
        h("span", { class: "kind-count" }, String(count)),
      );
    root.replaceChildren(button("", "All", all), ...Object.keys(KINDS).map((kind) => button(kind, kindName(kind, true), kinds[kind] ?? 0)));
    if (focused !== null) root.querySelector(`[data-kind="${focused}"]`)?.focus();
  }

  #everything() {
    this.#$(".models-find").value = "";
    this.#list.load({ q: "", kind: "", folder: "" });
    this.#$(".models-find").focus();
  }

  #showTarget() {
    const select = this.#$(".models-target select");
    const known = targets();
    if (select.options.length !== known.length) select.replaceChildren(...known.map(({ name, label }) => h("option", { value: name }, label)));
    select.value = target();
    const words = promptOf();
    this.#$(".models-prompt").textContent = words || "Its prompt is empty.";
    this.#$(".models-prompt").toggleAttribute("data-empty", !words);
    this.#grid.each(markUsed);
    this.#detail?.mark();
  }

  // ---- what a click does

  async #use(card, event = {}) {
    if (card.kind === "checkpoint") return this.#choose(card);
    if (card.kind === "vae") return this.#chooseVae(card);
    // A file that the server has not read yet has no preferred weight on its card
    if (this.#list.unread) card = await models.details(card.id, this.#list.query.checkpoint).catch(() => card);
    if (!isWritten(card)) return this.#detail.open(card);
    const negative = Boolean(event.shiftKey || event.altKey);
    if (negative && card.kind !== "embedding") {
      return this.#note(`${kindName(card.kind, true)} do nothing in a negative prompt: they work from the prompt.`);
    }
    const triggers = this.#$(".models-triggers input").checked;
    const done = toggleCard(card, { negative, triggers, negativeWords: triggers && card.kind === "lora" ? (await loraWords(insertedName(card))).negative : "" });
    const { label } = targets().find(({ name }) => name === target());
    this.#note("");
    this.#say(`${card.name} is ${done === "in" ? "in" : "out of"} the ${negative ? "negative prompt" : "prompt"} of ${label}.`);
    this.#showTarget();
    if (this.#detail.id && this.#detail.id !== card.id) this.#detail.open(card, { focus: false });
  }

  #choose(card) {
    if (card.problem) return this.#note(`${card.name} cannot be used: ${card.problem}`);
    if (fields(target()).checkpoint === card.name) return this.#say(`${card.name} is chosen already.`);
    this.#note("");
    this.#page.send("choose", { checkpoint: card.name });
    this.#say(`${card.name} is chosen, with the settings it is best run with.`);
  }

  /** For the form of the target; a second click goes back to what goes with the checkpoint. */
  #chooseVae(card) {
    if (card.problem) return this.#note(`${card.name} cannot be used: ${card.problem}`);
    const chosen = whereUsed(card);
    this.#note("");
    this.#page.send("choose", { vae: chosen ? "Automatic" : vaeName(card), tab: target() });
    this.#say(chosen ? "The VAE goes with the checkpoint again." : `${card.name} is chosen.`);
  }

  #back() {
    const tab = target();
    showTab(tab);
    document.querySelector(`#${tab}_prompt textarea`)?.focus();
  }

  #note(words) {
    complain(words, [], "note");
  }

  #bad(words) {
    const place = this.#$(".models-bad");
    place.textContent = words;
    place.hidden = !words;
  }

  #say(words) {
    this.#$(".models-said").textContent = words;
  }
}

// What is known of one model, for people, and what may be changed of it.

import { h, visible } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { closed, opened } from "../opened.js";
import { familyName, picture } from "./card.js";
import { EditForm } from "./edit_form.js";
import { bytes, kindName, models } from "./routes.js";
import { hasWord, isWritten, promptOf, toggleWord, whereUsed } from "./target.js";

const TAGS = 60; // that are shown; a file may hold thousands
const HASHING_MS = 1000; // between questions how far a hash is

export class Detail {
  #root;
  #on;
  #card = null;
  #back = null; // what had the focus before
  #turn = 0;
  #hashing = 0;
  #drafts = new Map(); // id -> what was typed and not saved

  /** `on` has {toggle(card, event), changed(card), shown(), checkpoint(), focus()}. */
  constructor(root, on) {
    this.#root = root;
    this.#on = on;
    document.addEventListener("atelier:target", () => this.mark());
  }

  get id() {
    return this.#card?.id ?? null;
  }

  async open(card, { focus = true } = {}) {
    const turn = ++this.#turn;
    if (this.#root.hidden) this.#back = document.activeElement;
    if (this.#card?.id !== card.id) this.#draw(card, null);
    this.#root.hidden = false;
    opened(this.#root, () => this.close());
    if (focus) this.#root.querySelector("h2")?.focus();
    try {
      const found = await models.details(card.id, this.#on.checkpoint());
      if (turn !== this.#turn) return;
      if (!found) throw new Error("Its file is not in the models folder any more: refresh the list.");
      this.#draw(found, found);
    } catch (error) {
      if (turn === this.#turn) this.#say(error.message);
    }
  }

  close() {
    if (this.#root.hidden) return;
    const within = this.#root.contains(document.activeElement);
    this.#turn += 1;
    this.#card = null;
    this.#root.hidden = true;
    closed(this.#root);
    if (within && this.#back?.isConnected) this.#back.focus({ preventScroll: true });
    else if (within) this.#on.focus();
  }

  /** What is in the prompt has changed. */
  mark() {
    if (!this.#card) return;
    const button = this.#root.querySelector(".detail-use");
    const used = whereUsed(this.#card);
    if (button) {
      button.textContent = useWords(this.#card, used);
      button.disabled = this.#card.kind === "checkpoint" && Boolean(used);
    }
    const text = promptOf();
    for (const chip of this.#root.querySelectorAll(".detail-word")) chip.setAttribute("aria-pressed", String(hasWord(text, chip.dataset.word)));
  }

  #draw(card, found) {
    const focused = this.#root.contains(document.activeElement) && document.activeElement.matches("h2");
    this.#card = card;
    const close = h("button", { type: "button", class: "detail-close", "aria-label": "Close the details", title: "Close (Esc)", onclick: () => this.close() }, "×");
    const parts = found ? this.#parts(found) : [h("p", { class: "detail-wait" }, "Reading …")];
    this.#root.setAttribute("aria-label", `About ${card.name}`);
    this.#root.replaceChildren(
      h("header", {}, h("h2", { tabindex: -1 }, card.name.split("/").at(-1)), this.#star(found), close),
      h("p", { class: "detail-what" }, [kindName(card.kind), familyName(card.family), bytes(card.size)].filter(Boolean).join(" · ")),
      h("p", { class: "detail-said", role: "alert", hidden: true }),
      ...[card.preview ? h("div", { class: "detail-picture" }, picture(card)) : null, ...parts].filter(Boolean),
    );
    this.#root.scrollTop = 0;
    if (focused) this.#root.querySelector("h2").focus({ preventScroll: true });
    this.mark();
  }

  #parts(found) {
    const form = new EditForm(found, this.#drafts, () => this.#again());
    return [
      found.problem ? h("p", { class: "detail-bad" }, found.problem) : null,
      found.fits ? h("p", { class: "detail-bad" }, sentence(found.fits)) : null,
      this.#buttons(found),
      this.#words("Trigger words", found.triggers.map((tag) => ({ tag }))),
      found.description ? h("section", {}, h("h3", {}, "Description"), h("p", { class: "detail-text" }, found.description)) : null,
      this.#words("Tags it was trained with", found.tags),
      this.#facts(found),
      form.node,
    ];
  }

  #buttons(found) {
    const use = isWritten(found) || found.kind === "checkpoint" || found.kind === "vae" ? h("button", { type: "button", class: "detail-use", onclick: (event) => this.#on.toggle(found, event) }) : null;
    const negative = found.kind === "embedding" ? h("button", { type: "button", onclick: () => this.#on.toggle(found, { shiftKey: true }) }, "Negative prompt") : null;
    const shown = this.#on.shown();
    const may = found.may_edit;
    const make = h(
      "button",
      { type: "button", class: "detail-preview", disabled: !may || !shown, title: shown ? "The picture shown below the prompt" : "Show a picture in a generation tab first", onclick: () => this.#change(() => models.setPreview(found.id, shown.id, shown.index)) },
      "Make the shown picture its preview",
    );
    const remove = found.preview && may ? h("button", { type: "button", class: "detail-unpreview", onclick: () => this.#change(() => models.removePreview(found.id)) }, "Remove its preview") : null;
    return h("div", { class: "detail-actions" }, use, negative, make, remove);
  }

  #words(title, tags) {
    if (!tags.length) return null;
    const chips = tags.slice(0, TAGS).map(({ tag, count }) =>
      h(
        "button",
        { type: "button", class: "detail-word", "data-word": tag, "aria-pressed": "false", onclick: () => this.#word(tag) },
        tag,
        count === undefined ? null : h("span", { class: "detail-count" }, ` ${count}`),
      ),
    );
    const more = tags.length > TAGS ? h("p", { class: "detail-note" }, `${tags.length - TAGS} rarer ones are not shown.`) : null;
    return h("section", {}, h("h3", {}, title), h("div", { class: "detail-words" }, ...chips), more);
  }

  #word(tag) {
    toggleWord(tag);
    this.mark();
  }

  #facts(found) {
    const rows = [...found.facts.map(({ label, value }) => [label, String(value)]), ["File", found.file], ["Hash", found.hash]];
    const lines = rows.filter(([, value]) => value).flatMap(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]);
    const working = typeof found.hashing === "number";
    const words = working ? hashWords(found.hashing) : "Compute its hash";
    const button = found.hash && !working ? null : h("button", { type: "button", class: "detail-hash", disabled: working, onclick: () => this.#hash(button) }, words);
    if (working) this.#follow(button);
    return h("section", {}, h("h3", {}, "About the file"), h("dl", {}, ...lines), button);
  }

  #star(found) {
    if (!found) return null;
    const words = found.favourite ? "No favourite any more" : "Make it a favourite";
    const save = () => this.#change(() => models.save(found.id, { favourite: !found.favourite }));
    return h("button", { type: "button", class: "detail-star", "aria-pressed": String(found.favourite), "aria-label": words, title: words, onclick: save }, found.favourite ? "★" : "☆");
  }

  async #hash(button) {
    button.disabled = true;
    button.textContent = hashWords(0);
    await this.#change(() => models.hash(this.#card.id));
  }

  /** A hash is worked out: how far it is, and what it is in the end. */
  #follow(button) {
    const { id } = this.#card;
    clearTimeout(this.#hashing);
    this.#hashing = setTimeout(async () => {
      if (this.#card?.id !== id || !visible(this.#root)) return;
      const found = await models.hash(id).catch(() => null);
      if (this.#card?.id !== id || !found) return;
      if (typeof found.progress !== "number") return this.#again();
      button.textContent = hashWords(found.progress);
      this.#follow(button);
    }, HASHING_MS);
  }

  async #change(ask) {
    this.#say("");
    try {
      if ((await ask()) === null) throw new Error("It is not here any more: refresh the list.");
      await this.#again();
    } catch (error) {
      this.#say(error.message);
    }
  }

  /** Read it again, as it is on the disk now. */
  async #again() {
    const { id } = this.#card;
    const focused = this.#root.contains(document.activeElement) ? document.activeElement.className : "";
    const top = this.#root.scrollTop;
    const found = await models.details(id, this.#on.checkpoint());
    if (!found || this.#card?.id !== id) return;
    this.#draw(found, found);
    this.#root.scrollTop = top;
    if (focused) this.#root.getElementsByClassName(focused)[0]?.focus({ preventScroll: true });
    this.#on.changed(found);
  }

  #say(words) {
    const place = this.#root.querySelector(".detail-said");
    if (!place) return;
    place.textContent = words;
    place.hidden = !words;
    this.#root.querySelector(".detail-wait")?.remove();
  }
}

const hashWords = (progress) => `Its hash is being computed: ${Math.round(100 * progress)} %`;

function useWords(card, used) {
  if (card.kind === "checkpoint") return used ? "Chosen" : "Choose this checkpoint";
  if (card.kind === "vae") return used ? "Go back to the checkpoint's" : "Choose this VAE";
  return used ? "Take out of the prompt" : "Put into the prompt";
}

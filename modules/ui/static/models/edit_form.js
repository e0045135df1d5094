// What may be changed of a model: its weight, trigger words, notes, and for a checkpoint the settings it is best run with.
// What was typed and not saved waits while another model is looked at.

import { h } from "../dom.js";
import { fields } from "../forms/form.js";
import { models } from "./routes.js";
import { target } from "./target.js";

const WEIGHED = ["lora", "embedding", "hypernetwork"];
const DEFAULTS = [
  ["width", "Width"],
  ["height", "Height"],
  ["steps", "Steps"],
  ["cfg_scale", "CFG scale"],
  ["sampler", "Sampler"],
  ["schedule", "Schedule type"],
  ["clip_skip", "Clip skip"],
  ["negative", "Negative prompt"],
];
const WORDS = ["sampler", "schedule", "negative"];
const LISTED = ["sampler", "schedule"];
const FORM_NAMES = { negative: "negative_prompt" };

const list = (text) => text.split(",").map((word) => word.trim()).filter(Boolean);

export class EditForm {
  #model;
  #drafts;
  #onSaved;
  #inputs = new Map();
  #said;

  /** `drafts` maps ids to what was typed and not saved. */
  constructor(model, drafts, onSaved) {
    this.#model = model;
    this.#drafts = drafts;
    this.#onSaved = onSaved;
    this.#said = h("p", { class: "edit-said", role: "status" });
    const weighed = WEIGHED.includes(model.kind);
    const rows = [
      weighed ? this.#field("weight", "Preferred weight", model.weight ?? "", { inputmode: "decimal", placeholder: "1" }) : null,
      weighed ? this.#field("triggers", "Trigger words, with commas between them", model.triggers.join(", ")) : null,
      weighed ? this.#field("negative", "For the negative prompt", model.negative ?? "") : null,
      model.kind === "checkpoint" ? this.#defaults() : null,
      this.#field("notes", "Notes", model.notes ?? "", {}, "textarea"),
    ];
    const save = h("button", { type: "submit", class: "edit-save", disabled: !model.may_edit }, "Save");
    const attributes = { class: "edit", novalidate: true, "aria-label": "Notes and settings of this model", onsubmit: (event) => this.#save(event), oninput: () => this.#keep() };
    this.node = h("form", attributes, h("h3", {}, "Yours to change"), ...rows.filter(Boolean), h("p", { class: "edit-end" }, save, this.#said));
    if (!model.may_edit) this.#said.textContent = "Your account may look at models, but not change what is kept about them.";
    else if (drafts.has(model.id)) this.#say("Not saved yet.");
  }

  #field(name, label, value, more = {}, tag = "input") {
    const draft = this.#drafts.get(this.#model.id)?.[name];
    const input = h(tag, { ...(tag === "input" ? { type: "text" } : { rows: 3 }), autocomplete: "off", spellcheck: "false", disabled: !this.#model.may_edit, ...more });
    input.value = draft ?? String(value);
    this.#inputs.set(name, { input, before: String(value) });
    return h("label", {}, h("span", {}, label), input);
  }

  #defaults() {
    const { size, ...rest } = this.#model.defaults ?? {};
    const known = size ? { ...rest, width: size[0], height: size[1] } : rest;
    const rows = DEFAULTS.map(([name, label]) => {
      const more = LISTED.includes(name) ? { list: `models_${name}s` } : WORDS.includes(name) ? {} : { inputmode: "decimal" };
      return this.#field(`defaults.${name}`, label, known[name] ?? "", more);
    });
    const take = h("button", { type: "button", class: "edit-take", disabled: !this.#model.may_edit, onclick: () => this.#take() }, "Take those of the form");
    return h("fieldset", {}, h("legend", {}, "Best run with"), ...rows, take);
  }

  /** The settings of the tab that was used last. */
  #take() {
    const form = fields(target());
    for (const [name] of DEFAULTS) {
      const value = form[FORM_NAMES[name] ?? name];
      if (value !== undefined) this.#inputs.get(`defaults.${name}`).input.value = String(value ?? "");
    }
    this.#keep();
  }

  #changed() {
    return [...this.#inputs].filter(([, { input, before }]) => input.value !== before);
  }

  #keep() {
    const changed = this.#changed();
    if (changed.length) this.#drafts.set(this.#model.id, Object.fromEntries(changed.map(([name, { input }]) => [name, input.value])));
    else this.#drafts.delete(this.#model.id);
    for (const { input } of this.#inputs.values()) input.removeAttribute("aria-invalid");
    this.#say(changed.length ? "Not saved yet." : "");
  }

  async #save(event) {
    event.preventDefault();
    const changes = {};
    try {
      for (const [name, { input }] of this.#changed()) Object.assign(changes, this.#value(name, input, changes));
      if (!Object.keys(changes).length) return this.#say("There is nothing to save.");
      this.#say("Saving …");
      if ((await models.save(this.#model.id, changes)) === null) throw new Error("It is not here any more: refresh the list.");
      this.#drafts.delete(this.#model.id);
      await this.#onSaved();
      document.querySelector(".models-detail .edit-said").textContent = "Saved.";
    } catch (error) {
      this.#say(error.message, "bad");
    }
  }

  /** What a field changes.  Throws words for the user. */
  #value(name, input, changes) {
    const text = input.value.trim();
    const number = (words) => {
      const value = text ? Number(text.replace(",", ".")) : null;
      if (value === null || Number.isFinite(value)) return value;
      input.setAttribute("aria-invalid", "true");
      input.focus();
      throw new Error(`${words} must be a number or empty, “${text.slice(0, 40)}” was given.`);
    };
    if (name === "weight") return { weight: number("The weight") };
    if (name === "triggers") return { triggers: list(text) };
    const key = name.split(".")[1];
    if (!key) return { [name]: text };
    const label = DEFAULTS.find(([one]) => one === key)[1];
    return { defaults: { ...changes.defaults, [key]: WORDS.includes(key) ? text || null : number(label) } };
  }

  #say(words, tone = "") {
    this.#said.textContent = words;
    this.#said.dataset.tone = tone;
  }
}

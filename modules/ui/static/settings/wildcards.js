// The wildcards manager: the files below the folder wildcards, their values, and what a prompt with them becomes.

import { h } from "../dom.js";
import { ask } from "./routes.js";
import { sentence } from "./row.js";

const DRAWN = 6;

export class WildcardsPanel {
  constructor() {
    this.list = h("ul", { class: "editor-list" });
    this.error = h("p", { class: "setting-error", role: "alert", hidden: true });
    this.place = h("div", { class: "editor-place" });
    this.add = h("button", { type: "button", class: "editor-add", onclick: () => this.show(null) }, "Add a file");
    this.words = h("input", { type: "text", id: "wildcards_try", placeholder: "a {red|blue} __animal__", autocomplete: "off", spellcheck: "false" });
    this.drawn = h("ol", { class: "editor-drawn", "aria-live": "polite" });
    const trial = h("form", { class: "editor-try", onsubmit: (event) => this.draw(event) }, h("label", { for: "wildcards_try" }, "Try a draw"), this.words, h("button", { type: "submit" }, "Draw"));
    this.seed = 0;
    this.about = h("p", { class: "setting-help" }, "__name__ in a prompt becomes a line of the file of that name, drawn by the picture’s seed.");
    this.element = h("div", { class: "editor wildcards-editor" }, this.about, trial, this.drawn, h("div", { class: "editor-bar" }, this.add), this.place, this.error, this.list);
  }

  async load() {
    this.showList(await ask("internal/wildcards"));
  }

  showList({ files, may_edit: mayEdit }) {
    this.mayEdit = mayEdit;
    this.add.hidden = !mayEdit;
    const items = files.map(({ name, values }) =>
      h(
        "li",
        { "data-wildcard": name },
        h("b", {}, `__${name}__`),
        h("small", {}, values === 1 ? "1 value" : `${values} values`),
        h("span", { class: "presets-actions" }, h("button", { type: "button", "aria-label": `${mayEdit ? "Edit" : "Show"} ${name}`, onclick: () => this.open(name) }, mayEdit ? "Edit" : "Show")),
      ),
    );
    this.list.replaceChildren(...(items.length ? items : [h("li", { class: "presets-empty" }, "None yet.")]));
  }

  async open(name) {
    this.complain("");
    try {
      this.show(await ask("internal/wildcards/read", { name }));
    } catch (error) {
      this.complain(error.message);
    }
  }

  show(file) {
    const name = h("input", { type: "text", id: "wildcard_name", autocomplete: "off", spellcheck: "false", placeholder: "animal, or places/city" });
    const text = h("textarea", { id: "wildcard_text", rows: 12, spellcheck: "false" });
    name.value = file?.name ?? "";
    text.value = file?.text ?? "";
    name.disabled = Boolean(file);
    text.readOnly = !this.mayEdit;
    const write = (path, body) => this.attempt(() => ask(path, { name: name.value.trim(), version: file?.version ?? "", ...body }));
    const save = (event) => {
      event.preventDefault();
      write("internal/wildcards", { text: text.value });
    };
    const remove = () => confirm(`Delete the file of __${file.name}__?`) && write("internal/wildcards/delete", {});
    const buttons = [
      this.mayEdit ? h("button", { type: "submit" }, "Save") : null,
      this.mayEdit && file ? h("button", { type: "button", onclick: remove }, "Delete") : null,
      h("button", { type: "button", onclick: () => this.close() }, "Close"),
    ];
    const form = h(
      "form",
      { class: "editor-form", "aria-label": file ? `The file of ${file.name}` : "A new wildcard file", onsubmit: save },
      h("div", { class: "editor-field" }, h("label", { for: "wildcard_name" }, "Name"), name),
      h("div", { class: "editor-field" }, h("label", { for: "wildcard_text" }, "A value on each line; lines with # in front are none"), text),
      file?.note ? h("p", { class: "setting-help" }, file.note) : null,
      h("div", { class: "editor-bar" }, ...buttons.filter(Boolean)),
    );
    this.place.replaceChildren(form);
    form.scrollIntoView({ block: "nearest" });
    (file ? text : name).focus();
  }

  close() {
    this.place.replaceChildren();
    this.complain("");
  }

  async attempt(write) {
    this.complain("");
    try {
      this.showList(await write());
      this.place.replaceChildren();
    } catch (error) {
      this.complain(error.message);
    }
  }

  async draw(event) {
    event.preventDefault();
    this.complain("");
    try {
      const { drawn, unknown } = await ask("internal/wildcards/draw", { text: this.words.value, seed: this.seed, count: DRAWN });
      this.seed += DRAWN;
      this.drawn.replaceChildren(...drawn.map((each) => h("li", {}, each || "(nothing)")));
      if (unknown.length) this.complain(`There is no file for ${unknown.map((name) => `__${name}__`).join(", ")}.`);
    } catch (error) {
      this.complain(error.message);
    }
  }

  complain(words) {
    this.error.textContent = sentence(words.replace(/^(name|text): /i, ""));
    this.error.hidden = !words;
  }
}

// The styles editor: the rows of styles.csv, which all users share and A1111 reads as well.  What is written is checked by the server, which
// also refuses a change of a file that somebody else has changed since it was shown.

import { h } from "../dom.js";
import { ask } from "./routes.js";
import { sentence } from "./row.js";

export class StylesPanel {
  /** `changed()` is called when the file was. */
  constructor(changed) {
    this.changed = changed;
    this.version = "";
    this.notes = h("ul", { class: "editor-notes" });
    this.list = h("ul", { class: "editor-list" });
    this.error = h("p", { class: "setting-error", role: "alert", hidden: true });
    this.add = h("button", { type: "button", class: "editor-add", onclick: () => this.edit(null) }, "Add a style");
    this.place = h("div", { class: "editor-place" });
    this.about = h("p", { class: "setting-help" }, "A style’s text goes behind what is written in the prompt, or around it where it has {prompt}.");
    this.element = h("div", { class: "editor styles-editor" }, this.about, this.notes, h("div", { class: "editor-bar" }, this.add), this.place, this.error, this.list);
  }

  async load() {
    this.show(await ask("internal/styles"));
  }

  show({ styles, notes, version, may_edit: mayEdit }) {
    this.version = version;
    this.mayEdit = mayEdit;
    this.add.hidden = !mayEdit;
    this.notes.replaceChildren(...notes.map((note) => h("li", {}, note)));
    const items = styles.map((style) => this.item(style));
    this.list.replaceChildren(...(items.length ? items : [h("li", { class: "presets-empty" }, "None yet.")]));
  }

  item(style) {
    const buttons = [
      h("button", { type: "button", "aria-label": `Edit ${style.name}`, onclick: () => this.edit(style) }, "Edit"),
      h("button", { type: "button", "aria-label": `Delete ${style.name}`, onclick: () => this.remove(style) }, "Delete"),
    ];
    return h(
      "li",
      { "data-style": style.name },
      h("b", {}, style.name),
      h("span", { class: "editor-text" }, [style.prompt, style.negative_prompt && `Negative: ${style.negative_prompt}`].filter(Boolean).join(" · ")),
      this.mayEdit ? h("span", { class: "presets-actions" }, ...buttons) : null,
    );
  }

  edit(style) {
    const id = "style_edit";
    const field = (name, label, tag) => {
      const control = tag === "input" ? h("input", { type: "text", id: `${id}_${name}`, autocomplete: "off", spellcheck: "false" }) : h("textarea", { id: `${id}_${name}`, rows: 3, spellcheck: "false" });
      control.value = style?.[name] ?? "";
      return { control, row: h("div", { class: "editor-field" }, h("label", { for: `${id}_${name}` }, label), control) };
    };
    const [name, prompt, negative] = [field("name", "Name", "input"), field("prompt", "Prompt", "textarea"), field("negative_prompt", "Negative prompt", "textarea")];
    const save = async (event) => {
      event.preventDefault();
      const body = { name: name.control.value.trim(), prompt: prompt.control.value, negative_prompt: negative.control.value, version: this.version };
      if (await this.attempt(() => ask("internal/styles", { ...body, was: style?.name ?? "" }), name.control)) this.close();
    };
    const form = h("form", { class: "editor-form", "aria-label": style ? `Edit ${style.name}` : "A new style", onsubmit: save }, name.row, prompt.row, negative.row,
      h("div", { class: "editor-bar" }, h("button", { type: "submit" }, "Save"), h("button", { type: "button", onclick: () => this.close() }, "Cancel")));
    this.complain("");
    this.place.replaceChildren(form);
    form.scrollIntoView({ block: "nearest" });
    name.control.focus();
  }

  close() {
    this.place.replaceChildren();
    this.complain("");
    this.add.focus({ preventScroll: true });
  }

  remove(style) {
    const many = style.rows > 1 ? `, all ${style.rows} rows of this name,` : "";
    if (confirm(`Delete the style “${style.name}”${many} from styles.csv? The file before stays as styles.csv.bak.`)) {
      this.attempt(() => ask("internal/styles/delete", { name: style.name, version: this.version }));
    }
  }

  async attempt(write, control = null) {
    this.complain("", control);
    try {
      this.show(await write());
      this.changed();
      return true;
    } catch (error) {
      if (/changed meanwhile/.test(error.message)) await this.load().catch(() => {});
      this.complain(error.message, /^name: /i.test(error.message) ? control : null);
      return false;
    }
  }

  complain(words, control = null) {
    this.error.textContent = sentence(words.replace(/^(name|styles?): /i, ""));
    this.error.hidden = !words;
    if (words) control?.setAttribute("aria-invalid", "true");
    else control?.removeAttribute("aria-invalid");
  }
}

// Presets of whole forms: a tab's form under a name, applied, renamed, shared, deleted, written to a file and read from one.  They are kept
// by the server; a form is filled as with the settings of a picture (forms/send_settings.js).

import { h } from "../dom.js";
import { fields } from "../forms/form.js";
import { hasTab } from "../tabs.js";
import { ask } from "./routes.js";
import { sentence } from "./row.js";

const TABS = ["txt2img", "img2img", "inpaint"];
const MAX_BYTES = 300_000;

export class PresetPanel {
  constructor() {
    this.list = h("ul", { class: "presets" });
    this.error = h("p", { class: "setting-error", role: "alert", hidden: true });
    this.note = h("p", { class: "presets-note", role: "status", hidden: true });
    this.tab = h("select", { "aria-label": "The form of" }, ...TABS.map((tab) => h("option", { value: tab }, tab)));
    this.name = h("input", { type: "text", maxlength: 100, placeholder: "Name", "aria-label": "Name of the preset", autocomplete: "off" });
    this.file = h("input", { type: "file", accept: ".json,application/json", class: "sr-only", tabindex: "-1", "aria-label": "A preset's file" });
    this.file.addEventListener("change", () => this.read(this.file.files[0]));
    const form = h(
      "form",
      { class: "presets-new", onsubmit: (event) => this.save(event) },
      h("span", {}, "Keep the form of"), this.tab, h("span", {}, "as"), this.name,
      h("button", { type: "submit" }, "Keep"),
      h("button", { type: "button", onclick: () => this.file.click() }, "Read a file"),
      this.file,
    );
    this.element = h("div", { class: "presets-panel" }, form, this.error, this.note, this.list);
  }

  async load() {
    this.show(await ask("internal/presets"));
  }

  async attempt(action) {
    this.complain("");
    try {
      await action();
    } catch (error) {
      this.complain(error.message);
    }
  }

  complain(words) {
    this.error.textContent = sentence(words.replace(/^(name|fields): /i, ""));
    this.error.hidden = !words;
    this.tell("");
  }

  tell(words) {
    this.note.textContent = words;
    this.note.hidden = !words;
  }

  show(presets) {
    const items = presets.map((preset) => this.item(preset));
    this.list.replaceChildren(...(items.length ? items : [h("li", { class: "presets-empty" }, "None yet.")]));
  }

  item(preset) {
    const { id, tab, name, shared, mine, starts } = preset;
    const button = (words, action, more = {}) => h("button", { type: "button", "aria-label": `${words} ${name}`, onclick: action, ...more }, words);
    const change = (body) => this.attempt(async () => this.show(await ask(`internal/presets/${id}`, body)));
    const remove = () => confirm(`Delete the preset “${name}”?`) && this.attempt(async () => this.show(await ask(`internal/presets/${id}/delete`, {})));
    return h(
      "li",
      { "data-preset": id },
      h("b", {}, name),
      h("small", {}, [tab, mine ? (shared ? "shared with all" : "yours") : "shared by another user", starts && "at the start"].filter(Boolean).join(" · ")),
      h(
        "span",
        { class: "presets-actions" },
        button("Apply", () => this.apply(preset)),
        mine ? button("Rename", () => this.rename(preset, change)) : null,
        mine ? button(shared ? "Unshare" : "Share", () => change({ shared: !shared })) : null,
        h("a", { href: `internal/presets/${id}/file`, download: `${safe(name)}.json`, "aria-label": `Write ${name} to a file` }, "To a file"),
        mine ? button(starts ? "Not at the start" : "Use at the start", () => change({ starts: !starts }), { title: `What the form of ${tab} begins with in a browser that remembers none` }) : null,
        mine ? button("Delete", remove) : null,
      ),
    );
  }

  save(event) {
    event.preventDefault();
    const [tab, name] = [this.tab.value, this.name.value.trim()];
    return this.attempt(() => this.keep(tab, name, fields(tab)));
  }

  /** Keep; where there is one of that name, ask first. */
  async keep(tab, name, values) {
    if (!name) throw new Error("Give it a name.");
    const body = { tab, name, fields: values };
    let presets;
    try {
      presets = await ask("internal/presets", body);
    } catch (error) {
      if (!/already/.test(error.message) || !confirm(`Replace your preset “${name}”?`)) throw error;
      presets = await ask("internal/presets", { ...body, replace: true });
    }
    this.name.value = "";
    this.show(presets);
    this.tell(`Kept: “${name}” for ${tab}.`);
  }

  rename({ name }, change) {
    const other = prompt("Name of the preset", name)?.trim();
    if (other && other !== name) change({ name: other });
  }

  apply({ tab, name, fields: values }) {
    if (!hasTab(tab)) return this.complain(`There is no tab ${tab} here.`);
    const { known, unknown } = sorted(tab, values);
    const left = unknown.length ? ` Not known here and left out: ${unknown.join(", ")}.` : "";
    document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab, fields: known, note: `Preset “${name}”.${left}` } }));
  }

  read(file) {
    this.file.value = "";
    return file && this.attempt(async () => {
      if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than a preset can be.`);
      let said;
      try {
        said = JSON.parse(await file.text());
      } catch {
        throw new Error(`${file.name} is no JSON file.`);
      }
      const { tab, name, fields: values } = await ask("internal/presets/read", said);
      const { known, unknown } = sorted(tab, values);
      if (!Object.keys(known).length) throw new Error(`${file.name} has no field that this page knows.`);
      await this.keep(tab, name, known);
      if (unknown.length) this.tell(`Kept: “${name}” for ${tab}. Not known here and left out: ${unknown.join(", ")}.`);
    });
  }
}

/** The fields that the tab's form has, and the names of the others. */
function sorted(tab, values) {
  const here = fields(tab);
  const names = Object.keys(values);
  return {
    known: Object.fromEntries(names.filter((name) => name in here).map((name) => [name, values[name]])),
    unknown: names.filter((name) => !(name in here)),
  };
}

const safe = (name) => name.replaceAll(/[^\p{L}\p{N} ._-]/gu, "_").slice(0, 80) || "preset";

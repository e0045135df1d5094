// One tool's form: fields by kind, checked while they are filled in, and the server's complaints at the field that they name.

import { h } from "../dom.js";
import { bytes } from "./routes.js";
import { FORMS } from "./tool_forms.js";

const LISTS = ["checkpoints", "vaes", "loras"];

export class ToolForm {
  /** `start` gets the fields of a request, `look` a source to choose files of; both reject with the server's words. */
  constructor(tool, sources, start, look) {
    this.tool = tool;
    this.lookInto = look;
    this.found = null; // what was seen in the source
    this.start = start;
    this.sources = sources;
    this.fields = new Map(); // name -> {about, control, error, row}
    const { about, fields } = FORMS[tool];
    this.problem = h("p", { class: "tools-error", role: "alert", hidden: true });
    this.replace = h("input", { type: "checkbox", id: "tools_replace" });
    this.button = h("button", { type: "submit", class: "tools-start" }, "Start");
    this.element = h(
      "form",
      { novalidate: true, "aria-label": FORMS[tool].label },
      h("p", { class: "tools-about" }, about),
      ...fields.map((field) => this.field(field)),
      h("label", { class: "tools-check", for: "tools_replace" }, this.replace, "Replace a file that has this name"),
      this.problem,
      this.button,
    );
    this.element.addEventListener("submit", (event) => this.submit(event));
    this.element.addEventListener("change", () => this.arrange());
    // A field that is left may say what is wrong and push the button from under the pointer: the focus stays until the click.
    this.element.addEventListener("mousedown", (event) => event.target.closest("button") && event.preventDefault());
    this.offer(sources);
    this.arrange();
  }

  field(about) {
    const id = `tools_${about.name}`;
    const error = h("p", { class: "tools-error", id: `${id}_error`, hidden: true });
    const hint = about.hint ? h("p", { class: "tools-hint", id: `${id}_hint` }, about.hint) : null;
    const control = about.kind === "loras" ? h("div", { class: "tools-loras", id, role: "group", "aria-label": about.label }) : this.control(about, id);
    control.setAttribute("aria-describedby", `${hint ? `${id}_hint ` : ""}${id}_error`);
    const label = about.kind === "check" ? null : h(about.kind === "loras" ? "span" : "label", about.kind === "loras" ? { class: "tools-label" } : { for: id }, about.label);
    const row =
      about.kind === "check"
        ? h("div", { class: "tools-row" }, h("label", { class: "tools-check", for: id }, control, about.label), error)
        : h("div", { class: "tools-row", "data-kind": about.kind }, label, control, hint, error);
    this.fields.set(about.name, { about, control, error, row });
    control.addEventListener("focusout", () => this.check(about.name));
    if (about.look) this.withLook(control, about.name);
    if (about.kind === "loras") control.after(h("button", { type: "button", class: "tools-add", onclick: () => this.addLora(control).querySelector("select").focus() }, "Add a LoRA"));
    return row;
  }

  control(about, id) {
    if (about.kind === "check") return h("input", { type: "checkbox", id, checked: about.value });
    if (about.kind === "choice") return h("select", { id }, ...options(about.choices));
    if (LISTS.includes(about.kind) || about.kind === "files") return h("select", { id });
    const more = about.kind === "number" ? { inputmode: "decimal", value: about.value } : {};
    return h("input", { type: "text", id, autocomplete: "off", spellcheck: "false", ...more });
  }

  // ---- a source that can be looked into

  withLook(control, name) {
    this.looking = h("button", { type: "button", class: "tools-add", onclick: () => this.look(name) }, "Look");
    this.seen = h("p", { class: "tools-hint", role: "status" });
    control.after(this.looking, this.seen);
    control.addEventListener("input", () => this.see(null)); // what was seen is of another source
  }

  /** Ask what is in the source, and offer it. */
  async look(name) {
    const { control } = this.fields.get(name);
    if (!this.check(name)) return this.focus(name);
    const source = control.value.trim();
    this.looking.disabled = true;
    this.seen.textContent = "Looking …";
    try {
      const found = await this.lookInto(source);
      if (control.value.trim() === source) this.see(found);
    } catch (error) {
      this.see(null);
      this.refused(error.message);
    } finally {
      this.looking.disabled = false;
    }
  }

  see(found) {
    this.found = found?.files.length || found?.pipeline ? found : null;
    this.seen.textContent = !found ? "" : found.link ? "The link of one file." : this.found ? `${found.name} has ${count(found)}.` : `${found.name} has no model file.`;
    if (this.found) {
      const { control } = this.fields.get("file");
      control.replaceChildren(...options(choicesOf(this.found)));
      if (found.file) control.value = found.file;
    }
    this.arrange();
  }

  addLora(group) {
    const row = h(
      "div",
      { class: "tools-lora" },
      h("select", { "aria-label": "LoRA" }, ...options([["", "Choose one"], ...this.sources.loras.map((name) => [name, name])])),
      h("input", { type: "text", inputmode: "decimal", value: "1", "aria-label": "Strength, −4 to 4" }),
      h("input", { type: "text", inputmode: "decimal", placeholder: "same", "aria-label": "Strength for text encoders, empty for the same" }),
      h("button", { type: "button", "aria-label": "Take this LoRA out", onclick: () => this.takeOut(row) }, "×"),
    );
    group.append(row);
    return row;
  }

  takeOut(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector("select") ?? this.element.querySelector(".tools-add")).focus();
  }

  /** The names that can be chosen now; what was chosen stays. */
  offer(sources) {
    this.sources = sources;
    for (const { about, control } of this.fields.values()) {
      if (about.kind === "checkpoints") refill(control, [["", about.needed ? "Choose one" : "None"], ...sources.checkpoints.map(({ name }) => [name, name])]);
      if (about.kind === "vaes") refill(control, [...about.choices, ...sources.vaes.map((name) => [name, name])]);
      if (about.kind !== "loras") continue;
      for (const select of control.querySelectorAll("select")) refill(select, [["", "Choose one"], ...sources.loras.map((name) => [name, name])]);
      if (!control.children.length) this.addLora(control);
    }
  }

  /** Fields that matter with what is chosen; the others are hidden and not sent. */
  arrange() {
    const values = Object.fromEntries([...this.fields].map(([name, { about, control }]) => [name, about.kind === "loras" ? null : control.value]));
    for (const { about, row } of this.fields.values()) row.hidden = Boolean(about.when) && !about.when(values, this);
  }

  // ---- checking and sending

  check(name) {
    const { about, control, row } = this.fields.get(name);
    const text = row.hidden ? "" : about.kind === "loras" ? lorasProblem(control) : problem(about, control.value);
    this.complain(name, text);
    return !text;
  }

  complain(name, text) {
    const { control, error } = this.fields.get(name);
    error.hidden = !text;
    error.textContent = text;
    control.toggleAttribute("aria-invalid", Boolean(text));
    if (text) control.setAttribute("aria-invalid", "true");
  }

  values() {
    const found = { tool: this.tool, replace: this.replace.checked };
    for (const [name, { about, control, row }] of this.fields) {
      if (row.hidden) continue;
      if (about.kind === "check") found[name] = control.checked;
      else if (about.kind === "number") found[name] = number(control.value);
      else if (about.kind === "loras") found[name] = [...control.children].map(lora);
      else found[name] = control.value.trim();
    }
    return found;
  }

  async submit(event) {
    event.preventDefault();
    const wrong = [...this.fields.keys()].filter((name) => !this.check(name));
    if (wrong.length) return this.focus(wrong[0]);
    this.button.disabled = true;
    this.problem.hidden = true;
    try {
      await this.start(this.values());
    } catch (error) {
      this.refused(error.message);
    } finally {
      this.button.disabled = false;
    }
  }

  refused(text) {
    const found = /^([a-z_]+)(?:\.\d+)?(?:\.[a-z_]+)*: (.+)$/s.exec(text);
    const name = /already|is one of the sources/.test(text) && !found ? "output" : found?.[1];
    if (this.fields.has(name)) {
      this.complain(name, sentence(found?.[2] ?? text));
      return this.focus(name);
    }
    this.problem.hidden = false;
    this.problem.textContent = sentence(text);
  }

  focus(name) {
    const { control } = this.fields.get(name);
    (control.matches("div") ? control.querySelector("select") ?? control : control).focus();
  }
}

function problem(about, text) {
  const value = text.trim();
  if (about.needed && !value) return about.empty ?? (about.kind === "text" ? "Give it a name." : "Choose one.");
  if (about.max && about.kind === "text" && value.length > about.max) return `At most ${about.max} characters.`;
  if (about.name === "output" && /[\\/:*?"<>|]/.test(value)) return 'A file\'s name, without \\ / : * ? " < > |.';
  if (about.kind !== "number") return "";
  const found = number(value);
  if (!(found >= about.min && found <= about.max) || (about.whole && !Number.isInteger(found))) {
    return `A ${about.whole ? "whole " : ""}number from ${about.min} to ${about.max}.`;
  }
  return "";
}

/** Files of a repository with their sizes; the whole pipeline is chosen by its index. */
function choicesOf({ files, pipeline }) {
  const whole = pipeline ? [["model_index.json", `The whole pipeline (${bytes(pipeline.size)}${pipeline.fp16 === pipeline.size ? "" : `, fp16 ${bytes(pipeline.fp16)}`})`]] : [];
  return [...files.map(({ name, size, pickle }) => [name, `${name} (${bytes(size)}${pickle ? ", a pickle: must be converted" : ""})`]), ...whole];
}

function count({ files, pipeline }) {
  const many = files.length ? `${files.length} model ${files.length === 1 ? "file" : "files"}` : "";
  return [many, pipeline ? "a diffusers pipeline" : ""].filter(Boolean).join(" and ");
}

function lorasProblem(group) {
  const rows = [...group.children].map(lora);
  if (!rows.length || rows.some(({ name }) => !name)) return "Choose at least one LoRA, and one in each line.";
  const wrong = rows.some(({ strength, text_strength: text }) => ![strength, text ?? 0].every((each) => Math.abs(each) <= 4));
  return wrong ? "Strengths are numbers from −4 to 4." : "";
}

function lora(row) {
  const [name, strength, text] = [...row.children].map((each) => each.value.trim());
  return { name, strength: number(strength), ...(text ? { text_strength: number(text) } : {}) };
}

/** NaN for what is no number; a comma or a minus sign of print is understood. */
const number = (text) => (String(text).trim() ? Number(String(text).trim().replace(",", ".").replace("−", "-")) : NaN);
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const options = (choices) => choices.map(([value, label]) => h("option", { value }, label));

function refill(select, choices) {
  const chosen = select.value;
  select.replaceChildren(...options(choices));
  if (choices.some(([value]) => value === chosen)) select.value = chosen;
}

// One setting: its name, its control, what it does, where its value comes from, and what is wrong with what was typed.  What it is kept by
// is said by whoever makes it.

import { h } from "../dom.js";

const shown = (value) => (value === true ? "on" : value === false ? "off" : Array.isArray(value) ? value.join(", ") : String(value ?? ""));
const named = (value) => (shown(value) === "" ? "empty" : shown(value));

export class Row {
  /** `about` is {name, label, help, kind, choices, value, default, locked?, from?, live?, has_pending?, pending?}; `keep(value)` and
   *  `reset()` write it and resolve to what it is about now. */
  constructor(prefix, about, keep, reset) {
    this.keep = keep;
    this.id = `${prefix}_${about.name.replaceAll(".", "_")}`;
    this.error = h("p", { class: "setting-error", id: `${this.id}_error`, role: "alert", hidden: true });
    this.from = h("p", { class: "setting-from", id: `${this.id}_from` });
    this.back = h("button", { type: "button", class: "setting-reset", onclick: () => this.run(reset) }, "Reset to default");
    this.control = this.made(about);
    this.control.id = this.id;
    this.control.setAttribute("aria-describedby", `${this.id}_help ${this.id}_from ${this.id}_error`);
    const title = [about.label || about.name.replaceAll("_", " "), h("code", {}, about.name)];
    this.element = h(
      "div",
      { class: "setting", "data-name": about.name, "data-kind": about.kind },
      h("label", { for: this.id }, ...title),
      this.control,
      h("p", { class: "setting-help", id: `${this.id}_help` }, sentence(about.help)),
      this.error,
      h("div", { class: "setting-foot" }, this.from, this.back),
    );
    const words = [about.label || about.name.replaceAll("_", " "), sentence(about.help), about.group ?? ""];
    this.words = [about.name, ...words, ...words.map((text) => atelierText(text))].join(" ").toLowerCase(); // as written and as seen
    this.control.addEventListener("change", () => this.changed());
    this.show(about);
  }

  made({ kind, choices, low, high }) {
    if (kind === "switch") return h("input", { type: "checkbox" });
    if (kind === "choice" || choices?.length) return h("select", {}, ...choices.map((each) => h("option", { value: each }, each)));
    const number = kind === "number" ? { inputmode: "decimal", ...(high ? { title: `${low} to ${high}` } : {}) } : {};
    return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...number });
  }

  show(about) {
    this.about = about;
    const { kind } = about;
    const value = about.has_pending ? about.pending : about.value;
    if (kind === "switch") this.control.checked = value === true;
    else this.control.value = shown(value);
    this.control.disabled = Boolean(about.locked);
    this.back.hidden = Boolean(about.locked) || (!about.resettable && shown(value) === shown(about.default) && !about.has_pending);
    const lines = [`Default: ${named(about.default)}.`];
    if (about.from) lines.push(about.from);
    if (about.has_pending) lines.push(`In force now: ${named(about.value)}; from the next start on: ${named(about.pending)}.`);
    else if (about.live === false && !about.locked) lines.push("A change counts from the next start on.");
    if (about.locked) lines.push(sentence(about.locked));
    this.from.textContent = lines.join(" ");
    this.element.toggleAttribute("data-changed", shown(value) !== shown(about.default));
    this.element.toggleAttribute("data-pending", Boolean(about.has_pending));
  }

  changed() {
    const { kind } = this.about;
    let value = kind === "switch" ? this.control.checked : this.control.value;
    if (kind === "number") {
      if (!value.trim() || !Number.isFinite(Number(value))) return this.complain("It must be a number.");
      value = Number(value);
    }
    return this.run(() => this.keep(value));
  }

  /** Until the answer is there nothing else is written; what was refused stays in the field, with the reason. */
  async run(write) {
    this.control.setAttribute("aria-busy", "true");
    try {
      const about = await write();
      this.complain("");
      this.show(about);
    } catch (error) {
      if (this.about.kind === "switch") this.show(this.about);
      this.complain(error.message);
    } finally {
      this.control.removeAttribute("aria-busy");
    }
  }

  complain(words) {
    const own = `${this.about.name}: `;
    this.error.textContent = sentence(words.toLowerCase().startsWith(own.toLowerCase()) ? words.slice(own.length) : words);
    this.error.hidden = !words;
    if (words) this.control.setAttribute("aria-invalid", "true");
    else this.control.removeAttribute("aria-invalid");
  }
}

export function sentence(words) {
  const text = String(words ?? "").trim();
  return text && `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;
}

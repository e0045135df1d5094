// The menu at Generate (its arrow, or the right mouse button on Generate): generate forever, and how Cancel and Ctrl+Enter are meant; and
// Skip beside Cancel.  What is chosen is this browser's.

import { generateForever } from "./attachment.js";
import { h } from "../dom.js";
import { closed, opened } from "../opened.js";

const KEY = "atelier.generate";
const CHOICES = {
  keep: ["Cancel keeps the unfinished picture", "As A1111's Interrupt: what is painted now is finished with the step that runs, and kept"],
  restart: ["Ctrl Enter begins at once", "What is painted now is interrupted and kept as it is, instead of going on before the new picture"],
};

/** Whether "keep" or "restart" is chosen. */
export const chosen = (name) => stored()[name] === true;

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // forbidden, or not ours
  }
}

function choose(name, on) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...stored(), [name]: on }));
  } catch {
    /* forbidden: then it is as usual */
  }
}

/** `does` are {skip, stopForever}. */
export function startGenerateMenus(does) {
  for (const generate of document.querySelectorAll("button[id$=_generate]")) new Menu(generate, does);
}

class Menu {
  #tab;
  #does;
  #arrow;
  #list;

  constructor(generate, does) {
    const tab = (this.#tab = generate.id.replace(/_generate$/, ""));
    this.#does = does;
    this.#list = h("div", { class: "generate-menu", id: `${tab}_generate_menu`, role: "menu", "aria-label": "Generate", hidden: true });
    const about = { "aria-haspopup": "menu", "aria-expanded": "false", "aria-controls": this.#list.id, "aria-label": "More ways to generate" };
    this.#arrow = h("button", { type: "button", class: "generate-more", ...about, onclick: () => this.#toggle() });
    const cancel = document.getElementById(`${tab}_cancel`);
    const leave = h("button", { type: "button", class: "skip", "aria-keyshortcuts": "Alt+Enter", title: "Alt Enter: keep this picture as it is, and go on with the next one", onclick: () => does.skip() }, "Skip");
    generate.after(this.#arrow);
    cancel.before(leave);
    cancel.after(this.#list);
    generate.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      this.#open();
    });
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("pointerdown", ({ target }) => this.#list.hidden || this.#list.contains(target) || target === this.#arrow || this.#close(false));
  }

  #toggle() {
    if (this.#list.hidden) this.#open();
    else this.#close();
  }

  #open() {
    const items = Object.entries(CHOICES).map(([name, [words, about]]) => {
      const on = chosen(name);
      const pick = () => {
        choose(name, !on);
        this.#close();
      };
      return h("button", { type: "button", role: "menuitemcheckbox", "aria-checked": String(on), "data-name": name, title: about, onclick: pick }, words);
    });
    this.#list.replaceChildren(this.#forever(), ...items);
    this.#list.hidden = false;
    this.#arrow.setAttribute("aria-expanded", "true");
    opened(this.#list, () => this.#close());
    this.#list.querySelector("button").focus({ preventScroll: true });
  }

  /** While it is on, it is ended here as well, and begun anew with what the form says now. */
  #forever() {
    const on = document.body.hasAttribute("data-forever");
    const item = (name, words, about, act) => h("button", { type: "button", role: "menuitem", "data-name": name, title: about, onclick: () => { this.#close(); act(); } }, words);
    const begin = item("forever", on ? "Generate forever with these settings" : "Generate forever", "One picture after the other, also with this page closed, until it is stopped", () => generateForever(this.#tab));
    return h("div", { role: "none" }, begin, on ? item("stop", "Cancel generate forever", "What is painted is finished", () => this.#does.stopForever()) : null);
  }

  #close(back = true) {
    closed(this.#list);
    this.#list.hidden = true;
    this.#arrow.setAttribute("aria-expanded", "false");
    if (back) this.#arrow.focus({ preventScroll: true });
  }

  #onKey(event) {
    const items = [...this.#list.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Tab") this.#close(false);
    if (!step) return;
    event.preventDefault();
    items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
  }
}

// Names that fit what is being typed in a prompt: wildcards after two underscores, LoRAs after "<lora:", embeddings as words, and
// classes where the checkpoint paints those.
// A list below the field; arrows choose, Enter or Tab takes, Esc closes.

import { getJson, h, replaceText } from "../dom.js";
import { fields } from "../forms/form.js";

const SHOWN = 8;
const FRESH_MS = 10_000; // files come and go
const KINDS = [
  { of: "classes", typed: /(?:^|[\n;[|:]|\bAND\s)[ \t]*([^\s;:|<>[\]{}_][^\n;:|<>[\]{}]{0,80})$/, written: (name) => name, rest: /^(?!)/ },
  { of: "wildcards", typed: /__([\w ./*-]{0,80})$/, written: (name) => `__${name}__`, rest: /^__/ },
  { of: "loras", typed: /<(?:lora|lyco):([^<>:\n]{0,80})$/i, written: (name) => `<lora:${name}:${names.lora_words?.[name]?.weight ?? 1}>`, rest: /^[^<>\n]*>/ },
  { of: "embeddings", typed: /(?:^|[\s,([{|:])([^\s,:|()[\]{}<>_]{2,80})$/, written: (name) => name, rest: /^(?!)/ },
];
const WHOLE_WILDCARD = /__(?!_)[\w ./*-]{1,200}?__/g;

let names = {};
let asked = 0;

async function freshNames() {
  if (Date.now() - asked > FRESH_MS) {
    asked = Date.now();
    try {
      names = (await getJson("internal/prompt/names")) ?? {};
    } catch {
      asked = 0; // the next key tries again; until then there are none to offer
    }
  }
  return names;
}

/** What is preferred for a LoRA now: {triggers, weight, negative}, as far as there is something. */
export async function loraWords(name) {
  asked = 0;
  return (await freshNames()).lora_words?.[name] ?? {};
}

/** Those that begin with what was typed, then those whose last part does, then those that hold it. */
function fitting(known, typed) {
  const wanted = typed.toLowerCase();
  const rank = (name) => {
    const lower = name.toLowerCase();
    if (lower.startsWith(wanted)) return 0;
    if (lower.slice(lower.lastIndexOf("/") + 1).startsWith(wanted)) return 1;
    return lower.includes(wanted) ? 2 : 3;
  };
  return known.map((name) => [rank(name), name]).filter(([place]) => place < 3).sort(([a], [b]) => a - b).map(([, name]) => name);
}

/** The names of one kind; classes are those of the checkpoint that is chosen beside this prompt. */
function known(kind, area) {
  if (kind.of !== "classes") return names[kind.of] ?? [];
  const tab = area.closest("[id$=prompt]").id.replace(/_(negative_)?prompt$/, "");
  return names.classes?.[fields(tab).checkpoint] ?? [];
}

/** What is being typed before the cursor, or null: {kind, typed, from}. */
function typing(area) {
  const cursor = area.selectionEnd;
  if (area.selectionStart !== cursor) return null;
  const before = area.value.slice(Math.max(0, cursor - 400), cursor).replace(WHOLE_WILDCARD, (whole) => " ".repeat(whole.length));
  for (const kind of KINDS) {
    if (kind.of === "classes" && !known(kind, area).length) continue;
    if (kind.of === "loras" && area.closest("[id$=negative_prompt]")) continue; // which has none
    const found = before.match(kind.typed);
    if (!found) continue;
    const from = ["embeddings", "classes"].includes(kind.of) ? cursor - found[1].length : cursor - found[0].length;
    return { kind, typed: found[1], from };
  }
  return null;
}

export class Completion {
  #area;
  #list;
  #found = null; // {kind, from, names}
  #active = 0;

  constructor(root, area) {
    this.#area = area;
    this.#list = h("ul", { class: "names", role: "listbox", id: `${root.id}_names`, "aria-label": "Names that fit", hidden: true });
    root.append(this.#list);
    area.setAttribute("aria-autocomplete", "list");
    area.setAttribute("aria-controls", this.#list.id);
    area.addEventListener("input", () => this.#look());
    area.addEventListener("blur", () => this.#close());
    area.addEventListener("click", () => this.#close());
    root.addEventListener("keydown", (event) => event.target === area && this.#onKey(event), true);
    // A press would take the focus away before the click comes
    this.#list.addEventListener("mousedown", (event) => event.preventDefault());
  }

  async #look() {
    if (!typing(this.#area)) return this.#close();
    await freshNames();
    const now = typing(this.#area); // typed on meanwhile?
    if (!now || document.activeElement !== this.#area) return this.#close();
    const fit = fitting(known(now.kind, this.#area), now.typed);
    const asWritten = now.kind.of === "embeddings" || now.kind.of === "classes";
    if (!fit.length || (fit.length === 1 && fit[0] === now.typed && asWritten)) return this.#close();
    this.#found = { ...now, names: fit.slice(0, SHOWN) };
    this.#active = 0;
    this.#show(fit.length - SHOWN);
  }

  #show(more) {
    const options = this.#found.names.map((name, place) =>
      h("li", { role: "option", id: `${this.#list.id}_${place}`, onclick: () => this.#take(place) }, name),
    );
    this.#list.replaceChildren(...options, ...(more > 0 ? [h("li", { class: "more", role: "presentation" }, `and ${more} more, type on`)] : []));
    this.#list.hidden = false;
    this.#area.setAttribute("aria-expanded", "true"); // tells Esc that it closes this first, see keys.js
    this.#mark();
  }

  #mark() {
    [...this.#list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === this.#active)));
    this.#area.setAttribute("aria-activedescendant", `${this.#list.id}_${this.#active}`);
  }

  #close() {
    this.#found = null;
    this.#list.hidden = true;
    this.#area.removeAttribute("aria-expanded");
    this.#area.removeAttribute("aria-activedescendant");
  }

  #onKey(event) {
    if (!this.#found || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const count = this.#found.names.length;
      this.#active = (this.#active + step + count) % count;
      this.#mark();
    } else if (event.key === "Enter" || event.key === "Tab") this.#take(this.#active);
    else if (event.key === "Escape") this.#close();
    else {
      if (["ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"].includes(event.key)) this.#close();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #take(place) {
    const { kind, from, names: offered } = this.#found;
    const cursor = this.#area.selectionEnd;
    const rest = this.#area.value.slice(cursor).match(kind.rest)?.[0].length ?? 0;
    this.#close();
    replaceText(this.#area, from, cursor + rest, kind.written(offered[place]));
  }
}

// The tools at the prompts: how many tokens they have, how they are read, weights by keyboard, names while typing.
// Prompts are read by the server, as they would be for a picture; here is only asked and shown.

import { Boxes } from "./boxes.js";
import { Completion } from "./completion.js";
import { checkSession, h } from "../dom.js";
import { fields } from "../forms/form.js";
import { moveWithKeys } from "./move_keys.js";
import { nudgeWithKeys } from "./weight_keys.js";
import { gist, isPlain, isReadWhole, reading } from "./prompt_check.js";
import { SAME } from "../forms/estimate.js";
import { currentTab } from "../tabs.js";

const PAUSE_MS = 200; // after the last key
const MATTER = ["prompt", "negative_prompt", "styles", "sampler", "steps", "seed", "emphasis", "comments", "old_prompt_editing", "raw_text", "checkpoint"];
const NETWORKS = { type: "button", class: "networks-button", "aria-label": "LoRAs and other networks: open the Models tab", title: "LoRAs and more, on the Models tab (A1111: extra networks)" };
const BOXES = { prompt: "prompt", negative_prompt: "negative prompt" };

export function startPromptTools() {
  for (const details of document.querySelectorAll("details[id$=_reading]")) startAt(details.id.replace(/_reading$/, ""), details);
}

function startAt(tab, details) {
  const tools = new PromptTools(tab, details);
  for (const [name, words] of Object.entries(BOXES)) {
    const root = document.getElementById(`${tab}_${name}`);
    const area = root?.querySelector("textarea");
    if (!area) continue;
    new Completion(root, area); // before the weights: its keys come first while it is open
    nudgeWithKeys(root, area);
    moveWithKeys(root, area);
    root.append(tools.count(name, words));
    if (name === "prompt") {
      root.append(h("button", { ...NETWORKS }, "+ LoRA"));
      new Boxes(tab, root, area);
    }
  }
  tools.start();
}

class PromptTools {
  #tab;
  #details;
  #counts = {};
  #timer = 0;
  #asking = false;
  #asked = ""; // what the answer on the page is about
  #check = null; // the answer, or {error}

  constructor(tab, details) {
    this.#tab = tab;
    this.#details = details;
  }

  /** The number above a prompt, which also opens the reading. */
  count(name, words) {
    const attributes = { type: "button", class: "count", "aria-controls": this.#details.id, "aria-expanded": "false", hidden: true };
    const button = h("button", { ...attributes, onclick: () => this.#toggle() });
    this.#counts[name] = { button, words };
    return button;
  }

  start() {
    const soon = () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#ask(), PAUSE_MS);
    };
    document.addEventListener("atelier:form", (event) => event.detail.tab === this.#tab && soon());
    document.addEventListener("atelier:tab", soon);
    document.addEventListener("visibilitychange", soon);
    this.#details.addEventListener("toggle", () => this.#show());
    this.#ask();
  }

  /** One question at a time; what was typed meanwhile is asked about next. */
  async #ask() {
    if (this.#asking || document.hidden || currentTab() !== this.#tab) return;
    const question = JSON.stringify(asked(fields(this.#tab)));
    if (question === this.#asked) return;
    this.#asking = true;
    try {
      const options = { method: "POST", headers: { "content-type": "application/json" }, body: question };
      const response = checkSession(await fetch("internal/prompt/check", options));
      this.#check = await response.json();
      this.#asked = question;
    } catch {
      this.#check = null; // no number is better than an old one; the next change asks again
      this.#asked = "";
    }
    this.#asking = false;
    this.#show();
    if (this.#check && JSON.stringify(asked(fields(this.#tab))) !== question) this.#ask();
  }

  #toggle() {
    this.#details.open = !this.#details.open;
    this.#show();
    if (this.#details.open) this.#details.querySelector("summary").focus();
  }

  #show() {
    const check = this.#check;
    const numbers = check && !check.error;
    this.#showCount("prompt", numbers ? [check.tokens, check.limit] : null);
    this.#showCount("negative_prompt", numbers ? [check.negative_tokens, check.negative_limit] : null);
    const form = fields(this.#tab);
    this.#details.hidden = !check || (!this.#details.open && !check.error && isPlain(check, form));
    if (this.#details.hidden) return;
    this.#details.querySelector(".gist").textContent = gist(check);
    // Hundreds of elements for a long prompt: made only for who looks
    if (this.#details.open) this.#details.querySelector(".reading").replaceChildren(...reading(check, form));
  }

  #showCount(name, numbers) {
    if (!this.#counts[name]) return;
    const { button, words } = this.#counts[name];
    button.hidden = !numbers;
    button.setAttribute("aria-expanded", String(this.#details.open && !this.#details.hidden));
    if (!numbers) return;
    const [tokens, limit] = numbers;
    button.textContent = `${tokens}/${limit}`;
    button.title = isReadWhole(limit) ? "Tokens, of what is read. Shows how this is read" : "Tokens, of what fits into chunks of 75. Shows how this is read";
    button.setAttribute("aria-label", `${tokens} of ${limit} tokens in the ${words}. Show how it is read`);
  }
}

/** The fields that decide what prompts mean.  Numbers that make no sense are the form's business, and left out here. */
function asked(form) {
  const question = Object.fromEntries(MATTER.filter((name) => form[name] !== null && form[name] !== undefined).map((name) => [name, form[name]]));
  const seed = String(question.seed ?? "").trim();
  const whole = (value, low, high) => Number.isInteger(value) && low <= value && value <= high;
  if (/^\d{1,20}$/.test(seed) && BigInt(seed) < 2n ** 64n) question.seed = seed; // a text: numbers have 53 bits here
  else delete question.seed;
  if (!whole(question.steps, 1, 150)) delete question.steps;
  return form.hires === true ? { ...question, hires: secondPass(form) } : question;
}

/** What of a second pass decides what its prompts mean; of a size there has to be one. */
function secondPass(form) {
  const steps = Number(form.hires_steps);
  const own = { prompt: form.hires_prompt, negative_prompt: form.hires_negative_prompt, sampler: form.hires_sampler, checkpoint: form.hires_checkpoint };
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value && value !== SAME));
  return { width: 512, height: 512, ...given, ...(Number.isInteger(steps) && steps > 0 && steps <= 150 ? { steps } : {}) };
}

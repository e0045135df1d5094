// Generate forever: the bar that says it is on and ends it.  The server submits the jobs (modules/scripts/forever.py), so that it goes on
// without this page; here is asked how far it is, and whether there are jobs that the list does not know yet.

import { getJson, h } from "../dom.js";
import { complain } from "../forms/form.js";

const EVERY_MS = 1500; // while it is on and the page is seen
const HIDDEN_MS = 5000; // in a hidden tab, and after a failed attempt
const OFF = { on: false, pictures: 0, jobs: [], seed: null, error: "" };

export class Forever {
  #jobs;
  #bar;
  #state = OFF;
  #timer = 0;

  /** `place` is where the bar goes, `jobs` the list of jobs. */
  constructor(place, jobs) {
    this.#jobs = jobs;
    this.#bar = h(
      "div",
      { class: "forever", hidden: true },
      h("span", { class: "forever-words", role: "status" }),
      h("button", { type: "button", onclick: () => this.stop() }, "Stop"),
    );
    place.append(this.#bar);
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    this.look();
  }

  get on() {
    return this.#state.on;
  }

  async stop() {
    try {
      await getJson("internal/forever/stop", { method: "POST" });
    } catch (error) {
      return complain(`It could not be stopped. ${error.message}`, [], "bad", { everywhere: true });
    }
    await this.look();
    this.#jobs.again();
  }

  async look() {
    clearTimeout(this.#timer);
    let delay = document.hidden ? HIDDEN_MS : EVERY_MS;
    try {
      this.#take((await getJson("internal/forever")) ?? OFF);
    } catch {
      delay = HIDDEN_MS;
    }
    if (this.on) this.#timer = setTimeout(() => this.look(), delay);
  }

  #take(state) {
    const before = this.#state;
    this.#state = state;
    if (before.on && !state.on && state.error) complain(`Generating forever ended: ${state.error}.`.replace("..", "."), [], "bad", { everywhere: true });
    if (state.jobs.some((id) => !this.#jobs.find(id))) this.#jobs.again();
    this.#show();
  }

  #show() {
    const { on, pictures, seed, error } = this.#state;
    document.body.toggleAttribute("data-forever", on);
    this.#bar.hidden = !on;
    if (!on) return;
    const made = pictures === 1 ? "1 picture so far" : `${pictures} pictures so far`;
    const same = seed === null ? "" : `, all of seed ${seed}`;
    const words = `Generating forever: ${made}${same}.${error ? ` Waiting: ${error}.` : ""}`;
    const place = this.#bar.querySelector(".forever-words");
    if (place.textContent !== words) place.textContent = words;
  }
}

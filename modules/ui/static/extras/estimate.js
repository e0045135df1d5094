// Before the click: how long the pictures of the list take, by what was measured of the upscalers here.

import { duration } from "../dom.js";

const SOON_MS = 250; // after the last change
const DIFFERENT = 24; // sizes that are asked for; beyond, the mean of these counts
const SOURCE = "0".repeat(64); // whatever the picture is, its size decides

export class Estimate {
  #place;
  #timer = 0;
  #shown = ""; // what was asked last
  #known = new Map(); // question -> seconds, null where nothing was measured, or an error

  /** `place` is the paragraph that says it. */
  constructor(place) {
    this.#place = place;
  }

  /** Say it of pictures of these sizes, [[width, height], ...], enlarged as `settings` (a request's fields) say; null says nothing. */
  show(sizes, settings) {
    const asked = JSON.stringify([sizes, settings]);
    if (asked === this.#shown) return;
    this.#shown = asked;
    clearTimeout(this.#timer);
    if (!settings || !sizes.length) return this.#say("");
    this.#timer = setTimeout(() => this.#ask(sizes, settings, asked), SOON_MS);
  }

  /** What was measured has changed. */
  forget() {
    this.#known.clear();
    this.#shown = "";
  }

  async #ask(sizes, settings, asked) {
    const different = [...new Set(sizes.map((size) => size.join()))].slice(0, DIFFERENT);
    const found = new Map();
    for (const size of different) {
      found.set(size, await this.#seconds(size.split(",").map(Number), settings));
      if (asked !== this.#shown) return;
    }
    const error = [...found.values()].find((one) => typeof one === "string");
    const known = sizes.map((size) => found.get(size.join())).filter((one) => typeof one === "number");
    if (error && sizes.length === 1) return this.#say(`${error[0].toUpperCase()}${error.slice(1)}.`);
    if (!known.length) return this.#say("How long it takes is not measured yet.");
    const all = (known.reduce((sum, one) => sum + one, 0) / known.length) * sizes.length;
    this.#say(sizes.length > 1 ? `All ${sizes.length} pictures take ${duration(all)}.` : `Takes ${duration(all)}.`);
  }

  async #seconds(picture, settings) {
    const question = JSON.stringify({ ...settings, source: SOURCE, picture });
    if (!this.#known.has(question)) {
      const response = await fetch("internal/quote", { method: "POST", headers: { "content-type": "application/json" }, body: question }).catch(() => null);
      if (!response?.ok) return null; // asked again with the next change
      const { seconds, error } = await response.json();
      this.#known.set(question, error ?? seconds);
    }
    return this.#known.get(question);
  }

  #say(words) {
    this.#place.textContent = words;
    this.#place.hidden = !words;
  }
}

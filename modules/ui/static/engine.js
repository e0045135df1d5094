// The engine's state in the corner: a dot, a word, and on demand what was chosen on this machine and why.

import { getJson, h } from "./dom.js";

const WORDS = { starting: "Starting", ready: "Ready", restarting: "Restarting", failed: "Stopped" };
const EVERY_MS = 1000; // until it is ready

export class Engine {
  state = null;
  #timer = 0;

  constructor() {
    document.addEventListener("click", (event) => {
      const box = document.getElementById("engine");
      if (box?.open && !box.contains(event.target)) box.open = false;
    });
  }

  async watch() {
    clearTimeout(this.#timer);
    try {
      this.show(await getJson("internal/engine"));
    } catch {
      this.unreachable();
    }
    if (this.state?.state !== "ready" || this.busy) this.#timer = setTimeout(() => this.watch(), EVERY_MS);
  }

  /** Ready, but with something to say, such as that it loads a model. */
  get busy() {
    return this.state?.state === "ready" && this.state.message !== "Ready.";
  }

  show(state) {
    this.state = state;
    const box = document.getElementById("engine");
    if (!box || !state) return;
    box.dataset.state = this.busy ? "busy" : state.state;
    const word = this.busy ? state.message : WORDS[state.state];
    const place = box.querySelector(".engine-word");
    if (place.textContent !== word) place.textContent = word;
    const rows = [
      ["Device", state.device],
      ["Number format", state.dtype],
      ["Attention", state.attention],
    ].filter(([, value]) => value);
    box.querySelector(".engine-card").replaceChildren(
      h("p", {}, state.message),
      h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    );
    if (state.state !== "ready" && !this.#timer) this.#timer = setTimeout(() => this.watch(), EVERY_MS);
    if (state.state === "ready" && !this.busy) this.#timer = 0;
  }

  unreachable() {
    this.state = null;
    const box = document.getElementById("engine");
    if (!box) return;
    box.dataset.state = "failed";
    box.querySelector(".engine-word").textContent = "Server not reachable";
  }
}

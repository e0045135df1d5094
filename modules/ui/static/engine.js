// The engine's state in the corner: a dot, a word, and on demand what was chosen on this machine and why.

import { getJson, h, LoggedOut } from "./dom.js";

const WORDS = { starting: "Starting", ready: "Ready", restarting: "Restarting", failed: "Stopped" };
const EVERY_MS = 1000; // until it is ready
const IDLE_MS = 10_000; // then, to notice a server that went

export class Engine {
  state = null;
  #timer = 0;
  #painting = false;

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
    } catch (error) {
      if (error instanceof LoggedOut) this.loggedOut();
      else this.unreachable();
    }
    const settled = this.state?.state === "ready" && !this.busy;
    this.#timer = setTimeout(() => this.watch(), settled || document.hidden ? IDLE_MS : EVERY_MS);
  }

  /** Ready, but with something to say, such as that it loads a model. */
  get busy() {
    return this.state?.state === "ready" && this.state.message !== "Ready.";
  }

  show(state) {
    this.state = state;
    const box = document.getElementById("engine");
    if (!box || !state) return;
    const painting = this.#painting && state.state === "ready" && !this.busy;
    box.dataset.state = this.busy ? "busy" : painting ? "painting" : state.state;
    const word = this.busy ? state.message : painting ? "Painting" : WORDS[state.state];
    const place = box.querySelector(".engine-word");
    if (place.textContent !== word) place.textContent = word;
    const rows = [
      ["Device", state.device],
      ["Number format", state.dtype],
      ["Attention", state.attention],
      ["Kernels", state.kernels],
      ["Accelerator", state.accelerator],
      ["Weights", state.weights],
    ].filter(([, value]) => value);
    box.querySelector(".engine-card").replaceChildren(
      h("p", {}, state.message),
      h("dl", {}, ...[...rows, ...workers(state)].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    );
  }

  /** Whether a picture of one's own is being painted. */
  set painting(yes) {
    if (yes === this.#painting) return;
    this.#painting = yes;
    if (this.state) this.show(this.state);
  }

  unreachable() {
    this.#gone("Server not reachable");
  }

  loggedOut() {
    this.#gone("Logged out");
  }

  #gone(words) {
    this.state = null;
    const box = document.getElementById("engine");
    if (!box) return;
    box.dataset.state = "failed";
    box.querySelector(".engine-word").textContent = words;
    box.querySelector(".engine-card").replaceChildren(h("p", {}, `${words}.`));
  }
}

/** Of several workers, what each does, and on which device. */
function workers({ workers: all = [] }) {
  return all.map(({ message, device }, index) => [`Worker ${index + 1}`, device ? `${message} ${device}` : message]);
}

// The panel under a prompt: a row for each network in angle brackets, with its weight, a switch and a button that removes it.
// The prompt is the only record.  A network that is switched off is not in it, and its row waits until the prompt is changed elsewhere.

import { h, replaceBeside, visible } from "../dom.js";
import { fields } from "../forms/form.js";
import { asText, networksIn, spanOf, weightIn, weightsOf, withWeight } from "../prompt/networks.js";
import { reasons } from "./network_reasons.js";

const MOST = 2; // of the slider; a number may be larger
const STEP = 0.05;
const ROWS = 40; // that are shown; a thousand sliders are no panel
const READING_MS = 1500; // until files are asked about again that the server has not read yet
const PART_NAMES = { all: "weight", te: "text encoder weight", unet: "U-Net weight" };
const PART_WORDS = { all: "", te: "Text", unet: "U-Net" };

export function startAdapterPanels() {
  for (const root of document.querySelectorAll(".adapters[id$=_adapters]")) {
    const tab = root.id.replace(/_adapters$/, "");
    const area = document.querySelector(`#${tab}_prompt textarea`);
    if (area) new AdapterPanel(tab, root, area);
  }
}

class AdapterPanel {
  #tab;
  #root;
  #list;
  #area;
  #known = null; // the prompt as the panel left it
  #off = []; // what is switched off, in order: {at, text, network}
  #rows = new Map();
  #asked = "";
  #later = 0;
  #more;

  constructor(tab, root, area) {
    this.#tab = tab;
    this.#root = root;
    this.#area = area;
    this.#list = h("ul", { class: "adapter-rows" });
    this.#more = h("p", { class: "adapters-more", hidden: true });
    root.append(this.#list, this.#more);
    area.addEventListener("input", () => this.#look());
    document.addEventListener("atelier:form", ({ detail }) => detail.tab === tab && setTimeout(() => this.#look()));
    document.addEventListener("atelier:tab", ({ detail }) => detail.tab === tab && this.#look());
    document.addEventListener("atelier:models", () => this.#judge(true));
    this.#look();
  }

  /** The prompt may have changed: by typing, by Undo, by settings that came from elsewhere. */
  #look() {
    const text = this.#area.value;
    if (text !== this.#known) this.#off = [];
    this.#known = text;
    const on = networksIn(text, { comments: fields(this.#tab).comments !== false });
    const all = [...on.map((network) => ({ network, at: network.from, off: null })), ...this.#off.map((off) => ({ network: off.network, at: off.at, off }))];
    all.sort((one, other) => one.at - other.at || Boolean(other.off) - Boolean(one.off));
    this.#show(all.slice(0, ROWS));
    this.#root.hidden = !all.length;
    this.#more.hidden = all.length <= ROWS;
    this.#more.textContent = `${all.length - ROWS} more in the prompt have no row here.`;
    this.#judge();
  }

  #show(entries) {
    const before = this.#rows;
    this.#rows = new Map();
    const counts = {};
    let place = this.#list.firstElementChild;
    for (const entry of entries) {
      const same = `${entry.network.kind}:${entry.network.name}:${weightsOf(entry.network).length}`;
      counts[same] = (counts[same] ?? 0) + 1;
      const key = `${same}:${counts[same]}`;
      const row = before.get(key) ?? new Row(entry.network, this.#actions(key));
      before.delete(key);
      row.update(entry);
      this.#rows.set(key, row);
      if (row.node === place) place = place.nextElementSibling;
      else this.#list.insertBefore(row.node, place);
    }
    for (const row of before.values()) row.node.remove();
  }

  #actions(key) {
    const row = () => this.#rows.get(key);
    return {
      weigh: (part, number) => {
        const { network, off } = row().entry;
        const text = withWeight(network, part, asText(number));
        if (off) {
          off.text = off.text.replace(network.raw, () => text);
          off.network = networksIn(text, { comments: false })[0];
          this.#look();
        } else this.#edit(network.from, network.to, text);
      },
      turn: (on) => (on ? this.#turnOn(row().entry.off) : this.#turnOff(row().entry.network)),
      remove: () => this.#remove(row()),
    };
  }

  #turnOff(network) {
    const [from, to] = spanOf(this.#known, network.from, network.to);
    const place = this.#off.filter((one) => one.at <= from).length;
    this.#off.splice(place, 0, { at: from, text: this.#known.slice(from, to), network });
    this.#edit(from, to, "");
  }

  #turnOn(off) {
    const place = this.#off.indexOf(off);
    this.#off.splice(place, 1);
    this.#edit(off.at, off.at, off.text, place);
  }

  #remove(row) {
    const { network, off } = row.entry;
    const rows = [...this.#rows.values()];
    const next = rows[rows.indexOf(row) + 1] ?? rows[rows.indexOf(row) - 1];
    if (off) {
      this.#off = this.#off.filter((one) => one !== off);
      this.#look();
    } else this.#edit(...spanOf(this.#known, network.from, network.to), "");
    if (next?.node.isConnected) next.node.querySelector(".adapter-remove").focus();
    else this.#area.focus({ preventScroll: true });
  }

  /** Change the prompt as if it were typed; what is switched off keeps its place in it. */
  #edit(from, to, text, place = 0) {
    const grown = text.length - (to - from);
    this.#off.forEach((off, index) => {
      if (off.at >= to) off.at += index < place ? 0 : grown; // those before `place` stand in front of what is put in
      else if (off.at > from) off.at = from;
    });
    this.#known = this.#known.slice(0, from) + text + this.#known.slice(to);
    replaceBeside(this.#area, from, to, text);
    this.#look();
  }

  /** Say of each row why it is left out, or does not fit the checkpoint. */
  async #judge(anew = false) {
    if (!this.#rows.size || !visible(this.#area)) return;
    const networks = [...this.#rows.values()].map((row) => row.entry.network);
    const { checkpoint } = fields(this.#tab);
    const asked = JSON.stringify([checkpoint, ...networks.map((network) => network.raw)]);
    if (asked === this.#asked && !anew) return;
    this.#asked = asked;
    clearTimeout(this.#later);
    const answer = await reasons(networks, checkpoint, anew).catch(() => null);
    if (asked !== this.#asked) return;
    if (!answer) this.#asked = "";
    if (answer?.unread) this.#later = setTimeout(() => this.#judge(true), READING_MS);
    for (const row of this.#rows.values()) row.say(answer?.found.get(row.entry.network.raw) ?? "");
  }
}

class Row {
  constructor(network, actions) {
    const what = `${network.kind === "hypernet" ? "Hypernetwork" : "LoRA"} ${network.name}`;
    this.weights = new Map(weightsOf(network).map(([part]) => [part, weightControls(part, what, (number) => actions.weigh(part, number))]));
    this.on = h("input", { type: "checkbox", "aria-label": `${what} on`, onchange: () => actions.turn(this.on.checked) });
    this.why = h("p", { class: "adapter-why", hidden: true });
    this.node = h(
      "li",
      { class: "adapter" },
      this.on,
      h("span", { class: "adapter-name", title: network.name }, network.name, network.kind === "hypernet" ? h("i", {}, " hypernetwork") : null),
      ...[...this.weights.values()].map((weight) => weight.node),
      h("button", { type: "button", class: "adapter-remove", "aria-label": `Remove ${what} from the prompt`, title: "Remove from the prompt", onclick: actions.remove }, "×"),
      this.why,
    );
  }

  update(entry) {
    this.entry = entry;
    this.on.checked = !entry.off;
    this.node.toggleAttribute("data-off", Boolean(entry.off));
    for (const [part, text] of weightsOf(entry.network)) this.weights.get(part).show(text);
  }

  say(reason) {
    if (this.why.textContent !== reason) this.why.textContent = reason;
    this.why.hidden = !reason;
    this.node.toggleAttribute("data-bad", Boolean(reason));
  }
}

/** Slider and number of one weight.  A drag changes the prompt once, at its end, so that Undo takes it back at once. */
function weightControls(part, what, weigh) {
  const name = `${what}, ${PART_NAMES[part]}`;
  const slider = h("input", { type: "range", min: -MOST, max: MOST, step: STEP, "aria-label": name });
  const number = h("input", { type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", "aria-label": `${name}, number` });
  let shown = "";
  const show = (text) => {
    shown = text;
    const value = weightIn(text);
    number.toggleAttribute("aria-invalid", value === null);
    if (document.activeElement !== number || weightIn(number.value) !== value) number.value = text;
    slider.value = value ?? 1;
    slider.style.setProperty("--range_progress", `${(100 * (Number(slider.value) + MOST)) / (2 * MOST)}%`);
  };
  slider.addEventListener("input", () => show(asText(Number(slider.value))));
  slider.addEventListener("change", () => weigh(Number(slider.value)));
  number.addEventListener("keydown", (event) => {
    const step = { ArrowUp: STEP, ArrowDown: -STEP }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    event.preventDefault();
    number.value = asText((weightIn(number.value) ?? 1) + step);
    weigh(weightIn(number.value));
  });
  number.addEventListener("change", () => {
    // When the focus goes on, it does so before the prompt is typed into
    setTimeout(() => (weightIn(number.value) === null ? (number.value = shown) : weigh(weightIn(number.value))));
  });
  const label = PART_WORDS[part] ? h("span", { class: "adapter-part", "aria-hidden": "true" }, PART_WORDS[part]) : null;
  return { node: h("span", { class: "adapter-weight" }, label, slider, number), show };
}

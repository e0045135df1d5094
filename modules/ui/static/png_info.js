// PNG Info: what any picture says of how it was made, and the way from there into a form.
// Whatever a picture says goes into the page as text.

import { h } from "./dom.js";
import { pickedFrom } from "./forms/picking.js";
import { KINDS, nameOf, read, send, sentence, takeDrops } from "./forms/recipes.js";
import { currentTab } from "./tabs.js";

const TABS = { txt2img: "txt2img", img2img: "img2img", inpaint: "Inpaint" };
const FROM_SOURCE = ["source", "mask", "box", "outpaint_left", "outpaint_right", "outpaint_up", "outpaint_down"];

export function startPngInfo() {
  const root = document.querySelector(".pnginfo");
  if (root) new PngInfo(root);
}

class PngInfo {
  #root;
  #found;
  #picture;
  #asked = 0; // only the newest answer is shown

  constructor(root) {
    this.#root = root;
    this.#found = root.querySelector(".pnginfo-found");
    this.#picture = root.querySelector(".pnginfo-picture");
    const input = root.querySelector("input");
    takeDrops(root, (file) => this.#look(file));
    document.addEventListener("atelier:pnginfo", ({ detail }) => this.#look(detail.file)); // another tab's picture
    root.querySelector(".pnginfo-choose").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files.length) this.#look(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    document.addEventListener("paste", (event) => {
      const file = currentTab() === "pnginfo" ? pickedFrom.clipboard(event.clipboardData) : null;
      if (!file) return;
      event.preventDefault();
      this.#look(file);
    });
  }

  async #look(file) {
    const asked = ++this.#asked;
    this.#preview(file);
    this.#found.replaceChildren(h("p", { class: "pnginfo-wait" }, "Reading …"));
    let shown;
    try {
      shown = this.#answer(await read(file), file);
    } catch (error) {
      this.#picture.replaceChildren();
      shown = [h("p", { class: "pnginfo-bad", role: "alert" }, error.message)];
    }
    if (asked === this.#asked) this.#found.replaceChildren(...shown.filter(Boolean));
  }

  #preview(file) {
    const url = URL.createObjectURL(file);
    const image = h("img", { src: url, alt: "", onload: () => URL.revokeObjectURL(url), onerror: () => image.remove() });
    this.#picture.replaceChildren(image);
  }

  #answer(found, file) {
    const size = `${found.format}, ${found.width} × ${found.height}`;
    if (!found.program) {
      const said = h("p", { class: "pnginfo-none" }, `This picture does not say how it was made (${size}).`);
      return [said, h("div", { class: "pnginfo-actions" }, toExtras(file)), texts(found)];
    }
    const version = found.version && found.version !== found.program ? `, ${found.version}` : "";
    return [
      h("h2", { class: "pnginfo-program" }, found.program, h("span", {}, `${version} · ${size}`)),
      this.#buttons(found, file),
      missing(found),
      notes(found),
      words("Prompt", found.prompt),
      words("Negative prompt", found.negative_prompt),
      table(found),
      texts(found),
    ];
  }

  #buttons(found, file) {
    if (!Object.keys(found.fields).length) return h("div", { class: "pnginfo-actions" }, toExtras(file));
    const fresh = { ...found, fields: { ...found.fields } };
    for (const name of FROM_SOURCE) delete fresh.fields[name];
    const here = Object.keys(TABS).filter((tab) => document.getElementById(`${tab}_panel`));
    const to = here.map((tab) =>
      h(
        "button",
        { type: "button", "data-to": tab, onclick: () => send(fresh, tab, { source: tab === "txt2img" ? null : file }) },
        `Send to ${TABS[tab]}`,
      ),
    );
    if (found.fields.source) to.unshift(...this.#again(found));
    return h("div", { class: "pnginfo-actions" }, ...to, toExtras(file));
  }

  /** One of ours that was painted from a picture which is still kept: the way back to where it was made, where that tab is here. */
  #again(found) {
    const { source, mask = null } = found.fields;
    const inpaints = mask || FROM_SOURCE.slice(3).some((name) => found.fields[name] > 0);
    const tab = inpaints ? "inpaint" : "img2img";
    if (!document.getElementById(`${tab}_panel`)) return [];
    const go = () => send(found, tab, { source: { id: source }, mask });
    return [h("button", { type: "button", "data-to": "again", onclick: go }, "Back to its source and settings")];
  }
}

function toExtras(file) {
  if (!document.getElementById("extras_panel")) return null;
  const go = () => document.dispatchEvent(new CustomEvent("atelier:extras", { detail: { file } }));
  return h("button", { type: "button", "data-to": "extras", onclick: go }, "Send to Extras");
}

function words(name, text) {
  if (!text) return null;
  return h("section", { class: "pnginfo-words" }, h("h3", {}, name), h("p", {}, text));
}

function table(found) {
  if (!found.items.length) return null;
  const rows = found.items.map(([key, value]) => h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, value)));
  return h("table", { class: "pnginfo-table" }, h("caption", {}, "Settings"), h("tbody", {}, ...rows));
}

function missing(found) {
  if (!found.missing.length) return null;
  const list = found.missing.map((one) => h("li", {}, `${KINDS[one.kind] ?? one.kind} `, h("code", {}, nameOf(one))));
  return h("div", { class: "pnginfo-missing" }, h("h3", {}, "Not here"), h("ul", {}, ...list));
}

function notes(found) {
  const list = found.notes.map((note) => h("li", {}, sentence(note)));
  return list.length ? h("ul", { class: "pnginfo-notes" }, ...list) : null;
}

function texts(found) {
  const all = found.infotext && !found.texts.some(([, text]) => text === found.infotext) ? [["As A1111 writes it", found.infotext]] : [];
  const blocks = [...all, ...found.texts].map(([name, text]) => [h("h4", {}, name), h("pre", { tabindex: "0" }, text)]);
  return blocks.length ? h("details", { class: "pnginfo-texts" }, h("summary", {}, "Raw text"), ...blocks.flat()) : null;
}

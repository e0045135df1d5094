// One model as a card: its picture or its initial, its name, what it is, and what is to be said of it now.

import { h } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { bytes, kindName, previewUrl } from "./routes.js";
import { isWritten, whereUsed } from "./target.js";

const FAMILIES = { sd1: "SD 1.x", sd2: "SD 2.x", sdxl: "SDXL", sd3: "SD 3", flux: "Flux" };
export const familyName = (family) => FAMILIES[family] ?? family;

/** The most important of what there is to say of it, in words, and the tone: "bad", "dim" or "". */
function remark(card) {
  if (card.problem) return [card.problem, "bad"];
  if (card.fits) return [sentence(card.fits), "dim"];
  return [card.loaded ? sentence(card.loaded) : "", ""];
}

const detailsOf = (card, mixed) =>
  [mixed ? kindName(card.kind) : "", familyName(card.family), card.weight === null || card.weight === undefined ? "" : `weight ${card.weight}`, bytes(card.size)].filter(Boolean);

export function picture(card) {
  const initial = h("span", { class: "card-initial", "aria-hidden": "true" }, [...(card.name.split("/").at(-1) || "?")][0].toUpperCase());
  if (!card.preview) return initial;
  const image = h("img", { src: previewUrl(card), alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  image.addEventListener("error", () => image.replaceWith(initial));
  return image;
}

/** `mixed`: cards of several kinds stand together.  A card that is on its way (undefined) is an empty place. */
export function cardElement(card, mixed) {
  if (!card) return h("div", { class: "model-card waiting", role: "presentation" });
  const [words, tone] = remark(card);
  const main = h(
    "button",
    { type: "button", class: "card-main", tabindex: -1, title: card.file },
    h("span", { class: "card-picture" }, picture(card)),
    h("span", { class: "card-name" }, card.favourite ? h("span", { class: "card-star", role: "img", "aria-label": "Favourite" }, "★ ") : null, card.name.split("/").at(-1)),
    h("span", { class: "card-what" }, detailsOf(card, mixed).join(" · ")),
    h("span", { class: "card-says", "data-tone": tone, title: words || null }, words),
    h("span", { class: "card-used" }),
  );
  const info = h("button", { type: "button", class: "card-info", tabindex: -1, "aria-label": `Details of ${card.name}`, title: "Details (I)" }, "i");
  const node = h("div", { class: "model-card", "data-kind": card.kind, "data-id": card.id }, main, info);
  node.toggleAttribute("data-dim", Boolean(card.problem || card.fits));
  markUsed(node, card);
  return node;
}

/** Show whether the card is in the form now. */
export function markUsed(node, card) {
  const words = whereUsed(card);
  const root = node.matches(".model-card") ? node : node.querySelector(".model-card");
  const said = root?.querySelector(".card-used");
  if (!said) return;
  if (said.textContent !== words) said.textContent = words;
  root.toggleAttribute("data-used", Boolean(words));
  if (isWritten(card) || card.kind === "checkpoint" || card.kind === "vae") root.querySelector(".card-main").setAttribute("aria-pressed", String(Boolean(words)));
}

// Where a click on a model goes: the prompts and the checkpoint of the generation tab that was used last.  What was put into a prompt
// is taken out by its own text, and where that has been changed since, by its name.

import { replaceBeside } from "../dom.js";
import { fields } from "../forms/form.js";
import { networksIn, spanOf } from "../prompt/networks.js";
import { currentTab } from "../tabs.js";
import { insertedName } from "./network_reasons.js";

const KEPT = "atelier.models.tab";
const NETWORK_KINDS = { lora: ["lora", "lyco"], hypernetwork: ["hypernet"] };

const inserted = new Map(); // tab, field and id -> {text, behind}: what was put in, and the trigger words at its end
const areaOf = (tab, negative = false) => document.querySelector(`#${tab}_${negative ? "negative_prompt" : "prompt"} textarea`);

let last = "";

/** [{name, label}] of the tabs that have a prompt. */
export const targets = () =>
  [...document.querySelectorAll("#tab_bar [role=tab]")].map((link) => ({ name: link.hash.slice(1), label: link.textContent })).filter(({ name }) => areaOf(name));

export function target() {
  const known = targets();
  return (known.find(({ name }) => name === last) ?? known[0])?.name ?? "";
}

export function setTarget(name) {
  last = name;
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    /* forbidden: then until the page is closed */
  }
  document.dispatchEvent(new Event("atelier:target"));
}

export function followTabs() {
  try {
    last = localStorage.getItem(KEPT) ?? "";
  } catch {
    /* forbidden: then the first */
  }
  const note = () => areaOf(currentTab()) && setTarget(currentTab());
  document.addEventListener("atelier:tab", note);
  note();
}

export const promptOf = (tab = target(), negative = false) => areaOf(tab, negative)?.value ?? "";

/** Whether a card may stand in a prompt. */
export const isWritten = (card) => Boolean(card.insert) && (card.kind in NETWORK_KINDS || card.kind === "embedding");

/** What the form calls the file of a VAE. */
export const vaeName = (card) => card.file.split("/").at(-1);

/** Whether it is in the form now: "" for no, else in words. */
export function whereUsed(card) {
  if (card.kind === "vae") return fields(target()).vae === vaeName(card) ? "Chosen" : "";
  if (card.kind === "checkpoint") return fields(target()).checkpoint === card.name ? "Chosen" : "";
  if (!isWritten(card)) return "";
  if (placeOf(card, promptOf())) return "In the prompt";
  return placeOf(card, promptOf(target(), true), true) ? "In the negative prompt" : "";
}

/** Put a card into the prompt, or take it out where it is there already.  Returns "in" or "out". */
export function toggleCard(card, { negative = false, triggers = false, negativeWords = "" } = {}) {
  if (negativeWords && !negative) toggleNegative(negativeWords, !placeOf(card, promptOf()));
  const area = areaOf(target(), negative);
  const key = `${target()}.${negative}.${card.id}`;
  const there = placeOf(card, area.value, negative);
  if (there) {
    takeOut(area, there, inserted.get(key));
    inserted.delete(key);
    return "out";
  }
  const words = triggers && !negative ? card.triggers.filter((word) => !hasWord(area.value, word)) : [];
  const behind = words.length ? `, ${words.join(", ")}` : "";
  const own = card.kind === "embedding" ? ", " : " "; // what stands in brackets leaves its comma behind
  inserted.set(key, { ...append(area, `${card.insert}${behind}`, own), behind });
  return "in";
}

/** What goes with a card into the negative prompt comes and goes with it. */
function toggleNegative(words, on) {
  const area = areaOf(target(), true);
  const key = `${target()}.negative.${words}`;
  const there = wordIn(area.value, words);
  if (on && !there) inserted.set(key, append(area, words, ", "));
  else if (!on && there) takeOut(area, there, inserted.get(key));
}

/** The same with a trigger word or a tag. */
export function toggleWord(word) {
  const area = areaOf(target());
  const key = `${target()}..${word}`;
  const there = wordIn(area.value, word);
  if (!there) {
    inserted.set(key, append(area, word, ", "));
    return "in";
  }
  takeOut(area, there, inserted.get(key));
  inserted.delete(key);
  return "out";
}

export const hasWord = (text, word) => Boolean(wordIn(text, word));

function append(area, words, separator) {
  const before = area.value;
  const text = `${!before || /\s$/.test(before) ? "" : separator}${words}`;
  replaceBeside(area, before.length, before.length, text);
  return { text, behind: "" };
}

function takeOut(area, { from, to }, own) {
  const text = area.value;
  const exact = own ? text.lastIndexOf(own.text) : -1;
  if (exact >= 0) return replaceBeside(area, exact, exact + own.text.length, "");
  const end = own?.behind && text.startsWith(own.behind, to) ? to + own.behind.length : to;
  replaceBeside(area, ...spanOf(text, from, end), "");
}

/** Where a card stands in a text, {from, to}; null where it does not. */
function placeOf(card, text, negative = false) {
  if (card.kind === "embedding") return wordIn(text, card.insert) ?? wordIn(text, card.name);
  if (negative) return null; // networks do nothing there
  const name = insertedName(card).toLowerCase();
  return networksIn(text, { comments: false }).find((one) => NETWORK_KINDS[card.kind].includes(one.kind) && one.name.toLowerCase() === name) ?? null;
}

/** A word or some words of a prompt as a whole, with brackets that hold nothing else.  The names of networks are no words. */
function wordIn(prompt, words) {
  const text = prompt.replace(/<[\p{L}\p{N}_]+:[^>]*>/gu, (network) => "\0".repeat(network.length));
  const literal = words.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  const found = text.match(new RegExp(`(?<![\\p{L}\\p{N}_-])${literal}(?![\\p{L}\\p{N}_-])`, "iu"));
  if (!found) return null;
  const [from, to] = [found.index, found.index + words.length];
  const weight = text.slice(to).match(/^(?::[-+.\d]+)?\)/);
  return weight && text[from - 1] === "(" ? { from: from - 1, to: to + weight[0].length } : { from, to };
}

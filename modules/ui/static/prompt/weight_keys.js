// Ctrl+↑ and Ctrl+↓ in a prompt: the weight of what is selected, or of the brackets or the word at the cursor, goes up or down by
// 0.1, as in A1111, or by what the user prefers.  What the prompt means otherwise is not known here.

import { replaceText } from "../dom.js";
import { preference } from "../preferences.js";

const STEP = 0.1;
const NETWORK_STEP = 0.05;
const CLOSES = { ")": "(", "]": "[", ">": "<" };
const MAX_DEPTH = 40; // brackets that weigh one word
const NO_WORD = /[\s.,\\/!?%^*;:{}=`~()[\]|<>]/;
const WEIGHTED = /^([^]*):\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*$/;
const NETWORK = /^((?:lora|lyco|hypernet):[^:<>]+):([+-]?(?:\d+\.?\d*|\.\d+))$/;

export function nudgeWithKeys(root, area) {
  area.setAttribute("aria-keyshortcuts", "Control+ArrowUp Control+ArrowDown");
  root.addEventListener("keydown", (event) => {
    const up = event.key === "ArrowUp";
    if (event.target !== area || !(up || event.key === "ArrowDown") || !(event.ctrlKey || event.metaKey)) return;
    if (event.altKey || event.shiftKey || event.isComposing) return;
    const change = nudged(area.value, area.selectionStart, area.selectionEnd, up);
    if (!change) return;
    event.preventDefault();
    event.stopPropagation();
    replaceText(area, change.from, change.to, change.text);
    area.setSelectionRange(change.start, change.end);
  }, true);
}

/** What to replace, and what is selected then: {from, to, text, start, end}; null where there is nothing to weigh. */
export function nudged(text, start, end, up) {
  while (start < end && /\s/.test(text[start])) start += 1;
  while (start < end && /\s/.test(text[end - 1])) end -= 1;
  const pairs = pairsIn(text);
  const place = start === end ? placeAt(text, pairs, start) : placeOf(text, pairs, start, end);
  if (!place) return null;
  const { from, to, inner, weight, network } = place;
  const words = text.slice(inner, inner + place.length);
  const changed = Math.round(100 * (weight + (up ? 1 : -1) * (network ? preference("network_step", NETWORK_STEP) : preference("weight_step", STEP)))) / 100;
  const plain = changed === 1 && !network;
  const number = Number.isInteger(changed) ? changed.toFixed(1) : String(changed);
  const [open, close] = network ? "<>" : "()";
  const first = plain ? from : from + 1;
  const kept = (at) => first + Math.min(Math.max(at - inner, 0), words.length);
  return { from, to, text: plain ? words : `${open}${words}:${number}${close}`, start: kept(start), end: kept(end) };
}

/** Of all brackets that belong together, where each opens and closes, inner ones first; an escaped one is a character. */
function pairsIn(text) {
  const pairs = new Map();
  const open = [];
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "\\") at += 1;
    else if ("([<".includes(character)) open.push(at);
    else if (character in CLOSES && open.length && text[open.at(-1)] === CLOSES[character]) pairs.set(open.pop(), at);
  }
  return pairs;
}

/** A bare cursor: the brackets around it when they weigh, else the word that it touches. */
function placeAt(text, pairs, cursor) {
  const around = [...pairs].find(([open, close]) => open < cursor && cursor <= close); // the first is the innermost
  const place = around && weighed(text, pairs, ...around);
  if (place) return place;
  let [from, to] = [cursor, cursor];
  while (from > 0 && !NO_WORD.test(text[from - 1])) from -= 1;
  while (to < text.length && !NO_WORD.test(text[to])) to += 1;
  const word = text.slice(from, to);
  if (!word || word === "AND" || word === "BREAK" || !Number.isNaN(Number(word))) return null;
  return { from, to, inner: from, length: to - from, weight: 1 };
}

/** A selection: the brackets that it fills or is, else itself, as long as it cuts none apart. */
function placeOf(text, pairs, start, end) {
  for (const [open, close] of pairs) {
    const place = weighed(text, pairs, open, close);
    if (!place) continue;
    const fills = place.inner === start && place.inner + place.length === end;
    if (fills || (place.from === start && place.to === end)) return place;
  }
  const within = (at) => start <= at && at < end;
  if ([...pairs].some(([open, close]) => within(open) !== within(close))) return null;
  return { from: start, to: end, inner: start, length: end - start, weight: 1 };
}

/** How a pair of brackets weighs what is in it; null when it does something else. */
function weighed(text, pairs, open, close) {
  const content = text.slice(open + 1, close);
  const bracket = text[open];
  const found = content.match(bracket === "<" ? NETWORK : WEIGHTED);
  if (bracket === "<" && !found) return null;
  if (bracket === "[" && /[:|]/.test(content)) return null;
  if (found) {
    const weight = Number(found[2]);
    return { from: open, to: close + 1, inner: open + 1, length: found[1].length, weight, network: bracket === "<" };
  }
  let depth = 1; // ((word)) is one weight
  while (depth < MAX_DEPTH && text[open - depth] === bracket && pairs.get(open - depth) === close + depth) depth += 1;
  const factor = bracket === "(" ? 1.1 : 1 / 1.1;
  const weight = Math.round(100 * factor ** depth) / 100;
  return { from: open - depth + 1, to: close + depth, inner: open + 1, length: content.length, weight };
}

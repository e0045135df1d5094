// Alt+← and Alt+→ in a prompt: what is selected, or what stands between the commas around the cursor, changes places with its neighbour,
// as in A1111.  Neighbours are within the same brackets; what such brackets end with (a weight, a step) stays where it is.

import { replaceText } from "../dom.js";

const OPENS = "([{<";
const CLOSES = ")]}>";
const WEIGHT = /:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*$/;

export function moveWithKeys(root, area) {
  area.setAttribute("aria-keyshortcuts", `${area.getAttribute("aria-keyshortcuts") ?? ""} Alt+ArrowLeft Alt+ArrowRight`.trim());
  root.addEventListener("keydown", (event) => {
    const left = event.key === "ArrowLeft";
    if (event.target !== area || !(left || event.key === "ArrowRight") || !event.altKey) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.isComposing) return;
    event.preventDefault(); // the browser would go a page back
    event.stopPropagation();
    const change = moved(area.value, area.selectionStart, area.selectionEnd, left);
    if (!change) return;
    replaceText(area, change.from, change.to, change.text);
    area.setSelectionRange(change.start, change.end);
  }, true);
}

/** What to replace, and what is selected then: {from, to, text, start, end}; null where there is no neighbour. */
export function moved(text, start, end, left) {
  const items = itemsAround(text, start, end);
  const first = items.findIndex(({ to }) => to >= start);
  const last = items.findLastIndex(({ from }) => from <= end);
  const touched = first < 0 ? [] : items.slice(first, Math.max(first, last) + 1);
  const other = items[left ? first - 1 : Math.max(first, last) + 1];
  if (!touched.length || !other) return null;
  const own = { from: touched[0].from, to: touched.at(-1).to };
  const [a, b] = left ? [other, own] : [own, other];
  const words = (range) => text.slice(range.from, range.to);
  const between = text.slice(a.to, b.from);
  const begins = left ? a.from : a.from + words(b).length + between.length; // of what was moved
  const kept = (at) => begins + Math.min(Math.max(at - own.from, 0), own.to - own.from);
  return { from: a.from, to: b.to, text: words(b) + between + words(a), start: kept(start), end: kept(end) };
}

/** The items of the innermost brackets around a selection, or of the whole text: where each begins and ends, without blanks. */
function itemsAround(text, start, end) {
  const [low, high] = partAround(text, start, end);
  const items = [];
  let from = low;
  for (const [at, character] of atTop(text, low, high)) {
    if (character !== ",") continue;
    items.push(trimmed(text, from, at));
    from = at + 1;
  }
  items.push(trimmed(text, from, high));
  return items.filter((item) => item.from < item.to);
}

/** [low, high] of the brackets' content, or of its alternative, in which the selection lies. */
function partAround(text, start, end) {
  const open = [];
  let [low, high, bracket] = [0, text.length, ""];
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "\\") at += 1;
    else if (OPENS.includes(character)) open.push(at);
    else if (CLOSES.includes(character) && open.length && text[open.at(-1)] === OPENS[CLOSES.indexOf(character)]) {
      const begin = open.pop();
      const inner = begin < start && end <= at && begin >= low && at <= high;
      if (inner && character !== ">") [low, high, bracket] = [begin + 1, at, OPENS[CLOSES.indexOf(character)]];
    }
  }
  if (bracket === "(") high -= text.slice(low, high).match(WEIGHT)?.[0].length ?? 0;
  const cuts = bracket === "[" ? "|:" : bracket === "{" ? "|" : "";
  let within = [low, high];
  for (const [at, character] of atTop(text, low, high)) {
    const word = !cuts && /^(?:AND|BREAK)\b/.test(text.slice(at, at + 6)) && !/\w/.test(text[at - 1] ?? " ") ? text.slice(at).match(/^\w+/)[0] : "";
    if (!word && !(cuts && cuts.includes(character))) continue;
    if (at + (word.length || 1) <= start) within = [at + (word.length || 1), high];
    else if (at >= end && at < within[1]) within = [within[0], at];
  }
  return within;
}

/** [place, character] of what stands in no further brackets. */
function* atTop(text, low, high) {
  let depth = 0;
  for (let at = low; at < high; at += 1) {
    const character = text[at];
    if (character === "\\") at += 1;
    else if (OPENS.includes(character)) depth += 1;
    else if (CLOSES.includes(character)) depth = Math.max(0, depth - 1);
    else if (!depth) yield [at, character];
  }
}

function trimmed(text, from, to) {
  while (from < to && /\s/.test(text[from])) from += 1;
  while (to > from && /\s/.test(text[to - 1])) to -= 1;
  return { from, to };
}

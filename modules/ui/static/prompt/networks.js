// Networks in angle brackets as they stand in a prompt, <lora:name:0.8>: where they are, what their weights are, and the text with
// another weight.  The grammar is that of modules/prompts/compose.py, which reads them for a picture.

const HEAD = /<([\p{L}\p{N}_]+):/gu;
const WEIGHED = new Set(["lora", "lyco", "hypernet"]);
const COMMENT = /#[^\n]*/g;
const NUMBER = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*$/i;

/** The networks of a text that have weights, in order: {from, to, raw, kind, name, items}; `items` is what stands behind the name. */
export function networksIn(text, { comments = true } = {}) {
  const read = comments ? text.replace(COMMENT, (words) => " ".repeat(words.length)) : text;
  const found = [];
  let behind = 0;
  for (const head of read.matchAll(HEAD)) {
    if (head.index < behind) continue;
    const inner = head.index + head[0].length;
    const end = read.indexOf(">", inner);
    if (end < 0) break;
    if (end === inner) continue;
    behind = end + 1;
    if (!WEIGHED.has(head[1])) continue;
    const parts = read.slice(inner, end).split(":");
    const place = parts.findIndex((part) => !keyed(part));
    const name = place < 0 ? "" : parts[place];
    const items = parts.filter((_, index) => index !== place);
    found.push({ from: head.index, to: behind, raw: read.slice(head.index, behind), kind: head[1], name, items });
  }
  return found;
}

/** `key=value` split in two; null for what counts by its place. */
function keyed(item) {
  const parts = item.split("=");
  return parts.length === 2 ? parts : null;
}

const placeOf = (items, key, position) => {
  const named = items.findIndex((item) => keyed(item)?.[0] === key);
  if (named >= 0) return named;
  const plain = items.map((item, index) => (keyed(item) ? -1 : index)).filter((index) => index >= 0);
  return plain[position] ?? -1;
};

const PARTS = { te: ["te", 0], unet: ["unet", 1] };

/** Its weights as texts: [["all", "0.8"]], or those of text encoder and U-Net where they are written apart. */
export function weightsOf({ kind, items }) {
  const text = (part) => {
    const place = placeOf(items, ...PARTS[part]);
    return place < 0 ? null : (keyed(items[place])?.[1] ?? items[place]);
  };
  const [te, unet] = [text("te") ?? "1", text("unet")];
  return kind === "hypernet" || unet === null ? [["all", te]] : [["te", te], ["unet", unet]];
}

/** The number that a weight's text is; null when it is none. */
export const weightIn = (text) => (NUMBER.test(text) && Math.abs(Number(text)) < 1e6 ? Number(text) : null);

export const asText = (number) => String(Math.round(number * 1000) / 1000);

/** The network's text with another weight of this part, everything else as it was written. */
export function withWeight({ kind, name, items }, part, text) {
  const [key, position] = PARTS[part === "unet" ? "unet" : "te"];
  const changed = [...items];
  const place = placeOf(items, key, position);
  if (place < 0) changed.unshift(text); // only a first weight may be left out
  else changed[place] = keyed(items[place]) ? `${key}=${text}` : text;
  return `<${[kind, name, ...changed].join(":")}>`;
}

/** What to take out of `text` together with [from, to): the space or comma that belonged to it. */
export function spanOf(text, from, to) {
  const [before, behind] = [text.slice(0, from), text.slice(to)];
  const left = before.match(/(?:, ?| )$/)?.[0].length ?? 0;
  if (left && /^(?:[,\s]|$)/.test(behind)) return [from - left, to];
  if (!before || before.endsWith("\n")) return [from, to + (behind.match(/^(?:, ?| )/)?.[0].length ?? 0)];
  return [from, to];
}

// A prompt check in words: what is remarkable, and each text with its weights, its steps and its chunks.
// Knows the shape of `PromptCheck` (modules/prompts/check.py) and nothing of where it comes from.

import { h } from "../dom.js";

const CHUNK = 75;
const RANGES = 8; // ranges of steps that are shown of one text
const ROWS = 40; // texts that are shown of one side

/** Whether texts are read without chunks, as T5 does: the limits of CLIP's are full multiples of one. */
export const isReadWhole = (limit) => limit % CHUNK > 0;

const chunksOf = (limit) => (isReadWhole(limit) ? 1 : limit / CHUNK);
const isBreak = (piece) => piece.text === "BREAK" && piece.weight === -1;
const rounded = (number) => String(Number(number.toFixed(3)));
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const counted = (number, one, many) => (number === 1 ? `1 ${one}` : `${number} ${many}`);

/** Whether all is as it stands there: no weights, no schedules, nothing drawn, within one chunk. */
export function isPlain(check, form) {
  const sides = [...check.sides, check.negative];
  const written = (name) => (form[name] ?? "").trim();
  return (
    !check.second &&
    !check.notes.length &&
    !check.networks.length &&
    check.sides.length === 1 &&
    Math.max(chunksOf(check.limit), chunksOf(check.negative_limit)) === 1 &&
    check.prompt.trim() === written("prompt") &&
    check.negative_prompt.trim() === written("negative_prompt") &&
    sides.every((side) => side.weight === 1 && side.stages.length === 1 && side.stages[0].pieces.every((piece) => piece.weight === 1))
  );
}

const notesOf = (check) => check.notes.length + (check.second?.notes.length ?? 0);

/** A few words beside the heading. */
export function gist(check) {
  if (check.error) return "it cannot be read";
  const sides = [...check.sides, check.negative];
  const weighed = new Set(
    sides.flatMap((side) => side.stages.flatMap((stage) => stage.pieces.filter((p) => p.weight !== 1 && !isBreak(p)).map((p) => `${p.weight} ${p.text}`))),
  );
  const texts = sides.reduce((sum, side) => sum + (side.stages.length > 1 ? byText(side.stages).length + side.more : 0), 0);
  const chunks = Math.max(chunksOf(check.limit), chunksOf(check.negative_limit));
  return [
    weighed.size && counted(weighed.size, "weight", "weights"),
    texts && counted(texts, "text over time", "texts over time"),
    check.sides.length > 1 && `${check.sides.length} sides of AND`,
    chunks > 1 && `${chunks} chunks`,
    check.networks.length && counted(check.networks.length, "network", "networks"),
    check.second && "another text in the second pass",
    notesOf(check) && counted(notesOf(check), "remark", "remarks"),
  ].filter(Boolean).join(" · ");
}

/** Elements that tell all of it. */
export function reading(check, form) {
  if (check.error) return [h("ul", { class: "remarks" }, h("li", {}, sentence(check.error)))];
  const remarks = check.notes.map((note) => h("li", {}, sentence(note)));
  if (check.second) remarks.push(...check.second.notes.map((note) => h("li", {}, `Second pass: ${note}`)));
  const drawn = String(form.seed ?? "").trim() === "" && /__|\{/.test(`${form.prompt}${form.negative_prompt}`);
  const changed = check.prompt.trim() !== (form.prompt ?? "").trim() || check.negative_prompt.trim() !== (form.negative_prompt ?? "").trim();
  if (drawn && changed) remarks.push(h("li", {}, "What is drawn is an example: each picture draws by its own seed"));
  const parts = [];
  if (remarks.length) parts.push(h("ul", { class: "remarks" }, ...remarks));
  parts.push(part("Prompt", check.sides, check.tokens, check.limit));
  if (check.negative_prompt.trim()) parts.push(part("Negative prompt", [check.negative], check.negative_tokens, check.negative_limit));
  if (check.second) parts.push(...secondParts(check.second));
  if (check.networks.length) parts.push(h("section", {}, h("h3", {}, "Networks"), h("p", { class: "networks" }, check.networks.join(" "))));
  const key = document.querySelector("[data-mac]") ? "⌘" : "Ctrl";
  parts.push(h("p", { class: "hint" }, `In a prompt, ${key} ↑ and ${key} ↓ change the weight of the selection or of the word at the cursor.`));
  return parts;
}

function secondParts(check) {
  const parts = [part("Second pass", check.sides, check.tokens, check.limit)];
  if (check.negative_prompt.trim()) parts.push(part("Second pass, negative prompt", [check.negative], check.negative_tokens, check.negative_limit));
  if (check.networks.length) parts.push(h("section", {}, h("h3", {}, "Second pass, networks"), h("p", { class: "networks" }, check.networks.join(" "))));
  return parts;
}

function part(name, sides, tokens, limit) {
  const many = sides.length > 1 || sides[0].weight !== 1;
  const size = `${tokens}/${limit}${chunksOf(limit) > 1 ? `, ${chunksOf(limit)} chunks` : ""}`;
  return h(
    "section",
    {},
    h("h3", {}, name, " ", h("span", { class: "size" }, size)),
    ...sides.flatMap((side, place) => [
      many ? h("p", { class: "side" }, `${place ? "AND" : "First"}, weight ${rounded(side.weight)}`) : null,
      texts(side),
    ]).filter(Boolean),
  );
}

function texts(side) {
  const rows = byText(side.stages);
  const shown = rows.slice(0, ROWS);
  const more = rows.length - shown.length + side.more;
  return h(
    "dl",
    {},
    ...shown.flatMap((row) => [
      h("dt", {}, rows.length > 1 || side.more ? steps(row.ranges) : "All steps"),
      h("dd", {}, ...(row.pieces.some((piece) => piece.text.trim()) ? row.pieces.map(words) : [h("i", {}, "nothing")])),
    ]),
    ...(more > 0 ? [h("dt", {}, "…"), h("dd", {}, `and ${more} more`)] : []),
  );
}

/** Stages of the same text together, in the order in which the texts first come. */
function byText(stages) {
  const rows = new Map();
  for (const stage of stages) {
    if (!rows.has(stage.text)) rows.set(stage.text, { pieces: stage.pieces, ranges: [] });
    rows.get(stage.text).ranges.push([stage.first, stage.last]);
  }
  return [...rows.values()];
}

function steps(ranges) {
  const shown = ranges.slice(0, RANGES).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  const only = ranges.length === 1 && ranges[0][0] === ranges[0][1];
  return `${only ? "Step" : "Steps"} ${shown.join(", ")}${ranges.length > RANGES ? " …" : ""}`;
}

function words(piece) {
  if (isBreak(piece)) return h("span", { class: "break" }, " BREAK ");
  if (piece.weight === 1) return piece.text;
  const direction = piece.weight > 1 ? "more" : "less";
  return h("span", { class: `weighed ${direction}` }, piece.text, h("b", {}, rounded(piece.weight)));
}

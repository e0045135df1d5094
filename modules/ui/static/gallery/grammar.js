// What can be searched for, for people: the words of the search language (modules/gallery/search.py).

import { h } from "../dom.js";

const LINES = [
  ["red fox", "both words, in the prompt, model, LoRA, sampler, file name or tags; each may be the beginning of a word"],
  ['"red fox"', "exactly these words next to each other"],
  ["-dog", "without it"],
  ["negative:hands", "in the negative prompt; also prompt:, model:, lora:, sampler:, name:"],
  ["seed:1234", "this seed"],
  ["date:2026-01-31", "that day; also date:2026-01, date:2026, date:2026-01-01..2026-02-01"],
  ["rating:>=3", "rated so; also rating:5, rating:2..4"],
  ["size:>1024", "by the longer side; also size:1024x768, size:512..1024"],
  ['tag:cats album:"best of"', "with this tag, in this album"],
  ["is:favourite", "also is:broken, is:trash"],
];

/** `use(words)` takes an example over. */
export function fillGrammar(place, use) {
  const rows = LINES.flatMap(([example, words]) => [
    h("dt", {}, h("button", { type: "button", onclick: () => use(example) }, example)),
    h("dd", {}, words),
  ]);
  place.replaceChildren(h("p", {}, "All that is asked must hold."), h("dl", {}, ...rows));
}

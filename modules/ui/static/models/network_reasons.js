// Why a network of a prompt is left out or does not fit: what the server says of the prompt, and of the file with this name.

import { getJson } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { models } from "./routes.js";

const FRESH_MS = 30_000; // files come and go
const KIND = { lora: "lora", lyco: "lora", hypernet: "hypernetwork" };

const files = new Map(); // what was asked for -> {when, card}

/** {found, unread}: a sentence for each network that has one, by its text, and whether files are still being read. */
export async function reasons(networks, checkpoint, anew = false) {
  if (anew) files.clear();
  const prompt = [...new Set(networks.map((network) => network.raw))].join(" ");
  const body = JSON.stringify({ prompt, ...(checkpoint ? { checkpoint } : {}) });
  const [check, answers] = await Promise.all([
    getJson("internal/prompt/check", { method: "POST", headers: { "content-type": "application/json" }, body }),
    Promise.all(networks.map((network) => cardOf(network, checkpoint))),
  ]);
  const found = new Map();
  const cards = answers.map((answer) => answer.card);
  networks.forEach((network, place) => {
    const note = (check?.notes ?? []).find((words) => words.startsWith(`<${network.kind}:${network.name}`) && /^[:>]/.test(words.slice(network.kind.length + network.name.length + 2)));
    const said = note?.slice(note.indexOf(">") + 1).replace(/^:\s*/, "");
    const words = said ? sentence(said) : cards[place]?.problem || cards[place]?.fits || "";
    if (words) found.set(network.raw, words);
  });
  return { found, unread: answers.some((answer) => answer.unread) };
}

/** The file that a network's name means, as {card, unread}; null where there is none or nobody can say. */
async function cardOf({ kind, name }, checkpoint) {
  const key = JSON.stringify([kind, name, checkpoint]);
  const kept = files.get(key);
  if (kept && Date.now() - kept.when < FRESH_MS) return { card: kept.card, unread: false };
  const answer = await models.list({ kind: KIND[kind], q: name, checkpoint, limit: 60 }).catch(() => null);
  const wanted = name.toLowerCase();
  const card = answer?.items.find((one) => insertedName(one).toLowerCase() === wanted) ?? answer?.items.find((one) => one.name.toLowerCase() === wanted) ?? null;
  if (answer && !answer.unread) files.set(key, { when: Date.now(), card });
  return { card, unread: Boolean(answer?.unread) };
}

/** The name between the brackets of what a card inserts. */
export const insertedName = (card) => card.insert?.match(/<\w+:([^:>]+)/)?.[1] ?? card.name;

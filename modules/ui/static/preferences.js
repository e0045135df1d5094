// What the user prefers, on the server and so at every browser of theirs; kept here too, so that a page knows it before the server has
// answered.  `atelier:preferences` tells who wants to know of changes.

import { getJson } from "./dom.js";

const KEY = "atelier.preferences";

let values = {};
try {
  values = JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
} catch {
  /* forbidden or damaged: the defaults until the server has answered */
}

export const preference = (name, otherwise) => values[name] ?? otherwise;

/** The server's rows, each with its name and value. */
export function takePreferences(rows) {
  values = Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    /* forbidden: this page knows all the same */
  }
  document.dispatchEvent(new Event("atelier:preferences"));
}

export async function startPreferences() {
  const rows = await getJson("internal/preferences").catch(() => null);
  if (rows) takePreferences(rows);
}

// The server's side of the Settings tab.  Everything rejects with the server's own words.

import { checkSession } from "../dom.js";

/** GET without a body, POST with one; the answer's JSON. */
export async function ask(path, body) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = checkSession(await fetch(path, { cache: "no-store", ...(body === undefined ? {} : post) }));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("The server does not answer. Nothing was changed.");
    throw error;
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const words = String(answer?.detail ?? answer?.error ?? `the server answered ${response.status}`);
  throw new Error(`${words.slice(0, 1).toUpperCase()}${words.slice(1)}`);
}

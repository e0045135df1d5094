// The checkpoints as the server lists them.

import { getJson } from "./dom.js";

let asked = null;

/** The list, or what went wrong as an error; who asks while it is on its way gets the same. */
export function listed() {
  asked ??= getJson("internal/checkpoints").finally(() => (asked = null));
  return asked;
}

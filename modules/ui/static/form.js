// The page's side of the forms: remembers them, shows what is wrong with one, and fills the prompt in.
// The fields themselves are Gradio's.

import { currentTab } from "./tabs.js";

/** The fields of a tab as they are now, by the names of the request. */
export const fields = (tab = currentTab()) => window.atelierForms?.[tab] ?? {};

let opened = false;

function remember(tab) {
  if (!opened || !window.atelierForms?.[tab]) return;
  try {
    localStorage.setItem(`atelier.form.${tab}`, JSON.stringify(window.atelierForms[tab]));
  } catch {
    /* full or forbidden: the form is then not remembered */
  }
}

/** From now on the forms show what the user left or the model's defaults, so their changes are worth keeping. */
export function formsOpened() {
  opened = true;
  for (const tab of Object.keys(window.atelierForms ?? {})) remember(tab);
}

document.addEventListener("atelier:form", (event) => remember(event.detail.tab));

/** Type into a field as a person would. */
export function typeInto(box, words) {
  const kind = box instanceof HTMLTextAreaElement ? HTMLTextAreaElement : HTMLInputElement;
  Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(box, words);
  box.dispatchEvent(new Event("input", { bubbles: true }));
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Put `words` into the prompt of the tab that is seen. */
export function setPrompt(words) {
  typeInto(document.querySelector(`#${currentTab()}_prompt textarea`), words);
  document.getElementById(`${currentTab()}_generate`)?.focus();
}

const inputsOf = (id) => document.querySelectorAll(`#${CSS.escape(id)} :is(input, textarea)`);

/** A sentence near the form; `ids` are the fields that it is about.  An empty one takes the last away. */
export function complain(text, ids = [], kind = "bad") {
  const place = document.getElementById("complaint");
  if (!place) return;
  place.textContent = text;
  place.dataset.kind = kind;
  place.hidden = !text;
  for (const input of document.querySelectorAll(":is(#bench, #masthead) [aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  for (const input of ids.flatMap((id) => [...inputsOf(id)])) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", "complaint");
  }
  if (ids.length) inputsOf(ids[0])[0]?.focus();
}

// The page's side of the forms: remembers them, shows what is wrong with one, and fills the prompt in.
// The fields themselves are Gradio's.

import { currentTab } from "../tabs.js";

/** The fields of a tab as they are now, by the names of the request. */
export const fields = (tab = currentTab()) => window.atelierForms?.[tab] ?? {};

let opened = false;
let tellOpened;
/** Until then the server's answer, with what the user left, overwrites what scripts put into the forms. */
export const untilOpened = new Promise((done) => (tellOpened = done));
const early = new Map(); // input -> what was typed into it before the forms were filled

const TYPED = "#workspace :is(input:not([type=checkbox], [type=radio], [role=listbox]), textarea)";

document.addEventListener("input", ({ target }) => {
  if (!opened && target.matches?.(TYPED)) early.set(target, target.value);
}, true);

function remember(tab) {
  if (!opened || !window.atelierForms?.[tab]) return;
  try {
    localStorage.setItem(`atelier.form.${tab}`, JSON.stringify(window.atelierForms[tab]));
  } catch {
    /* full or forbidden: the form is then not remembered */
  }
}

/** From now on the forms show what the user left or the model's defaults, so their changes are worth keeping. */
export async function formsOpened() {
  if (opened) return;
  opened = true;
  await new Promise((done) => setTimeout(done)); // Gradio hands this message out together with the forms' values
  for (const [box, words] of early) {
    if (box.isConnected && box.value !== words) typeInto(box, words); // who types faster than the server answers is right
  }
  early.clear();
  document.body.dataset.forms = "filled";
  tellOpened();
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

let said = null; // {tab, kind, values} of the sentence that stands there

function valueOf(id) {
  const tab = Object.keys(window.atelierForms ?? {}).find((one) => id.startsWith(`${one}_`));
  return tab ? JSON.stringify(fields(tab)[id.slice(tab.length + 1)]) : "";
}

function linkTo({ href, words }) {
  const link = document.createElement("a");
  link.href = href;
  link.textContent = words;
  return link;
}

document.addEventListener("atelier:tab", () => {
  const place = document.getElementById("complaint");
  if (place && said) place.hidden = said.tab !== null && said.tab !== currentTab();
});

document.addEventListener("atelier:canvas", ({ detail }) => {
  if (said?.kind === "bad" && said.tab === detail.name && !detail.restored) complain("");
});

document.addEventListener("atelier:form", ({ detail }) => {
  const about = said?.values.filter(([id]) => id.startsWith(`${detail.tab}_`)) ?? [];
  if (about.length && about.some(([id, value]) => valueOf(id) !== value)) complain("");
});

/** A sentence near the form; `ids` are the fields that it is about.  An empty one takes the last away. */
/** A sentence belongs to the tab that it was said in, and goes with its cause: another picture or mask on that tab's canvas, another
 *  value of the fields; `everywhere` is one about a job or the server.  `link` is {href, words} behind it. */
export function complain(text, ids = [], kind = "bad", { everywhere = false, link = null } = {}) {
  const place = document.getElementById("complaint");
  if (!place) return;
  const tab = everywhere ? null : currentTab();
  said = text ? { tab, kind, values: ids.map((id) => [id, valueOf(id)]) } : null;
  place.replaceChildren(text, ...(link ? [" ", linkTo(link)] : []));
  place.dataset.kind = kind;
  place.hidden = !text;
  for (const input of document.querySelectorAll(":is(#workspace, #masthead) [aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  for (const input of ids.flatMap((id) => [...inputsOf(id)])) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", "complaint");
  }
  if (ids.length) inputsOf(ids[0])[0]?.focus();
}

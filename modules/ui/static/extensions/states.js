// What the rest of the page has to know of extensions: which accordions of options are those of extensions that are off, and what is wrong
// with one.  Asked for when the page opens, when a job is over, and after each change; `atelier:extensions` tells the answer.

import { h } from "../dom.js";
import { hasTab, showTab } from "../tabs.js";
import { extensions } from "./routes.js";

const TABS = ["txt2img", "img2img", "inpaint"];
const KEY = "atelier.extensions.seen"; // the notices that were closed, in this browser's tab

/** The place of an extension's options in a form, null where the page has none. */
export const accordionOf = (tab, name) => document.getElementById(`${tab}_extension_${name}`);
export const hasAccordion = (name) => TABS.some((tab) => accordionOf(tab, name));

export function startStates(jobs) {
  const look = () => extensions.list().then(took, () => {}); // a page that cannot ask says so elsewhere
  jobs.addEventListener("over", look);
  look();
}

/** The server's newest answer. */
export function took(answer) {
  for (const element of document.querySelectorAll(".extension-options")) {
    element.classList.toggle("extension-off", !answer.options.includes(element.id.replace(/^[a-z0-9]+_extension_/, "")));
  }
  showNotices(answer.notices);
  document.dispatchEvent(new CustomEvent("atelier:extensions", { detail: answer }));
}

function showNotices(notices) {
  document.getElementById("extensions_notice")?.remove();
  const closed = closedNotices();
  const fresh = notices.filter((notice) => !closed.includes(notice));
  if (!fresh.length) return;
  const close = () => {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(notices));
    } catch {
      /* forbidden: then it is said again when the page opens */
    }
    element.remove();
  };
  const element = h(
    "div",
    { id: "extensions_notice", role: "status" },
    h("p", {}, fresh.join(" ")),
    hasTab("extensions") ? h("button", { type: "button", onclick: () => showTab("extensions") }, "Extensions") : null,
    h("button", { type: "button", onclick: close, "aria-label": "Close this notice" }, "Close"),
  );
  document.getElementById("complaint")?.parentElement.prepend(element);
}

function closedNotices() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

// The keyboard: Ctrl+Enter (or Cmd+Enter) generates from anywhere, Esc cancels the job under way.

import { visible } from "./dom.js";

export function listenToKeys(cancel) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const button = [...document.querySelectorAll("button[id$=_generate]")].find(visible);
      if (!button) return;
      event.preventDefault();
      event.stopPropagation();
      button.click();
    } else if (event.key === "Escape" && !event.defaultPrevented && !belongsToSomethingOpen(event.target)) {
      cancel();
    }
  }, true);

  const each = (selector, name, value) => document.querySelectorAll(selector).forEach((node) => node.setAttribute(name, value));
  each("button[id$=_generate]", "aria-keyshortcuts", "Control+Enter Meta+Enter");
  each("button[id$=_cancel]", "aria-keyshortcuts", "Escape");
  if (/Mac|iPhone|iPad/.test(navigator.platform)) each(".actions[id$=_actions]", "data-mac", "");
  for (const button of document.querySelectorAll("button.icon")) button.title = button.textContent.trim();
}

/** Esc closes a list or a dialog first. */
function belongsToSomethingOpen(target) {
  if (document.querySelector("dialog[open]")) return true;
  return target instanceof Element && target.getAttribute("aria-expanded") === "true";
}

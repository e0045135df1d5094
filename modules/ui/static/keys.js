// The keyboard: Ctrl+Enter (or Cmd+Enter) generates from anywhere, Alt+Enter skips; Esc closes what is open, the newest first, and where
// nothing is, it cancels the job that is shown.  Tab closes a list before it goes on.

import { visible } from "./dom.js";
import { closeNewest, watchPanels } from "./opened.js";

const FIELD = "input:is([role=combobox], [role=listbox])[aria-controls]"; // one of Gradio's fields with a list
const LIST = "input[aria-expanded=true], textarea[aria-expanded=true]";

/** `does` are {cancel, skip, generating}; the last is called before Ctrl+Enter generates. */
export function listenToKeys(does) {
  const { cancel } = does;
  watchPanels();
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const button = [...document.querySelectorAll("button[id$=_generate]")].find(visible);
      if (!button) return;
      event.preventDefault();
      event.stopPropagation();
      does.generating();
      button.click();
    } else if (event.key === "Enter" && event.altKey && !event.isComposing && does.skip()) {
      event.preventDefault();
      event.stopPropagation();
    } else if (event.key === "Tab" && event.target instanceof Element && event.target.matches(FIELD)) {
      event.stopPropagation(); // Gradio opens the list at every key that it sees; the browser goes on all the same
      closeList(event.target);
    } else if (event.key === "Escape" && !event.defaultPrevented && !event.isComposing) onEscape(event, cancel);
  }, true);
  keepListsShort();

  const each = (selector, name, value) => document.querySelectorAll(selector).forEach((node) => node.setAttribute(name, value));
  each("button[id$=_generate]", "aria-keyshortcuts", "Control+Enter Meta+Enter");
  each("button[id$=_cancel]", "aria-keyshortcuts", "Escape");
  if (/Mac|iPhone|iPad/.test(navigator.platform)) each(".actions[id$=_actions]", "data-mac", "");
  for (const button of document.querySelectorAll("button.icon")) button.title = button.textContent.trim();
}

function closeList(field) {
  if (field.getAttribute("aria-expanded") === "true") field.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
}

const LISTS = ".options, .options ul, ul.options"; // as Gradio makes them when they open

function onEscape(event, cancel) {
  if (document.querySelector("dialog[open]")) return; // the browser closes it
  if (event.target instanceof Element && event.target.matches(LIST)) return; // its own list closes
  if (closeNewest()) {
    event.preventDefault();
    event.stopPropagation();
  } else cancel();
}

/** Browsers let Tab stop at anything that scrolls, so also at the list of a field, which then stays open without a name: it is no
 *  stop of its own, its field's arrow keys walk through it. */
function keepListsShort() {
  document.addEventListener("focusout", ({ target }) => {
    if (!(target instanceof Element) || !target.matches(FIELD)) return;
    setTimeout(() => document.activeElement !== target && closeList(target)); // whatever took the focus away
  });
  const mend = (list) => {
    list.setAttribute("tabindex", "-1");
    if (list.matches("ul")) list.setAttribute("aria-label", "Choices");
  };
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (!(node instanceof Element)) continue;
        for (const list of [node, ...node.querySelectorAll("*")]) if (list.matches(LISTS)) mend(list);
      }
    }
  }).observe(document.body, { childList: true, subtree: true });
}

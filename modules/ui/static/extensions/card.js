// One extension in the list of the Extensions tab.

import { h } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { hasAccordion } from "./states.js";

const STATES = { on: "On", off: "Off", failed: "Failed", suspended: "Suspended", refused: "Refused" };
const HALVES = { web: "web process", engine: "engine" };

/** `act(what, view)` with what: enable, disable, update, remove; null where this user may not. */
export function card(view, act) {
  const { name, title, version, state } = view;
  const button = (what, words, more = {}) => h("button", { type: "button", "data-do": what, "aria-label": `${words} ${title}`, onclick: () => act(what, view), ...more }, words);
  const usable = state !== "refused";
  const fetched = isAddress(view.source);
  return h(
    "li",
    { "data-extension": name, "data-state": state },
    h("div", { class: "extension-head" }, h("b", {}, title), h("span", { class: "extension-version" }, version), h("span", { class: "extension-state" }, STATES[state] ?? state)),
    view.description ? h("p", { class: "extension-about" }, view.description) : null,
    view.reason ? h("p", { class: "extension-reason" }, sentence(view.reason)) : null,
    ...later(view).map((words) => h("p", { class: "extension-later" }, words)),
    view.command ? h("p", { class: "extension-command" }, "To get what is missing, in the folder of the program: ", h("code", {}, view.command)) : null,
    h("dl", {}, ...facts(view).filter(([, value]) => value).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])),
    act &&
      h(
        "div",
        { class: "extension-actions" },
        state === "on" ? button("disable", "Disable") : usable ? button("enable", state === "off" ? "Enable" : "Enable again") : null,
        fetched ? button("update", "Look for an update") : null,
        ["built in", "package"].includes(view.source) ? null : button("remove", "Remove"),
      ),
  );
}

export const isAddress = (source) => /:\/\/|@/.test(source);

function facts(view) {
  return [
    ["Name", view.name],
    ["Runs in", view.halves.map((half) => atelierText(HALVES[half] ?? half)).join(", ")],
    ["From", view.source === "folder" ? "a folder in extensions/" : view.source === "package" ? "an installed Python package" : view.source],
    ["Adds", view.hooks.join(", ")],
    ["Needs", view.needs.join("; ")],
  ];
}

/** What of the last change waits. */
function later(view) {
  if (view.needs_restart) return ["The rest takes effect at the program's next start."];
  if (view.state === "on" && view.hooks.includes("request_extensions") && !hasAccordion(view.name)) {
    return ["Its options appear in the tabs at the program's next start; requests over the API have them now."];
  }
  return [];
}

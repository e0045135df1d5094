// A picture that is dropped on a prompt brings its settings along, and so does a pasted text, at the press of a button.

import { h } from "../dom.js";
import { complain } from "../forms/form.js";
import { read, send, takeDrops } from "../forms/recipes.js";

const SETTINGS = /(^|\n)[^\n]*\bSteps: \d+, [^\n]*\b(Sampler|Seed|Size|CFG scale): /;

export function startDropping() {
  for (const details of document.querySelectorAll("details[id$=_reading]")) startAt(details.id.replace(/_reading$/, ""));
}

function startAt(tab) {
  for (const name of ["prompt", "negative_prompt"]) {
    const box = document.getElementById(`${tab}_${name}`);
    if (box) takeDrops(box, (file) => fill(tab, file, file.name));
  }
  const box = document.getElementById(`${tab}_prompt`);
  const area = box?.querySelector("textarea");
  if (!area) return;
  const button = h(
    "button",
    { type: "button", class: "read-settings", title: "Fill the form with the settings in the prompt", hidden: true },
    "↙ Read settings",
  );
  const look = () => (button.hidden = !SETTINGS.test(area.value));
  button.addEventListener("click", async () => {
    await fill(tab, area.value, "The text");
    area.focus();
  });
  area.addEventListener("input", look);
  document.addEventListener("atelier:form", look);
  box.append(button);
  look();
}

async function fill(tab, what, name) {
  try {
    const found = await read(what);
    if (!found.program) return complain(`${name} does not say how it was made.`, [], "note");
    send(found, tab);
  } catch (error) {
    complain(error.message);
  }
}

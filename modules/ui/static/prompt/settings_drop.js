// A picture that is dropped on a prompt brings its settings along, and so does a pasted text, at the press of a button; where the prompt is
// empty, those of the picture that was made last, as A1111's arrow does.

import { h } from "../dom.js";
import { complain } from "../forms/form.js";
import { read, send, takeDrops } from "../forms/recipes.js";
import { tabOf, useSettings } from "../forms/send_settings.js";

const SETTINGS = /(^|\n)[^\n]*\bSteps: \d+, [^\n]*\b(Sampler|Seed|Size|CFG scale): /;

/** `jobs` as in jobs.js. */
export function startDropping(jobs) {
  for (const details of document.querySelectorAll("details[id$=_reading]")) startAt(details.id.replace(/_reading$/, ""), jobs);
}

function startAt(tab, jobs) {
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
  const last = h(
    "button",
    { type: "button", class: "read-settings last-settings", title: "Fill the form with the settings of the picture that was made last", hidden: true },
    "↙ Last settings",
  );
  const look = () => {
    button.hidden = !SETTINGS.test(area.value);
    last.hidden = area.value !== "" || !lastOf(tab, jobs);
  };
  last.addEventListener("click", () => {
    restore(tab, lastOf(tab, jobs));
    area.focus();
  });
  jobs.addEventListener("list", look);
  button.addEventListener("click", async () => {
    await fill(tab, area.value, "The text");
    area.focus();
  });
  area.addEventListener("input", look);
  document.addEventListener("atelier:form", look);
  box.append(button, last);
  look();
}

/** The newest job with a picture: of this tab, else of any. */
function lastOf(tab, jobs) {
  const made = jobs.all.filter((job) => job.pictures.length);
  return made.find((job) => tabOf(job.request) === tab) ?? made[0] ?? null;
}

/** The settings of a job's last picture, with its seed; the picture that it was made from only where it was made in this tab. */
function restore(tab, job) {
  const request = { ...job.request, seed: job.pictures.at(-1).seed };
  if (tabOf(request) === tab) return useSettings(request);
  send({ fields: request, missing: [], notes: [] }, tab);
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

// The controls of a script's form.  Each reads and writes a field of `form.own` and says when it changed.

import { h } from "../dom.js";

const idOf = (form, name) => `${form.tab}_script_${name}`;

function listen(form, name, input, read) {
  input.addEventListener("input", () => {
    form.own[name] = read();
    form.changed();
  });
  return input;
}

const labelled = (form, name, label, ...inputs) => h("label", { class: "script-field", id: idOf(form, name) }, h("span", {}, label), ...inputs);

export function select(form, name, label, choices, more = {}) {
  const options = Object.entries(choices).map(([value, words]) => h("option", { value }, words));
  const box = h("select", more, ...options);
  form.own[name] ??= Object.keys(choices)[0];
  box.value = form.own[name];
  return labelled(form, name, label, listen(form, name, box, () => box.value));
}

export function check(form, name, label, otherwise = false) {
  const box = h("input", { type: "checkbox" });
  box.checked = form.own[name] ??= otherwise;
  return h("label", { class: "script-check", id: idOf(form, name) }, listen(form, name, box, () => box.checked), h("span", {}, label));
}

export function number(form, name, label, otherwise) {
  const box = h("input", { type: "text", inputmode: "decimal", autocomplete: "off" });
  box.value = form.own[name] ??= String(otherwise);
  return labelled(form, name, label, listen(form, name, box, () => box.value));
}

export function textarea(form, name, label, placeholder, rows = 4) {
  const box = h("textarea", { rows, placeholder, spellcheck: "false", autocomplete: "off" });
  box.value = form.own[name] ??= "";
  return labelled(form, name, label, listen(form, name, box, () => box.value));
}

export function text(form, name, label, placeholder) {
  const box = h("input", { type: "text", placeholder, autocomplete: "off" });
  box.value = form.own[name] ??= "";
  return labelled(form, name, label, listen(form, name, box, () => box.value));
}

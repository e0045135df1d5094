// The form of an X/Y/Z plot: three axes, each with a type and values; what can vary comes from the server.

import { getJson, h } from "../dom.js";
import { misfit } from "./fitting.js";
import { fields } from "./form.js";
import { check, number } from "./script_fields.js";

const LETTERS = ["x", "y", "z"];
const CHECKPOINTS = ["checkpoint", "hires.checkpoint", "refiner"];
const EXAMPLES = {
  int: "1-5, or 10-30 (+5), or 1-100 [4]",
  float: "5, 7.5, or 0-1 (+0.25), or 1-9 [3]",
  "S/R": 'what is replaced, then by what: cat, dog, "red fox"',
  order: "parts of the prompt, in all orders: cat, in a hat",
  size: "512x512, 512x768",
  text: "values with commas between",
  styles: "names of styles",
};

const lists = new Map(); // whether pictures are made from one -> the axes, as a promise

const axesOf = (image) => {
  if (!lists.has(image)) {
    const asked = getJson(`internal/scripts/axes${image ? "?image=1" : ""}`).catch((error) => {
      lists.delete(image); // asked again the next time
      throw error;
    });
    lists.set(image, asked);
  }
  return lists.get(image);
};

/** A value as CSV has it. */
export const quoted = (value) => (/[",\n]/.test(value) || value !== value.trim() || !value ? `"${value.replaceAll('"', '""')}"` : value);

/** `form` as in script.js. */
export function xyzForm(form) {
  const place = h("div", { class: "script-axes" }, h("p", { class: "script-help" }, "Looking what can vary …"));
  axesOf(form.tab !== "txt2img").then(
    (axes) => place.replaceChildren(...LETTERS.map((letter) => axisRow(form, letter, axes))),
    (error) => place.replaceChildren(h("p", { class: "script-help" }, `What can vary could not be asked for: ${error.message}`)),
  );
  const swap = (one, other) => {
    const words = `Swap ${one.toUpperCase()} and ${other.toUpperCase()}`;
    const act = () => {
      for (const part of ["type", "values"]) {
        [form.own[`${one}_${part}`], form.own[`${other}_${part}`]] = [form.own[`${other}_${part}`], form.own[`${one}_${part}`]];
      }
      form.again();
    };
    return h("button", { type: "button", class: "quiet", title: words, "aria-label": words, onclick: act }, `${one.toUpperCase()} ⇄ ${other.toUpperCase()}`);
  };
  return [
    place,
    h("div", { class: "script-swaps" }, swap("x", "y"), swap("y", "z"), swap("x", "z")),
    check(form, "draw_legend", "Draw legend", true),
    check(form, "include_sub_grids", "Keep a grid for each Z, too"),
    check(form, "no_fixed_seeds", "Keep -1 for seeds"),
    h("div", { class: "script-varied" }, h("span", {}, "Vary seeds along"), ...LETTERS.map((letter) => check(form, `vary_seeds_${letter}`, letter.toUpperCase()))),
    number(form, "margin_size", "Grid margins (px)", 0),
  ];
}

function axisRow(form, letter, axes) {
  const { own, tab } = form;
  const [typeName, valuesName] = [`${letter}_type`, `${letter}_values`];
  const known = axes.some((axis) => axis.key === own[typeName]);
  if (!known) own[typeName] = "nothing";
  const axis = axes.find((one) => one.key === own[typeName]);
  const type = h("select", { "aria-label": `What varies along ${letter.toUpperCase()}` }, ...axes.map((one) => h("option", { value: one.key }, one.label)));
  type.value = own[typeName];
  type.addEventListener("input", () => {
    own[typeName] = type.value;
    own[valuesName] = "";
    form.again();
    document.querySelector(`#${tab}_script_${letter}_type select`)?.focus();
  });
  const row = h("div", { class: "script-axis", id: `${tab}_script_${letter}` }, h("label", { class: "script-field", id: `${tab}_script_${typeName}` }, h("span", {}, `${letter.toUpperCase()} type`), type));
  if (axis.kind !== "nothing") row.append(valuesField(form, letter, axis));
  return row;
}

function valuesField(form, letter, axis) {
  const { own, tab } = form;
  const name = `${letter}_values`;
  const example = axis.choices ? "values with commas between" : EXAMPLES[axis.kind];
  const box = h("textarea", { rows: 1, placeholder: example, spellcheck: "false", autocomplete: "off", "aria-label": `Values along ${letter.toUpperCase()}` });
  box.value = own[name] ??= "";
  const put = (words) => {
    own[name] = box.value = words;
    form.changed();
  };
  box.addEventListener("input", () => put(box.value));
  const field = h("div", { class: "script-field", id: `${tab}_script_${name}` }, h("span", {}, `${letter.toUpperCase()} values`), box);
  if (!axis.choices) return field;
  const add = h("select", { "aria-label": `Add a value along ${letter.toUpperCase()}` }, h("option", { value: "" }, "Add …"), ...axis.choices.map((one) => h("option", { value: one }, one)));
  add.addEventListener("change", () => {
    if (add.value) put([box.value.trim().replace(/,$/, ""), quoted(add.value)].filter(Boolean).join(", "));
    add.value = "";
  });
  const why = (one) => {
    const varied = LETTERS.some((other) => CHECKPOINTS.includes(own[`${other}_type`])); // then another column may take it
    return varied ? null : misfit(fields(tab), axis.key.replace("hires.", "hires_"), one);
  };
  const dim = () => {
    for (const option of add.options) {
      const found = option.value ? why(option.value) : null;
      option.disabled = Boolean(found);
      option.title = found?.reason ?? "";
    }
  };
  for (const event of ["pointerdown", "focus", "keydown"]) add.addEventListener(event, dim);
  const all = () => axis.choices.filter((one) => !why(one));
  const fill = h("button", { type: "button", class: "quiet", onclick: () => put(all().map(quoted).join(", ")) }, "Fill in all");
  field.append(h("div", { class: "script-fill" }, add, fill));
  return field;
}

// How pictures are enlarged: the form of the Extras tab, which this browser remembers, and the request that it means.

import { getJson, h } from "../dom.js";

const KEY = "atelier.extras";
const NUMBERS = ["upscale_by", "width", "height", "upscaler_2_visibility"];

function recalled() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** The upscalers that can be used: [{name, scale, kind}], filters first. */
export async function upscalers() {
  return (await getJson("internal/upscalers")) ?? [];
}

/** The fields of a request from what is remembered, with the best that is here where that is gone or was never chosen. */
export function requestFrom(kept, known) {
  const names = known.map((one) => one.name);
  const best = known.find((one) => one.kind)?.name ?? "Lanczos";
  const first = names.includes(kept.upscaler_1) ? kept.upscaler_1 : best;
  const second = names.includes(kept.upscaler_2) ? kept.upscaler_2 : "None";
  const fields = { upscaler_1: first, upscaler_2: second, upscaler_2_visibility: second === "None" ? 0 : Number(kept.upscaler_2_visibility ?? 0.5) };
  if (kept.how === "to") return { ...fields, width: Number(kept.width), height: Number(kept.height), crop: kept.crop !== false };
  return { ...fields, upscale_by: Number(kept.upscale_by ?? 2) };
}

/** The same for a picture that is enlarged by one click. */
export async function rememberedRequest() {
  return requestFrom(recalled(), await upscalers());
}

export class Settings {
  #form;
  known = [];

  constructor(form, onChange) {
    this.#form = form;
    this.#fill(recalled());
    form.addEventListener("input", () => {
      this.#show();
      this.#keep();
      onChange();
    });
  }

  /** Look again at what is here. */
  async refresh() {
    this.known = await upscalers();
    const kept = requestFrom({ ...recalled(), ...this.#values() }, this.known);
    for (const name of ["upscaler_1", "upscaler_2"]) {
      const words = (one) => (one.scale ? `${one.name} (${one.scale}×)` : one.name);
      this.#form.elements[name].replaceChildren(...this.known.map((one) => h("option", { value: one.name }, words(one))));
      this.#form.elements[name].value = kept[name];
    }
    this.#form.querySelector(".extras-none").hidden = this.known.some((one) => one.kind);
    this.#show();
  }

  /** The fields of the request, or null with the field that is not filled in focused. */
  request() {
    if (!this.#form.reportValidity()) return null;
    return requestFrom(this.#values(), this.known);
  }

  /** The same without a word about what is not filled in: null then, and before it is known what is here. */
  asked() {
    return this.known.length && this.#form.checkValidity() ? requestFrom(this.#values(), this.known) : null;
  }

  /** The size that a picture becomes, [width, height]. */
  size(width, height) {
    const fields = requestFrom(this.#values(), this.known);
    if (fields.upscaler_1 === "None") return [width, height];
    if (fields.width && fields.crop) return [fields.width, fields.height];
    const factor = fields.width ? Math.max(fields.width / width, fields.height / height) : fields.upscale_by;
    return [width, height].map((side) => Math.max(8, Math.floor(Math.floor(side * factor) / 8) * 8));
  }

  #values() {
    const elements = this.#form.elements;
    const values = { how: elements.how.value, crop: elements.crop.checked };
    for (const name of ["upscaler_1", "upscaler_2", ...NUMBERS]) if (elements[name].value !== "") values[name] = elements[name].value;
    return values;
  }

  #fill(kept) {
    const elements = this.#form.elements;
    for (const name of NUMBERS) if (kept[name] !== undefined) elements[name].value = kept[name];
    if (kept.how) elements.how.value = kept.how;
    elements.crop.checked = kept.crop !== false;
    this.#show();
  }

  #show() {
    const { how, upscaler_2: second, upscaler_2_visibility: visibility } = this.#form.elements;
    for (const node of this.#form.querySelectorAll("[data-how]")) {
      node.hidden = node.dataset.how !== how.value;
      for (const input of node.querySelectorAll("input")) input.disabled = node.hidden; // and is not asked for
    }
    this.#form.querySelector("[data-second]").hidden = ["None", ""].includes(second.value);
    this.#form.querySelector("output").textContent = Number(visibility.value).toFixed(2);
  }

  #keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify({ ...recalled(), ...this.#values() }));
    } catch {
      /* forbidden: then it is known until the page is closed */
    }
  }
}

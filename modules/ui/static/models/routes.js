// The routes of the models (modules/api/page): what is asked and what is answered.

import { getJson } from "../dom.js";

const ROOT = "internal/models";
const of = (id) => `${ROOT}/${encodeURIComponent(id)}`;

function post(path, body = {}) {
  return getJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export const models = {
  /** {total, kinds, folders, items} of a query {kind, q, folder, sort, checkpoint, offset, limit}. */
  list: (query, options = {}) => {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return getJson(`${ROOT}?${new URLSearchParams(given)}`, options);
  },
  details: (id, checkpoint) => getJson(`${of(id)}?${new URLSearchParams(checkpoint ? { checkpoint } : {})}`),
  save: (id, changes) => post(of(id), changes),
  hash: (id) => post(`${of(id)}/hash`),
  setPreview: (id, job, index) => post(`${of(id)}/preview`, { job, index }),
  removePreview: (id) => post(`${of(id)}/preview/remove`),
  refresh: () => post(`${ROOT}/refresh`),
  loaded: () => getJson(`${ROOT}/loaded`),
};

export const KINDS = {
  checkpoint: ["Checkpoint", "Checkpoints"],
  lora: ["LoRA", "LoRAs"],
  embedding: ["Embedding", "Embeddings"],
  hypernetwork: ["Hypernetwork", "Hypernetworks"],
  vae: ["VAE", "VAEs"],
  taesd: ["TAESD", "TAESD"],
  controlnet: ["ControlNet", "ControlNets"],
  upscaler: ["Upscaler", "Upscalers"],
};
export const kindName = (kind, many = false) => KINDS[kind]?.[many ? 1 : 0] ?? kind;

/** The address of a card's preview, below the page's own. */
export const previewUrl = (card) => card.preview.replace(/^\//, "");

/** Bytes in words: "1.9 GB". */
export function bytes(count) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${(count / size).toFixed(count >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${count} bytes`;
}

// The routes of the gallery (modules/api/page/gallery.py): what is asked and what is answered.

import { getJson } from "../dom.js";

const ROOT = "internal/gallery";

function post(path, body = {}) {
  return getJson(`${ROOT}/${path}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export const gallery = {
  /** {items, next} of a query {q, sort, cursor, limit}. */
  page: (query, options = {}) => {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return getJson(`${ROOT}?${new URLSearchParams(given)}`, options);
  },
  count: (q, options = {}) => getJson(`${ROOT}/count?${new URLSearchParams({ q })}`, options),
  ids: (q) => getJson(`${ROOT}/ids?${new URLSearchParams({ q })}`),
  facets: () => getJson(`${ROOT}/facets`),
  state: () => getJson(`${ROOT}/state`),
  recipe: (id) => getJson(`${pictureUrl(id)}/recipe`),
  edit: (ids, change) => post("edit", { ids, ...change }),
  discard: (ids) => post("trash", { ids }),
  restore: (ids) => post("restore", { ids }),
  destroy: (ids) => post("empty", { ids }),
  empty: () => post("empty", { all: true }),
  rescan: () => post("rescan"),
  zip: (ids) => post("zips", { ids }),
};

/** The whole picture; a drop on another tab knows it by this address, and by that of its thumbnail. */
export const pictureUrl = (id) => `${ROOT}/pictures/${id}`;
export const thumbnailUrl = (id) => `${pictureUrl(id)}/thumbnail`;

export const many = (count) => (count === 1 ? "1 picture" : `${count.toLocaleString(document.documentElement.lang)} pictures`);

/** A value of the search language, in quotation marks where it has spaces. */
export const quoted = (value) => `"${value.replaceAll('"', "")}"`;

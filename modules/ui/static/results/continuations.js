// What the page goes on with by itself: the rest of a batch that did not fit into the line.  It is kept in this browser, so that a reload
// goes on with it; every job has its own key, so that two windows make none of them twice.

import { complain } from "../forms/form.js";

const KEY = "atelier.more";

function load() {
  try {
    const { rest } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return Array.isArray(rest) ? rest : [];
  } catch {
    return [];
  }
}

/** `bridge` as in main.js, `jobs` the list of jobs. */
export class Continuations {
  #jobs;
  #bridge;
  #rest = load(); // [{fields, key}]
  #busy = false;

  constructor(jobs, bridge) {
    this.#bridge = bridge;
    for (const event of ["over", "list"]) jobs.addEventListener(event, () => this.#offer());
    jobs.addEventListener("reach", (event) => event.detail.online || (this.#busy = false)); // an answer may have been lost
    this.#jobs = jobs;
  }

  /** What has just been submitted; `rest` are requests for which there was no place. */
  submitted(ids, rest) {
    if (!rest?.length) return;
    this.#rest.push(...rest);
    complain(`${ids.length} are in line. ${rest.length} more wait here and go into the line as places come free; leave this page open for that.`, [], "note");
    this.#keep();
  }

  /** Python's answer to "more". */
  answered({ ids, keys, error, full }) {
    this.#busy = false;
    this.#rest = this.#rest.filter((one) => !keys.includes(one.key));
    if (error && !full) {
      const left = this.#rest.splice(0).length;
      complain(`The batch stopped with ${left} pictures left: ${error}`);
    }
    this.#keep();
    for (const id of ids) this.#jobs.submitted(id);
  }

  #keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify({ rest: this.#rest }));
    } catch {
      /* forbidden or full: then it goes on only while this page is open */
    }
  }

  /** Cancelled: what is not in line yet never will be. */
  stop() {
    if (!this.#rest.length) return;
    complain(`The ${this.#rest.length} pictures that were not in line yet were dropped.`, [], "note");
    this.#rest = [];
    this.#keep();
  }

  /** Offer the rest of a batch; a tab that has no place for it says so, and is asked again when a job is over. */
  #offer() {
    if (this.#busy || !this.#rest.length) return;
    this.#busy = true;
    this.#bridge.send("more", { what: "rest", requests: this.#rest.slice(0, 10) });
  }
}

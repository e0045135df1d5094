// What the page goes on with by itself: the rest of a batch that did not fit into the line, and the next round of a loop.  Both are kept
// in this browser, so that a reload goes on with them; every job has its own key, so that two windows make none of them twice.

import { newKey } from "../forms/attachment.js";
import { getJson, pictureUrl } from "../dom.js";
import { complain, fields } from "../forms/form.js";
import { isOver } from "./jobs.js";

const KEY = "atelier.more";

function load() {
  try {
    const kept = { rest: [], loops: [], ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
    for (const loop of kept.loops) delete loop.asking; // the question was never answered here; the key says it is the same round
    return kept;
  } catch {
    return { rest: [], loops: [] };
  }
}

/** `bridge` as in main.js, `jobs` the list of jobs. */
export class Continuations {
  #jobs;
  #bridge;
  #kept = load(); // {rest: [{fields, key}], loops: [{key, job, round, rounds, first, last}]}
  #busy = false;

  constructor(jobs, bridge) {
    this.#jobs = jobs;
    this.#bridge = bridge;
    jobs.addEventListener("over", (event) => this.#onOver(event.detail.job));
    jobs.addEventListener("list", () => this.#onList());
    jobs.addEventListener("reach", (event) => event.detail.online || (this.#busy = false)); // an answer may have been lost
  }

  /** What has just been submitted from `tab`; `rest` are requests for which there was no place. */
  submitted(tab, ids, rest) {
    const form = fields(tab);
    if (rest?.length) {
      this.#kept.rest.push(...rest);
      complain(`${ids.length} are in line. ${rest.length} more wait here and go into the line as places come free; leave this page open for that.`, [], "note");
    }
    const rounds = Number(form.loops ?? 1);
    if (rounds > 1) {
      for (const job of ids) {
        const [first, last] = [Number(form.denoising_strength), Number(form.loop_strength)];
        this.#kept.loops.push({ key: newKey(), job, round: 1, rounds, first, last });
      }
    }
    this.#keep();
  }

  /** Python's answer to "more". */
  answered({ what, ids, keys, error, full }) {
    this.#busy = false;
    let went = null; // the job whose loop goes on
    if (what === "rest") {
      this.#kept.rest = this.#kept.rest.filter((one) => !keys.includes(one.key));
      if (error && !full) {
        const left = this.#kept.rest.splice(0).length;
        complain(`The batch stopped with ${left} pictures left: ${error}`);
      }
    } else {
      const loop = this.#kept.loops.find((one) => `loop ${one.key}`.startsWith(what));
      if (loop && ids.length) went = loop.job;
      if (loop && ids.length) Object.assign(loop, { job: ids[0], round: loop.round + 1, waits: false });
      else if (loop && full) loop.waits = true;
      else if (loop) this.#end(loop, `The loop stopped after round ${loop.round} of ${loop.rounds}: ${error}`);
      if (loop && ids.length) complain(`Loop back: round ${loop.round} of ${loop.rounds}.`, [], "note");
    }
    this.#keep();
    for (const id of ids) this.#jobs.submitted(id);
    if (went) document.dispatchEvent(new CustomEvent("atelier:round", { detail: { from: went, to: ids[0] } }));
  }

  #keep() {
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#kept));
    } catch {
      /* forbidden or full: then it goes on only while this page is open */
    }
  }

  /** Cancelled: what is not in line yet never will be, and loops end with the job. */
  stop() {
    if (!this.#kept.rest.length) return;
    complain(`The ${this.#kept.rest.length} pictures that were not in line yet were dropped.`, [], "note");
    this.#kept.rest = [];
    this.#keep();
  }

  #onList() {
    for (const loop of [...this.#kept.loops]) {
      const job = this.#jobs.find(loop.job);
      if (job && isOver(job)) this.#next(loop, job);
    }
    this.#offer();
  }

  #onOver(job) {
    const loop = this.#kept.loops.find((one) => one.job === job.id);
    if (loop) this.#next(loop, job);
    this.#offer();
  }

  /** Offer the rest of a batch; a tab that has no place for it says so, and is asked again when a job is over. */
  #offer() {
    if (this.#busy || !this.#kept.rest.length) return;
    this.#busy = true;
    this.#bridge.send("more", { what: "rest", requests: this.#kept.rest.slice(0, 10) });
  }

  #end(loop, words, kind = "bad") {
    this.#kept.loops = this.#kept.loops.filter((one) => one !== loop);
    this.#keep();
    if (words) complain(words, [], kind);
  }

  async #next(loop, job) {
    if (loop.asking === job.id && !loop.waits) return;
    loop.asking = job.id;
    if (job.state !== "done" || !job.pictures.length) {
      const why = { cancelled: "it was cancelled", failed: job.error, lost: "the server lost the job" }[job.state] ?? "there is no picture";
      return this.#end(loop, `The loop stopped at round ${loop.round} of ${loop.rounds}: ${why}.`);
    }
    if (loop.round >= loop.rounds) return this.#end(loop, `Loop back: all ${loop.rounds} rounds are finished.`, "note");
    try {
      const fields = { ...job.request, source: await this.#sourceOf(job), denoising_strength: strength(loop), seed: String((BigInt(job.request.seed) + 1n) % 2n ** 64n) };
      const key = `${loop.key}-${loop.round}`;
      this.#bridge.send("more", { what: `loop ${loop.key}`.slice(0, 20), requests: [{ fields, key }] });
    } catch (error) {
      this.#end(loop, `The loop stopped after round ${loop.round} of ${loop.rounds}: ${error.message}`);
    }
  }

  async #sourceOf(job) {
    const picture = await fetch(pictureUrl(job, job.pictures[0]));
    if (!picture.ok) throw new Error("the picture's file is not in the outputs folder any more.");
    const kept = await getJson("internal/sources", { method: "POST", headers: { "content-type": "image/png" }, body: await picture.blob() });
    return kept.id;
  }
}

/** Of the round to come: evenly from the first to the last. */
function strength({ round, rounds, first, last }) {
  return Number((first + ((last - first) * round) / (rounds - 1)).toFixed(3));
}

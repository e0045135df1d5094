// The user's jobs as the server knows them.  Follows whatever is under way by asking small routes, and tells listeners what changed.
// It knows nothing of how anything looks.

import { getJson } from "./dom.js";

const EVERY_MS = 400; // while something is under way and the page is seen
const HIDDEN_MS = 2000; // in a hidden tab, and after a failed attempt
const RELIST = 12; // polls between two looks at the whole list, for places in line and other tabs' jobs
const LIMIT = 60; // jobs in the list

export const isOver = (job) => ["done", "failed", "cancelled", "lost"].includes(job.state);

/** Events: `list` (jobs came or went), `job` (detail: {job}), `over` (detail: {job}), `preview` (detail: {job, blob}),
 *  `reach` (detail: {online}), `engine` (detail: state). */
export class Jobs extends EventTarget {
  all = []; // newest first
  watched = null; // id of the job whose preview somebody sees
  #timer = 0;
  #polls = 0;
  #previewRev = new Map();

  /** Those under way, the next one to be painted first. */
  get active() {
    const waiting = this.all.filter((job) => !isOver(job)).reverse();
    return waiting.sort((a, b) => (b.state === "running") - (a.state === "running") || a.position - b.position);
  }

  find(id) {
    return this.all.find((job) => job.id === id) ?? null;
  }

  /** The list anew; jobs that ended while nobody looked are announced like any other. */
  async refresh() {
    const before = new Map(this.all.map((job) => [job.id, job]));
    this.all = (await getJson(`internal/jobs?limit=${LIMIT}`)) ?? [];
    this.#emit("list");
    for (const job of this.all) {
      const old = before.get(job.id);
      if (old && !isOver(old) && isOver(job)) this.#emit("over", { job });
    }
  }

  async start() {
    try {
      await this.refresh();
      this.#emit("reach", { online: true });
    } catch {
      this.#emit("reach", { online: false });
      setTimeout(() => this.start(), HIDDEN_MS);
      return;
    }
    this.#schedule(0);
    document.addEventListener("visibilitychange", () => !document.hidden && this.#wake());
  }

  /** A job that this page has just submitted. */
  async submitted(id) {
    const job = await getJson(`internal/jobs/${id}`);
    if (job && !this.find(id)) this.all.unshift(job);
    this.#emit("list");
    if (job && isOver(job)) this.#emit("over", { job }); // it was that quick
    this.#schedule(0);
  }

  async cancel(id) {
    await getJson(`internal/jobs/${id}/cancel`, { method: "POST" });
    this.#schedule(0);
  }

  /** Something was done to the line, here or elsewhere: look at everything anew. */
  again() {
    return this.#wake();
  }

  async #wake() {
    try {
      await this.refresh();
    } catch {
      return; // the next poll says so
    }
    this.#schedule(0);
  }

  #schedule(delay) {
    clearTimeout(this.#timer);
    if (this.active.length) this.#timer = setTimeout(() => this.#poll(), delay);
  }

  async #poll() {
    const known = this.active[0];
    if (!known) return;
    let delay = document.hidden ? HIDDEN_MS : EVERY_MS;
    try {
      const job = await getJson(`internal/jobs/${known.id}`);
      this.#emit("reach", { online: true });
      if (job === null) this.#lose(known);
      else await this.#update(known, job);
      if (++this.#polls % RELIST === 0) await this.refresh();
    } catch {
      this.#emit("reach", { online: false });
      delay = HIDDEN_MS;
    }
    this.#schedule(delay);
  }

  async #update(old, { engine, ...job }) {
    this.all = this.all.map((other) => (other.id === job.id ? job : other));
    this.#emit("engine", engine);
    if (job.rev !== old.rev || job.state !== old.state || job.position !== old.position) this.#emit("job", { job });
    if (isOver(job)) {
      this.#previewRev.delete(job.id);
      this.#emit("over", { job });
      if (this.active.length) await this.refresh();
    } else if (job.state === "running" && this.watched === job.id && !document.hidden) {
      await this.#preview(job);
    }
  }

  async #preview(job) {
    const response = await fetch(`internal/jobs/${job.id}/preview?rev=${this.#previewRev.get(job.id) ?? ""}`, { cache: "no-store" });
    if (response.status !== 200) return;
    this.#previewRev.set(job.id, response.headers.get("x-preview-rev"));
    this.#emit("preview", { job, blob: await response.blob() });
  }

  #lose(job) {
    job = { ...job, state: "lost", error: "The server does not know this job any more." };
    this.all = this.all.filter((other) => other.id !== job.id);
    this.#emit("list");
    this.#emit("over", { job });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

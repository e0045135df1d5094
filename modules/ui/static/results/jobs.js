// The user's jobs as the server knows them.  Follows whatever is under way by asking small routes, and tells listeners what changed.
// It knows nothing of how anything looks.

import { checkSession, getJson, LoggedOut } from "../dom.js";

const EVERY_MS = 400; // while something is under way and the page is seen
const HIDDEN_MS = 2000; // in a hidden tab, and after a failed attempt
const RELIST = 12; // polls between two looks at the whole list, for places in line and other tabs' jobs
const LIMIT = 60; // jobs in one page of the list

export const isOver = (job) => ["done", "failed", "cancelled", "lost"].includes(job.state);

/** Events: `list` (jobs came or went), `job` (detail: {job}), `over` (detail: {job}), `preview` (detail: {job, blob}),
 *  `reach` (detail: {online}), `engine` (detail: state). */
export class Jobs extends EventTarget {
  all = []; // newest first: the newest page, and older ones as far as they were looked at
  found = null; // what a search found, newest first; null without one
  #watched = null;
  #timer = 0;
  #polls = 0;
  #previewRev = new Map();
  #words = "";
  #ended = { all: false, found: false }; // whether there is nothing older
  #fetching = false;

  /** Id of the job whose preview is looked at.  One that is looked at again is fetched again, whatever was seen of it before. */
  get watched() {
    return this.#watched;
  }

  set watched(id) {
    if (id !== this.#watched) this.#previewRev.delete(id);
    this.#watched = id;
  }

  /** Those under way, the next one to be painted first. */
  get active() {
    const waiting = this.all.filter((job) => !isOver(job)).reverse();
    return waiting.sort((a, b) => (b.state === "running") - (a.state === "running") || a.position - b.position);
  }

  find(id) {
    return this.all.find((job) => job.id === id) ?? this.found?.find((job) => job.id === id) ?? null;
  }

  /** Look for words in prompts; "" shows everything again. */
  async search(words) {
    this.#words = words.trim();
    this.#ended.found = false;
    if (!this.#words) this.found = null;
    else {
      const asked = this.#words;
      const found = (await getJson(this.#page("", asked))) ?? [];
      if (asked !== this.#words) return; // typed on meanwhile
      this.found = found;
    }
    this.#emit("list");
  }

  /** The next page of what is listed, if there is one. */
  async older() {
    const which = this.found ? "found" : "all";
    const last = this[which]?.at(-1);
    if (!last || this.#ended[which] || this.#fetching) return;
    this.#fetching = true;
    try {
      const words = this.#words;
      const page = (await getJson(this.#page(last.id, this.found ? words : ""))) ?? [];
      if (words !== this.#words) return;
      this.#ended[which] = !page.length;
      const known = new Set(this[which].map((job) => job.id));
      this[which] = [...this[which], ...page.filter((job) => !known.has(job.id))];
      if (page.length) this.#emit("list");
    } catch {
      return; // the next look tries again
    } finally {
      this.#fetching = false;
    }
  }

  /** What was deleted is not listed any more; of a job, one picture or all of it. */
  deleted(job, picture) {
    const rest = picture ? job.pictures.filter((other) => other.index !== picture.index) : [];
    const mend = (list) => list.map((one) => (one.id === job.id ? { ...one, pictures: rest } : one)).filter((one) => one.id !== job.id || rest.length);
    this.all = mend(this.all);
    this.found &&= mend(this.found);
    this.#emit("list");
  }

  #page(before, words) {
    const query = new URLSearchParams({ limit: String(LIMIT) });
    if (before) query.set("before", before);
    if (words) query.set("search", words);
    return `internal/jobs?${query}`;
  }

  /** The list anew; jobs that ended while nobody looked are announced like any other. */
  async refresh() {
    const before = new Map(this.all.map((job) => [job.id, job]));
    this.all = await this.#withOlder((await getJson(this.#page("", ""))) ?? []);
    this.#emit("list");
    for (const job of this.all) {
      const old = before.get(job.id);
      if (old && !isOver(old) && isOver(job)) this.#emit("over", { job });
    }
  }

  /** The newest page, and behind it what was fetched of older ones; of those, what was under way is asked about anew. */
  async #withOlder(newest) {
    const here = new Set(newest.map((job) => job.id));
    const last = this.all.findIndex((job) => job.id === newest.at(-1)?.id);
    if (last < 0) {
      this.#ended.all = false;
      return newest;
    }
    const older = this.all.slice(last + 1).filter((job) => !here.has(job.id));
    const fresh = await Promise.all(older.map((job) => (isOver(job) ? job : getJson(`internal/jobs/${job.id}`))));
    return [...newest, ...fresh.filter(Boolean)];
  }

  async start() {
    try {
      await this.refresh();
      this.#emit("reach", { online: true });
    } catch (error) {
      this.#unreached(error);
      setTimeout(() => this.start(), HIDDEN_MS);
      return;
    }
    this.#schedule(0);
    document.addEventListener("visibilitychange", () => !document.hidden && this.#wake());
  }

  /** A job that this page has just submitted. */
  async submitted(id) {
    let job;
    try {
      job = await getJson(`internal/jobs/${id}`);
    } catch (error) {
      this.#unreached(error); // the job is made all the same, and is in the next list
      return;
    }
    const there = this.all.findIndex((other) => other.id === id);
    if (job && there < 0) this.all.unshift(job);
    else if (job) this.all[there] = job; // it was tried again
    this.#emit("list");
    if (job && isOver(job)) this.#emit("over", { job }); // it was that quick
    this.#schedule(0);
  }

  async cancel(id) {
    await getJson(`internal/jobs/${id}/cancel`, { method: "POST" });
    this.#schedule(0);
  }

  /** Keep what is painted now, unfinished as it is, and make no more of it. */
  async interrupt(id) {
    await getJson(`internal/jobs/${id}/interrupt`, { method: "POST" });
    this.#schedule(0);
  }

  /** Finish the picture that is painted now as it is, and go on with the next one. */
  async skip(id) {
    await getJson(`internal/jobs/${id}/skip`, { method: "POST" });
    this.#schedule(0);
  }

  async retry(id) {
    await getJson(`internal/jobs/${id}/retry`, { method: "POST" });
    await this.submitted(id);
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
    const seen = this.active.find((job) => job.id === this.watched);
    const followed = [...new Set([this.active[0], seen])].filter(Boolean); // what is painted next, and what is shown
    if (!followed.length) return;
    let delay = document.hidden ? HIDDEN_MS : EVERY_MS;
    try {
      for (const known of followed) {
        const job = await getJson(`internal/jobs/${known.id}`);
        this.#emit("reach", { online: true });
        if (job === null) this.#lose(known);
        else await this.#update(known, job);
      }
      if (++this.#polls % RELIST === 0) await this.refresh();
    } catch (error) {
      this.#unreached(error);
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
    const response = checkSession(await fetch(`internal/jobs/${job.id}/preview?rev=${this.#previewRev.get(job.id) ?? ""}`, { cache: "no-store" }));
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

  #unreached(error) {
    if (!(error instanceof LoggedOut)) this.#emit("reach", { online: false });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

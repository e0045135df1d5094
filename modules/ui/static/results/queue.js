// The line below the pictures: one's own jobs in the order in which they are painted, what one can do to it, and how much others
// have.  Shown only when there is a line: one job alone has its words above the picture.

import { duration, getJson, h } from "../dom.js";

const EVERY_MS = 2000; // while there is a line and the page is seen
const GONE_WRONG = 3; // failed and cancelled jobs that are offered to be tried again

const post = (path, body = {}) =>
  getJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export class Queue {
  #root;
  #jobs;
  #onPick;
  #timer = 0;
  #shown = "";

  constructor(root, jobs, onPick) {
    this.#root = root;
    this.#jobs = jobs;
    this.#onPick = onPick;
    for (const name of ["list", "over"]) jobs.addEventListener(name, () => this.look());
    document.addEventListener("visibilitychange", () => !document.hidden && this.look());
  }

  /** Ask and show; again in a while as long as there is something to see. */
  async look() {
    clearTimeout(this.#timer);
    let queue;
    try {
      queue = await getJson("internal/queue");
    } catch {
      return; // the next change of the list tries again
    }
    if (!queue) return;
    this.#render(queue);
    if (!document.hidden && (queue.jobs.length || queue.paused)) this.#timer = setTimeout(() => this.look(), EVERY_MS);
  }

  #render(queue) {
    const again = this.#jobs.all.filter((job) => ["failed", "cancelled"].includes(job.state) && job.done < job.count).slice(0, GONE_WRONG);
    this.#root.hidden = !(queue.jobs.length > 1 || queue.paused || again.length || queue.notice || (queue.jobs.length && queue.others.jobs));
    const key = JSON.stringify([queue, again.map((job) => [job.id, job.state])]);
    if (this.#root.hidden || key === this.#shown) return;
    this.#shown = key;
    const focused = document.activeElement?.closest?.(".queue button")?.dataset.key;
    this.#root.replaceChildren(
      this.#head(queue),
      ...(queue.notice ? [h("p", { class: "notice" }, queue.notice)] : []),
      h("ol", {}, ...queue.jobs.map((job, place) => this.#line(job, place, queue.jobs.length))),
      h("ul", {}, ...again.map((job) => this.#lineAgain(job))),
    );
    if (focused) this.#root.querySelector(`button[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #head({ jobs, paused, others }) {
    const { pictures, seconds } = others;
    const time = seconds === null ? "" : `, ${duration(seconds)}`;
    const load = pictures ? `Others: ${pictures} ${pictures === 1 ? "picture" : "pictures"}${time}` : "";
    const button = jobs.length || paused ? this.#button("pause", paused ? "Go on" : "Pause all", () => post("internal/queue/pause", { paused: !paused })) : null;
    return h("header", {}, h("h2", {}, paused ? "Your jobs, paused" : "Your jobs"), h("span", { class: "others" }, load), button);
  }

  #line(job, place, all) {
    const move = (to) => () => post(`internal/jobs/${job.id}/move`, { to });
    return h(
      "li",
      { "data-job": job.id, "data-state": job.state },
      this.#name(job),
      h("span", { class: "when", title: job.held }, this.#when(job, place)),
      h(
        "span",
        { class: "does" },
        place > 0 ? this.#button(`${job.id} up`, "Earlier", move(place - 1)) : null,
        place < all - 1 ? this.#button(`${job.id} down`, "Later", move(place + 1)) : null,
        this.#button(`${job.id} cancel`, "Cancel", () => post(`internal/jobs/${job.id}/cancel`)),
      ),
    );
  }

  #lineAgain(job) {
    const words = job.state === "failed" ? `Failed: ${job.error}` : `Cancelled, ${job.done} of ${job.count} finished`;
    return h(
      "li",
      { "data-job": job.id, "data-state": job.state },
      this.#name(job),
      h("span", { class: "when", title: words }, words),
      h(
        "span",
        { class: "does" },
        this.#button(`${job.id} retry`, "Try again", () => post(`internal/jobs/${job.id}/retry`)),
        this.#button(`${job.id} remove`, "Remove", () => post(`internal/jobs/${job.id}/remove`)),
      ),
    );
  }

  #name(job) {
    const words = job.request.prompt.trim() || "Without a prompt";
    const count = job.count > 1 ? `${job.count} × ` : "";
    return h("button", { type: "button", class: "name", title: words, onclick: () => this.#onPick(job.id) }, count + words);
  }

  #when(job, place) {
    const left = job.eta_s === null ? "" : `${duration(job.eta_s)}`;
    if (job.paused && job.state === "queued") return "Paused";
    if (job.held) return `Waiting: ${job.held}`;
    const many = job.count > 1 ? `${job.done} of ${job.count} finished` : `${Math.round(100 * job.progress)} %`;
    const words = job.state === "running" ? many : place === 0 && !job.position ? "Next" : `${job.position} ahead`;
    return [words, left].filter(Boolean).join(" · ");
  }

  #button(key, words, act) {
    const button = h("button", { type: "button", "data-key": key }, words);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        await act();
        this.#shown = "";
        await this.#jobs.again();
      } catch (error) {
        button.disabled = false;
        button.title = String(error.message ?? error);
        button.textContent = "Not possible now";
      }
    });
    return button;
  }
}

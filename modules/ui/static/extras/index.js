// The Extras tab: pictures that are only enlarged, one or many.  Each becomes a job of its own in the line, which survives this page; the
// result is seen beside its source.  A finished picture comes here by "Send to", or is enlarged where it is by one click.

import { h, pictureUrl, postFile } from "../dom.js";
import { newKey } from "../forms/attachment.js";
import { complain } from "../forms/form.js";
import { pickedFrom } from "../forms/picking.js";
import { read } from "../forms/recipes.js";
import { isOver } from "../results/jobs.js";
import { currentTab, showTab } from "../tabs.js";
import { Estimate } from "./estimate.js";
import { rememberedRequest, Settings } from "./settings.js";

const PICTURE = /\.(png|jpe?g|webp|avif)$/i;
const MOST = 500; // pictures in the list

/** `jobs` as in results/jobs.js; `show(id)` shows a job on the tab that is seen. */
export function startExtras(jobs, show) {
  const root = document.querySelector(".extras");
  if (root) new Extras(root, jobs);
  document.addEventListener("atelier:upscale", ({ detail }) => upscaleNow(detail, jobs, show));
}

/** A finished picture, enlarged as the Extras tab is set. */
async function upscaleNow({ job, picture, done = () => {} }, jobs, show) {
  try {
    const file = await fileOf(job, picture);
    const id = await submit(file, picture.infotext, await rememberedRequest(), newKey());
    await jobs.submitted(id);
    show(id);
  } catch (error) {
    complain(`The picture could not be enlarged. ${error.message}`, [], "bad", { everywhere: true });
  } finally {
    done();
  }
}

/** The file of a finished picture. */
async function fileOf(job, picture) {
  const response = await fetch(pictureUrl(job, picture));
  if (!response.ok) throw new Error("Its file is not in the outputs folder any more.");
  const blob = await response.blob();
  return new File([blob], picture.name, { type: blob.type });
}

/** Hand a picture and how it is enlarged to the server; the job's id. */
async function submit(file, text, settings, key) {
  const { id } = await postFile("internal/sources", typed(file));
  const fields = { ...settings, source: id, source_text: text };
  const options = { method: "POST", headers: { "content-type": "application/json", "idempotency-key": key }, body: JSON.stringify(fields) };
  const response = await fetch("internal/jobs", options);
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer.id;
}

/** Browsers do not know the type of every file that is a picture. */
const typed = (file) => (file.type.startsWith("image/") ? file : new File([file], file.name, { type: "image/png" }));

class Extras {
  #root;
  #jobs;
  #settings;
  #estimate;
  #items = []; // {file, url, width, height, state: chosen | sending | job | failed, job, settings, error}
  #seen = null;
  #busy = false;

  constructor(root, jobs) {
    this.#root = root;
    this.#jobs = jobs;
    const form = root.querySelector("form");
    this.#estimate = new Estimate(root.querySelector(".extras-time"));
    jobs.addEventListener("over", () => this.#estimate.forget());
    this.#settings = new Settings(form, () => this.#show());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enlarge();
    });
    this.#listenForFiles();
    root.querySelector("[data-do=clear]").addEventListener("click", () => this.#clear());
    for (const name of ["job", "over", "list"]) jobs.addEventListener(name, () => this.#items.length && this.#show());
    document.addEventListener("atelier:tab", ({ detail }) => detail.tab === "extras" && this.#refresh());
    document.addEventListener("atelier:models", () => currentTab() === "extras" && this.#refresh());
    document.addEventListener("atelier:extras", ({ detail }) => this.#take(detail));
    this.#show();
    if (currentTab() === "extras") this.#refresh();
  }

  async #refresh() {
    try {
      await this.#settings.refresh();
      this.#complain("");
    } catch (error) {
      this.#complain(`The list of upscalers did not come. ${error.message}`);
    }
    this.#show();
  }

  #listenForFiles() {
    const root = this.#root;
    const [files, folder] = root.querySelectorAll("input[type=file]");
    for (const input of [files, folder]) {
      input.addEventListener("change", () => {
        this.#add([...input.files]);
        input.value = ""; // so that the same files can be chosen again
      });
    }
    root.querySelector("[data-do=files]").addEventListener("click", () => files.click());
    root.querySelector("[data-do=folder]").addEventListener("click", () => folder.click());
    let depth = 0;
    const over = (on) => {
      depth = on === null ? 0 : Math.max(0, depth + (on ? 1 : -1));
      root.classList.toggle("drop", depth > 0);
    };
    root.addEventListener("dragenter", (event) => pickedFrom.may(event.dataTransfer) && over(true));
    root.addEventListener("dragleave", (event) => pickedFrom.may(event.dataTransfer) && over(false));
    root.addEventListener("dragover", (event) => pickedFrom.may(event.dataTransfer) && event.preventDefault());
    root.addEventListener("drop", async (event) => {
      if (!pickedFrom.may(event.dataTransfer)) return;
      event.preventDefault();
      event.stopPropagation();
      over(null);
      this.#add(await pickedFrom.all(event.dataTransfer));
    });
    document.addEventListener("paste", (event) => {
      const file = currentTab() === "extras" ? pickedFrom.clipboard(event.clipboardData) : null;
      if (!file) return;
      event.preventDefault();
      this.#add([file]);
    });
  }

  /** A finished picture that was sent here, or files from another tab. */
  async #take({ job, picture, file, files }) {
    showTab("extras");
    try {
      this.#add(files ?? [file ?? (await fileOf(job, picture))]);
    } catch (error) {
      this.#complain(`The picture could not be brought here. ${error.message}`);
    }
  }

  #add(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/") || PICTURE.test(file.name) || files.length === 1);
    const room = Math.max(0, MOST - this.#items.length);
    const left = files.length - Math.min(pictures.length, room);
    this.#complain(left ? `${left} ${left === 1 ? "file was" : "files were"} left out: ${pictures.length > room ? `the list takes ${MOST} pictures` : "no PNG, JPEG, WebP or AVIF"}.` : "");
    const before = this.#items.length;
    for (const file of pictures.slice(0, room)) {
      const item = { file, url: URL.createObjectURL(file), state: "chosen", width: 0, height: 0 };
      const image = new Image();
      image.onload = () => {
        [item.width, item.height] = [image.naturalWidth, image.naturalHeight];
        this.#show();
      };
      image.src = item.url;
      this.#items.push(item);
    }
    this.#seen = this.#items[before] ?? this.#seen;
    this.#show();
  }

  #remove(item) {
    URL.revokeObjectURL(item.url);
    const place = this.#items.indexOf(item);
    this.#items.splice(place, 1);
    if (this.#seen === item) this.#seen = this.#items[Math.min(place, this.#items.length - 1)] ?? null;
    this.#show();
  }

  #clear() {
    for (const item of this.#items) URL.revokeObjectURL(item.url);
    this.#items = [];
    this.#seen = null;
    this.#complain("");
    this.#show();
  }

  /** All pictures of the list that were not enlarged this way yet, each as a job. */
  async #enlarge() {
    const settings = this.#settings.request();
    if (!settings || this.#busy) return;
    this.#complain("");
    const asked = JSON.stringify(settings);
    const wanted = this.#items.filter((item) => item.state !== "sending" && !(item.settings === asked && item.job && !["failed", "cancelled", "lost"].includes(this.#jobOf(item)?.state)));
    if (!wanted.length) return this.#complain(this.#items.length ? "All pictures of the list were enlarged this way already." : "Choose a picture first.");
    this.#busy = true;
    for (const item of wanted) Object.assign(item, { state: "sending", job: null, error: "", settings: asked });
    this.#show();
    for (const item of wanted) {
      try {
        const found = await read(item.file);
        item.job = await submit(item.file, found.infotext ?? "", settings, newKey());
        item.state = "job";
        await this.#jobs.submitted(item.job);
      } catch (error) {
        Object.assign(item, { state: "failed", error: error.message });
      }
      this.#show();
    }
    this.#busy = false;
    this.#show();
  }

  #jobOf(item) {
    const job = item.job ? this.#jobs.find(item.job) : null;
    if (job) item.last = job; // also when it leaves the list that is looked at
    return job ?? (item.last?.id === item.job ? item.last : null);
  }

  #complain(words) {
    const place = this.#root.querySelector(".extras-bad");
    place.hidden = !words;
    place.textContent = words;
  }

  // ---- what is seen

  #show() {
    const root = this.#root;
    const count = this.#items.length;
    root.toggleAttribute("data-filled", count > 0);
    const go = root.querySelector(".extras-go");
    go.disabled = this.#busy || !count;
    go.textContent = count > 1 ? `Enlarge ${count} pictures` : "Enlarge";
    root.querySelector(".extras-size").textContent = this.#sizeWords();
    this.#estimate.show(this.#items.filter((item) => item.width).map((item) => [item.width, item.height]), this.#settings.asked());
    const bar = root.querySelector(".extras-bar");
    bar.hidden = !count;
    const finished = this.#items.filter((item) => this.#jobOf(item)?.state === "done").length;
    bar.querySelector("span").textContent = count > 1 ? `${count} pictures, ${finished} enlarged` : "";
    this.#showCompared();
    this.#showList();
  }

  #sizeWords() {
    const item = this.#seen;
    if (!item?.width || !this.#settings.known.length) return "";
    const [width, height] = this.#settings.size(item.width, item.height);
    return `${item.width} × ${item.height} becomes ${width} × ${height}.`;
  }

  #showList() {
    const list = this.#root.querySelector(".extras-list");
    const focused = [...list.children].indexOf(document.activeElement?.closest?.(".extras-list li"));
    list.replaceChildren(...this.#items.map((item) => this.#row(item)));
    list.hidden = this.#items.length < 2 && this.#items.every((item) => item.state !== "failed");
    if (focused >= 0) list.children[Math.min(focused, list.children.length - 1)]?.querySelector("button").focus();
  }

  #row(item) {
    const pick = h(
      "button",
      { type: "button", class: "pick", "aria-current": String(item === this.#seen), onclick: () => ((this.#seen = item), this.#show()) },
      h("img", { src: item.url, alt: "" }),
      h("b", {}, item.file.name),
      h("span", {}, this.#words(item)),
    );
    const remove = h("button", { type: "button", class: "remove", "aria-label": `Take ${item.file.name} off the list`, onclick: () => this.#remove(item) }, "×");
    return h("li", { "data-state": this.#failed(item) ? "failed" : item.state }, pick, remove);
  }

  #failed(item) {
    return item.state === "failed" || ["failed", "cancelled", "lost"].includes(this.#jobOf(item)?.state);
  }

  #words(item) {
    if (item.state === "failed") return item.error;
    if (item.state === "sending") return "Being sent …";
    const job = this.#jobOf(item);
    if (!job) return item.job ? "In line" : item.width ? `${item.width} × ${item.height}` : "";
    if (job.held && !isOver(job)) return `Waiting: ${job.held}`;
    const over = { done: "Enlarged", cancelled: "Cancelled", failed: job.error, lost: "The server lost it" };
    if (over[job.state]) return over[job.state];
    if (job.state === "queued") return job.position > 0 ? `In line, ${job.position} ahead` : "Next in line";
    return job.steps > 1 ? `Tile ${job.step} of ${job.steps}` : "Being enlarged";
  }

  /** The picture that is seen: its source, and beside it what became of it. */
  #showCompared() {
    const place = this.#root.querySelector(".extras-compare");
    const item = this.#seen;
    place.hidden = !item;
    if (!item) return place.replaceChildren();
    const job = this.#jobOf(item);
    const picture = job?.pictures[0] ?? null;
    const key = JSON.stringify([item.url, item.width, item.state, item.error, job?.id, job?.state, job?.step, job?.position, job?.held]);
    if (place.dataset.key === key) return;
    place.dataset.key = key;
    const source = h("figure", {}, h("img", { src: item.url, alt: `${item.file.name}, as it is` }), h("figcaption", {}, item.width ? `Source, ${item.width} × ${item.height}` : item.file.name));
    source.querySelector("img").addEventListener("error", () => source.querySelector("img").remove());
    place.replaceChildren(source, picture ? this.#result(item, job, picture) : this.#waiting(item, job));
  }

  #result(item, job, picture) {
    const url = pictureUrl(job, picture);
    const image = h("img", { src: url, alt: `${item.file.name}, enlarged`, draggable: "true" });
    const gone = h("p", { class: "extras-wait" }, "Its file is not in the outputs folder any more.");
    image.addEventListener("error", () => image.replaceWith(gone));
    const open = h("a", { href: url, target: "_blank", rel: "noopener", "aria-label": "Show the result in full size" }, image);
    const save = h("a", { href: `${url}?download=1`, download: picture.name }, "Download");
    return h("figure", { class: "extras-result" }, open, h("figcaption", {}, `Result, ${picture.width} × ${picture.height} · `, save));
  }

  #waiting(item, job) {
    const wait = h("div", { class: "extras-wait" }, h("span", {}, item.state === "chosen" ? "Not enlarged yet." : this.#words(item)));
    if (job && !isOver(job)) {
      const bar = h("i", {});
      bar.style.setProperty("--done", `${Math.round(100 * job.progress)}%`);
      const cancel = h("button", { type: "button", class: "quiet", onclick: () => this.#jobs.cancel(job.id).catch((error) => this.#complain(`Not possible now. ${error.message}`)) }, "Cancel");
      wait.append(bar, cancel);
    }
    return h("figure", {}, wait);
  }
}

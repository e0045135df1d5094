// The grid of a script: a table whose cells fill in as their jobs are done.  A cell opens in the viewer, is made again, or gives its
// settings to the form.  The server keeps the script, so a reload and a restart go on with it; this page keeps which one is open.

import { duration, getJson, h, pictureUrl } from "../dom.js";
import { complain } from "../forms/form.js";
import { useSettings } from "../forms/send_settings.js";
import { closed, opened } from "../opened.js";
import { openViewer } from "./viewer.js";

const EVERY_MS = 1000; // while cells are being made
const SLOW_MS = 4000; // in a hidden tab, after a failed attempt, and while the grid is not seen
const KEY = "atelier.script.open";
const nameOf = (run, { title }) => (run.script === "upscale" ? title || "The large picture" : title ? `Grid: ${title}` : "Grid picture");
const STATES = { waiting: "Waiting", queued: "In line", failed: "Failed", cancelled: "Not made" };

export class ScriptRun {
  #root;
  #bar;
  #jobs;
  #runs = []; // newest first, without their cells
  #run = null; // the one that is open
  #drawn = ""; // of which run and grid the table is
  #cells = new Map(); // number -> {node, text}
  #timer = 0;
  #known = 0; // cells of the run that had a job

  /** `root` is the section of the grid, `bar` the line above the pictures, `jobs` the list of jobs. */
  constructor(root, bar, jobs) {
    this.#root = root;
    this.#bar = bar;
    this.#jobs = jobs;
    bar.append(h("button", { type: "button", class: "quiet", onclick: () => this.open(this.#runs[0]?.id) }));
    document.addEventListener("visibilitychange", () => document.hidden || this.#soon(0));
    this.#start();
  }

  async #start() {
    let wanted = null;
    try {
      wanted = localStorage.getItem(KEY);
    } catch {
      /* forbidden: then none is open */
    }
    await this.#list();
    if (this.#runs.some((run) => run.id === wanted)) this.open(wanted, false);
    else this.#soon(SLOW_MS);
  }

  async #list() {
    this.#runs = (await getJson("internal/scripts").catch(() => null)) ?? this.#runs;
    this.#showBar();
  }

  #showBar() {
    const going = this.#runs.filter((run) => run.state === "running").length;
    this.#bar.hidden = !this.#runs.length || this.isOpen;
    this.#bar.firstChild.textContent = going ? `Show the grid (${going} being made)` : `Show grids (${this.#runs.length})`;
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  /** Show a script's grid; `focus`: moved into it, after a click. */
  async open(id, focus = true) {
    if (!id) return;
    this.#remember(id);
    this.#root.hidden = false;
    this.#root.closest(".results").dataset.script = "open";
    if (this.#run?.id !== id) this.#run = null;
    this.#drawn = "";
    this.#known = 0;
    opened(this.#root, () => this.close());
    this.#showBar();
    if (!this.#runs.some((run) => run.id === id)) await this.#list();
    await this.#look();
    if (focus) this.#root.querySelector("button")?.focus({ preventScroll: true });
  }

  close() {
    closed(this.#root);
    this.#remember("");
    this.#root.hidden = true;
    delete this.#root.closest(".results").dataset.script;
    this.#showBar();
  }

  /** Cancel all of the grid that is seen; false where it is not under way. */
  cancel() {
    if (!this.isOpen || this.#run?.state !== "running") return false;
    this.#post("cancel");
    return true;
  }

  #remember(id) {
    try {
      if (id) localStorage.setItem(KEY, id);
      else localStorage.removeItem(KEY);
    } catch {
      /* forbidden: then a reload shows the pictures */
    }
    this.#wanted = id;
  }

  #wanted = "";

  #soon(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), delay);
  }

  async #look() {
    clearTimeout(this.#timer);
    const id = this.#wanted;
    if (!this.isOpen || !id) {
      if (this.#runs.some((run) => run.state === "running")) {
        await this.#list();
        this.#soon(SLOW_MS);
      }
      return;
    }
    let delay = document.hidden ? SLOW_MS : EVERY_MS;
    try {
      const run = await getJson(`internal/scripts/${id}`);
      if (id !== this.#wanted) return;
      if (run === null) {
        this.#runs = this.#runs.filter((one) => one.id !== id);
        return this.close();
      }
      this.#take(run);
    } catch {
      delay = SLOW_MS;
    }
    if (this.#run?.state === "running" || delay === SLOW_MS) this.#soon(delay);
  }

  #take(run) {
    this.#run = run;
    const listed = this.#runs.find((one) => one.id === run.id);
    if (listed) listed.state = run.state;
    const jobs = run.cells.filter((cell) => cell.job).length;
    if (jobs !== this.#known && !this.#jobs.active.length) this.#jobs.again();
    this.#known = jobs;
    const drawn = JSON.stringify([run.id, run.columns, run.rows, run.sheets]);
    if (drawn !== this.#drawn) this.#build();
    this.#drawn = drawn;
    this.#head();
    for (const cell of run.cells) this.#cell(cell);
  }

  // ---- the head

  #head() {
    const run = this.#run;
    const failed = run.cells.filter((cell) => ["failed", "cancelled"].includes(cell.state)).length;
    const words = [`${run.done} of ${run.cells.length}`];
    if (run.drawing) words.push("the grid is being drawn");
    else if (run.state === "running" && run.eta_s !== null) words.push(`${duration(run.eta_s)} left`);
    if (run.state === "cancelled") words.push("cancelled");
    if (failed && run.state !== "cancelled") words.push(`${failed} not made`);
    this.#$(".script-said").textContent = words.join(" · ");
    this.#$(".script-notes").textContent = [run.error && `${run.error}.`, ...run.notes].filter(Boolean).join(" ");
    this.#$(".script-line i").style.width = `${Math.round(100 * run.progress)}%`;
    this.#$(".script-line").hidden = run.state !== "running";
    this.#$("[data-do=cancel]").hidden = run.state !== "running";
    this.#$("[data-do=again]").hidden = !(failed || run.error) || run.state === "running";
    this.#$("[data-do=again]").textContent = failed ? "Make the missing ones" : "Draw the grid again";
    this.#$("[data-do=remove]").hidden = run.state === "running";
    const links = run.grids.map((grid) => h("a", { class: "quiet", href: grid.url, target: "_blank" }, nameOf(run, grid)));
    const place = this.#$(".script-grids");
    const text = run.grids.map((grid) => grid.name).join();
    if (place.dataset.of !== text) place.replaceChildren(...links);
    place.dataset.of = text;
  }

  #$(selector) {
    return this.#root.querySelector(selector);
  }

  // ---- the table

  #build() {
    const run = this.#run;
    this.#cells.clear();
    const button = (name, words, act) => h("button", { type: "button", class: "quiet", "data-do": name, onclick: act }, words);
    const pick = h("select", { "aria-label": "Which grid" }, ...this.#runs.map((one) => h("option", { value: one.id }, `${one.title}: ${one.prompt.slice(0, 40) || "without a prompt"}`)));
    if (!this.#runs.some((one) => one.id === run.id)) pick.prepend(h("option", { value: run.id }, run.title));
    pick.value = run.id;
    pick.addEventListener("change", () => this.open(pick.value, false));
    const size = h("input", { type: "range", min: 72, max: 384, value: this.#root.style.getPropertyValue("--cell") ? parseInt(this.#root.style.getPropertyValue("--cell"), 10) : 144, "aria-label": "Size of the cells" });
    size.addEventListener("input", () => this.#root.style.setProperty("--cell", `${size.value}px`));
    const head = h(
      "header",
      { class: "script-head" },
      button("close", "Back to the pictures", () => this.close()),
      pick,
      h("span", { class: "script-said", role: "status" }),
      size,
      h("span", { class: "script-grids" }),
      button("again", "Make the missing ones", () => this.#post("again", {})),
      button("cancel", "Cancel all", () => this.#post("cancel")),
      button("remove", "Forget", () => this.#post("remove")),
    );
    const line = h("div", { class: "script-line" }, h("i"));
    const tables = run.sheets.map((title, sheet) => this.#table(run, title, sheet));
    this.#root.replaceChildren(head, line, h("p", { class: "script-notes" }), h("div", { class: "script-tables", tabindex: "0", role: "region", "aria-label": "The grid" }, ...tables));
  }

  #table(run, title, sheet) {
    const lines = (heading) => heading.map(([text, holds]) => h("span", holds ? {} : { class: "out" }, text));
    const named = run.rows.some((row) => row.length);
    const above = run.columns.some((column) => column.length);
    const head = above && h("thead", {}, h("tr", {}, ...(named ? [h("td")] : []), ...run.columns.map((column) => h("th", { scope: "col" }, ...lines(column)))));
    const rows = run.rows.map((row, y) =>
      h("tr", {}, ...(named ? [h("th", { scope: "row" }, ...lines(row))] : []), ...run.columns.map((_, x) => this.#place((sheet * run.rows.length + y) * run.columns.length + x))),
    );
    return h("table", {}, title ? h("caption", {}, title) : null, head || null, h("tbody", {}, ...rows));
  }

  #place(number) {
    const node = h("td", { "data-cell": number });
    this.#cells.set(number, { node, text: "" });
    return node;
  }

  /** One cell, where it is not as it was. */
  #cell(cell) {
    const known = this.#cells.get(cell.number);
    const text = JSON.stringify(cell);
    if (!known || known.text === text) return;
    const before = known.text && JSON.parse(known.text);
    known.text = text;
    const { node } = known;
    node.dataset.state = cell.state;
    if (cell.state === "queued" && before?.state === "queued") {
      node.querySelector("span").textContent = progressWords(cell);
      return;
    }
    node.replaceChildren(...(own(this.#run, cell) ? this.#pictures(cell) : this.#words(cell)));
  }

  #pictures(cell) {
    const open = (picture) => h("button", { type: "button", class: "cell-picture", "aria-label": `Open the picture, seed ${picture.seed}`, onclick: () => this.#view(cell, picture) }, h("img", { src: `${pictureUrl({ id: cell.job }, picture)}/thumbnail`, alt: "", loading: "lazy" }));
    const many = h("div", { class: "cell-many", style: `--across: ${Math.ceil(Math.sqrt(cell.pictures.length))}` }, ...cell.pictures.map(open));
    const use = h("button", { type: "button", class: "quiet", onclick: () => this.#use(cell) }, "Use");
    use.title = "Put the settings of this picture into the form";
    return [many, h("div", { class: "cell-actions" }, use, this.#again(cell))];
  }

  #words(cell) {
    const words = cell.state === "queued" ? progressWords(cell) : cell.error || STATES[cell.state];
    const over = ["failed", "cancelled"].includes(cell.state);
    return [h("span", { class: "cell-words" }, words), ...(over ? [h("div", { class: "cell-actions" }, this.#again(cell))] : [])];
  }

  #again(cell) {
    const button = h("button", { type: "button", class: "quiet", onclick: () => this.#post("again", { cells: [cell.number] }) }, "Again");
    button.title = "Make this cell once more";
    return button;
  }

  // ---- what is done with it

  async #post(what, body = {}) {
    const { id } = this.#run;
    try {
      await getJson(`internal/scripts/${id}/${what}`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    } catch (error) {
      return complain(`Not possible now. ${error.message}`, [], "bad", { everywhere: true });
    }
    if (what === "remove") {
      this.#runs = this.#runs.filter((run) => run.id !== id);
      this.close();
    } else this.#soon(0);
  }

  #view(cell, picture) {
    const all = () =>
      this.#run.cells.filter((one) => own(this.#run, one)).flatMap((one) => {
        const job = { id: one.job, pictures: one.pictures, request: { prompt: "" } };
        return one.pictures.map((each) => ({ job, picture: { name: `${one.job}-${each.index}.png`, ...each } }));
      });
    const shown = all().find((one) => one.job.id === cell.job && one.picture.index === picture.index);
    openViewer(shown, all, () => {});
  }

  async #use(cell) {
    const job = await getJson(`internal/jobs/${cell.job}`).catch(() => null);
    if (!job) return complain("Its job is not in the list any more, so its settings are not known here; its file has them.", [], "bad", { everywhere: true });
    useSettings({ ...job.request, seed: cell.pictures[0]?.seed ?? job.request.seed });
  }
}

/** Whether a cell has pictures of its own; one that had nothing to do stands for those of the one before, whose job it names. */
const own = (run, cell) => cell.pictures.length > 0 && run.cells.find((one) => one.job === cell.job) === cell;

function progressWords({ progress }) {
  return progress > 0 ? `${Math.round(100 * progress)} %` : STATES.queued;
}

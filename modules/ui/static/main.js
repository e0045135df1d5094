// The studio's conductor: ties jobs, easel, film, label, engine and keys together.  Python starts it with `start`.

import { startAccount } from "./account.js";
import { startArea } from "./area.js";
import "./attach.js";
import { clearBatch, startBatches } from "./batch.js";
import { duration, getJson, h, pictureUrl } from "./dom.js";
import { startDropping } from "./dropping.js";
import { Easel } from "./easel.js";
import { showEmpty } from "./empty.js";
import { Engine } from "./engine.js";
import { Film } from "./film.js";
import { complain, fields, formsOpened, setPrompt } from "./form.js";
import { startHelp } from "./help.js";
import { isOver, Jobs } from "./jobs.js";
import { listenToKeys } from "./keys.js";
import { Label } from "./label.js";
import { startPanes } from "./panes.js";
import { startPngInfo } from "./png_info.js";
import { More } from "./more.js";
import { startPromptTools } from "./prompt.js";
import { Queue } from "./queue.js";
import { startQuotes } from "./quote.js";
import { startSending, takeNote, useSettings } from "./send.js";
import { startSizes } from "./size.js";
import { startSliders } from "./sliders.js";
import { accept, offerPictures, startStage, turn } from "./stage.js";
import { currentTab, startTabs } from "./tabs.js";
import { allPictures } from "./viewer.js";

const SOON_MS = 1000; // what takes longer is said
const PATIENCE_MS = 8000; // a request is accepted in a tenth of a second

/** `element` holds the studio's template; `bridge` is {send(name, data), receive(listener)} to Python. */
export function start(element, bridge) {
  new Studio(element.querySelector(".studio"), bridge);
}

class Studio {
  constructor(root, bridge) {
    this.root = root;
    this.$ = (selector) => root.querySelector(selector);
    this.shown = null; // {id, index}: index null = the job itself, as it runs or as a sheet
    this.follow = true; // whether new jobs take the easel
    this.models = [];
    this.jobs = new Jobs();
    this.engine = new Engine();
    this.more = new More(this.jobs, bridge);
    const pick = (id, index) => {
      turn("pictures");
      this.show(id, index);
    };
    const take = (job, picture) => accept(job, pictureUrl(job, picture));
    const all = () => allPictures(this.jobs.all);
    this.easel = new Easel(this.$(".easel"), (job, picture) => this.show(job.id, picture.index), take, all);
    this.film = new Film(this.$(".film"), pick);
    this.queue = new Queue(this.$(".queue"), this.jobs, (id) => pick(id, null));
    this.label = new Label(
      this.$(".label"),
      useSettings,
      (job) => this.show(job.id, null),
      take,
    );

    startTabs();
    startSending(bridge);
    startStage();
    startSizes((tab) => this.nativePixels(tab));
    startArea();
    startQuotes(this.jobs);
    startBatches();
    this.$(".back-to-canvas").addEventListener("click", () => turn("canvas"));
    this.listenToJobs();
    listenToKeys(() => this.cancel());
    startPromptTools();
    startDropping();
    startPngInfo();
    startPanes();
    startSliders();
    startAccount();
    startHelp();
    document.addEventListener("atelier:cancel", () => this.cancel());
    document.addEventListener("atelier:sending", ({ detail }) => this.onSending(detail.words));
    document.addEventListener("atelier:tab", () => this.shown && this.show(this.shown.id, this.shown.index));
    for (const button of document.querySelectorAll("button[id$=_generate]")) {
      if (document.getElementById(button.id.replace(/_generate$/, "_canvas"))) continue; // sends its picture first, and says so
      button.addEventListener("click", () => this.expectAnswer());
    }
    for (const event of ["atelier:form", "atelier:tab"]) document.addEventListener(event, () => this.shown === null && this.showNothing());
    bridge.receive((text) => this.onMessage(text));
    document.dispatchEvent(new Event("atelier:started"));
    this.engine.watch();
    this.loading = this.loadModels();
    this.jobs.start();
  }

  // ---- what Python says

  onMessage(text) {
    if (!text) return;
    const { kind, ...data } = JSON.parse(text);
    clearTimeout(this.patience);
    const handlers = {
      opened: () => formsOpened(),
      submitted: () => this.onSubmitted(data),
      refused: () => this.onRefused(data),
      more: () => this.more.answered(data),
      reused: () => this.onReused(data),
      rescanned: () => this.onRescanned(data),
    };
    handlers[kind]?.();
  }

  /** Gradio says nothing of its own near the form when a server is gone. */
  expectAnswer() {
    clearTimeout(this.patience);
    this.patience = setTimeout(() => complain("The server does not answer. Is it still running? Nothing is lost: try again."), PATIENCE_MS);
  }

  /** A picture on its way is no answer that is missing. */
  onSending(words) {
    if (!words) return this.expectAnswer();
    clearTimeout(this.patience);
    this.patience = setTimeout(() => complain(words, [], "note"), SOON_MS);
  }

  async onSubmitted({ ids, rest, tab }) {
    complain("");
    this.follow = true;
    this.shown = { id: ids[0], index: null };
    turn("pictures", tab);
    clearBatch(tab);
    this.more.submitted(tab, ids, rest);
    for (const id of ids) await this.jobs.submitted(id);
  }

  /** Of a batch, some may be under way all the same. */
  async onRefused({ error, fields: ids, ids: made = [] }) {
    complain(error, ids);
    for (const id of made) await this.jobs.submitted(id);
  }

  /** Of the chosen model's own size. */
  async nativePixels(tab) {
    await this.loading;
    const best = this.models.find((model) => model.name === fields(tab).checkpoint)?.defaults;
    return best ? best.width * best.height : 512 * 512;
  }

  onReused({ missing }) {
    const left = missing.length ? `Not here, so left as it was: ${missing.join(", ")}.` : "";
    complain([left, takeNote()].filter(Boolean).join(" "), [], "note");
  }

  onRescanned({ usable, broken }) {
    this.loadModels();
    const found = usable === 1 ? "1 checkpoint found" : `${usable} checkpoints found`;
    complain(broken.length ? `${found}. Not usable: ${broken.join("; ")}` : `${found}.`, [], broken.length ? "bad" : "note");
  }

  async loadModels() {
    try {
      this.models = (await getJson("internal/checkpoints")) ?? [];
    } catch {
      return;
    }
    if (this.shown === null) this.showNothing();
  }

  // ---- what the jobs say

  listenToJobs() {
    const on = (name, handler) => this.jobs.addEventListener(name, (event) => handler(event.detail));
    on("list", () => this.onList());
    on("job", ({ job }) => this.onJob(job));
    on("over", ({ job }) => this.onOver(job));
    on("preview", ({ job, blob }) => this.easel.preview(job, blob));
    on("engine", (state) => this.engine.show(state));
    on("reach", ({ online }) => this.onReach(online));
  }

  onList() {
    this.film.render(this.jobs.all);
    const active = this.jobs.active[0];
    if (this.shown && this.jobs.find(this.shown.id)) this.show(this.shown.id, this.shown.index);
    else if (active && this.follow) this.show(active.id, null);
    else this.showNewest();
    this.showProgress();
  }

  onJob(job) {
    if (job.pictures.length) this.film.render(this.jobs.all);
    this.film.progress(job);
    if (this.shown?.id === job.id && this.shown.index === null) this.show(job.id, null);
    this.showProgress();
  }

  onOver(job) {
    this.film.render(this.jobs.all);
    const next = this.jobs.active[0];
    const mine = this.shown?.id === job.id && this.shown.index === null;
    if (mine) {
      if (job.pictures.length === 1) this.show(job.id, job.pictures[0].index);
      else if (job.pictures.length) this.show(job.id, null);
      else if (next) this.show(next.id, null);
      else this.showNewest();
    }
    if (job.state === "failed" || job.state === "lost") complain(`The picture could not be made: ${job.error}`);
    const words = { done: "The picture is finished.", cancelled: "Cancelled.", failed: "Failed.", lost: "The job was lost." };
    this.$(".said").textContent = words[job.state];
    this.showProgress(next ? null : job);
  }

  onReach(online) {
    this.root.dataset.online = online;
    if (!online) this.engine.unreachable();
    else if (this.engine.state === null) this.engine.watch();
  }

  cancel() {
    this.more.stop();
    const [job] = this.shown?.index === null && this.jobs.active.some((j) => j.id === this.shown.id)
      ? [this.jobs.find(this.shown.id)]
      : this.jobs.active;
    if (job) this.jobs.cancel(job.id).catch(() => this.onReach(false));
  }

  // ---- what is seen

  show(id, index) {
    const job = this.jobs.find(id);
    if (!job) return;
    const only = index === null && isOver(job) && job.pictures.length === 1 ? job.pictures[0].index : index;
    const picture = job.pictures.find((p) => p.index === only) ?? null;
    if (picture === null && isOver(job) && !job.pictures.length) return this.showNewest();

    const again = this.shown?.id === id && this.shown.index === only && this.root.dataset.view !== "empty" && this.seen === job.state;
    this.shown = { id, index: only };
    this.seen = job.state;
    this.follow = only === null || !this.jobs.active.length;
    this.jobs.watched = picture === null && !isOver(job) ? id : null;
    this.root.dataset.view = picture ? "picture" : isOver(job) ? "sheet" : "canvas";
    if (picture && !again) this.easel.picture(job, picture);
    else if (!picture && job.state === "queued") this.easel.waiting(this.progressWords(job)[0]);
    else if (!picture && !isOver(job)) this.easel.canvas(job);
    else if (!picture && !again) this.easel.sheet(job);
    this.label.show(job, picture, currentTab());
    this.film.mark(picture ? `${id}.${picture.index}` : id);
  }

  showNewest() {
    const job = this.jobs.all.find((other) => other.pictures.length);
    if (job) this.show(job.id, isOver(job) && job.pictures.length > 1 ? null : job.pictures[0].index);
    else this.showNothing();
  }

  showNothing() {
    this.shown = null;
    this.jobs.watched = null;
    this.root.dataset.view = "empty";
    this.easel.clear();
    this.label.clear();
    const usable = this.models.filter((model) => !model.problem);
    const model = usable.find((one) => one.name === fields().checkpoint) ?? usable[0] ?? null;
    showEmpty(this.$(".empty"), model, this.models.filter((one) => one.problem), setPrompt);
  }

  /** The line above the picture.  `ended` is a job that is over, when nothing else is under way. */
  showProgress(ended = null) {
    offerPictures(this.jobs.all.length > 0);
    const job = this.jobs.active[0] ?? ended;
    const bar = this.$(".job");
    document.body.toggleAttribute("data-busy", Boolean(this.jobs.active.length));
    bar.dataset.state = job?.state ?? "idle";
    document.title = job?.state === "running" ? `${Math.round(100 * job.progress)} % · Atelier` : "Atelier";
    if (!job) return;
    bar.dataset.job = job.id;
    const percent = Math.round(100 * job.progress);
    this.$(".job-line").setAttribute("aria-valuenow", percent);
    this.$(".job-line i").style.width = `${percent}%`;
    this.$(".job-what").replaceChildren(...this.progressWords(job));
    const more = this.jobs.active.length - 1;
    const left = job.state === "running" && job.eta_s !== null ? `${duration(job.eta_s)} left` : "";
    this.$(".job-left").textContent = [left, more > 0 ? `${more} more in line` : ""].filter(Boolean).join(" · ");
  }

  progressWords(job) {
    const step = `Step ${job.step} of ${job.steps}`;
    if (job.held && ["queued", "running"].includes(job.state)) return [`Waiting: ${job.held}`];
    if (job.state === "queued") {
      if (this.engine.state && this.engine.state.state !== "ready") return [this.engine.state.message];
      return [job.position > 0 ? `In line, ${job.position} ahead` : "Next in line"];
    }
    if (job.state === "running" && this.engine.state && (this.engine.busy || this.engine.state.state !== "ready")) {
      return [this.engine.state.message];
    }
    if (job.state === "running" && job.count === 1) return [step];
    if (job.state === "running") return [h("b", {}, `${job.done} of ${job.count} finished`), ` · ${step}`];
    const words = { done: "Finished", cancelled: "Cancelled", failed: "Failed", lost: "Lost" };
    return [words[job.state]];
  }
}

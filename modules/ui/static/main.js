// The page's controller: ties jobs, result pane, filmstrip, picture info, engine and keys together.  Python starts it with `start`.

import { startAccount } from "./account.js";
import { listed } from "./checkpoints.js";
import { startArea } from "./forms/area.js";
import "./forms/attachment.js";
import { clearBatch, startBatches } from "./forms/batch.js";
import { announce, startAnnouncing } from "./results/announce.js";
import { deleteAsked, finishPictureInfo } from "./results/deleting.js";
import { duration, getJson, h, pictureUrl } from "./dom.js";
import { startDropping } from "./prompt/settings_drop.js";
import { ResultPane } from "./results/result_pane.js";
import { showEmpty } from "./results/empty.js";
import { Engine } from "./engine.js";
import { Filmstrip } from "./results/filmstrip.js";
import { Forever } from "./results/forever.js";
import { complain, fields, formsOpened, setPrompt } from "./forms/form.js";
import { chosen, startGenerateMenus } from "./forms/generate_menu.js";
import { startGallery } from "./gallery/index.js";
import { startHelp } from "./help.js";
import { isOver, Jobs } from "./results/jobs.js";
import { listenToKeys } from "./keys.js";
import { startModels } from "./models/index.js";
import { preference, startPreferences } from "./preferences.js";
import { PictureInfo } from "./results/picture_info.js";
import { startPanes } from "./panes.js";
import { startPngInfo } from "./png_info.js";
import { Continuations } from "./results/continuations.js";
import { startPromptTools } from "./prompt/prompt_tools.js";
import { Queue } from "./results/queue.js";
import { ScriptRun } from "./results/script_run.js";
import { startEstimates } from "./forms/estimate.js";
import { startFitting } from "./forms/fitting.js";
import { startExtensions } from "./extensions/index.js";
import { startExtras } from "./extras/index.js";
import { planned, startScripts } from "./forms/script.js";
import { startSending, tabOf, takeNote, useSettings } from "./forms/send_settings.js";
import { sentence } from "./forms/recipes.js";
import { startRatios } from "./forms/ratio.js";
import { startOptionHelp } from "./forms/option_help.js";
import { startSizes } from "./forms/size.js";
import { startSliders } from "./forms/sliders.js";
import { accept, offerPictures, showsPictures, startViewSwitch, turn } from "./results/view_switch.js";
import { startSettings } from "./settings/index.js";
import { currentTab, startTabs } from "./tabs.js";
import { startUploads } from "./forms/upload.js";
import { upscale } from "./results/upscaling.js";
import { allPictures } from "./results/viewer.js";

const SOON_MS = 1000; // what takes longer is said
const LOGGED_OUT = "You were logged out, here or elsewhere. What you wrote stays in the form.";
const AGAIN_MS = 2000; // until a list is asked for that did not come
const PATIENCE_MS = 8000; // a request is accepted in a tenth of a second

/** `element` holds the results area's template; `bridge` is {send(name, data), receive(listener)} to Python. */
export function start(element, bridge) {
  new Page(element.querySelector(".results"), bridge);
}

class Page {
  constructor(root, bridge) {
    this.root = root;
    this.$ = (selector) => root.querySelector(selector);
    this.shown = null; // {id, index}: index null = the job itself, as it runs or as a grid
    this.follow = true; // whether new jobs take the result pane
    this.models = [];
    this.modelsKnown = false;
    this.jobs = new Jobs();
    this.engine = new Engine();
    this.continuations = new Continuations(this.jobs, bridge);
    const pick = (id, index) => {
      if (this.scripts.isOpen) this.scripts.close();
      turn("pictures");
      this.show(id, index);
    };
    const take = (job, picture) => accept(job, pictureUrl(job, picture));
    const all = () => allPictures(this.jobs.all);
    this.resultPane = new ResultPane(this.$(".result-pane"), (job, picture) => this.show(job.id, picture.index), take, all);
    this.filmstrip = new Filmstrip(this.$(".filmstrip"), {
      pick,
      older: () => this.jobs.older(),
      search: (words) => this.jobs.search(words).catch(() => this.onReach(false)),
      remove: (id, index) => this.delete(this.jobs.find(id), index),
    });
    this.queue = new Queue(this.$(".queue"), this.jobs, (id) => pick(id, null));
    this.pictureInfo = new PictureInfo(
      this.$(".picture-info"),
      useSettings,
      (job) => this.show(job.id, null),
      take,
      (job, picture) => this.upscale(job, picture),
    );

    this.scripts = new ScriptRun(this.$(".script-run"), this.$(".script-bar"), this.jobs);
    startTabs();
    startScripts(bridge, this.jobs);
    startSending(bridge);
    startViewSwitch();
    startOptionHelp();
    startFitting(bridge.send);
    startSizes((tab) => this.nativePixels(tab));
    startRatios((tab) => this.nativePixels(tab));
    startArea();
    startEstimates(this.jobs);
    startBatches();
    startGenerateMenus({ skip: () => this.skip(), stopForever: () => this.forever.stop() });
    this.forever = new Forever(document.getElementById("complaint").parentElement, this.jobs);
    startUploads();
    this.$(".back-to-canvas").addEventListener("click", () => turn("canvas"));
    this.listenToJobs();
    listenToKeys({ cancel: () => this.cancel(), skip: () => this.skip(), generating: () => this.generating() });
    startPromptTools();
    startDropping(this.jobs);
    startPngInfo();
    startGallery();
    startExtras(this.jobs, (id) => this.onEnlarging(id));
    startModels({ shown: () => this.shownPicture(), send: bridge.send });
    startPreferences();
    startAnnouncing();
    startSettings(bridge.send);
    startExtensions(this.jobs);
    startPanes();
    startSliders();
    startAccount();
    startHelp();
    document.addEventListener("atelier:cancel", () => this.cancel());
    document.addEventListener("atelier:face", () => this.showProgress(this.lastEnded));
    document.addEventListener("atelier:logged-out", () => this.onLoggedOut());
    document.addEventListener("atelier:sending", ({ detail }) => this.onSending(detail.words));
    document.addEventListener("atelier:models", () => this.loadModels());
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
      more: () => this.continuations.answered(data),
      planned: () => planned(data),
      reused: () => this.onReused(data),
      rescanned: () => this.onRescanned(data),
    };
    handlers[kind]?.();
  }

  /** Gradio says nothing of its own near the form when a server is gone. */
  expectAnswer() {
    clearTimeout(this.patience);
    this.engine.watch(); // so that a logout or a lost server is noticed at once
    const words = "The server does not answer. Is it still running? Nothing is lost: try again.";
    this.patience = setTimeout(() => complain(words, [], "bad", { everywhere: true }), PATIENCE_MS);
  }

  onLoggedOut() {
    clearTimeout(this.patience);
    this.engine.loggedOut();
    const place = document.getElementById("complaint");
    if (!place.hidden && place.textContent.startsWith(atelierText(LOGGED_OUT))) return; // said once, whatever else is asked meanwhile
    complain(LOGGED_OUT, [], "bad", { everywhere: true, link: { href: "login", words: "Log in" } });
  }

  /** A picture on its way is no answer that is missing. */
  onSending(words) {
    if (!words) return this.expectAnswer();
    clearTimeout(this.patience);
    this.patience = setTimeout(() => complain(words, [], "note"), SOON_MS);
  }

  async onSubmitted({ ids, rest, tab, run = null, forever = false }) {
    complain("");
    if (run) {
      clearBatch(tab);
      turn("pictures", tab);
      return this.scripts.open(run);
    }
    if (this.scripts.isOpen) this.scripts.close();
    const seen = this.underWay(); // goes on to be seen: a job more in the line hides nothing
    if (!seen) {
      this.follow = true;
      this.shown = { id: (this.jobs.active[0] ?? { id: ids[0] }).id, index: null };
    }
    turn("pictures", tab);
    clearBatch(tab);
    if (forever) this.forever.look();
    else this.continuations.submitted(ids, rest);
    for (const id of ids) await this.jobs.submitted(id);
    this.sayLeftOut(this.jobs.find(ids[0])).catch(() => {});
  }

  /** A finished picture is being enlarged: seen at once where no other job is. */
  onEnlarging(id) {
    complain("");
    if (this.jobs.active.some((job) => job.id !== id && job.id === this.shown?.id)) return;
    turn("pictures");
    this.show(id, null);
  }

  /** What the prompt asks for and this version cannot do: the picture is painted all the same. */
  async sayLeftOut(job) {
    if (!/<\w+:[^>]*>/.test(job?.request.prompt ?? "")) return;
    const { prompt, negative_prompt, styles } = job.request;
    const body = JSON.stringify({ prompt, negative_prompt, styles });
    const check = await getJson("internal/prompt/check", { method: "POST", headers: { "content-type": "application/json" }, body });
    const left = (check?.notes ?? []).filter((note) => /^<.*it is left out$/.test(note));
    if (left.length) complain(`${left.join(". ")}.`, [], "warning");
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

  onReused({ missing, notes = [] }) {
    const left = missing.length ? `Not here, so left as it was: ${missing.join(", ")}.` : "";
    complain([left, ...notes.map(sentence), takeNote()].filter(Boolean).join(" "), [], "note");
  }

  onRescanned({ usable, broken, notes = [] }) {
    document.dispatchEvent(new Event("atelier:models"));
    const found = usable === 1 ? "1 checkpoint found" : `${usable} checkpoints found`;
    const words = [`${found}.`, broken.length && `Not usable: ${broken.join("; ")}.`, notes.length && `${notes.join("; ")}.`].filter(Boolean);
    complain(words.join(" ").replaceAll(/\.{2,}/g, "."), [], broken.length ? "bad" : "note");
  }

  async loadModels() {
    try {
      this.models = (await listed()) ?? [];
      this.modelsKnown = true;
    } catch {
      if (!this.modelsKnown) setTimeout(() => this.loadModels(), AGAIN_MS);
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
    on("preview", ({ job, blob }) => this.resultPane.preview(job, blob));
    on("engine", (state) => this.engine.show(state));
    on("reach", ({ online }) => this.onReach(online));
  }

  onList() {
    this.renderFilmstrip();
    const active = this.jobs.active[0];
    if (!this.listed && active && tabOf(active.request) === currentTab()) turn("pictures"); // a reload goes on seeing what is painted
    this.listed = true;
    if (this.awaitsNext && active) {
      this.awaitsNext = false;
      this.show(active.id, null);
    } else if (this.shown && this.jobs.find(this.shown.id)) this.show(this.shown.id, this.shown.index);
    else if (active && this.follow) this.show(active.id, null);
    else this.showNewest();
    this.showProgress();
  }

  renderFilmstrip() {
    this.filmstrip.render(this.jobs.found ?? this.jobs.all, this.jobs.found !== null);
  }

  onJob(job) {
    if (job.pictures.length) this.renderFilmstrip();
    this.filmstrip.progress(job);
    if (this.shown?.id === job.id && this.shown.index === null) this.show(job.id, null);
    this.showProgress();
  }

  onOver(job) {
    this.renderFilmstrip();
    const next = this.jobs.active[0];
    const mine = this.shown?.id === job.id && this.shown.index === null;
    const goesOn = this.forever.on && this.shown?.id === job.id && (mine || job.pictures.length === 1); // which is shown by itself
    this.awaitsNext = goesOn && !next; // which the list does not have yet
    if (goesOn && next) this.show(next.id, null);
    else if (mine) {
      if (job.state === "cancelled" && next) this.show(next.id, null);
      else if (job.pictures.length === 1) this.show(job.id, job.pictures[0].index);
      else if (job.pictures.length || !next) this.show(job.id, null);
      else this.show(next.id, null);
      if (job.state === "lost") this.showNewest();
    }
    if (job.state === "failed" || job.state === "lost") complain(`The picture could not be made: ${job.error}`, [], "bad", { everywhere: true });
    this.$(".said").textContent = ending(job);
    announce(job, ending(job));
    this.showProgress(job);
  }

  /** The job that is seen, if it is under way; on a canvas, where no job is seen, the one that is painted next. */
  underWay() {
    if (!showsPictures()) return this.jobs.active[0] ?? null;
    return this.jobs.active.find((job) => job.id === this.shown?.id) ?? null;
  }

  async delete(job, index) {
    const picture = job?.pictures.find((one) => one.index === index) ?? null;
    if (!job || !isOver(job) || !(await deleteAsked(job, picture))) return;
    this.onDeleted(job, picture);
  }

  onDeleted(job, picture) {
    if (this.shown?.id === job.id) this.shown = null;
    this.drawn = "";
    this.jobs.deleted(job, picture);
  }

  onReach(online) {
    this.root.dataset.online = online;
    if (!online) this.engine.unreachable();
    else if (this.engine.state === null) this.engine.watch();
  }

  cancel() {
    this.continuations.stop();
    if (this.scripts.cancel()) return;
    const job = this.underWay();
    if (job) this.jobs[chosen("keep") ? "interrupt" : "cancel"](job.id).catch(() => this.onReach(false));
  }

  /** Go on with the next picture; false where nothing is painted. */
  skip() {
    const job = this.skippable();
    if (job) this.jobs.skip(job.id).catch(() => this.onReach(false));
    return job !== null;
  }

  /** The job whose picture would be skipped: of an open grid the cell that is painted. */
  skippable() {
    const job = this.scripts.isOpen ? this.jobs.active[0] : this.underWay();
    return job?.state === "running" ? job : null;
  }

  /** Ctrl+Enter may be meant to begin at once. */
  generating() {
    const job = chosen("restart") ? this.skippable() : null;
    if (job) this.jobs.interrupt(job.id).catch(() => this.onReach(false));
  }

  /** A second pass over a picture that is finished: another job. */
  async upscale(job, picture) {
    let id;
    try {
      id = await upscale(job, picture, fields("txt2img"));
    } catch (error) {
      return complain(`It cannot be upscaled. ${error.message}`, [], "bad", { everywhere: true });
    }
    complain("");
    const seen = this.underWay();
    await this.jobs.submitted(id);
    if (!seen) this.show(id, null);
  }

  // ---- what is seen

  show(id, index) {
    const job = this.jobs.find(id);
    if (!job) return;
    const only = index === null && isOver(job) && job.pictures.length === 1 ? job.pictures[0].index : index;
    const picture = job.pictures.find((p) => p.index === only) ?? null;

    const drawn = JSON.stringify([id, only, job.state]);
    const again = this.drawn === drawn && this.root.dataset.view !== "empty";
    this.drawn = drawn;
    this.shown = { id, index: only };
    this.follow = only === null || !this.jobs.active.length;
    this.jobs.watched = picture === null && !isOver(job) ? id : null;
    const ended = isOver(job) && !job.pictures.length;
    this.root.dataset.view = picture ? "picture" : ended ? "ended" : isOver(job) ? "grid" : "pending";
    if (picture && !again) this.resultPane.picture(job, picture);
    else if (!picture && job.state === "queued") this.resultPane.waiting(this.waitingWords(job));
    else if (ended) again || this.resultPane.ended(this.progressWords(job)[0], ...this.endedButtons(job));
    else if (!picture && !isOver(job)) this.resultPane.pending(job);
    else if (!picture && !again) this.resultPane.grid(job);
    this.pictureInfo.show(job, picture, currentTab());
    finishPictureInfo(this.$(".picture-info"), job, picture, isOver(job), (...gone) => this.onDeleted(...gone));
    this.filmstrip.mark(picture ? `${id}.${picture.index}` : id);
    this.showProgress(this.lastEnded);
  }

  /** The picture that is shown below the prompt, {id, index}, or null. */
  shownPicture() {
    const job = this.shown && this.jobs.find(this.shown.id);
    const picture = job?.pictures.find((one) => one.index === this.shown.index) ?? job?.pictures[0];
    return picture ? { id: job.id, index: picture.index } : null;
  }

  endedButtons(job) {
    const button = (words, act) => {
      const node = h("button", { type: "button", class: "quiet" }, words);
      node.addEventListener("click", () => act().catch((error) => complain(`Not possible now. ${error.message}`, [], "bad", { everywhere: true })));
      return node;
    };
    const again = () => {
      complain("");
      return this.jobs.retry(job.id);
    };
    const remove = async () => {
      await getJson(`internal/jobs/${job.id}/remove`, { method: "POST" });
      this.onDeleted(job, null);
    };
    return [button("Try again", again), button("Remove", remove)];
  }

  showNewest() {
    const job = this.jobs.all.find((other) => other.pictures.length);
    if (job) this.show(job.id, isOver(job) && job.pictures.length > 1 ? null : job.pictures[0].index);
    else this.showNothing();
  }

  showNothing() {
    this.shown = null;
    this.jobs.watched = null;
    if (!this.modelsKnown) return; // what there is to do without a picture depends on them
    this.root.dataset.view = "empty";
    this.resultPane.clear();
    this.pictureInfo.clear();
    const usable = this.models.filter((model) => !model.problem);
    const model = usable.find((one) => one.name === fields().checkpoint) ?? usable[0] ?? null;
    showEmpty(this.$(".empty"), model, this.models.filter((one) => one.problem), setPrompt);
  }

  /** The line above the picture: of the job that is shown, while it is under way and when it has just ended. */
  showProgress(ended = null) {
    offerPictures(this.jobs.all.length > 0);
    this.lastEnded = ended;
    const active = this.jobs.active;
    const job = this.underWay() ?? (ended && ended.id === this.shown?.id ? ended : null);
    const bar = this.$(".job");
    document.body.toggleAttribute("data-busy", Boolean(this.underWay()));
    const next = this.skippable();
    document.body.toggleAttribute("data-skippable", Boolean(next) && (next.count - next.done > 1 || active.length > 1 || this.forever.on));
    this.engine.painting = active.some((one) => one.state === "running");
    bar.dataset.state = job?.state ?? (active.length ? "other" : "idle");
    const first = active[0];
    document.title = first?.state === "running" && preference("title_progress", true) ? `${Math.round(100 * first.progress)} % · Atelier` : "Atelier";
    this.showOthers(active.filter((one) => one.id !== job?.id));
    if (!job) {
      delete bar.dataset.job;
      this.$(".job-line i").style.width = "0";
      this.$(".job-what").replaceChildren();
      return;
    }
    bar.dataset.job = job.id;
    const percent = Math.round(100 * job.progress);
    this.$(".job-line").setAttribute("aria-valuenow", percent);
    this.$(".job-line i").style.width = `${percent}%`;
    this.$(".job-what").replaceChildren(...this.progressWords(job));
    const left = !isOver(job) && job.eta_s !== null ? `${duration(job.eta_s)} left` : "";
    this.$(".job-left").prepend(left && this.$(".job-left").textContent ? `${left} · ` : left);
  }

  /** Jobs beside the one that the line is about: how many, and where a picture that is finished is seen, the way to them. */
  showOthers(others) {
    const place = this.$(".job-left");
    if (!others.length) return place.replaceChildren();
    if (this.underWay()) return place.replaceChildren(`${others.length} more in line`);
    const words = `${others.length} ${others[0].state === "running" ? "being painted" : "in line"}: show`;
    const there = place.querySelector("button"); // stays, as it may be about to be pressed
    if (there) there.textContent = words;
    else place.replaceChildren(h("button", { type: "button", class: "show-running", onclick: () => this.jobs.active[0] && this.show(this.jobs.active[0].id, null) }, words));
  }

  /** Of a job that is shown and not begun: its place, and the time until it is finished. */
  waitingWords(job) {
    const words = job.paused ? "Paused" : this.progressWords(job)[0];
    return job.eta_s === null ? words : `${words}, finished in ${duration(job.eta_s)}`;
  }

  progressWords(job) {
    const step = job.request.upscaler_1 ? tileWords(job) : stepWords(job);
    if (job.held && ["queued", "running"].includes(job.state)) return [`Waiting: ${job.held}`];
    if (job.state === "queued") {
      if (this.engine.state && this.engine.state.state !== "ready") return [this.engine.state.message];
      return [job.position > 0 ? `In line, ${job.position} ahead` : "Next in line"];
    }
    if (job.state === "running" && job.doing) return [job.doing];
    if (job.state === "running" && this.engine.state && (this.engine.busy || this.engine.state.state !== "ready")) {
      return [this.engine.state.message];
    }
    if (job.state === "running" && job.count === 1) return [step];
    if (job.state === "running") return [h("b", {}, `${job.done} of ${job.count} finished`), ` · ${step}`];
    const words = { done: "Finished", cancelled: "Cancelled", failed: "Failed", lost: "Lost" };
    return [words[job.state]];
  }
}

/** Where the picture that is furthest is: its step, in its pass where there are two. */
function stepWords({ step, steps, stage, stages, stage_step: inStage, stage_steps: ofStage }) {
  if (stages === 1) return `Step ${step} of ${steps}`;
  const name = stages === 2 ? `${["First", "Second"][stage - 1]} pass` : `Stage ${stage} of ${stages}`;
  return `${name}, step ${inStage} of ${ofStage}`;
}

/** Where a picture is that is only enlarged. */
const tileWords = ({ step, steps }) => (steps > 1 ? `Tile ${step} of ${steps}` : "Being enlarged");

/** How a job ended, for screen readers. */
function ending({ state, count, pictures }) {
  const many = pictures.length;
  const finished = many === 1 ? "The picture is finished." : `${many} pictures are finished.`;
  if (state === "done") return finished;
  const some = many ? ` ${many} of ${count} pictures are finished.` : "";
  return { cancelled: "Cancelled.", failed: "Failed.", lost: "The job was lost." }[state] + some;
}

// The tools of the Models tab: forms that make model files of model files, the runs with their progress, and what can be converted.
// `startTools` fills an element; it asks the server only while that is seen.  The forms' fields are `FORMS` (tool_forms.js).

import { getJson, h, visible } from "../dom.js";
import { bytes } from "./routes.js";
import { ToolForm } from "./tool_form.js";
import { FORMS } from "./tool_forms.js";

const SOON_MS = 700; // between two looks at a run that is under way
const URL = "internal/model-tools";
const STATES = { queued: "Waiting", running: "Working", done: "Done", failed: "Failed", cancelled: "Cancelled" };

export function startTools(root) {
  return new Tools(root);
}

/** POST of JSON; the answer, or an exception with the server's own words. */
function send(path, data = {}) {
  return getJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(data) });
}

class Tools {
  constructor(root) {
    this.root = root;
    this.rows = new Map(); // run id -> its element
    this.states = new Map();
    this.sources = { checkpoints: [], loras: [], vaes: [], pickles: [], folders: [] };
    this.timer = null;
    this.build();
    document.addEventListener("atelier:tab", () => this.look());
    new IntersectionObserver(() => this.look()).observe(root);
    this.look();
  }

  build() {
    this.pick = h("select", { id: "tools_pick" }, ...Object.entries(FORMS).map(([tool, { label }]) => h("option", { value: tool }, label)));
    this.pick.addEventListener("change", () => this.show(this.pick.value));
    this.place = h("div", { class: "tools-form" });
    this.pickles = h("section", { class: "tools-pickles", "aria-labelledby": "tools_pickles", hidden: true });
    this.folders = h("section", { class: "tools-pickles", "aria-labelledby": "tools_folders", hidden: true });
    this.list = h("ul", { class: "tools-runs", "aria-label": "Runs" });
    this.others = h("p", { class: "tools-others", hidden: true });
    this.status = h("p", { class: "sr-only", role: "status" });
    this.problem = h("p", { class: "tools-problem", role: "alert", hidden: true });
    this.body = h(
      "div",
      { class: "tools-body" },
      h("div", { class: "tools-make" }, h("label", { for: "tools_pick" }, "What to make"), this.pick, this.place),
      h("div", { class: "tools-side" }, h("h3", {}, "Runs"), this.others, this.list, this.pickles, this.folders),
    );
    this.root.classList.add("tools");
    this.root.replaceChildren(this.problem, this.status, this.body);
    this.show("merge");
  }

  show(tool) {
    this.form = new ToolForm(tool, this.sources, (fields) => this.start(fields), (source) => send(`${URL}/look`, { source }));
    this.place.replaceChildren(this.form.element);
  }

  /** Ask what there is, when this is seen; and again for as long as something is under way. */
  async look() {
    if (!visible(this.root) || this.looking) return;
    clearTimeout(this.timer);
    this.looking = true;
    try {
      if (!this.known) await this.loadSources();
      await this.loadRuns();
      this.complain("");
    } catch (error) {
      this.body.hidden = !this.known;
      this.complain(error.message);
      this.timer = setTimeout(() => this.look(), 10 * SOON_MS);
    } finally {
      this.looking = false;
    }
  }

  async loadSources() {
    this.sources = await getJson(`${URL}/sources`);
    this.known = true;
    this.body.hidden = false;
    this.form.offer(this.sources);
    this.showPickles();
  }

  async loadRuns() {
    const { runs, others } = await getJson(URL);
    let made = false;
    for (const run of runs) {
      const before = this.states.get(run.id);
      if (before && before !== run.state && run.state !== "running") {
        this.status.textContent = words(run);
        made ||= run.state === "done";
      }
      this.states.set(run.id, run.state);
    }
    this.showRuns(runs);
    this.others.hidden = !others;
    this.others.textContent = `${others} of other administrators ${others === 1 ? "is" : "are"} under way or waiting too.`;
    if (made) {
      await this.loadSources();
      document.dispatchEvent(new Event("atelier:models-changed"));
    }
    if (runs.some(unfinished)) this.timer = setTimeout(() => this.look(), SOON_MS);
  }

  async start(fields) {
    const run = await send(URL, fields);
    this.status.textContent = `${run.title} was started.`;
    await this.look();
    return run;
  }

  async act(run, what) {
    try {
      await send(`${URL}/${run.id}/${what}`);
      if (what === "forget") this.list.parentElement.querySelector("h3").focus?.();
      await this.look();
    } catch (error) {
      this.complain(error.message);
    }
  }

  complain(text) {
    this.problem.hidden = !text;
    this.problem.textContent = text;
  }

  // ---- what is seen of it

  showRuns(runs) {
    const kept = new Set(runs.map((run) => run.id));
    for (const [id, row] of this.rows) {
      if (kept.has(id)) continue;
      row.remove();
      this.rows.delete(id);
    }
    runs.forEach((run, place) => {
      let row = this.rows.get(run.id);
      if (!row || row.dataset.state !== run.state) {
        const held = row?.contains(document.activeElement);
        const fresh = this.row(run);
        row ? row.replaceWith(fresh) : this.list.insertBefore(fresh, this.list.children[place] ?? null);
        this.rows.set(run.id, (row = fresh));
        if (held) row.querySelector("button")?.focus();
      }
      if (run.state === "running") {
        row.querySelector("progress").value = run.progress;
        row.querySelector(".tools-doing").textContent = `${Math.round(run.progress * 100)} % ${run.doing}`;
      }
    });
    this.list.hidden = !runs.length;
  }

  row(run) {
    const name = targetOf(run);
    const button = unfinished(run) ? ["cancel", "Cancel"] : ["forget", "Remove"];
    return h(
      "li",
      { "data-run": run.id, "data-state": run.state },
      h("div", { class: "tools-run" }, h("b", {}, name), h("span", { class: "tools-state" }, STATES[run.state])),
      h("p", { class: "tools-what" }, `${run.title}: ${inputs(run)}`),
      run.state === "running" ? h("progress", { max: 1, value: run.progress, "aria-label": `${name}: progress` }) : null,
      run.state === "running" ? h("p", { class: "tools-doing" }) : null,
      run.error ? h("p", { class: "tools-error" }, sentence(run.error)) : null,
      ...run.notes.map((note) => h("p", { class: "tools-note" }, sentence(note))),
      h("button", { type: "button", "aria-label": `${button[1]} ${name}`, onclick: () => this.act(run, button[0]) }, button[1]),
    );
  }

  showPickles() {
    this.showConvertible(
      this.pickles, this.sources.pickles, "tools_pickles", "Pickles in your folders",
      "They are not read, because opening one can run programs. Converting opens it in a closed-off process and writes a .safetensors file beside it.",
    );
    this.showConvertible(
      this.folders, this.sources.folders, "tools_folders", "Folders in diffusers’ layout",
      "They are painted with and merged as they are. Converting writes a single .safetensors file beside one, for programs that read no folders.",
    );
  }

  showConvertible(section, all, id, title, about) {
    const open = all.filter((each) => !each.converted);
    section.hidden = !open.length;
    if (!open.length) return section.replaceChildren();
    section.replaceChildren(
      h("h3", { id }, title),
      h("p", { class: "tools-about" }, about),
      h("ul", {}, ...open.map((each) => this.convertible(each))),
    );
  }

  convertible(each) {
    const error = h("p", { class: "tools-error", role: "alert", hidden: true });
    const convert = async (event) => {
      event.target.disabled = true;
      try {
        await this.start({ tool: "convert", file: each.name });
      } catch (problem) {
        error.hidden = false;
        error.textContent = sentence(problem.message);
        event.target.disabled = false;
      }
    };
    const button = h("button", { type: "button", "aria-label": `Convert ${each.name}`, onclick: convert }, "Convert");
    return h("li", {}, h("span", {}, each.name, h("small", {}, ` ${bytes(each.size)}`)), button, error);
  }
}

const unfinished = (run) => run.state === "queued" || run.state === "running";
const targetOf = ({ file, tool, request }) => file || (tool === "get" ? expected(request) : targetName(request));
const expected = ({ output, file, source }) => output || (file !== "model_index.json" && file ? file : source.split(/[?#]/)[0].replace(/\/+$/, "")).split("/").pop();
const targetName = (request) => `${(request.output ?? request.file.split("/").pop()).replace(/\.(ckpt|pt|pth|bin)$/i, "")}.safetensors`;
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const words = (run) => `${targetOf(run)}: ${STATES[run.state].toLowerCase()}. ${run.error ? sentence(run.error) : ""}`;

/** Without a link's query, which may hold a token. */
const shownSource = (source) => (/^https?:/i.test(source) ? source.split(/[?#]/)[0] : source);

/** What a run works on. */
function inputs({ request }) {
  const loras = (request.loras ?? []).map((each) => each.name);
  if (request.source) return [shownSource(request.source), request.file].filter(Boolean).join(", ");
  return [request.a, request.b, request.c, request.base, request.tuned, request.checkpoint, ...loras, request.file].filter(Boolean).join(" + ");
}

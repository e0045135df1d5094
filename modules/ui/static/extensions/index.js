// The Extensions tab: what is here, switched on and off, and what can be got, in two steps: look, then install.  It is filled when it is seen
// first, and anew each time it is seen.  Everything that an extension says of itself goes into the page as text.

import { currentTab } from "../tabs.js";
import { card } from "./card.js";
import { proposalPanel } from "./proposal.js";
import { extensions } from "./routes.js";
import { startStates, took } from "./states.js";

/** `jobs` as in results/jobs.js. */
export function startExtensions(jobs) {
  const root = document.querySelector(".extensions-tab");
  if (root) new ExtensionsTab(root);
  startStates(jobs);
}

class ExtensionsTab {
  constructor(root) {
    this.root = root;
    this.$ = (selector) => root.querySelector(selector);
    this.$(".extensions-ask").addEventListener("submit", (event) => {
      event.preventDefault();
      const address = this.$("#extensions_address").value.trim();
      if (address) this.look(() => extensions.propose(address), "Fetching …");
      else this.complain("Give the address of a git repository.");
    });
    const file = this.$("input[type=file]");
    this.$(".extensions-zip").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const [zip] = file.files;
      if (zip) this.look(() => extensions.proposeZip(zip), "Reading …").finally(() => (file.value = ""));
    });
    document.addEventListener("atelier:extensions", ({ detail }) => this.show(detail));
    document.addEventListener("atelier:tab", () => currentTab() === "extensions" && this.load());
    if (currentTab() === "extensions") this.load();
  }

  async load() {
    try {
      took(await extensions.list());
      this.complain("");
    } catch (error) {
      this.complain(error.message);
    }
  }

  complain(words) {
    const place = this.$(".extensions-bad");
    place.textContent = words;
    place.hidden = !words;
  }

  say(words) {
    this.$(".extensions-note").textContent = words;
  }

  show({ extensions: list, may_edit: rules, refusal }) {
    const focused = document.activeElement?.closest?.("[data-extension]")?.dataset.extension;
    const act = rules && !refusal ? (what, view) => this.act(what, view) : null;
    this.$(".extensions-list").replaceChildren(...list.map((view) => card(view, act)));
    if (focused) this.$(`[data-extension="${CSS.escape(focused)}"] button`)?.focus();
    const none = this.$(".extensions-none");
    none.hidden = list.length > 0;
    none.textContent = rules
      ? "None yet. Get one here, put a folder into extensions/, or write one: python3 webui.py extension new NAME."
      : "None. An administrator can add some.";
    this.$(".extensions-get").hidden = !rules;
    this.$(".extensions-ask").hidden = Boolean(refusal);
    this.$(".extensions-refusal").hidden = !refusal;
    this.$(".extensions-refusal").textContent = refusal;
  }

  async act(what, view) {
    if (what === "update") return this.look(() => extensions.update(view.name), `Looking for an update of ${view.title} …`);
    if (what === "remove" && !confirm(`Remove “${view.title}”? Its folder goes into the trash of the data folder; pictures keep what they say of it.`)) return;
    this.complain("");
    this.busy(true);
    try {
      took(await extensions[what](view.name));
      this.say(`${{ enable: "The extension is switched on.", disable: "The extension is switched off.", remove: "The extension is removed." }[what]}${restarts(what, view)}`);
    } catch (error) {
      await this.load();
      this.complain(error.message);
    } finally {
      this.busy(false);
    }
  }

  busy(on) {
    this.root.toggleAttribute("aria-busy", on);
    for (const button of this.root.querySelectorAll("button")) button.disabled = on;
  }

  /** Fetch what `fetch` finds and show it; nothing of it runs. */
  async look(fetch, words) {
    this.complain("");
    this.say(words);
    this.busy(true);
    try {
      const found = await fetch();
      this.say("");
      this.propose(found);
    } catch (error) {
      this.say("");
      this.complain(error.message);
    } finally {
      this.busy(false);
    }
  }

  propose(found) {
    const place = this.$(".extensions-proposal");
    const end = () => place.replaceChildren();
    const install = async () => {
      const view = await extensions.accept(found.token);
      end();
      this.$("#extensions_address").value = "";
      await this.load();
      this.say(view.state === "on" ? "The extension is here." : "The extension is here, switched off.");
    };
    const discard = () => {
      end();
      extensions.discard(found.token).catch(() => {}); // the server forgets it by itself
    };
    place.replaceChildren(...proposalPanel(found, install, discard));
    place.focus({ preventScroll: true });
    place.scrollIntoView({ block: "nearest" });
  }
}

const restarts = (what, view) =>
  view.halves.includes("engine") && (what === "enable" || view.state === "on") ? " The engine restarts for it; jobs are kept and go on." : "";

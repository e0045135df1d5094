// The Settings tab: sections of rows and panels, one below the other, with their names at the side and a search over all rows.  It is filled
// when it is seen first, and anew each time it is seen.

import { h } from "../dom.js";
import { preference, takePreferences } from "../preferences.js";
import { allowNotifications, sound } from "../results/announce.js";
import { currentTab } from "../tabs.js";
import { PresetPanel } from "./presets.js";
import { Row } from "./row.js";
import { ask } from "./routes.js";
import { StylesPanel } from "./styles.js";
import { WildcardsPanel } from "./wildcards.js";

const OPTIONS = "A1111's options, for API calls of yours";

/** `send` is the bridge's (main.js). */
export function startSettings(send) {
  const root = document.querySelector(".settings-tab");
  if (root) new Settings(root, send);
}

class Settings {
  constructor(root, send) {
    this.root = root;
    this.$ = (selector) => root.querySelector(selector);
    this.rows = new Map(); // key -> Row
    this.sections = new Map(); // name -> {element, list, link}
    this.panels = new Map([
      ["Presets of forms", new PresetPanel()],
      ["Styles", new StylesPanel(() => send("choose", { styles: true }))],
      ["Wildcards", new WildcardsPanel()],
    ]);
    this.$(".settings-find").addEventListener("input", () => this.search());
    document.addEventListener("keydown", (event) => this.onKey(event));
    document.addEventListener("atelier:tab", () => currentTab() === "settings" && this.load());
    if (currentTab() === "settings") this.load();
  }

  onKey(event) {
    if (event.key !== "/" || currentTab() !== "settings" || event.ctrlKey || event.altKey || event.metaKey) return;
    if (document.querySelector("dialog[open]") || event.target.closest?.("input, textarea, select")) return;
    event.preventDefault();
    this.$(".settings-find").focus();
  }

  async load() {
    try {
      const [preferences, server, options] = await Promise.all([
        ask("internal/preferences"), ask("internal/settings"), ask("sdapi/v1/options").catch(() => null),
      ]);
      this.showPreferences(preferences);
      for (const [name, panel] of this.panels) this.section(name, panel.element);
      this.showServer(server);
      if (options) this.showOptions(server.options, options);
      this.bad(server.problem);
      this.search();
    } catch (error) {
      this.bad(error.message);
    }
    for (const [name, panel] of this.panels) panel.load().catch((error) => panel.complain(`${name}: ${error.message}`));
  }

  bad(words) {
    const place = this.$(".settings-bad");
    place.textContent = words;
    place.hidden = !words;
  }

  say(words) {
    this.$(".settings-said").textContent = words;
  }

  /** A section by its name, made when it is asked for first. */
  section(name, panel = null) {
    if (this.sections.has(name)) return this.sections.get(name);
    const id = `settings_group_${this.sections.size}`;
    const list = panel ?? h("div", { class: "settings-rows" });
    const element = h("section", { "aria-labelledby": id }, h("h2", { id, tabindex: "-1" }, name), list);
    const link = h("button", { type: "button", onclick: () => this.goTo(element) }, name);
    this.sections.set(name, { element, list, link, panel });
    this.$(".settings-list").append(element);
    this.$(".settings-groups").append(link);
    return this.sections.get(name);
  }

  goTo(section) {
    const main = this.$(".settings-main"); // on a phone it is the page that scrolls
    if (getComputedStyle(main).overflowY === "auto") main.scrollTop += section.getBoundingClientRect().top - main.getBoundingClientRect().top;
    else section.scrollIntoView({ block: "start" });
    section.querySelector("h2").focus({ preventScroll: true });
  }

  put(key, section, about, keep, reset) {
    const there = this.rows.get(key);
    if (there) {
      if (document.activeElement !== there.control && there.error.hidden) there.show(about);
      return;
    }
    const row = new Row(key.replace(".", "_"), about, keep, reset);
    this.rows.set(key, row);
    this.section(section).list.append(row.element);
  }

  // ---- one's own

  showPreferences(rows) {
    takePreferences(rows);
    const keep = (name) => async (value) => {
      if (name === "notification" && value) await allowNotifications();
      const now = await ask("internal/preferences", { [name]: value });
      takePreferences(now);
      if ((name === "sound" && value) || (name === "sound_volume" && preference("sound"))) sound(preference("sound_volume"));
      this.say("Kept.");
      return now.find((row) => row.name === name);
    };
    for (const row of rows) this.put(`mine.${row.name}`, row.group, row, keep(row.name), () => keep(row.name)(null));
  }

  // ---- the server's

  showServer({ rows, file }) {
    const write = (name, body) => async () => {
      const now = await ask("internal/settings", { name, ...body });
      this.showServer(now);
      this.say("Kept.");
      return this.serverRow(now.rows.find((row) => row.name === name), now.file);
    };
    for (const row of rows) {
      const about = this.serverRow(row, file);
      this.put(`server.${row.name}`, row.group, about, (value) => write(row.name, { value })(), write(row.name, { reset: true }));
    }
  }

  serverRow(row, file) {
    const origin = { default: "", file: `From the file ${row.given_by || file}.`, environment: `From ${row.given_by}.`, "command line": `From ${row.given_by}.` };
    return { ...row, from: origin[row.source], resettable: row.source === "file" };
  }

  // ---- A1111's options, each user's own

  showOptions(options, values) {
    const keep = (option) => async (value) => {
      await ask("sdapi/v1/options", { [option.name]: value });
      const now = await ask("sdapi/v1/options");
      this.say("Kept.");
      return { ...option, value: now[option.name] };
    };
    for (const option of options) {
      const about = { ...option, value: values[option.name], group: OPTIONS };
      this.put(`option.${option.name}`, OPTIONS, about, keep(option), () => keep(option)(option.default));
    }
  }

  // ---- search

  search() {
    const words = this.$(".settings-find").value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const row of this.rows.values()) {
      row.element.hidden = !words.every((word) => row.words.includes(word));
      found += row.element.hidden ? 0 : 1;
    }
    for (const [name, { element, list, link, panel }] of this.sections) {
      const hit = panel ? words.every((word) => `${name} ${atelierText(name)}`.toLowerCase().includes(word)) : [...list.children].some((each) => !each.hidden);
      found += panel && hit ? 1 : 0;
      element.hidden = link.hidden = !hit;
    }
    this.$(".settings-none").hidden = found > 0 || !this.rows.size;
  }
}

// The page in the language that the user has set, or else the browser has: every text that appears is looked up in that language's file, by
// its English, and put in its place before it is painted.  A classic script in the head, before Gradio's: texts that Gradio is going to make
// are translated in its configuration, so that nothing is seen in English first.
//
// What is data stays as it is: fields and their values, what stands in `code`, `pre` and `kbd`, in elements with translate="no", and DATA.

(() => {
  const NAMES = { English: "en", 简体中文: "zh-CN", 日本語: "ja", Deutsch: "de", Español: "es" };
  const FILES = ["zh-CN", "ja", "de", "es"];
  const ATTRIBUTES = ["title", "placeholder", "aria-label", "aria-description", "aria-valuetext", "alt"];
  const DATA = [
    "script, style, code, kbd, pre, textarea, svg, [translate=no], [contenteditable]",
    ".title:not(.none), .chip, .motifs p, .card-name, .adapter-name, .look-words, .look-panel h2, .look-panel dd",
    ".pnginfo-table tbody, .pnginfo-words p, .editor-text, .editor-drawn, .detail-words, .labels-chips, .reading-area .part",
  ].join(", ");
  /** Lists whose choices are names of files and the like; these choices of theirs are words. */
  const NAMED = /_(checkpoint|vae|refiner|styles|sampler|schedule|hires_upscaler)$/;
  const WORDS = new Set(["None", "Automatic", "Same as the first pass"]);

  const language = chosen();
  document.documentElement.lang = language;
  // Gradio has its own texts in these languages and asks the browser for the one to take.
  if (!navigator.language.startsWith(language)) Object.defineProperty(navigator, "language", { get: () => language, configurable: true });

  function chosen() {
    let set;
    try {
      set = NAMES[JSON.parse(localStorage.getItem("atelier.preferences") ?? "{}")?.language];
    } catch {
      /* forbidden or damaged: then the browser's */
    }
    return set ?? ofBrowser();
  }

  function ofBrowser() {
    for (const tag of navigator.languages ?? []) {
      const short = tag.toLowerCase().split("-")[0];
      const found = short === "en" ? "en" : FILES.find((name) => name.toLowerCase().split("-")[0] === short);
      if (found) return found;
    }
    return "en";
  }

  // A page knows its user's settings when the server has answered: where they say another language than this browser kept, it begins anew.
  document.addEventListener("atelier:preferences", () => chosen() !== language && location.reload());
  window.atelierText = (text) => text;
  if (!FILES.includes(language)) return;

  // ---- the texts of the file

  const exact = new Map();
  const loose = new Map(); // without the dot at the end, and with a small first letter
  const patterns = new Map(); // by their first word, "" for those that begin with a value
  const known = new Map(); // what was looked up already
  const cjk = language === "ja" || language === "zh-CN";

  const undotted = (text) => text.replace(/(?<!\.)\.$/, "");
  const bare = (text) => undotted(text.slice(0, 1).toLowerCase() + text.slice(1));
  const firstWord = (text) => /^[^\s{},.:;]+/.exec(text)?.[0].toLowerCase() ?? "";
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

  function take(file) {
    for (const [key, value] of Object.entries(file)) {
      exact.set(key, value);
      loose.set(bare(key), value);
      if (/\{\d+\}|^[,;]/.test(key)) takePattern(key, value);
    }
    for (const list of patterns.values()) list.sort((a, b) => b.length - a.length);
  }

  /** `free`: enough words of its own that any values may stand in it; else they are numbers or texts of the file. */
  function takePattern(key, value) {
    if (/^[,;]/.test(key)) [key, value] = [`{0}${key}`, `{0}${value}`];
    const parts = undotted(key).split(/\{(\d+)\}/);
    const values = parts.filter((_, i) => i % 2).map(Number);
    const own = parts.filter((_, i) => i % 2 === 0);
    const literal = own.join(" ");
    const count = (literal.match(/[A-Za-z]{2,}/g) ?? []).length;
    const first = own[0].replace(/^[A-Za-z]/, "");
    const begin = first === own[0] ? "" : `[${own[0][0].toLowerCase()}${own[0][0].toUpperCase()}]`;
    const source = `^${begin}${[first, ...own.slice(1)].map(escaped).join("([^]*?)")}\\.?$`;
    const needle = [first, ...own.slice(1)].reduce((a, b) => (b.length > a.length ? b : a));
    const quoted = values.map((_, i) => /['"“_]$/.test(own[i]) && /^['"”_]/.test(own[i + 1]));
    const starts = /^[A-Z][a-z]/.test(key);
    const one = { source, needle, regex: null, values, value, quoted, free: count > 2 || (count > 1 && /[.?;]/.test(key)) || (count > 0 && /:/.test(literal)), starts, length: literal.length };
    const word = own[0] ? firstWord(own[0]) : "";
    if (!patterns.has(word)) patterns.set(word, []);
    patterns.get(word).push(one);
  }

  // ---- looking up

  /** `text` in the language, or null where it is no text of the file. */
  function translated(text, inside = false) {
    const id = `${inside ? 1 : 0}${text}`;
    if (known.has(id)) return known.get(id);
    let found = text.length > 3000 || !/[A-Za-z]/.test(text) ? null : exact.get(text) ?? null;
    if (found === null && /[A-Za-z]/.test(text) && text.length <= 3000) {
      const value = loose.get(bare(text));
      found = value === undefined ? (joined(text, true) ?? matched(text, inside) ?? behindName(text) ?? joined(text, false)) : fitted(value, text);
    }
    if (known.size > 5000) known.clear();
    known.set(id, found);
    return found;
  }

  /** As `text` begins and ends: with a capital, with a dot. */
  function fitted(value, text) {
    return dotted(/^[A-Z]/.test(text) ? value.slice(0, 1).toUpperCase() + value.slice(1) : value, text);
  }

  function dotted(out, text) {
    const dot = /[^.]\.$/.test(text);
    if (dot && !/[.。!?！？…]$/.test(out)) return out + (cjk ? "。" : ".");
    return !dot && /[^.]\.$|。$/.test(out) ? out.slice(0, -1) : out;
  }

  function matched(text, inside) {
    let best = null;
    for (const word of new Set([firstWord(text), ""])) {
      for (const one of patterns.get(word) ?? []) {
        if (!text.includes(one.needle)) continue;
        const match = (one.regex ??= new RegExp(one.source)).exec(text);
        const found = match && valuesOf(one, match.slice(1), inside);
        if (found && (!best || found.unknown < best.unknown)) best = { one, ...found };
        if (best?.unknown === 0) break;
      }
    }
    if (!best) return null;
    const value = /^[A-Z]/.test(text) ? best.one.value.slice(0, 1).toUpperCase() + best.one.value.slice(1) : best.one.value;
    return dotted(value.replace(/\{(\d+)\}/g, (_, number) => best.values.get(Number(number)) ?? ""), text);
  }

  /** What stands in the places of a text, and how many letters of it are in no file; null where something may not stand there. */
  function valuesOf(one, given, inside) {
    const values = new Map();
    let unknown = 0;
    const any = one.free || (one.starts && !inside);
    for (const [i, number] of one.values.entries()) {
      const piece = given[i];
      const words = piece.trim();
      const own = one.quoted[i] || !words ? null : translated(words, true);
      const figure = /^[\d.,:×x%/+−\s-]*$/.test(words);
      if (own === null && !any && !figure) return null;
      if (own === null && !figure) unknown += one.quoted[i] ? 1 : words.length;
      values.set(number, own === null ? piece : piece.replace(words, () => own));
    }
    return { values, unknown };
  }

  /** "NAME: what is wrong with it", and "Label what is wrong with it" as the forms put it. */
  function behindName(text) {
    const colon = text.indexOf(": ");
    if (colon > 0 && colon < 60) {
      const rest = translated(text.slice(colon + 2), true);
      if (rest !== null) return `${translated(text.slice(0, colon), true) ?? text.slice(0, colon)}${cjk ? "：" : ": "}${rest}`;
    }
    const words = text.split(" ");
    for (let count = Math.min(5, words.length - 2); count > 0; count--) {
      const label = exact.get(words.slice(0, count).join(" "));
      const rest = words.slice(count).join(" ");
      if (label === undefined || !/^(must|it must|has|is|cannot)\b/.test(rest)) continue;
      const said = translated(rest, true);
      if (said !== null) return `${label}${cjk ? "：" : " "}${said.slice(0, 1).toLowerCase()}${said.slice(1)}`;
    }
    return null;
  }

  /** Sentences behind each other, and what stands between dots, semicolons and commas: if `all` of them, or some, are texts of the file. */
  function joined(text, all) {
    for (const [split, glue] of [[/(?<=[.?!…]) (?=[A-Z“'"\d{])/, cjk ? "" : " "], [/ · /, " · "], [/; /, cjk ? "；" : "; "], [/, /, cjk ? "、" : ", "]]) {
      const isList = split.source === ", ";
      if (all && isList) continue;
      const pieces = text.split(split);
      if (pieces.length < 2 || pieces.length > 40) continue;
      const found = pieces.map((piece) => translated(piece, true));
      if (all || isList ? found.every((one) => one !== null) : found.some((one) => one !== null)) {
        return found.map((one, i) => one ?? pieces[i]).join(glue);
      }
    }
    return null;
  }

  /** Blanks around a text stay. */
  function ofText(text) {
    const words = text.trim().replace(/\s+/g, " ");
    const found = words && translated(words);
    return found ? /^\s*/.exec(text)[0] + found + /\s*$/.exec(text)[0] : null;
  }

  // ---- the document

  const shown = new WeakMap(); // node -> what was put there

  function setText(node) {
    if (shown.get(node) === node.data) return;
    const found = ofText(node.data);
    if (found === null || found === node.data) return;
    const option = node.parentElement;
    if (option?.localName === "option" && !option.hasAttribute("value")) option.setAttribute("value", node.data);
    shown.set(node, found);
    node.data = found;
  }

  function setAttribute(element, name) {
    const text = element.getAttribute(name);
    const before = shown.get(element) ?? {};
    if (!text || before[name] === text) return;
    const found = ofText(text);
    if (found === null || found === text) return;
    shown.set(element, { ...before, [name]: found });
    element.setAttribute(name, found);
  }

  const dataAround = (node) => (node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement)?.closest(DATA);

  function setAll(root) {
    if (root.nodeType === Node.TEXT_NODE) return dataAround(root) ? undefined : setText(root);
    if (root.nodeType !== Node.ELEMENT_NODE) return undefined;
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, {
      acceptNode: (node) => (node.nodeType === Node.ELEMENT_NODE && node.matches(DATA) && !node.matches("textarea") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT),
    });
    if (dataAround(root) && !root.matches("textarea")) return undefined;
    for (let node = root; node; node = walker.nextNode()) {
      if (node.nodeType === Node.TEXT_NODE) node.parentElement?.localName !== "textarea" && setText(node);
      else for (const name of ATTRIBUTES) if (node.hasAttribute(name)) setAttribute(node, name);
    }
    return undefined;
  }

  function onChange(records) {
    for (const { type, target, attributeName, addedNodes } of records) {
      if (type === "childList") addedNodes.forEach(setAll);
      else if (type === "characterData") setAll(target);
      else if (!dataAround(target) || target.localName === "textarea") setAttribute(target, attributeName);
    }
  }

  // ---- Gradio's configuration

  const word = (value) => (typeof value === "string" ? (ofText(value) ?? value) : value);

  function setConfiguration(config) {
    for (const { type, props } of config?.components ?? []) {
      if (!props) continue;
      for (const name of ["label", "info", "placeholder"]) if (props[name]) props[name] = word(props[name]);
      if (type === "button") props.value = word(props.value);
      const all = !NAMED.test(props.elem_id ?? "");
      if (Array.isArray(props.choices)) {
        props.choices = props.choices.map(([name, value]) => [all ? exact.get(name) ?? name : WORDS.has(name) ? word(name) : name, value]);
      }
    }
    return config;
  }

  function catchConfiguration() {
    let config = setConfiguration(window.gradio_config);
    Object.defineProperty(window, "gradio_config", { get: () => config, set: (value) => (config = setConfiguration(value)), configurable: true });
  }

  for (const name of ["alert", "confirm", "prompt"]) {
    const ask = window[name].bind(window);
    window[name] = (text, ...more) => ask(word(text), ...more);
  }

  /** Called by the language's file, which stands right behind this script. */
  window.atelierLanguage = (file) => {
    if (!file) {
      document.documentElement.lang = "en";
      return;
    }
    take(file);
    window.atelierText = word;
    catchConfiguration();
    setAll(document.documentElement);
    new MutationObserver(onChange).observe(document.documentElement, {
      subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ATTRIBUTES,
    });
  };
  document.write(`<script src="${new URL(`${language}.js`, document.currentScript.src)}"><` + "/script>");
})();

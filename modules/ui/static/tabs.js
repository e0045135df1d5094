// The tab bar: which tab is seen, by click, by keyboard and by the address.  Every tab stays in the document; the style sheet shows
// the one that `data-tab` of the root names, and `data-shows` what stands below its prompt (see ui/tabs/base.py).
// It knows nothing of what tabs do: `atelier:tab` tells who wants to know.

const root = document.documentElement;
const links = () => [...document.querySelectorAll("#tab_bar [role=tab]")];
const nameOf = (link) => link.hash.slice(1);

export const currentTab = () => root.dataset.tab;
export const hasTab = (name) => links().some((link) => nameOf(link) === name);

/** Show a tab.  A step in the browser's history, so that Back goes back. */
export function showTab(name) {
  if (!hasTab(name) || name === location.hash.slice(1)) return select();
  location.hash = name;
  select(); // the event comes later, and the caller goes on now
}

export function startTabs() {
  for (const link of links()) {
    const name = nameOf(link);
    const panel = document.getElementById(`${name}_panel`);
    link.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", link.id);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new window, as with any link
      event.preventDefault();
      showTab(name);
    });
  }
  document.querySelector("#tab_bar .tabs").addEventListener("keydown", onKey);
  window.addEventListener("hashchange", select);
  select();
}

function onKey(event) {
  const all = links();
  const place = all.indexOf(document.activeElement);
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || place < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const link = all[(to + all.length) % all.length];
  link.focus();
  showTab(nameOf(link));
}

function select() {
  const all = links();
  const wanted = location.hash.slice(1) || root.dataset.tab;
  const link = all.find((one) => nameOf(one) === wanted) ?? all.find((one) => nameOf(one) === root.dataset.tab) ?? all[0];
  const name = nameOf(link);
  const before = document.querySelector("#tab_bar [aria-selected=true]");
  root.dataset.tab = name;
  root.dataset.shows = link.dataset.shows;
  for (const one of all) {
    one.setAttribute("aria-selected", String(one === link));
    one.tabIndex = one === link ? 0 : -1;
  }
  link.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone the bar is wider than the window
  try {
    localStorage.setItem("atelier.tab", name);
  } catch {
    /* forbidden: then the address alone knows */
  }
  if (before === link) return;
  for (const area of document.querySelectorAll(`#${name}_panel textarea`)) fit(area);
  document.dispatchEvent(new CustomEvent("atelier:tab", { detail: { tab: name } }));
}

/** Gradio measures a text field when its text changes, which says nothing while it is not seen. */
function fit(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 260)}px`;
}

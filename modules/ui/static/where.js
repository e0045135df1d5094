// Which tab: the address says it, else the user's preference, else where this browser was last.  A classic script in the head, so that the page never shows
// the wrong one first; `tabs.js` takes over when the tabs are there.

(() => {
  let name = location.hash.slice(1);
  try {
    const start = JSON.parse(localStorage.getItem("atelier.preferences") ?? "{}").start_tab ?? "the last one";
    if (start !== "the last one") name ||= start;
    name ||= localStorage.getItem("atelier.tab") ?? "";
  } catch {
    /* forbidden: then the first */
  }
  if (/^\w+$/.test(name)) document.documentElement.dataset.tab = name;
})();

// What is open on top of the page, the newest last, so that Esc closes one after the other.  Panels (every <details>) are found by
// themselves; other code that opens something says so.  Dialogs are the browser's own and come before all of this.

const stack = []; // {node, close}

/** `node` is open now, and `close` would close it. */
export function opened(node, close) {
  closed(node);
  stack.push({ node, close });
}

export function closed(node) {
  const place = stack.findIndex((one) => one.node === node);
  if (place >= 0) stack.splice(place, 1);
}

/** Close what was opened last; false when nothing is open. */
export function closeNewest() {
  while (stack.length) {
    const { node, close } = stack.pop();
    if (!node.isConnected || !node.getClientRects().length) continue; // it went with its tab
    close();
    return true;
  }
  return false;
}

export function watchPanels() {
  document.addEventListener("toggle", ({ target }) => notePanel(target), true);
  // "toggle" comes a task after the panel has opened, and Esc may come before it: it would cancel the job
  const changed = new MutationObserver((changes) => changes.forEach(({ target }) => notePanel(target)));
  changed.observe(document.body, { attributes: true, attributeFilter: ["open"], subtree: true });
}

function notePanel(panel) {
  if (!(panel instanceof HTMLDetailsElement)) return;
  if (!panel.open) return closed(panel);
  if (stack.some(({ node }) => node === panel)) return;
  opened(panel, () => {
    const within = panel.contains(document.activeElement);
    panel.open = false;
    if (within) panel.querySelector("summary")?.focus();
  });
}

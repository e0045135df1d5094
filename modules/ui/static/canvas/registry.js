// Canvases by name, for the rest of the page: a handle is there from the beginning, the canvas when its tab is.  What is loaded before
// waits for it.

const canvases = new Map(); // name -> {open, waiting}

function entry(name) {
  if (!canvases.has(name)) canvases.set(name, { open: null, waiting: [] });
  return canvases.get(name);
}

/** Called by a canvas when it can be used. */
export function register(name, api) {
  const here = entry(name);
  here.open = api;
  for (const go of here.waiting.splice(0)) go(api);
}

/** The handle of the canvas `name`:
 *
 * flush(): Promise<string>, JSON of a request's fields {source, mask, box, outpaint_*}, "" when empty; rejects with words for the user
 * load(what, {keepMask}): Promise<boolean>, `what` a File or Blob, or {url} or {id} with, if wanted, {mask: id, box, outpaint_*}
 * setOutpaint({left, right, up, down}), pixels, as by hand; clear(), undo(), redo()
 * size(): {width, height, outpaint} or null;  box(): [x, y, width, height] or null;  hasMask(): boolean
 * view(): {scale, x, y}, CSS pixels per pixel and the picture's corner on the viewport, or null
 * setCandidates([{url, label}], {selected}), clearCandidates(): results to choose from, shown in place of the picture
 */
export function canvas(name) {
  const later = (use) => {
    const { open, waiting } = entry(name);
    return open ? Promise.resolve(use(open)) : new Promise((resolve) => waiting.push((api) => resolve(use(api))));
  };
  const now = (use, otherwise) => {
    const { open } = entry(name);
    return open ? use(open) : otherwise;
  };
  return {
    flush: () => now((api) => api.flush(), Promise.resolve("")),
    load: (what, options) => later((api) => api.load(what, options)),
    setCandidates: (all, options) => later((api) => api.setCandidates(all, options)),
    clearCandidates: () => now((api) => api.clearCandidates(), undefined),
    setOutpaint: (sides) => now((api) => api.setOutpaint(sides), undefined),
    clear: () => now((api) => api.clear(), Promise.resolve()),
    undo: () => now((api) => api.undo(), Promise.resolve()),
    redo: () => now((api) => api.redo(), Promise.resolve()),
    size: () => now((api) => api.size(), null),
    box: () => now((api) => api.box(), null),
    view: () => now((api) => api.view(), null),
    hasMask: () => now((api) => api.hasMask(), false),
  };
}

globalThis.atelier = Object.assign(globalThis.atelier ?? {}, { canvas });

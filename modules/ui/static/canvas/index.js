// Starts a canvas around the template: ties document, pointer, keys, toolbar and files together, and gives the page its handle.

import { Candidates } from "./candidates.js";
import { Drawing } from "./drawing.js";
import { catchMisses, PictureLoader } from "./load_picture.js";
import { Keyboard } from "./keyboard.js";
import { Autosave } from "./autosave.js";
import { Pointer } from "./pointer.js";
import { register } from "./registry.js";
import { sweep } from "./store.js";
import { commandsOf, Toolbar } from "./toolbar.js";

catchMisses();

/** `element` holds the template; `name` is the canvas's, `tools` one of "picture", "sketch", "inpaint". */
export async function start(element, name, tools) {
  const root = element.querySelector(".drawing");
  if (!root || root.dataset.started) return;
  root.dataset.started = "";
  const drawing = new Drawing(root, name, tools);
  const loader = new PictureLoader(drawing);
  const candidates = new Candidates(drawing, loader);
  const commands = commandsOf(drawing, loader, candidates);
  const pointer = new Pointer(drawing);
  new Toolbar(drawing, commands);
  new Keyboard(drawing, pointer, commands);
  drawing.showMask();
  const autosave = new Autosave(drawing);

  await drawing.queue(() => autosave.restore(async (blob) => (await loader.decode(blob)).bitmap)).catch(() => {
    loader.tell("What was on this canvas before could not be read again.", "note");
  });
  register(name, {
    flush: () => drawing.flush(),
    load: (what, options) => {
      candidates.clear();
      return loader.load(what, options);
    },
    setOutpaint: (sides) => drawing.extend(sides),
    clear: () => drawing.clear(),
    undo: () => drawing.undo(),
    redo: () => drawing.redo(),
    size: () => drawing.picture && { width: drawing.picture.width, height: drawing.picture.height, outpaint: { ...drawing.frame } },
    view: () => ({ scale: drawing.renderer.view.scale, x: drawing.renderer.view.x, y: drawing.renderer.view.y }),
    box: () => drawing.box && [drawing.box.x, drawing.box.y, drawing.box.width, drawing.box.height],
    hasMask: () => Boolean(drawing.mask?.painted),
    setCandidates: (all, options) => candidates.set(all, options),
    clearCandidates: () => candidates.clear(),
  });
  root.dataset.ready = ""; // for code and tests that wait for it
  sweep();
}

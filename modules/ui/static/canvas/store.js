// What is on a canvas survives a reload: the picture's file, the tiles of mask and sketch, and the small things, in IndexedDB.  Each
// browser tab keeps its own, under a number in sessionStorage; what other tabs left is deleted after a while.  Only changed tiles are
// written.  Where the browser forbids storage (private windows, full disks), painting goes on and a reload begins afresh.

const NAME = "atelier-canvas";
const KEEP_MS = 3 * 86_400_000;

let opened = null;

function database() {
  opened ??= new Promise((resolve) => {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("parts"); // keys: [tab, canvas, part, tile]
      request.onsuccess = () => {
        request.result.onversionchange = () => {
          request.result.close();
          opened = null;
        };
        resolve(request.result);
      };
      request.onerror = request.onblocked = () => resolve(null);
    } catch {
      resolve(null);
    }
  });
  return opened;
}

/** This browser tab's number.  A duplicated tab begins with the same one and shares what is kept until it is changed. */
function tabNumber() {
  try {
    const number = sessionStorage.getItem("atelier.tab") ?? `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`;
    sessionStorage.setItem("atelier.tab", number);
    return number;
  } catch {
    return null;
  }
}

const done = (request) =>
  new Promise((resolve, reject) => {
    request.oncomplete = request.onsuccess = () => resolve(request.result);
    request.onerror = request.onabort = () => reject(request.error);
  });

const part = (tab, canvas, name) => IDBKeyRange.bound([tab, canvas, name], [tab, canvas, name, Infinity]);

export class Store {
  #canvas;
  #tab = tabNumber();
  #last = Promise.resolve();

  constructor(canvas) {
    this.#canvas = canvas;
  }

  /** {meta, blob, mask: Map, sketch: Map}, or null. */
  async load() {
    const base = this.#tab && (await database());
    if (!base) return null;
    try {
      const parts = base.transaction("parts").objectStore("parts");
      const range = (name) => part(this.#tab, this.#canvas, name);
      const tiles = async (name) => {
        const [keys, values] = await Promise.all([done(parts.getAllKeys(range(name))), done(parts.getAll(range(name)))]);
        return new Map(keys.map((key, i) => [key[3], values[i]]));
      };
      const [meta, blob, mask, sketch] = await Promise.all([
        done(parts.get([this.#tab, this.#canvas, "meta"])),
        done(parts.get([this.#tab, this.#canvas, "picture"])),
        tiles("mask"),
        tiles("sketch"),
      ]);
      return meta ? { meta, blob: blob ?? null, mask, sketch } : null;
    } catch {
      return null;
    }
  }

  /** Keep `meta`; `picture` is a Blob to keep, null to forget everything, undefined when it has not changed.  `layers` are {mask,
   * sketch}, of which the unsaved tiles are written. */
  save(meta, picture, layers) {
    const writes = []; // taken now: what is painted while the disk is busy belongs to the next save
    for (const [name, layer] of Object.entries(layers)) {
      if (!layer) continue;
      for (const tile of layer.unsaved) writes.push([[this.#tab, this.#canvas, name, tile], layer.get(tile)]);
      layer.unsaved.clear();
    }
    this.#last = this.#last.then(() => this.#write(meta, picture, writes)).catch(() => {});
    return this.#last;
  }

  async #write(meta, picture, writes) {
    const base = this.#tab && (await database());
    if (!base) return;
    const transaction = base.transaction("parts", "readwrite", { durability: "relaxed" });
    const parts = transaction.objectStore("parts");
    if (picture !== undefined) {
      for (const name of ["mask", "sketch"]) parts.delete(part(this.#tab, this.#canvas, name));
      if (picture) parts.put(picture, [this.#tab, this.#canvas, "picture"]);
      else parts.delete([this.#tab, this.#canvas, "picture"]);
    }
    for (const [key, bytes] of writes) {
      if (bytes) parts.put(bytes, key);
      else parts.delete(key);
    }
    parts.put({ ...meta, saved: Date.now() }, [this.#tab, this.#canvas, "meta"]);
    await done(transaction);
  }
}

/** Delete what tabs left that were closed days ago. */
export async function sweep() {
  const base = await database();
  if (!base) return;
  try {
    const transaction = base.transaction("parts", "readwrite");
    const parts = transaction.objectStore("parts");
    for (const key of await done(parts.getAllKeys())) {
      if (key[2] !== "meta") continue;
      const meta = await done(parts.get(key));
      if (Date.now() - meta.saved > KEEP_MS) parts.delete(IDBKeyRange.bound([key[0], key[1]], [key[0], key[1], []]));
    }
  } catch {
    // nothing depends on it
  }
}

// The list of what a search finds, page by page: only the newest question counts, and a page is asked for once.

import { gallery } from "./routes.js";

const PAGE = 60;

export class PictureList extends EventTarget {
  items = [];
  ended = true;
  count = null; // null while it is not known
  error = "";
  query = { q: "", sort: "newest" };
  #next = "";
  #asked = 0;
  #busy = false;
  #abort = new AbortController();

  /** Another search, or the same again from the beginning; `quiet` keeps what is seen until the answer is there. */
  async load(changes = {}, quiet = false) {
    this.query = { ...this.query, ...changes };
    const asked = ++this.#asked;
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const wanted = quiet ? Math.min(200, Math.max(PAGE, this.items.length)) : PAGE;
    this.#busy = true;
    try {
      const page = await gallery.page({ ...this.query, limit: wanted }, { signal });
      if (asked !== this.#asked) return;
      this.#take(page, []);
      this.error = "";
    } catch (error) {
      if (asked !== this.#asked) return;
      this.error = error.message;
    }
    this.#busy = false;
    this.#tell(!quiet);
    if (this.error) return;
    const counted = await gallery.count(this.query.q, { signal }).catch(() => null);
    if (asked !== this.#asked || !counted) return;
    this.count = counted.count;
    this.#tell(false);
  }

  async more() {
    if (this.#busy || this.ended) return;
    const asked = this.#asked;
    this.#busy = true;
    try {
      const page = await gallery.page({ ...this.query, cursor: this.#next, limit: 2 * PAGE }, { signal: this.#abort.signal });
      if (asked !== this.#asked) return;
      this.#take(page, this.items);
      this.error = "";
    } catch (error) {
      if (asked !== this.#asked) return;
      this.error = error.message;
    }
    this.#busy = false;
    this.#tell(false);
  }

  #take({ items, next }, before) {
    this.items = [...before, ...items];
    this.#next = next;
    this.ended = !next;
    if (this.ended) this.count = this.items.length;
  }

  /** Pictures that are no longer found. */
  drop(ids) {
    const gone = new Set(ids);
    const before = this.items.length;
    this.items = this.items.filter(({ id }) => !gone.has(id));
    if (this.count !== null) this.count -= before - this.items.length;
  }

  replace(items) {
    const fresh = new Map(items.map((item) => [item.id, item]));
    this.items = this.items.map((item) => fresh.get(item.id) ?? item);
  }

  #tell(anew) {
    this.dispatchEvent(new CustomEvent("change", { detail: { anew } }));
  }
}

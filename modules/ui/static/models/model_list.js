// What the server finds for a query, fetched in pages as far as it is looked at.

import { models } from "./routes.js";

const PAGE = 60;

export class ModelList extends EventTarget {
  query = { kind: "", q: "", folder: "", sort: "name", checkpoint: "" };
  total = null; // null until the first answer
  kinds = {};
  folders = [];
  items = []; // with holes
  unread = 0; // files that say nothing of themselves yet
  error = "";
  #asked = new Set();
  #turn = 0; // only the newest query is shown

  /** Ask with these parts of the query changed; what is shown stays until the answer comes. */
  async load(changes = {}) {
    const changed = Object.entries(changes).some(([name, value]) => this.query[name] !== value);
    this.query = { ...this.query, ...changes };
    const turn = ++this.#turn;
    const answer = await this.#fetch(0);
    if (turn !== this.#turn) return;
    this.#asked = new Set([0]);
    if (answer instanceof Error) this.error = answer.message;
    else {
      this.error = "";
      this.items = [];
      this.#take(answer, 0);
    }
    this.dispatchEvent(new CustomEvent("change", { detail: { anew: changed } }));
  }

  /** The items from `first` to `last` are looked at. */
  async need(first, last) {
    const turn = this.#turn;
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page += 1) {
      if (this.#asked.has(page) || page * PAGE >= (this.total ?? 0)) continue;
      this.#asked.add(page);
      const answer = await this.#fetch(page * PAGE);
      if (turn !== this.#turn) return;
      if (answer instanceof Error) {
        this.#asked.delete(page); // the next look asks again
        this.error = answer.message;
      } else this.#take(answer, page * PAGE);
      this.dispatchEvent(new CustomEvent("change", { detail: { anew: false } }));
    }
  }

  /** One item is another now. */
  replace(card) {
    const place = this.items.findIndex((one) => one?.id === card.id);
    if (place < 0) return;
    this.items[place] = { ...this.items[place], ...card };
    this.dispatchEvent(new CustomEvent("change", { detail: { anew: false } }));
  }

  #take({ total, kinds, folders, items, unread = 0 }, offset) {
    Object.assign(this, { total, kinds, folders, unread });
    items.forEach((item, place) => (this.items[offset + place] = item));
  }

  #fetch(offset) {
    return models.list({ ...this.query, offset, limit: PAGE }).then((answer) => answer ?? new Error("The server has no list of models."), (error) => error);
  }
}

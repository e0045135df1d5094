// What can be taken back.  A step exchanges what is with what was; so undo and redo are the same call, and a step is told only how
// much memory it holds.  The oldest go when all together hold too much.

const LIMIT = 256 << 20; // bytes; a stroke across a picture of 4096x4096 holds about 1 MB, one of ordinary size some 100 kB

export class History {
  #done = [];
  #undone = [];
  #limit;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** `step`: {words, bytes(), swap()}, the latter possibly async. */
  push(step) {
    this.#done.push(step);
    this.#undone = [];
    let held = this.#done.reduce((sum, one) => sum + one.bytes(), 0);
    while (held > this.#limit && this.#done.length > 1) held -= this.#done.shift().bytes();
  }

  /** The step that was taken back, null when there is none. */
  async undo() {
    return this.#exchange(this.#done, this.#undone);
  }

  async redo() {
    return this.#exchange(this.#undone, this.#done);
  }

  async #exchange(from, to) {
    const step = from.at(-1);
    if (!step) return null;
    await step.swap();
    to.push(from.pop());
    return step;
  }
}

// A layer of pixels as large as the picture: bytes in plain memory, cut into tiles that can be kept and put back.  The mask is a
// layer of one byte a pixel, the colour sketch one of four (RGBA, not premultiplied).  It knows nothing of screens, tools or servers.
//
// Plain memory instead of a 2D canvas: a mask costs 1 byte a pixel and not 4, is the same to the bit in every browser, and can be
// changed while it is shown; a canvas of 4096x4096 that is drawn somewhere copies its 64 MB at the next stroke.

export const TILE = 128; // pixels of a tile's side

/** Four numbers that grow: the smallest rectangle [x0, x1) x [y0, y1) around all that was added. */
export class Region {
  constructor() {
    this.reset();
  }

  reset() {
    [this.x0, this.y0, this.x1, this.y1] = [Infinity, Infinity, -Infinity, -Infinity];
  }

  get empty() {
    return this.x1 <= this.x0 || this.y1 <= this.y0;
  }

  add(x0, y0, x1, y1) {
    this.x0 = Math.min(this.x0, x0);
    this.y0 = Math.min(this.y0, y0);
    this.x1 = Math.max(this.x1, x1);
    this.y1 = Math.max(this.y1, y1);
  }
}

export class Layer {
  constructor(width, height, channels) {
    this.width = width;
    this.height = height;
    this.channels = channels;
    this.data = new Uint8Array(width * height * channels);
    this.columns = Math.ceil(width / TILE);
    this.rows = Math.ceil(height / TILE);
    this.revision = 0; // grows with every change
    this.dirty = new Region(); // what the screen has not seen
    this.unsaved = new Set(); // tiles that the store has not seen
    this.step = null; // tiles as they were before the change under way: Map tile -> bytes
  }

  /** From here on, what is touched is remembered, until `finish`. */
  begin() {
    this.step = new Map();
  }

  /** The tiles as they were before; null when nothing was touched. */
  finish() {
    const step = this.step;
    this.step = null;
    if (step) for (const [tile, bytes] of step) step.set(tile, packed(bytes, this.channels));
    return step?.size ? step : null;
  }

  /** Say that pixels of [x0, x1) x [y0, y1), which lies in the layer, are about to change. */
  touch(x0, y0, x1, y1) {
    this.revision += 1;
    this.dirty.add(x0, y0, x1, y1);
    const last = Math.floor((x1 - 1) / TILE);
    for (let row = Math.floor(y0 / TILE); row * TILE < y1; row += 1) {
      for (let column = Math.floor(x0 / TILE); column <= last; column += 1) {
        const tile = row * this.columns + column;
        this.unsaved.add(tile);
        if (this.step && !this.step.has(tile)) this.step.set(tile, this.#copy(tile));
      }
    }
  }

  touchAll() {
    this.touch(0, 0, this.width, this.height);
  }

  /** Put kept tiles in place of what is there, and keep that in turn. */
  swap(tiles) {
    for (const [tile, bytes] of tiles) {
      const now = packed(this.#copy(tile), this.channels);
      this.put(tile, bytes);
      tiles.set(tile, now);
    }
  }

  /** `bytes` of one pixel stand for a tile of that colour. */
  put(tile, bytes) {
    const [x0, y0, x1, y1] = this.#bounds(tile);
    this.touch(x0, y0, x1, y1);
    const span = (x1 - x0) * this.channels;
    const uniform = bytes.length === this.channels;
    for (let y = y0, from = 0; y < y1; y += 1, from += span) {
      const to = (y * this.width + x0) * this.channels;
      if (!uniform) this.data.set(bytes.subarray(from, from + span), to);
      else if (this.channels === 1) this.data.fill(bytes[0], to, to + span);
      else for (let at = to; at < to + span; at += this.channels) this.data.set(bytes, at);
    }
  }

  /** One tile as `put` takes it; null when nothing is painted there. */
  get(tile) {
    const bytes = packed(this.#copy(tile), this.channels);
    return bytes.length === this.channels && !bytes[this.channels - 1] ? null : bytes;
  }

  /** All tiles on which something is painted. */
  all() {
    const tiles = new Map();
    for (let tile = 0; tile < this.columns * this.rows; tile += 1) {
      const bytes = this.get(tile);
      if (bytes) tiles.set(tile, bytes);
    }
    return tiles;
  }

  get painted() {
    const words = new Uint32Array(this.data.buffer, 0, this.data.length >> 2);
    for (let at = 0; at < words.length; at += 1) if (words[at]) return true;
    for (let at = words.length << 2; at < this.data.length; at += 1) if (this.data[at]) return true;
    return false;
  }

  #bounds(tile) {
    const [x, y] = [(tile % this.columns) * TILE, Math.floor(tile / this.columns) * TILE];
    return [x, y, Math.min(x + TILE, this.width), Math.min(y + TILE, this.height)];
  }

  #copy(tile) {
    const [x0, y0, x1, y1] = this.#bounds(tile);
    const span = (x1 - x0) * this.channels;
    const bytes = new Uint8Array(span * (y1 - y0));
    for (let y = y0, to = 0; y < y1; y += 1, to += span) {
      const from = (y * this.width + x0) * this.channels;
      bytes.set(this.data.subarray(from, from + span), to);
    }
    return bytes;
  }
}

/** A tile of one colour as that one pixel; any other as it is. */
function packed(bytes, channels) {
  for (let at = channels; at < bytes.length; at += 1) if (bytes[at] !== bytes[at - channels]) return bytes;
  return bytes.slice(0, channels);
}

/** Bytes of memory that a Map of tiles holds. */
export function weight(tiles) {
  let sum = 0;
  for (const bytes of tiles.values()) sum += bytes.length + 64;
  return sum;
}

// What is painted, over the picture: the colour sketch, and the mask in its own colour.  A canvas as large as the viewport, not as the
// picture: only the part of the viewport on which a stroke fell is written anew, whatever the size of the picture.

const STRIPE = 7; // CSS pixels
const CONTRAST = 0.35; // how far every other stripe is on the way to white or black

export class Overlay {
  #context;
  #image = null; // pixels of the viewport, kept to be written to again
  #words = null;
  #stripes = [new Uint32Array(256), new Uint32Array(256)]; // a mask's value -> its colour on the screen, by turns
  #tones = [[0, 0, 0], [0, 0, 0]];
  #opacities = new Float32Array(256);
  #stripe = STRIPE; // device pixels
  #phase = 0; // where in the stripes a row begins

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  /** `rgb` 0-255, `opacity` 0-1 of a mask that is white.  It is striped, so that a red mask is seen on a red apple too. */
  setColour(rgb, opacity) {
    const light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 150;
    this.#tones = [rgb, rgb.map((value) => Math.round(value + ((light ? 0 : 255) - value) * CONTRAST))];
    for (const [turn, colours] of this.#stripes.entries()) {
      const bytes = new Uint8Array(colours.buffer);
      for (let value = 0; value < 256; value += 1) bytes.set([...this.#tones[turn], Math.round(value * opacity)], 4 * value);
    }
    for (let value = 0; value < 256; value += 1) this.#opacities[value] = (value / 255) * opacity;
  }

  resize(width, height) {
    [this.canvas.width, this.canvas.height] = [width, height];
    this.#image = width && height ? this.#context.createImageData(width, height) : null;
    this.#words = this.#image && new Uint32Array(this.#image.data.buffer);
  }

  /** Write the part of the viewport that shows `region` of the picture (null: everything). */
  draw(view, ratio, mask, sketch, region) {
    if (!this.#image) return;
    const { width, height } = this.canvas;
    const scale = view.scale * ratio;
    const [ox, oy] = [view.x * ratio, view.y * ratio];
    const [x0, y0, x1, y1] = region
      ? [
          Math.max(0, Math.floor(region.x0 * scale + ox) - 1),
          Math.max(0, Math.floor(region.y0 * scale + oy) - 1),
          Math.min(width, Math.ceil(region.x1 * scale + ox) + 1),
          Math.min(height, Math.ceil(region.y1 * scale + oy) + 1),
        ]
      : [0, 0, width, height];
    if (x0 >= x1 || y0 >= y1) return;
    const layer = mask ?? sketch;
    this.#stripe = STRIPE * ratio;
    for (let y = y0; y < y1; y += 1) {
      const words = this.#words.subarray(y * width + x0, y * width + x1);
      const py = (y + 0.5 - oy) / scale;
      this.#phase = x0 + y - ox - oy; // the stripes lie on the picture
      if (!layer || py < 0 || py >= layer.height) words.fill(0);
      else if (sketch) this.#mixed(words, mask, sketch, Math.floor(py), (x0 + 0.5 - ox) / scale, 1 / scale);
      else this.#masked(words, mask, py, (x0 + 0.5 - ox) / scale, 1 / scale);
    }
    this.#context.putImageData(this.#image, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }

  /** A row of the mask alone.  Where several pixels of the mask fall on one of the screen, up to 2 x 2 of them are averaged, so that
   * a thin line does not vanish. */
  #masked(words, mask, py, px, step) {
    const { data, width, height } = mask;
    const [stripes, stripe, phase] = [this.#stripes, this.#stripe, this.#phase];
    const line = Math.floor(py) * width;
    if (step <= 1.5) {
      for (let i = 0; i < words.length; i += 1, px += step) {
        words[i] = px < 0 || px >= width ? 0 : stripes[Math.floor((phase + i) / stripe) & 1][data[line + (px | 0)]];
      }
      return;
    }
    const quarter = step / 4;
    const upper = Math.max(0, Math.floor(py - quarter)) * width;
    const lower = Math.min(height - 1, Math.floor(py + quarter)) * width;
    for (let i = 0; i < words.length; i += 1, px += step) {
      if (px < 0 || px >= width) {
        words[i] = 0;
        continue;
      }
      const left = px > quarter ? (px - quarter) | 0 : 0;
      const right = Math.min(width - 1, (px + quarter) | 0);
      const sum = data[upper + left] + data[upper + right] + data[lower + left] + data[lower + right];
      words[i] = stripes[Math.floor((phase + i) / stripe) & 1][(sum + 2) >> 2];
    }
  }

  /** A row of the mask over the sketch. */
  #mixed(words, mask, sketch, y, px, step) {
    const { data, width } = sketch;
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    for (let i = 0; i < words.length; i += 1, px += step) {
      if (px < 0 || px >= width) {
        words[i] = 0;
        continue;
      }
      const at = y * width + (px | 0);
      const over = mask ? this.#opacities[mask.data[at]] : 0;
      const under = (data[4 * at + 3] / 255) * (1 - over);
      const alpha = over + under;
      const tone = this.#tones[Math.floor((this.#phase + i) / this.#stripe) & 1];
      for (let c = 0; c < 3; c += 1) bytes[4 * i + c] = alpha ? (tone[c] * over + data[4 * at + c] * under) / alpha : 0;
      bytes[4 * i + 3] = 255 * alpha;
    }
  }
}

// What lies under the brush: the picture, the empty space that is to be added around it, and a candidate that may take its place.
// Drawn only when the view or the picture changes, never while a stroke is painted.

const SQUARE = 8; // CSS pixels of the chequered ground

export class ImageLayer {
  #context;
  #levels = []; // the picture at 1, 1/2, 1/4 ... of its size: drawing a large picture small takes as long as a small one
  #turn = 0;

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.candidate = null; // an ImageBitmap that is shown in place of the picture and its frame
    this.width = 0; // of the picture
    this.height = 0;
  }

  /** Show this ImageBitmap from now on; `changed` is called when a smaller copy for a better look is ready. */
  async show(bitmap, changed) {
    const turn = ++this.#turn;
    this.#levels.forEach((level) => level.close());
    this.#levels = bitmap ? [bitmap] : [];
    this.width = bitmap?.width ?? 0;
    this.height = bitmap?.height ?? 0;
    let last = bitmap;
    while (last && Math.max(last.width, last.height) > 512) {
      const [w, h] = [Math.ceil(last.width / 2), Math.ceil(last.height / 2)];
      const half = await createImageBitmap(last, { resizeWidth: w, resizeHeight: h, resizeQuality: "medium" }).catch(() => null);
      if (turn !== this.#turn || !half) return half?.close();
      this.#levels.push(half);
      last = half;
    }
    if (last !== bitmap) changed();
  }

  /** The picture itself. */
  get bitmap() {
    return this.#levels[0] ?? null;
  }

  /** `frame` {left, right, up, down} is what is added; `ratio` device pixels per CSS pixel. */
  draw(view, frame, ratio) {
    const context = this.#context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.bitmap) return;
    const style = getComputedStyle(this.canvas);
    const [{ width, height }, { x, y, scale }] = [this, view];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [w, h] = [(width + frame.left + frame.right) * scale, (height + frame.up + frame.down) * scale];
    this.#ground(x - frame.left * scale, y - frame.up * scale, w, h, style);
    context.imageSmoothingEnabled = scale < 6; // closer than that, one wants to see pixels
    if (this.candidate) {
      const framed = this.candidate.width !== width || this.candidate.height !== height;
      const place = framed ? [x - frame.left * scale, y - frame.up * scale, w, h] : [x, y, width * scale, height * scale];
      context.imageSmoothingQuality = "medium";
      context.drawImage(this.candidate, ...place);
    } else context.drawImage(this.#level(scale * ratio), x, y, width * scale, height * scale);
  }

  #level(ratio) {
    let best = this.#levels[0];
    for (const level of this.#levels) if (level.width >= this.width * ratio) best = level;
    return best;
  }

  /** Chequers, as far as they are on the viewport. */
  #ground(x, y, w, h, style) {
    const context = this.#context;
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    context.fillStyle = style.getPropertyValue("--surface");
    context.fillRect(x, y, w, h);
    context.fillStyle = style.getPropertyValue("--rule");
    const [right, bottom] = [Math.min(x + w, this.canvas.width), Math.min(y + h, this.canvas.height)];
    const first = (at) => at + Math.max(0, Math.floor(-at / SQUARE)) * SQUARE;
    for (let top = first(y); top < bottom; top += SQUARE) {
      for (let left = first(x); left < right; left += SQUARE) {
        if ((Math.round((left - x) / SQUARE) + Math.round((top - y) / SQUARE)) % 2) context.fillRect(left, top, SQUARE, SQUARE);
      }
    }
    context.restore();
  }
}

// Where the picture stands on the viewport: a scale and an offset.  Screen points are CSS pixels from the viewport's corner, picture points
// are pixels of the picture; (0, 0) is its top left corner and what lies outside has coordinates too.

const LARGEST = 32; // CSS pixels per pixel
const MARGIN = 28; // CSS pixels around a picture that fits
const STAYS = 48; // CSS pixels of it that cannot be pushed off the viewport

export class View {
  constructor() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.width = 0; // of the viewport
    this.height = 0;
    this.fitted = true; // until someone zooms, the picture fits whatever the viewport becomes
  }

  toPicture(x, y) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toScreen(x, y) {
    return { x: x * this.scale + this.x, y: y * this.scale + this.y };
  }

  /** Show all of `area`, {x, y, width, height} in pixels of the picture; small pictures are enlarged at most fourfold. */
  fit(area) {
    const room = Math.min((this.width - 2 * MARGIN) / area.width, (this.height - 2 * MARGIN) / area.height, 4);
    this.scale = Math.max(room, this.#smallest(area));
    this.x = (this.width - area.width * this.scale) / 2 - area.x * this.scale;
    this.y = (this.height - area.height * this.scale) / 2 - area.y * this.scale;
    this.fitted = true;
  }

  /** Zoom to `scale`, keeping what is at the screen point there. */
  zoom(scale, x, y, area) {
    scale = Math.min(LARGEST, Math.max(this.#smallest(area), scale));
    const fixed = this.toPicture(x, y);
    this.scale = scale;
    this.x = x - fixed.x * scale;
    this.y = y - fixed.y * scale;
    this.fitted = false;
    this.#hold(area);
  }

  pan(dx, dy, area) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#hold(area);
  }

  /** Bring a point of the picture onto the viewport, if it is not there. */
  reveal(point, area) {
    const at = this.toScreen(point.x, point.y);
    const past = (value, size) => Math.min(0, value - MARGIN) + Math.max(0, value - size + MARGIN);
    const [dx, dy] = [past(at.x, this.width), past(at.y, this.height)];
    if (dx || dy) this.pan(-dx, -dy, area);
    return Boolean(dx || dy);
  }

  #smallest(area) {
    return Math.min(1, 64 / Math.max(area.width, area.height));
  }

  #hold(area) {
    const [w, h] = [area.width * this.scale, area.height * this.scale];
    const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
    this.x = clamp(this.x + area.x * this.scale, STAYS - w, this.width - STAYS) - area.x * this.scale;
    this.y = clamp(this.y + area.y * this.scale, STAYS - h, this.height - STAYS) - area.y * this.scale;
  }
}

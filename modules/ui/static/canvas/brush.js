// The brush: how much of each pixel a stroke covers, as the distance to the line that the pointer drew, not as a row of stamps.
// What covering does to a layer is told apart: a mask takes the larger value, a sketch mixes colours.

let row = new Uint8Array(4096); // coverage of the pixels of one row, used again for each

/** Calls `apply(y, x0, x1, row)` for each row of the layer that the line from (x0, y0) to (x1, y1) covers; row[0] is pixel x0.
 *
 * Pixel (x, y) has its centre at (x + 0.5, y + 0.5).  `r0` and `r1` are the radii at both ends.  Coverage is 255 up to
 * hardness * radius, then falls to 0 at half a pixel beyond the radius: linearly within that pixel when it is hard, else smoothly.
 * Pixels that are nearest to the start are left out unless `first`: the stroke's previous line has covered them.
 */
export function cover(layer, line, hardness, first, apply) {
  const { x0, y0, r0, x1, y1, r1 } = line;
  const reach = Math.max(r0, r1) + 1;
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - reach));
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - reach));
  const right = Math.min(layer.width, Math.ceil(Math.max(x0, x1) + reach));
  const bottom = Math.min(layer.height, Math.ceil(Math.max(y0, y1) + reach));
  if (left >= right || top >= bottom) return;
  layer.touch(left, top, right, bottom);
  if (row.length < right - left) row = new Uint8Array(right - left);

  const [dx, dy] = [x1 - x0, y1 - y0];
  const square = dx * dx + dy * dy;
  const steady = r0 === r1;
  let outer = r1 + 0.5;
  let inner = Math.max(0, Math.min(hardness * r1, r1 - 0.5));
  for (let y = top; y < bottom; y += 1) {
    const py = y + 0.5 - y0;
    let [from, to] = [right, left]; // of the pixels with any coverage
    for (let x = left; x < right; x += 1) {
      const px = x + 0.5 - x0;
      const along = px * dx + py * dy;
      row[x - left] = 0;
      if (along <= 0 && !first) continue;
      const t = along <= 0 || square === 0 ? 0 : along >= square ? 1 : along / square;
      const [ex, ey] = [px - t * dx, py - t * dy];
      const far = ex * ex + ey * ey;
      if (!steady) {
        const radius = r0 + t * (r1 - r0);
        outer = radius + 0.5;
        inner = Math.max(0, Math.min(hardness * radius, radius - 0.5));
      }
      if (far >= outer * outer) continue;
      let covered = 1;
      if (far > inner * inner) {
        covered = (outer - Math.sqrt(far)) / (outer - inner);
        if (hardness < 1) covered *= covered * (3 - 2 * covered);
      }
      row[x - left] = Math.round(255 * covered);
      if (x < from) from = x;
      to = x + 1;
    }
    if (from < to) apply(y, from, to, row.subarray(from - left, to - left));
  }
}

/** For a mask: the larger value stays, so strokes of one mask join without a seam; erasing keeps the smaller one. */
export function maskRow(mask, erase) {
  const { data, width } = mask;
  return (y, x0, x1, covered) => {
    for (let at = y * width + x0, i = 0; i < covered.length; at += 1, i += 1) {
      if (!erase) data[at] = Math.max(data[at], covered[i]);
      else data[at] = Math.min(data[at], 255 - covered[i]);
    }
  };
}

/** For a sketch: `colour` [r, g, b] over what is there.  `strength` is a mask of what this stroke has covered already, so that a
 * stroke that crosses itself is as strong there as anywhere; it must be 0 before each stroke. */
export function sketchRow(sketch, strength, colour, erase) {
  const { data, width } = sketch;
  return (y, x0, x1, covered) => {
    for (let at = y * width + x0, i = 0; i < covered.length; at += 1, i += 1) {
      const before = strength[at];
      if (covered[i] <= before) continue;
      strength[at] = covered[i];
      blend(data, 4 * at, colour, (covered[i] - before) / (255 - before), erase);
    }
  };
}

/** Porter and Duff's "over" of a colour with opacity `a` (0-1) on one pixel that is not premultiplied; or erasing as much. */
export function blend(data, at, colour, a, erase) {
  const under = data[at + 3] / 255;
  if (erase) {
    data[at + 3] = Math.round(255 * under * (1 - a));
    return;
  }
  const alpha = a + under * (1 - a);
  if (alpha === 0) return;
  for (let c = 0; c < 3; c += 1) data[at + c] = Math.round((colour[c] * a + data[at + c] * under * (1 - a)) / alpha);
  data[at + 3] = Math.round(255 * alpha);
}

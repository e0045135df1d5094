// Areas in one go: rectangle, lasso, fill, invert, clear.  `value` is what the pixels become: [0-255] of a mask, [r, g, b, a] of a
// sketch.

/** All pixels of [x0, x1) x [y0, y1) that are in the layer. */
export function rectangle(layer, x0, y0, x1, y1, value) {
  const left = Math.max(0, Math.round(Math.min(x0, x1)));
  const top = Math.max(0, Math.round(Math.min(y0, y1)));
  const right = Math.min(layer.width, Math.round(Math.max(x0, x1)));
  const bottom = Math.min(layer.height, Math.round(Math.max(y0, y1)));
  if (left >= right || top >= bottom) return;
  layer.touch(left, top, right, bottom);
  for (let y = top; y < bottom; y += 1) run(layer, y, left, right, value);
}

/** All pixels whose centre lies within the closed line through `points` [{x, y}], wherever it crosses itself. */
export function polygon(layer, points, value) {
  if (points.length < 3) return;
  const ys = points.map((point) => point.y);
  const xs = points.map((point) => point.x);
  const top = Math.max(0, Math.floor(least(ys)));
  const bottom = Math.min(layer.height, Math.ceil(-least(ys.map((y) => -y))));
  const left = Math.max(0, Math.floor(least(xs)));
  const right = Math.min(layer.width, Math.ceil(-least(xs.map((x) => -x))));
  if (left >= right || top >= bottom) return;
  layer.touch(left, top, right, bottom);
  for (let y = top; y < bottom; y += 1) {
    let winding = 0;
    const crossings = crossed(points, y + 0.5);
    for (let i = 0; i + 1 < crossings.length; i += 1) {
      winding += crossings[i].turn;
      if (winding === 0) continue;
      const from = Math.max(0, Math.ceil(crossings[i].x - 0.5));
      const to = Math.min(layer.width, Math.ceil(crossings[i + 1].x - 0.5));
      if (from < to) run(layer, y, from, to, value);
    }
  }
}

function crossed(points, y) {
  const found = [];
  for (let i = 0; i < points.length; i += 1) {
    const [a, b] = [points[i], points[(i + 1) % points.length]];
    if (a.y <= y === b.y <= y) continue;
    found.push({ x: a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x), turn: a.y < b.y ? 1 : -1 });
  }
  return found.sort((one, other) => one.x - other.x);
}

const least = (numbers) => numbers.reduce((a, b) => Math.min(a, b), Infinity);

/** The pixels around (x, y) that can be reached, sideways and up and down, over pixels like it: on a mask those on the same side of
 * half and the slope beyond, up to the crest of the line around them; on a sketch those of the same colour. */
export function flood(layer, x, y, value) {
  x = Math.floor(x);
  y = Math.floor(y);
  const { width, height } = layer;
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  const alike = layer.channels === 1 ? sameSide(layer, x, y) : sameColour(layer, x, y);
  const seen = new Uint8Array(width * height);
  const open = [y * width + x];
  const runs = [];
  while (open.length) {
    const at = open.pop();
    const line = Math.floor(at / width);
    if (seen[at]) continue;
    let [from, to] = [at, at + 1];
    while (from > line * width && !seen[from - 1] && alike(from - 1)) from -= 1;
    while (to < (line + 1) * width && !seen[to] && alike(to)) to += 1;
    seen.fill(1, from, to);
    runs.push([line, from - line * width, to - line * width]);
    for (const next of [line - 1, line + 1]) {
      if (next < 0 || next >= height) continue;
      const shift = (next - line) * width;
      for (let i = from + shift, inside = false; i < to + shift; i += 1) {
        const free = !seen[i] && alike(i);
        if (free && !inside) open.push(i);
        inside = free;
      }
    }
  }
  if (layer.channels === 1) addSlope(layer, runs, seen, y * width + x);
  for (const [line, from, to] of runs) {
    layer.touch(from, line, to, line + 1);
    run(layer, line, from, to, value);
  }
}

/** The edge of a line is soft: what does not fall (rise, when the area is white) from pixel to pixel beyond the area belongs to it,
 * as far as the line's crest. */
function addSlope({ data, width, height }, runs, seen, start) {
  const [sign, crest] = data[start] < 128 ? [1, 255] : [-1, 0];
  const open = [];
  const look = (at, next) => {
    if (seen[next] || data[next] === crest || sign * (data[next] - data[at]) < 0) return;
    seen[next] = 1;
    open.push(next);
  };
  const around = (at) => {
    const column = at % width;
    if (column > 0) look(at, at - 1);
    if (column + 1 < width) look(at, at + 1);
    if (at >= width) look(at, at - width);
    if (at + width < width * height) look(at, at + width);
  };
  for (const [line, from, to] of runs.slice()) for (let at = line * width + from; at < line * width + to; at += 1) around(at);
  while (open.length) {
    const at = open.pop();
    const line = Math.floor(at / width);
    runs.push([line, at - line * width, at - line * width + 1]);
    around(at);
  }
}

function sameSide({ data, width }, x, y) {
  const side = data[y * width + x] < 128;
  return (at) => data[at] < 128 === side;
}

function sameColour({ data, width }, x, y) {
  const words = new Uint32Array(data.buffer);
  const seed = 4 * (y * width + x);
  if (!data[seed + 3]) return (at) => !data[4 * at + 3];
  const word = words[seed >> 2];
  return (at) => words[at] === word;
}

function run({ data, width, channels }, y, x0, x1, value) {
  const [from, to] = [(y * width + x0) * channels, (y * width + x1) * channels];
  if (channels === 1) data.fill(value[0], from, to);
  else for (let at = from; at < to; at += channels) data.set(value, at);
}

export function invert(mask) {
  mask.touchAll();
  const { data } = mask;
  for (let at = 0; at < data.length; at += 1) data[at] = 255 - data[at];
}

export function wipe(layer) {
  layer.touchAll();
  layer.data.fill(0);
}

// PNG, as far as a mask needs it: one byte a pixel, written without a 2D canvas, which would want four times the memory and, in some
// browsers, add noise against tracking.  And back: what a mask file says.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

/** Length, name, data, checksum (PNG specification, 5.3). */
function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i += 1) bytes[4 + i] = name.charCodeAt(i);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** A grey PNG of 8 bits; `data` has width * height bytes. */
export async function greyPng(data, width, height) {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 0, 0, 0, 0], 8); // 8 bits, grey, deflate, filters by row, not interlaced
  const pixels = await deflated(rows(data, width, height));
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", new Uint8Array(0))];
  return new Blob(parts, { type: "image/png" });
}

/** The rows with their filter (0: none), some hundred kB at a time. */
function* rows(data, width, height) {
  const lines = Math.max(1, Math.floor(400_000 / width));
  for (let y = 0; y < height; y += lines) {
    const count = Math.min(lines, height - y);
    const part = new Uint8Array(count * (width + 1));
    for (let i = 0; i < count; i += 1) part.set(data.subarray((y + i) * width, (y + i + 1) * width), i * (width + 1) + 1);
    yield part;
  }
}

async function deflated(parts) {
  const stream = new CompressionStream("deflate"); // zlib's format, which is PNG's
  const whole = new Response(stream.readable).arrayBuffer();
  const writer = stream.writable.getWriter();
  for (const part of parts) await writer.write(part);
  await writer.close();
  return new Uint8Array(await whole);
}

/** What a mask file says at `width` x `height`: its brightness; of one that is transparent somewhere, its opacity times that, or its
 * opacity alone when all of it is black. */
export function maskFrom(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const mask = new Uint8Array(width * height);
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  let [brightest, faintest] = [0, 255];
  for (let at = 0, from = 0; at < mask.length; at += 1, from += 4) {
    const grey = Math.round(0.299 * data[from] + 0.587 * data[from + 1] + 0.114 * data[from + 2]);
    if (data[from + 3] && grey > brightest) brightest = grey;
    if (data[from + 3] < faintest) faintest = data[from + 3];
    mask[at] = Math.round((grey * data[from + 3]) / 255);
  }
  if (brightest === 0 && faintest < 255) for (let at = 0; at < mask.length; at += 1) mask[at] = data[4 * at + 3];
  return mask;
}

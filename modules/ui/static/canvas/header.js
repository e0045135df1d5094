// What a file is and how large its picture is, from its first bytes: so that a file which is no picture, or would fill the memory
// when it is decoded, is refused before.  The server looks again, and more closely.

export const MOST_BYTES = 64 << 20;
export const MOST_SIDE = 8192;
export const MOST_PIXELS = 33_554_432;
const HEAD = 1 << 18; // bytes looked at; a JPEG may carry that much before it tells its size

/** {kind, width, height} of a picture; sizes are 0 when they cannot be told.  null: not a picture that we take. */
export async function sniff(blob) {
  const bytes = new Uint8Array(await blob.slice(0, HEAD).arrayBuffer());
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  const view = new DataView(bytes.buffer);
  if (bytes.length < 24) return null;
  if (text(1, 4) === "PNG" && bytes[0] === 137) return { kind: "PNG", width: view.getUint32(16), height: view.getUint32(20) };
  if (bytes[0] === 255 && bytes[1] === 216) return { kind: "JPEG", ...jpegSize(bytes, view) };
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return { kind: "WebP", ...webpSize(bytes, view, text(12, 16)) };
  if (text(4, 8) === "ftyp" && /avif|avis/.test(text(8, 48))) return { kind: "AVIF", ...avifSize(bytes, view) };
  return null;
}

/** The first frame header (ITU T.81, B.2.2). */
function jpegSize(bytes, view) {
  let at = 2;
  while (at + 9 < bytes.length) {
    if (bytes[at] !== 255) break;
    const marker = bytes[at + 1];
    if (marker === 255) at += 1;
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    } else at += 2 + view.getUint16(at + 2);
  }
  return { width: 0, height: 0 };
}

/** RFC 9649: lossy, lossless and extended. */
function webpSize(bytes, view, kind) {
  if (bytes.length < 30) return { width: 0, height: 0 };
  const three = (at) => 1 + bytes[at] + (bytes[at + 1] << 8) + (bytes[at + 2] << 16);
  if (kind === "VP8X") return { width: three(24), height: three(27) };
  if (kind === "VP8 ") return { width: view.getUint16(26, true) & 16383, height: view.getUint16(28, true) & 16383 };
  const bits = view.getUint32(21, true);
  return { width: 1 + (bits & 16383), height: 1 + ((bits >>> 14) & 16383) };
}

/** The largest image property "ispe" (ISO 23008-12, 6.5.3). */
function avifSize(bytes, view) {
  let [width, height] = [0, 0];
  for (let at = 4; at + 16 <= bytes.length; at += 1) {
    if (bytes[at] !== 0x69 || bytes[at + 1] !== 0x73 || bytes[at + 2] !== 0x70 || bytes[at + 3] !== 0x65) continue;
    width = Math.max(width, view.getUint32(at + 8));
    height = Math.max(height, view.getUint32(at + 12));
  }
  return { width, height };
}

/** Why a file cannot be taken, in words; "" when it can, as far as its head tells. */
export function whyNot(blob, found, name) {
  const called = name ? `“${name.slice(0, 60)}”` : "This";
  if (blob.size === 0) return `${called} is an empty file. Choose a PNG, JPEG, WebP or AVIF picture.`;
  if (!found) return `${called} is not a picture that can be read here. PNG, JPEG, WebP and AVIF can.`;
  if (blob.size > MOST_BYTES) return `${called} has ${Math.ceil(blob.size / (1 << 20))} MB, and at most 64 are taken. Save it smaller, or as JPEG.`;
  const { width, height } = found;
  if (Math.max(width, height) > MOST_SIDE || width * height > MOST_PIXELS) {
    return `${called} has ${width} × ${height} pixels. At most ${MOST_SIDE} on a side and 33.5 million in all (8192 × 4096) are taken; scale it down first.`;
  }
  return "";
}

// What a request needs of a canvas, sent when it has changed: the picture once, the mask as a small grey PNG, and where colours were
// sketched on it, the picture with them.  Ids are reused while nothing changes; one that the server has lost is sent again.

import { greyPng } from "./png.js";
import { kept, send } from "./transfer.js";

export class Uploader {
  #sent = new WeakMap(); // layer -> {revision, id}

  /** `progress(share)` while a picture is on its way, null when it has arrived or failed. */
  constructor(progress) {
    this.progress = progress;
  }

  /** Send the picture's file, unless it was or is being sent: {id, width, height} as the server sees it. */
  picture(picture) {
    if (picture.id) return Promise.resolve({ id: picture.id, width: picture.width, height: picture.height });
    picture.sending ??= send(picture.blob, this.progress)
      .then((answer) => {
        picture.id = answer.id;
        return answer;
      })
      .finally(() => {
        picture.sending = null;
        this.progress(null);
      });
    return picture.sending;
  }

  /** The ids {source, mask} of a document {picture, mask, sketch}; `bitmap` is its picture. */
  async flush({ picture, mask, sketch }, bitmap) {
    const [source, masked] = await Promise.all([
      sketch?.painted ? this.#layer(sketch, () => flattened(bitmap, sketch)) : this.#picture(picture),
      mask?.painted ? this.#layer(mask, () => greyPng(mask.data.slice(), mask.width, mask.height)) : null,
    ]);
    return { source, mask: masked };
  }

  async #picture(picture) {
    if (picture.id && !(await kept(picture.id))) picture.id = null;
    return (await this.picture(picture)).id;
  }

  async #layer(layer, make) {
    const before = this.#sent.get(layer);
    if (before?.revision === layer.revision && (await kept(before.id))) return before.id;
    const { revision } = layer; // as it is now; who paints on in the meantime paints for the next request
    const { id } = await send(await make());
    this.#sent.set(layer, { revision, id });
    return id;
  }
}

/** The picture with the sketch on it, as a PNG. */
async function flattened(bitmap, sketch) {
  const { width, height } = sketch;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const colours = await createImageBitmap(new ImageData(new Uint8ClampedArray(sketch.data), width, height));
  context.drawImage(bitmap, 0, 0);
  context.drawImage(colours, 0, 0);
  colours.close();
  return canvas.convertToBlob({ type: "image/png" });
}

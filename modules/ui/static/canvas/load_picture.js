// How pictures come onto a canvas: dropped, pasted, chosen, or loaded by the page; and masks as files.  What is refused is refused in
// words, and what was there stays.

import { h, visible } from "../dom.js";
import { sniff, whyNot } from "./header.js";
import { Layer } from "./layer.js";
import { maskFrom } from "./png.js";
import { download, SendError, sourceUrl } from "./transfer.js";

const ZONES = { picture: "Drop it here: a picture to work on", mask: "Drop it here: a mask for the picture" };

export class PictureLoader {
  #drawing;
  #root;
  #depth = 0; // of elements that a drag has entered

  constructor(drawing) {
    this.#drawing = drawing;
    this.#root = drawing.root;
    this.files = { picture: this.#root.querySelector(".drawing-file"), mask: this.#root.querySelector(".drawing-mask-file") };
    for (const [kind, input] of Object.entries(this.files)) {
      input.addEventListener("change", () => {
        const [file] = input.files;
        input.value = "";
        if (file) this.take(file, kind);
      });
    }
    this.#listenToDrags();
    document.addEventListener("paste", (event) => this.#paste(event));
  }

  choose(kind) {
    this.files[kind].click();
  }

  /** A file from the user: a picture, or a mask for the one that is there. */
  take(file, kind = "picture") {
    return kind === "mask" ? this.loadMask(file) : this.load(file);
  }

  /** Put a picture onto the canvas, as one step.  True when it is there; what is wrong otherwise was told. */
  load(what, options = {}) {
    return this.#guarded(async () => {
      const { keepMask = false } = { ...what, ...options };
      const given = what instanceof Blob ? {} : what;
      const blob = await this.#blob(what);
      const { bitmap, blob: readable } = await this.decode(blob, given.id ? "" : (blob.name ?? ""));
      const picture = { blob: readable, id: given.id ?? null, width: bitmap.width, height: bitmap.height, name: blob.name ?? "", sending: null };
      const parts = { picture, ...this.#kept(picture, keepMask), ...wanted(given) };
      if (given.mask && this.#drawing.tools === "inpaint") {
        const mask = await this.decode(await download(sourceUrl(given.mask)), "");
        parts.mask = tilesOf(maskFrom(mask.bitmap, picture.width, picture.height), picture);
        mask.bitmap.close();
      }
      this.#drawing.replace(parts, bitmap, "Another picture");
      this.#drawing.say(`Picture of ${picture.width} by ${picture.height} pixels`);
      this.#send(picture);
    });
  }

  /** Put a mask from a file over the picture. */
  loadMask(file) {
    return this.#guarded(async () => {
      const { picture } = this.#drawing;
      if (!picture || this.#drawing.tools !== "inpaint") throw new SendError("A mask needs a picture first. Drop the picture, then its mask.", "refused");
      const { bitmap } = await this.decode(file, file.name ?? "");
      const size = `${bitmap.width} × ${bitmap.height}`;
      const other = bitmap.width !== picture.width || bitmap.height !== picture.height;
      const data = maskFrom(bitmap, picture.width, picture.height);
      bitmap.close();
      this.#drawing.root.dataset.state = "ready";
      this.#drawing.setMask(data, "Mask from a file");
      if (!other) return this.#drawing.say("Mask loaded");
      this.tell(`The mask has ${size} pixels, the picture ${picture.width} × ${picture.height}: it was stretched to fit.`, "note");
    });
  }

  /** One thing after the other, with the canvas closed meanwhile; a failure is told on it. */
  #guarded(task) {
    return this.#drawing.queue(async () => {
      const { dataset } = this.#root;
      this.tell("");
      dataset.state = "busy";
      try {
        await task();
        return true;
      } catch (error) {
        this.tell(error instanceof SendError ? error.message : `This did not work: ${error.message}`);
        return false;
      } finally {
        dataset.state = this.#drawing.picture ? "ready" : "empty";
        this.#drawing.renderer.refresh();
      }
    });
  }

  async #blob(what) {
    if (what instanceof Blob) return what;
    if (what.blob) return what.blob;
    return download(what.id ? sourceUrl(what.id) : what.url);
  }

  /** {bitmap, blob}: what this browser cannot read, the server may, and then gives back as PNG. */
  async decode(blob, name = "") {
    const found = await sniff(blob).catch(() => null);
    const no = whyNot(blob, found, name);
    if (no) throw new SendError(no, "refused");
    const bitmap = await createImageBitmap(blob).catch(() => null);
    if (bitmap) return { bitmap, blob };
    const known = await this.#drawing.uploader.picture({ blob, id: null, sending: null });
    const readable = await download(sourceUrl(known.id));
    return { bitmap: await createImageBitmap(readable), blob: readable };
  }

  /** The mask that stays when another picture comes: of the same size, or grown by the frame that was asked for. */
  #kept(picture, keepMask) {
    const { picture: old, mask, frame, box } = this.#drawing;
    if (!keepMask || !old || !mask) return {};
    if (picture.width === old.width && picture.height === old.height) return { mask: mask.all(), box };
    const grown = picture.width === old.width + frame.left + frame.right && picture.height === old.height + frame.up + frame.down;
    if (!grown) return {};
    const data = new Uint8Array(picture.width * picture.height);
    for (let y = 0; y < old.height; y += 1) {
      data.set(mask.data.subarray(y * old.width, (y + 1) * old.width), (y + frame.up) * picture.width + frame.left);
    }
    return { mask: tilesOf(data, picture), box: box && { ...box, x: box.x + frame.left, y: box.y + frame.up } };
  }

  /** On its way while the user paints; nothing waits for it but the request. */
  async #send(picture) {
    try {
      const answer = await this.#drawing.uploader.picture(picture);
      this.#drawing.settled();
      if (answer.width === picture.width && answer.height === picture.height) return;
      if (this.#drawing.picture === picture) await this.#asTheServerSees(answer);
    } catch (error) {
      if (this.#drawing.picture === picture) this.tell(error.message);
    }
  }

  /** The mask must fit the picture as it will be painted on. */
  async #asTheServerSees({ id }) {
    if (await this.load({ id })) this.tell("The server reads this picture in another size than this browser; shown is what the server sees.", "note");
  }

  tell(words, kind = "bad") {
    this.#drawing.dispatchEvent(new CustomEvent("problem", { detail: words ? { words, kind } : null }));
  }

  // ---- drag and drop

  #listenToDrags() {
    const on = (name, handler) => this.#root.addEventListener(name, handler);
    const over = (event) => {
      if (!carriesPicture(event.dataTransfer)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
    };
    on("dragenter", (event) => {
      over(event);
      if (!carriesPicture(event.dataTransfer)) return;
      this.#depth += 1;
      this.#offer(true);
    });
    on("dragover", over);
    on("dragleave", () => {
      this.#depth = Math.max(0, this.#depth - 1);
      if (!this.#depth) this.#offer(false);
    });
    on("drop", (event) => {
      if (!carriesPicture(event.dataTransfer)) return;
      event.preventDefault();
      event.stopPropagation();
      this.#depth = 0;
      const kind = event.target.closest("[data-drop]")?.dataset.drop ?? "picture";
      this.#offer(false);
      this.#dropped(event.dataTransfer, kind);
    });
  }

  /** Where a file may be let go: two places when there is a picture that could get a mask. */
  #offer(shown) {
    const both = this.#drawing.picture && this.#drawing.tools === "inpaint";
    const zones = this.#root.querySelector(".drawing-drop");
    zones.hidden = !shown;
    if (!shown || zones.childElementCount === (both ? 2 : 1)) return;
    zones.replaceChildren(...Object.keys(ZONES).slice(0, both ? 2 : 1).map((kind) => h("div", { "data-drop": kind }, ZONES[kind])));
  }

  #dropped(transfer, kind) {
    this.#drawing.renderer.viewport.focus({ preventScroll: true }); // so that Ctrl+Z is for what was dropped
    const [file] = transfer.files;
    const address = transfer.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
    // A picture of this page comes as its address and, re-encoded by some browsers, as a file: the address is the picture itself.
    const ours = address && new URL(address, document.baseURI).origin === location.origin;
    if (ours && kind === "picture") this.load({ url: address });
    else if (ours) download(address).then((blob) => this.loadMask(blob), (error) => this.tell(error.message));
    else if (file) this.take(file, kind);
    else if (address) this.load({ url: address });
    else this.tell("Nothing that was dropped is a picture.");
  }

  // ---- paste: also where the page is served without TLS, and there is no Clipboard API

  #paste(event) {
    if (event.defaultPrevented || !visible(this.#root) || isText(event.target) || document.querySelector("dialog[open]")) return;
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (file) {
      event.preventDefault();
      this.load(file);
    } else if (this.#root.contains(document.activeElement)) this.tell("There is no picture in the clipboard.", "note");
  }
}

/** A file that is let go beside every place for it would take the browser away from the page. */
export function catchMisses() {
  for (const name of ["dragover", "drop"]) {
    window.addEventListener(name, (event) => {
      if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    });
  }
}

const carriesPicture = (transfer) => [...(transfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list");

const isText = (node) => node instanceof Element && node.closest("input:not([type=range], [type=color], [type=file]), textarea, [contenteditable]");

/** Box and frame among what the page asks to load, with the names of a request's fields. */
function wanted(given) {
  const frame = Object.fromEntries(["left", "right", "up", "down"].map((side) => [side, given[`outpaint_${side}`] ?? 0]));
  const parts = { frame };
  const [x, y, width, height] = given.box ?? [];
  if (width && height) parts.box = { x, y, width, height };
  return parts;
}

/** A mask's bytes as the tiles of a document that is put away. */
function tilesOf(data, { width, height }) {
  const layer = new Layer(width, height, 1);
  layer.data = data;
  return layer.all();
}

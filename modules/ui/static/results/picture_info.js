// The panel beside the picture: its words, then how it was made, then what one can do with it.

import { h, pictureUrl } from "../dom.js";
import { largerOnCanvas } from "../forms/size.js";
import { hasTab } from "../tabs.js";

/** What is always said: [name, value]; the values are of the picture where there is one, else of the request. */
function rowsOf({ request, settings = [] }, picture, seeds) {
  if (request.upscaler_1) return enlargedRows(request, settings, picture);
  const written = request.prompt.trim();
  const size = ({ width, height }) => `${width} × ${height}`;
  const other = picture && size(picture) !== size(request); // only a part of it was painted, at a size of its own
  return [
    ["As written", picture && wordsOf(request, picture).prompt !== written ? written : ""],
    ["Negative", wordsOf(request, picture).negative],
    ["Styles", request.styles.join(", ")],
    ["Checkpoint", request.checkpoint],
    ["Sampler", request.sampler],
    ["Schedule", request.schedule],
    ["Steps", request.steps],
    ["CFG scale", request.cfg_scale],
    ["Size", size(picture ?? request)],
    [request.hires ? "First pass" : "Painted at", other ? size(request) : ""],
    ["Strength", request.denoising_strength ?? ""],
    ["Area", request.mask ? request.inpaint_area : ""],
    ...settings,
    ["Seed", seeds],
  ];
}

/** Of a picture that was only enlarged: how, and what its source said. */
function enlargedRows(request, settings, picture) {
  const to = request.width ? `to ${request.width} × ${request.height}${request.crop ? ", cropped" : ""}` : `by ${request.upscale_by}`;
  return [
    ["Negative", wordsOf(request, picture).negative],
    ["Size", picture ? `${picture.width} × ${picture.height}` : ""],
    ["Enlarged", to],
    ...settings.filter(([name]) => name.startsWith("Upscaler")),
  ];
}

/** What was painted, with the styles' words and what wildcards drew; of a job, or where it is not known, what was written. */
function wordsOf(request, picture) {
  const prompt = (picture?.prompt ?? request.prompt).trim();
  const negative = (picture?.negative_prompt ?? request.negative_prompt).trim();
  return { prompt, negative };
}

export class PictureInfo {
  #root;
  #onReuse;
  #onSheet;
  #onAccept;
  #onSecondPass;
  #shown = "";

  constructor(root, onReuse, onSheet, onAccept, onSecondPass) {
    this.#root = root;
    this.#onReuse = onReuse;
    this.#onSheet = onSheet;
    this.#onAccept = onAccept;
    this.#onSecondPass = onSecondPass;
  }

  clear() {
    this.#shown = "";
    this.#root.hidden = true;
    this.#root.replaceChildren();
  }

  /** A picture's label, or, without a picture, that of a whole job.  `tab` is the one that is seen. */
  show(job, picture, tab) {
    const larger = picture && largerOnCanvas(tab, picture);
    const key = `${job.id}.${picture?.index ?? ""}.${job.pictures.length}.${tab}.${larger?.width}.${larger?.height}`;
    this.#root.hidden = false;
    if (key === this.#shown) return;
    this.#shown = key;
    const request = job.request;
    const seed = picture?.seed ?? request.seed;
    const seeds = picture || request.count === 1 ? String(seed) : `${seed} to ${(BigInt(seed) + BigInt(request.count - 1)) % 2n ** 64n}`;
    const { prompt } = wordsOf(request, picture);

    this.#root.replaceChildren(
      h("p", { class: prompt ? "title" : "title none" }, prompt || "Without a prompt"),
      h("dl", {}, ...rowsOf(job, picture, seeds).filter(([, value]) => value !== "").flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])),
      this.#actions(job, picture, seed, tab, larger),
    );
    this.#root.querySelector("dl").dataset.seed = seed;
  }

  #actions(job, picture, seed, tab, larger) {
    const fields = { ...job.request, seed, count: picture ? 1 : job.request.count };
    const painted = !job.request.upscaler_1;
    const reuse = painted ? h("button", { type: "button", id: "result_reuse", onclick: () => this.#onReuse(fields) }, "Use these settings") : null;
    const zip =
      job.pictures.length > 1
        ? h("a", { id: "result_zip", href: `internal/jobs/${job.id}/zip`, download: "", role: "button" }, `Download all ${job.pictures.length}`)
        : null;
    if (!picture) return h("div", { class: "actions" }, zip, reuse);
    const download = h(
      "a",
      { id: "result_download", href: `${pictureUrl(job, picture)}?download=1`, download: picture.name, role: "button" },
      "Download",
    );
    const copy = h("button", { type: "button", id: "result_copy" }, "Copy as text");
    copy.addEventListener("click", async () => {
      const done = await copyText(picture.infotext);
      copy.textContent = done ? "Copied" : "Not possible here";
      setTimeout(() => (copy.textContent = "Copy as text"), 1600);
    });
    const all = job.pictures.length;
    const back = all > 1 ? h("button", { type: "button", onclick: () => this.#onSheet(job) }, `All ${all} pictures`) : null;
    const words = larger ? `Accept at ${picture.width} × ${picture.height} (canvas: ${larger.width} × ${larger.height})` : "Accept onto the canvas";
    const take = document.getElementById(`${tab}_canvas`)
      ? h("button", { type: "button", id: "result_accept", class: "accept", onclick: () => this.#onAccept(job, picture) }, words)
      : null;
    const upscale = h("button", { type: "button", id: "result_upscale", title: "Enlarge this picture as the Extras tab is set" }, "Upscale");
    upscale.addEventListener("click", () => {
      upscale.disabled = true;
      const done = () => (upscale.disabled = false);
      document.dispatchEvent(new CustomEvent("atelier:upscale", { detail: { job, picture, done } }));
    });
    const again = h("button", { type: "button", id: "result_second_pass", onclick: () => this.#onSecondPass(job, picture) }, "Second pass");
    again.title = "A second pass over this picture, as “Second pass (hires)” in txt2img says";
    return h("div", { class: "actions" }, take, download, copy, reuse, hasTab("extras") ? upscale : null, painted && again, this.#send(job, picture, painted ? fields : null), back);
  }

  /** To another tab, with everything filled in unless `fields` is null; as a source, the picture itself. */
  #send(job, picture, fields) {
    const to = (tab, words) => {
      const send = () => {
        const source = tab === "txt2img" ? null : { url: pictureUrl(job, picture) };
        document.dispatchEvent(new CustomEvent("atelier:send", { detail: { tab, fields: fields && settingsOf(fields, picture), source } }));
      };
      return h("button", { type: "button", "data-to": tab, "aria-label": `Send to ${words}`, onclick: send }, words);
    };
    const toExtras = () => document.dispatchEvent(new CustomEvent("atelier:extras", { detail: { job, picture } }));
    const extras = h("button", { type: "button", "data-to": "extras", "aria-label": "Send to Extras", onclick: toExtras }, "Extras");
    const all = { txt2img: fields && to("txt2img", "txt2img"), img2img: to("img2img", "img2img"), inpaint: to("inpaint", "Inpaint"), extras };
    const here = Object.entries(all).filter(([tab, button]) => button && hasTab(tab));
    return h("div", { class: "send", role: "group", "aria-label": "Send to" }, ...here.map(([, button]) => button));
  }
}

/** What goes with a picture to another tab: how it was painted, and not how its own source was cut or extended. */
function settingsOf(fields, picture) {
  const own = /^(source|mask|box|outpaint_\w+)$/;
  return { ...Object.fromEntries(Object.entries(fields).filter(([name]) => !own.test(name))), width: picture.width, height: picture.height };
}

/** navigator.clipboard exists only on https and localhost; elsewhere a selected text area does it. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "sr-only", readonly: true });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

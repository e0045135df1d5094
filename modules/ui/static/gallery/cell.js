// What a cell of the wall shows: the thumbnail, or that the file is broken, and what was written down about it.

import { h } from "../dom.js";
import { pictureUrl, thumbnailUrl } from "./routes.js";

/** `dragged(item)` are the pictures that a drag of this one takes along, itself among them. */
export function cellOf(item, dragged = () => [item]) {
  const check = h("span", { class: "cell-check", "aria-hidden": "true", title: "Choose (Space)" }, "✓");
  const marks = [item.favourite ? "♥" : "", item.rating ? "★".repeat(item.rating) : ""].filter(Boolean).join(" ");
  const written = marks ? h("span", { class: "cell-marks", "aria-hidden": "true" }, marks) : null;
  if (item.broken) return [brokenOf(item), check, written].filter(Boolean);
  const image = h("img", { src: thumbnailUrl(item.id), alt: "", loading: "lazy", decoding: "async", draggable: "true" });
  image.addEventListener("error", () => image.replaceWith(brokenOf(item, "It has no small picture: its file may be gone, or it is very large")));
  image.addEventListener("dragstart", ({ dataTransfer }) => {
    const items = dragged(item);
    const addresses = items.map(({ id }) => new URL(pictureUrl(id), document.baseURI).href);
    dataTransfer.setData("text/uri-list", addresses.join("\r\n"));
    dataTransfer.setData("text/plain", addresses.join("\n"));
    // Out of the browser: Chromium makes one file of it; of several, programs that take addresses take these
    if (items.length === 1) dataTransfer.setData("DownloadURL", `${typeOf(item.name)}:${item.name.replaceAll(":", "_")}:${addresses[0]}?download=1`);
    else dataTransfer.setDragImage(countOf(items.length), 12, 12);
    dataTransfer.effectAllowed = "copyLink";
  });
  return [image, check, written].filter(Boolean);
}

const TYPES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", avif: "image/avif" };
const typeOf = (name) => TYPES[name.split(".").pop().toLowerCase()] ?? "application/octet-stream";

/** What is seen at the pointer while several are dragged; it is in the document until the browser has drawn it. */
function countOf(count) {
  const node = h("div", { class: "drag-count" }, `${count.toLocaleString("en")} pictures`);
  document.body.append(node);
  setTimeout(() => node.remove());
  return node;
}

const brokenOf = (item, why = "") => h("span", { class: "cell-broken", title: why || item.broken }, h("b", {}, why ? "Not shown" : "Broken"), h("span", {}, item.name));

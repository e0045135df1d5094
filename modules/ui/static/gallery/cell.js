// What a cell of the wall shows: the thumbnail, or that the file is broken, and what was written down about it.

import { h } from "../dom.js";
import { pictureUrl, thumbnailUrl } from "./routes.js";

export function cellOf(item) {
  const check = h("span", { class: "cell-check", "aria-hidden": "true", title: "Choose (Space)" }, "✓");
  const marks = [item.favourite ? "♥" : "", item.rating ? "★".repeat(item.rating) : ""].filter(Boolean).join(" ");
  const written = marks ? h("span", { class: "cell-marks", "aria-hidden": "true" }, marks) : null;
  if (item.broken) return [brokenOf(item), check, written].filter(Boolean);
  const image = h("img", { src: thumbnailUrl(item.id), alt: "", loading: "lazy", decoding: "async", draggable: "true" });
  image.addEventListener("error", () => image.replaceWith(brokenOf(item, "It has no small picture: its file may be gone, or it is very large")));
  image.addEventListener("dragstart", ({ dataTransfer }) => {
    const address = new URL(pictureUrl(item.id), document.baseURI).href;
    dataTransfer.setData("text/uri-list", address);
    dataTransfer.setData("text/plain", address);
    dataTransfer.effectAllowed = "copyLink";
  });
  return [image, check, written].filter(Boolean);
}

const brokenOf = (item, why = "") => h("span", { class: "cell-broken", title: why || item.broken }, h("b", {}, why ? "Not shown" : "Broken"), h("span", {}, item.name));

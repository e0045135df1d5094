// What was fetched and lies aside: its manifest, files, needs and warnings, before anything of it has run.

import { h } from "../dom.js";
import { sentence } from "../forms/recipes.js";
import { bytes } from "../models/routes.js";

/** The panel of a proposal; `install()` and `discard()` are its two ends. */
export function proposalPanel(found, install, discard) {
  const rows = [
    ["Name", found.name],
    ["Version", found.replaces ? `${found.version}, in place of ${found.replaces}` : found.version],
    ["Runs in", found.halves.map((half) => atelierText(half === "web" ? "web process" : "engine")).join(", ")],
    ["If it fails", found.on_failure === "fail" ? "the picture fails" : "the picture is made without it"],
    ["From", found.address],
    ["Commit", found.commit],
    ["SHA-256", found.sha256],
  ];
  const error = h("p", { class: "extensions-error", role: "alert", hidden: true });
  const go = h("button", { type: "button", class: "extensions-install" }, found.replaces ? "Replace it" : "Install, switched off");
  go.addEventListener("click", async () => {
    go.disabled = true;
    error.hidden = true;
    try {
      await install();
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
      go.disabled = false;
    }
  });
  return [
    h("h3", {}, found.title),
    found.description ? h("p", {}, found.description) : null,
    h("p", { class: "extensions-warning" }, "An extension runs with all rights of this program: it can read, change and send what this program can. Install only what you trust."),
    ...(found.misfit ? [h("p", { class: "extensions-warning" }, sentence(found.misfit))] : []),
    ...found.warnings.map((warning) => h("p", { class: "extensions-warning" }, sentence(warning))),
    h("dl", {}, ...rows.filter(([, value]) => value).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])),
    needs(found),
    changes(found),
    files(found),
    error,
    h("div", { class: "extension-actions" }, go, h("button", { type: "button", class: "extensions-discard", onclick: discard }, "Leave it")),
  ].filter(Boolean);
}

function needs({ needs: list, command }) {
  if (!list.length) return null;
  const items = list.map(({ requirement, verdict, text }) => h("li", { "data-verdict": verdict }, text || h("code", {}, `${requirement}: ${verdict}`)));
  const how = command ? [h("p", { class: "extensions-small" }, "No package is installed from here. When the extension is among the others, this gets what is missing, in the folder of the program:"), h("pre", { tabindex: "0" }, command)] : [];
  return h("section", {}, h("h4", {}, "Python packages that it needs"), h("ul", {}, ...items), ...how);
}

function changes({ changes: list, replaces }) {
  if (!replaces) return null;
  if (!list.length) return h("p", {}, `No file differs from version ${replaces}, which is here.`);
  return h("details", { open: true }, h("summary", {}, `${list.length} ${list.length === 1 ? "file differs" : "files differ"}`), h("ul", {}, ...list.map(([path, how]) => h("li", {}, h("code", {}, path), ` ${how}`))));
}

function files({ files: list, files_left_out: more, bytes: all }) {
  const count = list.length + more;
  return h(
    "details",
    {},
    h("summary", {}, `${count} ${count === 1 ? "file" : "files"}, ${bytes(all)}`),
    h("ul", {}, ...list.map(([path, size]) => h("li", {}, h("code", {}, path), ` ${bytes(size)}`)), ...(more ? [h("li", {}, `and ${more} more`)] : [])),
  );
}

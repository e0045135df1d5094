// Tags and albums of pictures: a small dialog in which they are added and removed.

import { h } from "../dom.js";

const NAMES = { tag: ["Tags", "tag"], album: ["Albums", "album"] };

/** Ask for tags or albums of `items`; `known` are the names that there are; `save(add, remove)` writes them down. */
export function askLabels(kind, items, known, save) {
  const [title, one] = NAMES[kind];
  const of = (item) => (kind === "tag" ? item.tags : item.albums);
  const all = [...new Set(items.flatMap(of))].sort();
  const add = new Set();
  const remove = new Set();
  const bad = h("p", { class: "labels-bad", role: "alert", hidden: true });
  const input = h("input", { type: "text", list: "gallery_known", maxlength: "60", "aria-label": `Name of the ${one}`, autocomplete: "off" });
  const chips = h("div", { class: "labels-chips" });
  const draw = () => {
    const names = [...new Set([...all, ...add])].filter((name) => !remove.has(name));
    const chip = (name) => {
      const gone = () => {
        add.delete(name) || remove.add(name);
        draw();
        input.focus();
      };
      const some = !add.has(name) && items.some((item) => !of(item).includes(name));
      return h("button", { type: "button", title: `Remove ${name}`, "data-some": some, onclick: gone }, `${name}${some ? " (some)" : ""} ×`);
    };
    chips.replaceChildren(...(names.length ? names.map(chip) : [h("span", { class: "labels-none" }, `No ${one} yet.`)]));
  };
  const take = () => {
    const name = input.value.trim().replaceAll('"', "");
    if (!name) return false;
    remove.delete(name);
    add.add(name);
    input.value = "";
    draw();
    return true;
  };
  const dialog = h("dialog", { class: "confirm gallery-labels-dialog", "aria-label": title });
  const form = h("form", { method: "dialog" }, h("div", { class: "labels-add" }, input, h("button", { type: "button", onclick: take }, "Add")));
  const done = async () => {
    take();
    try {
      await save([...add], [...remove]);
      dialog.close();
    } catch (error) {
      bad.textContent = error.message;
      bad.hidden = false;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!take()) done(); // Enter adds what is typed, and in an empty field it is the end
  });
  const choices = h("p", { class: "choices" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), h("button", { type: "button", class: "yes save", onclick: done }, "Save"));
  const options = known.map((name) => h("option", { value: name }));
  dialog.append(h("h2", {}, items.length === 1 ? title : `${title} of ${items.length} pictures`), chips, form, h("datalist", { id: "gallery_known" }, ...options), bad, choices);
  draw();
  show(dialog);
  input.focus();
}

/** Put a dialog on the page, and take it away when it is closed. */
export function show(dialog, onClose = () => {}) {
  const focused = document.activeElement;
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    onClose();
  });
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  dialog.showModal();
}

/** Ask before what cannot be taken back. */
export function confirmed(question, words, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "confirm", "aria-label": question });
    const keep = h("button", { type: "button", onclick: () => dialog.close() }, "Keep");
    const go = h("button", { type: "button", class: "yes", onclick: () => dialog.close("yes") }, yes);
    dialog.append(h("h2", {}, question), h("p", {}, words), h("p", { class: "choices" }, keep, go));
    show(dialog, () => resolve(dialog.returnValue === "yes"));
    keep.focus();
  });
}

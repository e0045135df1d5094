// Small helpers around the DOM and fetch.  Text always goes in as text: nothing here, or anywhere in these modules, parses HTML.

/** An element with attributes, listeners (`onclick: fn`) and children (elements or text). */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The session of this page has ended, here or elsewhere. */
export class LoggedOut extends Error {
  constructor() {
    super("You were logged out.");
  }
}

/** Say so to the page when an answer means that nobody is logged in (any more). */
export function checkSession(response) {
  if (response.status !== 401) return response;
  document.dispatchEvent(new Event("atelier:logged-out"));
  throw new LoggedOut();
}

/** JSON of one of our routes; `null` when there is no such thing (404), an exception when the server cannot be reached, with the
 *  server's own words where it has any. */
export async function getJson(path, options = {}) {
  const response = checkSession(await fetch(path, { cache: "no-store", ...options }));
  if (response.status === 404) return null;
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.error ?? `${path}: HTTP ${response.status}`);
  return response.json();
}

/** Send a file as the body of a POST; the answer's JSON.  Rejects with words that name the file. */
export async function postFile(path, file) {
  const response = await fetch(path, { method: "POST", headers: { "content-type": file.type || "application/octet-stream" }, body: file });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(`${file.name}: ${answer.error ?? `the server answered ${response.status}`}`);
  return answer;
}

export const pictureUrl = (job, picture) => `internal/pictures/${job.id}/${picture.index}`;

/** Seconds in words that do not pretend to know better: "about 5 s", "about 3 min". */
export function duration(seconds) {
  if (seconds < 1.5) return "about a second";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  return `about ${Math.round(seconds / 3600)} h`;
}

/** Replace a part of a text field as if it were typed, so that Ctrl+Z takes it back; the cursor is behind it then. */
export function replaceText(area, from, to, text) {
  area.focus();
  area.setSelectionRange(from, to);
  if (document.execCommand("insertText", false, text)) return;
  area.setRangeText(text, from, to, "end");
  area.dispatchEvent(new Event("input", { bubbles: true }));
}

/** The same from beside the field, such as by a slider: the focus, the selection and what is scrolled stay where they are.  A field on
 *  a tab that is not seen is laid out for this moment, as nothing else takes the focus that typing needs. */
export function replaceBeside(area, from, to, text) {
  const focused = document.activeElement;
  const kept = { start: area.selectionStart, end: area.selectionEnd, top: area.scrollTop, x: scrollX, y: scrollY };
  const panel = visible(area) ? null : area.closest(".tab-panel");
  panel?.style.setProperty("display", "contents", "important");
  area.focus({ preventScroll: true });
  area.setSelectionRange(from, to);
  const done = document.activeElement === area && (from === to && !text ? true : document.execCommand(text ? "insertText" : "delete", false, text));
  if (!done) {
    area.setRangeText(text, from, to, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
  const moved = (at) => (at <= from ? at : at >= to ? at + text.length - (to - from) : from + text.length);
  area.setSelectionRange(moved(kept.start), moved(kept.end));
  area.scrollTop = kept.top;
  if (focused !== area) {
    area.blur();
    if (focused instanceof HTMLElement && focused !== document.body) focused.focus({ preventScroll: true });
  }
  panel?.style.removeProperty("display");
  if (scrollX !== kept.x || scrollY !== kept.y) scrollTo({ left: kept.x, top: kept.y, behavior: "instant" });
}

export const visible = (node) => Boolean(node && node.getClientRects().length);

// To the server and back: pictures are kept there by their content and named by an id.  Everything that can go wrong is told in words
// for the user of the canvas.

const ROUTE = "internal/sources";

export class SendError extends Error {
  constructor(words, kind) {
    super(words);
    this.kind = kind; // "offline": trying again may help; "refused": it does not
  }
}

const OFFLINE = "The server cannot be reached. Nothing is lost: the picture and what you painted are kept here. Try again.";

/** Send a picture; resolves to {id, width, height}.  `progress` is called with the share that was sent, 0-1. */
export function send(blob, progress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not tell how much was sent
    request.open("POST", ROUTE);
    request.setRequestHeader("content-type", /^image\/[\w.+-]+$/.test(blob.type) ? blob.type : "image/png");
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new SendError(OFFLINE, "offline")));
    request.addEventListener("abort", () => reject(new SendError(OFFLINE, "offline")));
    request.addEventListener("load", () => {
      const answer = parsed(request.responseText);
      if (request.status < 300 && answer?.id) resolve(answer);
      else reject(new SendError(...words(request.status, answer)));
    });
    request.send(blob);
  });
}

function words(status, answer) {
  if (status >= 502 && status <= 504) return [OFFLINE, "offline"];
  const said = typeof answer?.error === "string" ? sentence(answer.error) : "";
  if (status === 413) return [said || "The server refused the picture: it is too large.", "refused"];
  if (status === 401 || status === 403) return [said || "The server does not know you any more. Reload the page and sign in again; the picture stays here.", "refused"];
  return [said || `The server could not keep the picture (HTTP ${status}).`, status >= 500 || status === 429 ? "offline" : "refused"];
}

const sentence = (text) => `${text.slice(0, 1).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Whether the server still has this picture of ours; it answers 304 and no pixels. */
export async function kept(id) {
  const response = await fetch(`${ROUTE}/${id}`, { cache: "no-store", headers: { "if-none-match": `"${id}"` } }).catch(() => {
    throw new SendError(OFFLINE, "offline");
  });
  return response.ok || response.status === 304;
}

export const sourceUrl = (id) => `${ROUTE}/${encodeURIComponent(id)}`;

/** The file at an address of this site. */
export async function download(url) {
  const address = new URL(url, document.baseURI);
  if (address.origin !== location.origin && address.protocol !== "blob:" && address.protocol !== "data:") {
    throw new SendError("Pictures of other sites cannot be taken directly. Save the picture, then drop the file here.", "refused");
  }
  address.pathname = address.pathname.replace(/(\/internal\/pictures\/[^/]+\/\d+)\/thumbnail$/, "$1"); // a tile that is dragged means its picture
  const response = await fetch(address, { cache: "no-cache" }).catch(() => {
    throw new SendError(OFFLINE, "offline");
  });
  if (response.status === 404) throw new SendError("The server does not have this picture any more. Drop or choose it again.", "refused");
  if (!response.ok) throw new SendError(`The picture cannot be fetched (HTTP ${response.status}).`, "refused");
  return response.blob();
}

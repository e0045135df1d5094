// The picture in a drop or in the clipboard: a file, or one of our own pictures that was dragged out of the page.

const PICTURE = /\.(png|jpe?g|webp|avif)$/i;
const MOST = 500; // pictures of one drop
const isPicture = (file) => file.type.startsWith("image/") || PICTURE.test(file.name);

export const pickedFrom = {
  /** Whether there may be a picture in it; what it is cannot be seen before it is dropped. */
  may: (transfer) => [...(transfer?.types ?? [])].some((type) => type === "Files" || type === "text/uri-list"),

  /** The first picture, or null. */
  async transfer(transfer) {
    const files = [...transfer.files]; // gone when this function has waited for anything
    const address = transfer.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
    // What is dragged from a page comes as its address and, encoded anew by some browsers, as a file that says nothing any more.
    return (address && (await ours(address))) || (files.find(isPicture) ?? files[0] ?? null);
  },

  /** All pictures: files, or several of ours that were dragged out of the gallery together, of names that differ. */
  async all(transfer) {
    const files = [...transfer.files]; // gone when this function has waited for anything
    const addresses = transfer.getData("text/uri-list").split(/\r?\n/).filter((line) => line && !line.startsWith("#"));
    if (addresses.length < 2) {
      const pictures = files.filter(isPicture);
      if (pictures.length > 1) return pictures;
      const one = (addresses[0] && (await ours(addresses[0]))) || (pictures[0] ?? files[0]);
      return one ? [one] : [];
    }
    const found = [];
    const names = new Set();
    for (const address of addresses.slice(0, MOST)) {
      const file = await ours(address);
      if (!file) continue;
      const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/.exec(file.name);
      let name = file.name;
      for (let number = 2; names.has(name); number++) name = `${stem} (${number})${suffix ?? ""}`;
      names.add(name);
      found.push(new File([file], name, { type: file.type }));
    }
    return found;
  },

  /** The first picture of the clipboard, or null. */
  clipboard: (transfer) => [...(transfer?.files ?? [])].find(isPicture) ?? null,
};

/** One of our own pictures by its address, the whole one also where its thumbnail was dragged; null for any other address. */
async function ours(address) {
  let url;
  try {
    url = new URL(address, document.baseURI);
  } catch {
    return null;
  }
  const base = new URL("internal/", document.baseURI);
  if (url.origin !== base.origin || !url.pathname.startsWith(base.pathname)) return null;
  url.pathname = url.pathname.replace(/\/thumbnail$/, "");
  url.search = "";
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) return null;
  const blob = await response.blob();
  return new File([blob], nameIn(response.headers.get("content-disposition")) ?? "picture", { type: blob.type });
}

/** The file's name that a response says (RFC 6266), null where it says none. */
function nameIn(header) {
  const [, encoded] = /filename\*=utf-8''([^;]+)/i.exec(header ?? "") ?? [];
  try {
    return encoded ? decodeURIComponent(encoded) : (/filename="([^"]*)"/i.exec(header ?? "")?.[1] ?? null);
  } catch {
    return null;
  }
}

// The picture in a drop or in the clipboard: a file, or one of our own pictures that was dragged out of the page.

const PICTURE = /\.(png|jpe?g|webp|avif)$/i;
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
  return response?.ok ? new File([await response.blob()], "picture") : null;
}

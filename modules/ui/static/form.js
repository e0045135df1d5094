// The page's side of the form: remembers it, shows what is wrong with it, and fills the prompt in.
// The fields themselves are Gradio's.

const KEY = "atelier.txt2img";

/** The fields as they are now, by the names of the request. */
export const fields = () => window.atelierForm ?? {};

let opened = false;

function remember() {
  if (!opened || !window.atelierForm) return;
  try {
    localStorage.setItem(KEY, JSON.stringify(window.atelierForm));
  } catch {
    /* full or forbidden: the form is then not remembered */
  }
}

/** From now on the form shows what the user left or the model's defaults, so its changes are worth keeping. */
export function formOpened() {
  opened = true;
  remember();
}

document.addEventListener("atelier:form", remember);

/** Type `words` into the prompt as a person would. */
export function setPrompt(words) {
  const box = document.querySelector("#txt2img_prompt textarea");
  const setter = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value").set;
  setter.call(box, words);
  box.dispatchEvent(new Event("input", { bubbles: true }));
  document.querySelector("#txt2img_generate")?.focus();
}

const inputsOf = (id) => document.querySelectorAll(`#${CSS.escape(id)} :is(input, textarea)`);

/** A sentence near the form; `ids` are the fields that it is about.  An empty one takes the last away. */
export function complain(text, ids = [], kind = "bad") {
  const place = document.getElementById("complaint");
  if (!place) return;
  place.textContent = text;
  place.dataset.kind = kind;
  place.hidden = !text;
  for (const input of document.querySelectorAll("#bench [aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  for (const input of ids.flatMap((id) => [...inputsOf(id)])) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", "complaint");
  }
  if (ids.length) inputsOf(ids[0])[0]?.focus();
}

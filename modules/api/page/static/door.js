// Dark or light as it was chosen on the page itself; without a choice the style sheet follows the system.  And what this browser
// kept for one person, such as a half-written prompt, is not left to the next.

const MODE = "atelier.mode";
const WHO = "atelier.account";

try {
  const mode = localStorage.getItem(MODE);
  if (mode) document.documentElement.classList.add(mode);
  if (location.pathname.endsWith("/login") && location.search === "?left") forget();
} catch {
  /* forbidden: then the system's choice stays, and there is nothing to forget */
}

function forget() {
  for (const key of Object.keys(localStorage)) {
    if (key.startsWith("atelier.") && key !== MODE) localStorage.removeItem(key);
  }
  sessionStorage.clear();
  indexedDB.deleteDatabase("atelier-canvas");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement)) return;
  try {
    if (form.getAttribute("action") === "/logout") forget();
    const name = form.elements.namedItem("name");
    if (!(name instanceof HTMLInputElement)) return;
    const who = name.value.trim().toLowerCase();
    if (localStorage.getItem(WHO) !== who) forget();
    localStorage.setItem(WHO, who);
  } catch {
    /* forbidden: then there is nothing to forget */
  }
});

// Dark or light as it was chosen on the page itself; without a choice the style sheet follows the system.
try {
  const mode = localStorage.getItem("atelier.mode");
  if (mode) document.documentElement.classList.add(mode);
} catch {
  /* forbidden: then the system's choice stays */
}

// Whoever logs out leaves no picture behind in this browser tab.
document.addEventListener("submit", (event) => {
  if (!(event.target instanceof HTMLFormElement) || event.target.getAttribute("action") !== "/logout") return;
  try {
    sessionStorage.removeItem("atelier.tab");
    indexedDB.deleteDatabase("atelier-canvas");
  } catch {
    /* forbidden: then there is nothing */
  }
});

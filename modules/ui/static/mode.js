// Dark or light: the system's choice, unless the user made one here.  A classic script in the head, so that the page never
// flashes in the wrong mode.  Gradio reads the class `dark` of the body.

(() => {
  const KEY = "atelier.mode";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const isDark = () => (chosen() ?? (system.matches ? "dark" : "light")) === "dark";

  const apply = () => {
    const dark = isDark();
    document.documentElement.classList.toggle("dark", dark);
    if (document.body && document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    const button = document.getElementById("mode");
    button?.setAttribute("aria-label", dark ? "Switch to light" : "Switch to dark");
    button?.setAttribute("aria-pressed", String(dark));
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    new MutationObserver(apply).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("#mode")) return;
    try {
      localStorage.setItem(KEY, isDark() ? "light" : "dark");
    } catch {
      /* forbidden: then the system's choice stays */
    }
    apply();
  });
  document.addEventListener("atelier:started", apply);
})();

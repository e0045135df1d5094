// Keeps what one works with in sight: the settings scroll by themselves beside picture and canvas, as high as the window lets them be
// below the prompt, and on a phone Generate floats while the prompt is scrolled away.  The rest is in panes.css.

import { visible } from "./dom.js";

export function startPanes() {
  const root = document.documentElement;
  const panes = [...document.querySelectorAll("#workspace .settings")];
  const place = () => {
    const pane = panes.find(visible);
    const head = pane?.closest("#workspace");
    if (!pane || !head) return;
    // Not the pane's own top, which changes while it sticks: the bottom of what stands above it.
    const above = [document.getElementById("masthead"), ...head.querySelectorAll(".prompt-area, .reading-area, #complaint_area")].filter(visible);
    const bottom = Math.max(...above.map((node) => node.getBoundingClientRect().bottom)) + scrollY;
    root.style.setProperty("--settings-top", `${Math.round(bottom)}px`);
  };
  const sizes = new ResizeObserver(place);
  for (const node of document.querySelectorAll("#masthead, #workspace .prompt-area, #workspace .reading-area, #complaint_area")) sizes.observe(node);
  window.addEventListener("resize", place);
  document.addEventListener("atelier:tab", place);
  // An open list of Gradio's follows its field when the window scrolls, and hears of nothing else.
  for (const pane of panes) pane.addEventListener("scroll", () => window.dispatchEvent(new Event("scroll")), { passive: true });
  place();

  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (visible(target)) target.toggleAttribute("data-away", !isIntersecting);
    }
  });
  for (const area of document.querySelectorAll("#workspace .prompt-area")) seen.observe(area);
}

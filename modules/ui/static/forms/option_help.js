// The help of an option opens to the side that has room: which of the two columns it is in depends on those that are hidden.

/** Begin to look at each option that is pointed at or focused. */
export function startOptionHelp() {
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, ({ target }) => look(target.closest?.(".options .block.figure")));
}

function look(block) {
  if (!block) return;
  const [box, pane] = [block, block.closest(".options")].map((node) => node.getBoundingClientRect());
  block.classList.toggle("right", box.left + box.width / 2 > pane.left + pane.width / 2 + 1);
}

// All keys of the page, in one table, from which the help and the canvas's own list are made.  It stays JSON: a test reads it and the scripts'
// handlers, and says where they differ.
//
// `keys` are what the handlers in `file` compare with; none for a gesture.  `scope` is for which tools the canvas's list shows the row: paint,
// inpaint, "" for all, none for not there.

export const SHORTCUTS = [
  { "where": "Everywhere", "shown": "Ctrl Enter", "words": "generate", "file": "keys.js", "keys": ["Enter"] },
  { "where": "Everywhere", "shown": "Esc", "words": "close what is open; with nothing open, cancel the job that is shown", "file": "keys.js", "keys": ["Escape"] },
  { "where": "Everywhere", "shown": "Tab", "words": "leaves a list of choices, and closes it", "file": "keys.js", "keys": ["Tab"] },
  { "where": "Everywhere", "shown": "?", "words": "this help; on a canvas, the keys of the canvas", "file": "help.js", "keys": ["?"] },
  { "where": "Tabs", "shown": "←  →  Home  End", "words": "in the bar: the tab beside, the first, the last", "file": "tabs.js", "keys": ["ArrowLeft", "ArrowRight", "Home", "End"] },
  { "where": "Prompt", "shown": "Ctrl ↑  Ctrl ↓", "words": "more or less weight for the word or the selection", "file": "prompt/weight_keys.js", "keys": ["ArrowUp", "ArrowDown"] },
  { "where": "Prompt", "shown": "__  <", "words": "wildcards and networks are offered; ↑ ↓ choose, Enter or Tab takes, Esc closes, other moves too", "file": "prompt/completion.js", "keys": ["ArrowDown", "ArrowUp", "Enter", "Tab", "Escape", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"] },
  { "where": "Prompt", "shown": "↑  ↓", "words": "in a network's weight below the prompt: more, less", "file": "models/adapter_panel.js", "keys": ["ArrowUp", "ArrowDown"] },
  { "where": "Pictures", "shown": "←  →", "words": "along the strip: the picture beside", "file": "results/filmstrip.js", "keys": ["ArrowLeft", "ArrowRight"] },
  { "where": "Pictures", "shown": "Delete", "words": "on the strip: delete the picture", "file": "results/filmstrip.js", "keys": ["Delete"] },
  { "where": "Pictures", "shown": "←  →  Home  End", "words": "in the full-screen view: the picture beside, the first, the last", "file": "results/viewer.js", "keys": ["ArrowLeft", "ArrowRight", "Home", "End"] },
  { "where": "Pictures", "shown": "+  −  0  1", "words": "in the full-screen view: larger, smaller, all of it, 100 %; the wheel does as well", "file": "results/viewer.js", "keys": ["+", "=", "-", "0", "1"] },
  { "where": "Pictures", "shown": "D", "words": "in the full-screen view: download", "file": "results/viewer.js", "keys": ["d"] },
  { "where": "Canvas", "shown": "B  E", "words": "brush, eraser; the right button erases too", "file": "canvas/keyboard.js", "keys": ["b", "e"], "scope": "paint" },
  { "where": "Canvas", "shown": "R  L  F", "words": "rectangle, lasso, fill", "file": "canvas/keyboard.js", "keys": ["r", "l", "f"], "scope": "paint" },
  { "where": "Canvas", "shown": "C", "words": "paint on the mask or in colour", "file": "canvas/keyboard.js", "keys": ["c"], "scope": "inpaint" },
  { "where": "Canvas", "shown": "[  ]", "words": "smaller, larger brush; also Shift and wheel", "file": "canvas/keyboard.js", "keys": ["[", "]"], "scope": "paint" },
  { "where": "Canvas", "shown": "{  }", "words": "softer, harder edge; also Alt and wheel", "file": "canvas/keyboard.js", "keys": ["{", "}"], "scope": "paint" },
  { "where": "Canvas", "shown": "Shift click", "words": "straight line from the last stroke", "file": "canvas/keyboard.js", "keys": [], "scope": "paint" },
  { "where": "Canvas", "shown": "Alt click", "words": "take a colour from the picture", "file": "canvas/keyboard.js", "keys": [], "scope": "paint" },
  { "where": "Canvas", "shown": "I  H", "words": "invert the mask, hide and show it", "file": "canvas/keyboard.js", "keys": ["i", "h"], "scope": "inpaint" },
  { "where": "Canvas", "shown": "Delete", "words": "clear what is painted", "file": "canvas/keyboard.js", "keys": ["Delete", "Backspace"], "scope": "paint" },
  { "where": "Canvas", "shown": "X", "words": "box: the part to work on for “Only masked”", "file": "canvas/keyboard.js", "keys": ["x"], "scope": "inpaint" },
  { "where": "Canvas", "shown": "O", "words": "frame: drag its edges to extend the picture", "file": "canvas/keyboard.js", "keys": ["o"], "scope": "inpaint" },
  { "where": "Canvas", "shown": "Ctrl Z", "words": "undo; Ctrl Shift Z or Ctrl Y redoes", "file": "canvas/keyboard.js", "keys": ["z", "y"], "scope": "" },
  { "where": "Canvas", "shown": "Wheel, + −", "words": "zoom; two fingers do as well", "file": "canvas/keyboard.js", "keys": ["+", "=", "-"], "scope": "" },
  { "where": "Canvas", "shown": "Space drag", "words": "move the picture; also the middle button", "file": "canvas/keyboard.js", "keys": [" "], "scope": "" },
  { "where": "Canvas", "shown": "0  1", "words": "all of the picture, 100 %", "file": "canvas/keyboard.js", "keys": ["0", "1"], "scope": "" },
  { "where": "Canvas", "shown": "Ctrl V", "words": "paste a picture", "file": "canvas/keyboard.js", "keys": [], "scope": "" },
  { "where": "Canvas", "shown": "Arrows", "words": "move the brush (Shift: farther)", "file": "canvas/keyboard.js", "keys": ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "scope": "paint" },
  { "where": "Canvas", "shown": "Enter", "words": "set the brush down, lift it again", "file": "canvas/keyboard.js", "keys": ["Enter"], "scope": "paint" },
  { "where": "Canvas", "shown": "Esc", "words": "give up the stroke", "file": "canvas/keyboard.js", "keys": ["Escape"], "scope": "paint" },
  { "where": "Canvas", "shown": "?", "words": "the keys of the canvas; again closes them", "file": "canvas/keyboard.js", "keys": ["?"], "scope": "none" },
  { "where": "Canvas", "shown": "?", "words": "closes this list", "file": "canvas/help.js", "keys": ["?"], "scope": "none" },
  { "where": "Canvas", "shown": "Arrows", "words": "on the box or the frame: move its edge", "file": "canvas/handles.js", "keys": ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "scope": "none" },
  { "where": "Canvas", "shown": "Delete", "words": "on the box: remove it", "file": "canvas/handles.js", "keys": ["Delete", "Backspace"], "scope": "none" },
  { "where": "Canvas", "shown": "Arrows", "words": "in the toolbar: the button beside", "file": "canvas/toolbar.js", "keys": ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "scope": "none" },
  { "where": "Canvas", "shown": "←  →", "words": "among results on the canvas: the one beside", "file": "canvas/candidates.js", "keys": ["ArrowLeft", "ArrowRight"], "scope": "none" },
  { "where": "Canvas", "shown": "Space", "words": "on “Compare”: the picture as it was, as long as it is held", "file": "canvas/candidates.js", "keys": [" "], "scope": "none" },
  { "where": "Gallery", "shown": "/  ↓  Enter", "words": "search; go on into the pictures; search at once", "file": "gallery/index.js", "keys": ["/", "ArrowDown", "Enter"] },
  { "where": "Gallery", "shown": "F  0 … 5  Delete", "words": "favourite, rate, to the trash", "file": "gallery/index.js", "keys": ["f", "0", "1", "2", "3", "4", "5", "Delete"] },
  { "where": "Gallery", "shown": "Ctrl A  Ctrl Z", "words": "choose all; take back", "file": "gallery/index.js", "keys": ["a", "z"] },
  { "where": "Gallery", "shown": "← ↑ → ↓  Home  End  PgUp  PgDn", "words": "walk along the pictures (Shift: choose)", "file": "gallery/wall.js", "keys": ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "Home", "End", "PageUp", "PageDown"] },
  { "where": "Gallery", "shown": "Enter  Space", "words": "open, choose", "file": "gallery/wall.js", "keys": ["Enter", " "] },
  { "where": "Gallery", "shown": "←  →  F  0 … 5  D  Delete", "words": "in an open picture: beside, favourite, rate, download, to the trash", "file": "gallery/look.js", "keys": ["ArrowLeft", "ArrowRight", "f", "0", "1", "2", "3", "4", "5", "d", "Delete"] },
  { "where": "Models", "shown": "/  ↓", "words": "search; go on into the list", "file": "models/index.js", "keys": ["/", "ArrowDown"] },
  { "where": "Models", "shown": "I", "words": "details of the model", "file": "models/index.js", "keys": ["i"] },
  { "where": "Models", "shown": "← ↑ → ↓  Home  End  PgUp  PgDn", "words": "walk among the models; Enter puts into the prompt or takes out (Shift: the negative prompt)", "file": "models/grid.js", "keys": ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "Home", "End", "PageUp", "PageDown"] },
  { "where": "Models", "shown": "Arrows  Home  End  Enter  Space", "words": "among the folders: walk, open and close, choose", "file": "models/folder_tree.js", "keys": ["ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Home", "End", "Enter", " "] },
  { "where": "Settings", "shown": "/", "words": "search", "file": "settings/index.js", "keys": ["/"] },
];

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);

/** The parts of a row's keys, as they stand on this machine's keyboard. */
export const shownKeys = ({ shown }) => (MAC ? shown.replaceAll("Ctrl", "⌘") : shown).split("  ");

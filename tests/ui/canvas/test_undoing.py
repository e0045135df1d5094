"""What was done on the canvas is taken back and done again, to the byte."""

from __future__ import annotations

import pytest

from tests.ui.canvas.stand import CanvasPage, same

pytestmark = pytest.mark.browser


def test_everything_can_be_taken_back_and_done_again(canvas: CanvasPage) -> None:
    canvas.show(400, 300)
    press = canvas.page.keyboard.press
    canvas.brush(30, 0.6)
    states = [canvas.mask()]
    for act in (
        lambda: canvas.stroke((50, 50), (350, 250)),
        lambda: canvas.stroke((350, 50), (50, 250), button="right"),
        lambda: press("i"),
        lambda: (press("r"), canvas.stroke((10, 10), (200, 150)), press("b")),
        lambda: canvas.stroke((200, -10), (200, 310)),
    ):
        act()
        states.append(canvas.mask())
    for state in reversed(states[:-1]):
        press("Control+z")
        same(canvas.mask(), state)
    press("Control+z")  # there is nothing more
    same(canvas.mask(), states[0])
    for index, keys in zip(range(1, 6), ("Control+Shift+Z", "Control+y") * 3, strict=False):
        press(keys)
        same(canvas.mask(), states[index])

    canvas.do("undo")
    canvas.stroke((100, 250))
    press("Control+y")  # what was taken back is gone after another stroke
    assert canvas.mask()[250, 100] == 255
    canvas.do("undo")
    same(canvas.mask(), states[4])


SHUFFLE = """async (channels) => {
  const base = new URL("ui/now/canvas/", document.baseURI);
  const { Layer } = await import(new URL("layer.js", base));
  const { cover, maskRow, sketchRow } = await import(new URL("brush.js", base));
  const { flood, invert, polygon, rectangle, wipe } = await import(new URL("shapes.js", base));
  let seed = 7;
  const random = (below) => { seed = (1103515245 * seed + 12345) % 2147483648; return (seed / 2147483648) * below; };
  const layer = new Layer(301, 203, channels), steps = [], states = [layer.data.slice()];
  const ink = () => (channels === 1 ? [random(2) < 1 ? 255 : 0] : [random(256), random(256), random(256), 255]);
  const acts = [
    () => rectangle(layer, random(400) - 50, random(300) - 50, random(400) - 50, random(300) - 50, ink()),
    () => polygon(layer, Array.from({length: 7}, () => ({x: random(400) - 50, y: random(300) - 50})), ink()),
    () => cover(layer, {x0: random(300), y0: random(200), r0: random(60), x1: random(300), y1: random(200), r1: random(60)},
      random(1), true,
      channels === 1 ? maskRow(layer, random(2) < 1) : sketchRow(layer, new Uint8Array(301 * 203), ink(), random(2) < 1)),
    () => flood(layer, random(301), random(203), ink()),
    () => (channels === 1 && random(3) < 1 ? invert(layer) : random(4) < 1 && wipe(layer)),
  ];
  for (let turn = 0; turn < 120; turn += 1) {
    layer.begin();
    acts[Math.floor(random(acts.length))]();
    const tiles = layer.finish();
    if (tiles) { steps.push(tiles); states.push(layer.data.slice()); }
  }
  const same = (state) => state.every((value, at) => value === layer.data[at]);
  const wrong = [];
  for (let at = steps.length - 1; at >= 0; at -= 1) { layer.swap(steps[at]); if (!same(states[at])) wrong.push(`undo ${at}`); }
  for (let at = 0; at < steps.length; at += 1) { layer.swap(steps[at]); if (!same(states[at + 1])) wrong.push(`redo ${at}`); }
  const copy = new Layer(301, 203, channels);
  for (const [tile, bytes] of layer.all()) copy.put(tile, bytes);
  const shown = (data) => data.map((value, at) => (channels === 4 && !data[at | 3] ? 0 : value));
  if (shown(copy.data).join() !== shown(layer.data).join()) wrong.push("all");
  return { steps: steps.length, wrong, painted: layer.painted };
}"""


@pytest.mark.parametrize("channels", [1, 4])
def test_a_hundred_steps_of_any_kind_are_taken_back_and_done_again_to_the_byte(canvas: CanvasPage, channels: int) -> None:
    found = canvas.page.evaluate(SHUFFLE, channels)
    assert found["wrong"] == []
    assert found["steps"] > 90


def test_many_steps_keep_to_their_share_of_memory(canvas: CanvasPage) -> None:
    limit = 1 << 20
    found = canvas.page.evaluate(
        """async (limit) => {
          const { History } = await import(new URL("ui/now/canvas/history.js", document.baseURI));
          const history = new History(limit);
          let undone = 0;
          for (let i = 0; i < 100; i += 1) history.push({ words: String(i), bytes: () => 100_000, swap() { undone += 1; } });
          const words = [];
          while (history.canUndo) words.push((await history.undo()).words);
          return { words, undone, redo: history.canRedo };
        }""",
        limit,
    )
    assert found["words"] == [str(i) for i in range(99, 89, -1)]
    assert found["undone"] == 10
    assert found["redo"]


def test_esc_gives_a_stroke_up_and_the_page_does_not_hear_it(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.page.evaluate("document.addEventListener('keydown', (e) => { window.heard = e.key; }, true)")
    canvas.brush(40)
    mouse = canvas.page.mouse
    mouse.move(*canvas.at(50, 50))
    mouse.down()
    mouse.move(*canvas.at(150, 100), steps=3)
    canvas.page.keyboard.press("Escape")
    mouse.move(*canvas.at(200, 150), steps=3)
    mouse.up()
    assert canvas.sent()["mask"] is None
    assert canvas.page.evaluate("window.heard") is None
    canvas.page.keyboard.press("Escape")  # now it is the page's
    assert canvas.page.evaluate("window.heard") == "Escape"


def test_keys_in_the_middle_of_a_stroke_do_not_tear_it(canvas: CanvasPage) -> None:
    canvas.show()
    canvas.brush(40)
    canvas.stroke((50, 150), (250, 150))
    before = canvas.mask()
    mouse, press = canvas.page.mouse, canvas.page.keyboard.press
    mouse.move(*canvas.at(50, 50))
    mouse.down()
    for keys in ("Control+z", "i", "c", "e", "Delete"):
        mouse.move(*canvas.at(100, 60), steps=2)
        press(keys)
        mouse.move(*canvas.at(200, 50), steps=2)
    mouse.up()
    after = canvas.mask()
    assert (after[50, 60:200] == 255).all()
    press("Control+z")
    same(canvas.mask(), before)
    press("Control+z")
    assert canvas.sent()["mask"] is None
    press("Control+y")
    press("Control+y")
    same(canvas.mask(), after)

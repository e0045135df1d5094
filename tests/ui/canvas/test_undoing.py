"""What was done on the canvas is taken back and done again, to the byte."""

from __future__ import annotations

import pytest

from tests.ui.canvas.stand import Easel, same

pytestmark = pytest.mark.browser


def test_everything_can_be_taken_back_and_done_again(easel: Easel) -> None:
    easel.show(400, 300)
    press = easel.page.keyboard.press
    easel.brush(30, 0.6)
    states = [easel.mask()]
    for act in (
        lambda: easel.stroke((50, 50), (350, 250)),
        lambda: easel.stroke((350, 50), (50, 250), button="right"),
        lambda: press("i"),
        lambda: (press("r"), easel.stroke((10, 10), (200, 150)), press("b")),
        lambda: easel.stroke((200, -10), (200, 310)),
    ):
        act()
        states.append(easel.mask())
    for state in reversed(states[:-1]):
        press("Control+z")
        same(easel.mask(), state)
    press("Control+z")  # there is nothing more
    same(easel.mask(), states[0])
    for index, keys in zip(range(1, 6), ("Control+Shift+Z", "Control+y") * 3, strict=False):
        press(keys)
        same(easel.mask(), states[index])

    easel.do("undo")
    easel.stroke((100, 250))
    press("Control+y")  # what was taken back is gone after another stroke
    assert easel.mask()[250, 100] == 255
    easel.do("undo")
    same(easel.mask(), states[4])


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
def test_a_hundred_steps_of_any_kind_are_taken_back_and_done_again_to_the_byte(easel: Easel, channels: int) -> None:
    found = easel.page.evaluate(SHUFFLE, channels)
    assert found["wrong"] == []
    assert found["steps"] > 90


def test_many_steps_keep_to_their_share_of_memory(easel: Easel) -> None:
    limit = 1 << 20
    found = easel.page.evaluate(
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


def test_esc_gives_a_stroke_up_and_the_page_does_not_hear_it(easel: Easel) -> None:
    easel.show()
    easel.page.evaluate("document.addEventListener('keydown', (e) => { window.heard = e.key; }, true)")
    easel.brush(40)
    mouse = easel.page.mouse
    mouse.move(*easel.at(50, 50))
    mouse.down()
    mouse.move(*easel.at(150, 100), steps=3)
    easel.page.keyboard.press("Escape")
    mouse.move(*easel.at(200, 150), steps=3)
    mouse.up()
    assert easel.sent()["mask"] is None
    assert easel.page.evaluate("window.heard") is None
    easel.page.keyboard.press("Escape")  # now it is the page's
    assert easel.page.evaluate("window.heard") == "Escape"


def test_keys_in_the_middle_of_a_stroke_do_not_tear_it(easel: Easel) -> None:
    easel.show()
    easel.brush(40)
    easel.stroke((50, 150), (250, 150))
    before = easel.mask()
    mouse, press = easel.page.mouse, easel.page.keyboard.press
    mouse.move(*easel.at(50, 50))
    mouse.down()
    for keys in ("Control+z", "i", "c", "e", "Delete"):
        mouse.move(*easel.at(100, 60), steps=2)
        press(keys)
        mouse.move(*easel.at(200, 50), steps=2)
    mouse.up()
    after = easel.mask()
    assert (after[50, 60:200] == 255).all()
    press("Control+z")
    same(easel.mask(), before)
    press("Control+z")
    assert easel.sent()["mask"] is None
    press("Control+y")
    press("Control+y")
    same(easel.mask(), after)

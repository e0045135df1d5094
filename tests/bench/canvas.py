"""How fluid the canvas is: strokes and moving about on a picture of 4096x4096 in Chromium, without a graphics card."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import Figure
from tests.ui.canvas.stand import Easel, canvases, noise, png
from tests.ui.conftest import CHROMIUM, FLAGS, Watched
from tests.ui.fake_app import FakeApp

SIDES = (1024, 4096)
BRUSHES = (64, 400)
SECONDS = 4

RECORD = """([stage, name]) => {
  const began = performance.now(), record = {frames: [], moves: [], going: true};
  const node = document.querySelector(stage);
  let start = 0;
  // The stage's own listener runs between these two: one in the capture phase, one when the event has come up to the window.
  node.addEventListener("pointermove", () => { start = performance.now(); }, {capture: true});
  window.addEventListener("pointermove", () => record.moves.push(performance.now() - start));
  const frame = (now) => { record.frames.push(now - began); if (record.going) requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
  window.record = record;
}"""


def measure() -> Iterator[Figure]:
    """Frames are what the browser's main thread reaches while a pointer moves steadily; moves are handled once a frame."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, canvases(FakeApp(Path(folder))) as address, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for side in SIDES:
            page = Watched(browser, address).context.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{address}/inpaint.html")
            yield from _on(Easel(page, None), side)
            page.close()
        browser.close()


def _on(easel: Easel, side: int) -> Iterator[Figure]:
    easel.drop((png(noise(64, 64).repeat(side // 64, 0).repeat(side // 64, 1)), "large.png", "image/png"))
    easel.wait(side, side)
    easel.sent()  # nothing is on its way any more
    for size in BRUSHES:
        easel.brush(size, 0.8)
        yield from _figures(easel, f"{side}x{side}, brush of {size}", lambda: _scribble(easel, side))
    easel.page.keyboard.press("x")
    easel.page.keyboard.down("Space")
    yield from _figures(easel, f"{side}x{side}, moving the picture", lambda: _scribble(easel, side))
    easel.page.keyboard.up("Space")


def _figures(easel: Easel, what: str, act: Any) -> Iterator[Figure]:
    easel.page.evaluate(RECORD, [easel.stage, easel.name])
    act()
    record = easel.page.evaluate("(record.going = false, record)")
    gaps = [after - before for before, after in zip(record["frames"], record["frames"][1:], strict=False)]
    worst = sorted(gaps)[int(0.95 * len(gaps))]
    yield Figure(f"{what}: frames", 1000 * len(gaps) / sum(gaps), "/s", f"95 % within {worst:.0f} ms")
    yield Figure(f"{what}: handling a move", statistics.median(record["moves"]), "ms", f"worst {max(record['moves']):.1f}")


def _scribble(easel: Easel, side: int) -> None:
    """Zigzags over the middle of the stage, some seconds long, as fast as the browser takes them."""
    mouse, page = easel.page.mouse, easel.page
    end = page.evaluate("performance.now()") + 1000 * SECONDS
    mouse.move(*easel.at(0.2 * side, 0.2 * side))
    box = page.locator(easel.stage).bounding_box()
    left, top = box["x"] + 0.35 * box["width"], box["y"] + 0.2 * box["height"]
    mouse.move(left, top)
    mouse.down()
    turn = 0
    while page.evaluate("performance.now()") < end:
        turn += 1
        mouse.move(left + 0.3 * box["width"] * (turn % 2), top + 0.06 * box["height"] * (turn % 10), steps=20)
    mouse.up()

"""How fluid the canvas is: strokes and moving about on a picture of 4096x4096 in Chromium, without a graphics card."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import Figure
from tests.ui.canvas.stand import CanvasPage, canvases, noise, png
from tests.ui.conftest import CHROMIUM, FLAGS, Watched
from tests.ui.fake_app import FakeApp

SIDES = (1024, 4096)
BRUSHES = (64, 400)
SECONDS = 4

RECORD = """([viewport, name]) => {
  const began = performance.now(), record = {frames: [], moves: [], going: true};
  const node = document.querySelector(viewport);
  let start = 0;
  // The viewport's own listener runs between these two: one in the capture phase, one when the event has come up to the window.
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
            yield from _on(CanvasPage(page, None), side)
            page.close()
        browser.close()


def _on(canvas: CanvasPage, side: int) -> Iterator[Figure]:
    canvas.drop((png(noise(64, 64).repeat(side // 64, 0).repeat(side // 64, 1)), "large.png", "image/png"))
    canvas.wait(side, side)
    canvas.sent()  # nothing is on its way any more
    for size in BRUSHES:
        canvas.brush(size, 0.8)
        yield from _figures(canvas, f"{side}x{side}, brush of {size}", lambda: _scribble(canvas, side))
    canvas.page.keyboard.press("x")
    canvas.page.keyboard.down("Space")
    yield from _figures(canvas, f"{side}x{side}, moving the picture", lambda: _scribble(canvas, side))
    canvas.page.keyboard.up("Space")


def _figures(canvas: CanvasPage, what: str, act: Any) -> Iterator[Figure]:
    canvas.page.evaluate(RECORD, [canvas.viewport, canvas.name])
    act()
    record = canvas.page.evaluate("(record.going = false, record)")
    gaps = [after - before for before, after in zip(record["frames"], record["frames"][1:], strict=False)]
    worst = sorted(gaps)[int(0.95 * len(gaps))]
    yield Figure(f"{what}: frames", 1000 * len(gaps) / sum(gaps), "/s", f"95 % within {worst:.0f} ms")
    yield Figure(f"{what}: handling a move", statistics.median(record["moves"]), "ms", f"worst {max(record['moves']):.1f}")


def _scribble(canvas: CanvasPage, side: int) -> None:
    """Zigzags over the middle of the viewport, some seconds long, as fast as the browser takes them."""
    mouse, page = canvas.page.mouse, canvas.page
    end = page.evaluate("performance.now()") + 1000 * SECONDS
    mouse.move(*canvas.at(0.2 * side, 0.2 * side))
    box = page.locator(canvas.viewport).bounding_box()
    left, top = box["x"] + 0.35 * box["width"], box["y"] + 0.2 * box["height"]
    mouse.move(left, top)
    mouse.down()
    turn = 0
    while page.evaluate("performance.now()") < end:
        turn += 1
        mouse.move(left + 0.3 * box["width"] * (turn % 2), top + 0.06 * box["height"] * (turn % 10), steps=20)
    mouse.up()

"""Canvases on a page of their own, served with the real routes for pictures; and hands to drop, paint and look with.

The page of the program has more on it than a canvas; here is nothing else, so that what fails is the canvas.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import numpy.typing as npt
from PIL import Image
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from modules.api.server import build_api
from modules.ui.canvas import Canvas
from modules.ui.files import STATIC
from modules.ui.gradio import gr
from modules.ui.theme import theme
from tests.ui.conftest import serving

Pixels = npt.NDArray[np.uint8]

HEAD = (
    '<link rel="stylesheet" href="ui/now/atelier.css"><link rel="stylesheet" href="ui/now/canvas/canvas.css">'
    "<style>.canvas-area{height:min(640px, 92vh)}</style>"
)

BARE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Canvas</title>HEAD</head><body>
<div id="NAME_canvas" class="canvas-area"><div>TEMPLATE</div></div><label id="words">Words <input></label>
<script type="module">
import { start } from "./ui/now/canvas/index.js";
start(document.getElementById("NAME_canvas"), "NAME", "NAME");
</script></body></html>"""

NAMES = ("inpaint", "sketch", "picture")

DROP = """([selector, files, text]) => {
  const transfer = new DataTransfer();
  for (const [data, name, type] of files) {
    transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, {type}));
  }
  if (text) transfer.setData("text/uri-list", text);
  return transfer;
}"""

SENT = """async (name) => {
  const text = await atelier.canvas(name).flush();
  return text && JSON.parse(text);
}"""


@contextmanager
def canvases(app: Any) -> Iterator[str]:
    """The address of a server with a bare page for each kind of canvas, which loads in no time; and at "/" all of them as
    components of a Gradio page, a tab for each."""
    server = build_api(app)
    server.mount("/ui/now", StaticFiles(directory=STATIC), name="ui")
    for name in NAMES:
        template = (STATIC / "canvas" / "canvas.html").read_text("utf-8")
        text = BARE.replace("HEAD", HEAD).replace("NAME", name).replace("TEMPLATE", template)
        server.add_route(f"/{name}.html", lambda _, text=text: HTMLResponse(text))
    with gr.Blocks(title="Canvases", fill_width=True, analytics_enabled=False) as page, gr.Tabs():
        for name in NAMES:
            with gr.Tab(name):
                Canvas(name, "now", name)
    gr.mount_gradio_app(server, page, path="/", theme=theme(), head=HEAD, footer_links=[], run_history=False, ssr_mode=False)
    with serving(server) as address:
        yield address


class CanvasPage:
    """One canvas in one page, and what people do with it."""

    def __init__(self, page: Any, app: Any, name: str = "inpaint") -> None:
        self.page, self.app, self.name = page, app, name
        self.root = f"#{name}_canvas .drawing"
        self.viewport = f"#{name}_canvas .drawing-viewport"
        page.wait_for_selector(f"{self.root}[data-ready]")

    # ---- pictures

    def drop(self, *files: tuple[bytes, str, str], text: str = "", on: str = "") -> None:
        """Files (bytes, name, type) from outside, or an address, let go over the canvas or over the zone `on`."""
        encoded = [[base64.b64encode(data).decode(), name, kind] for data, name, kind in files]
        transfer = self.page.evaluate_handle(DROP, [self.viewport, encoded, text])
        target = self.viewport
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event(target, event, {"dataTransfer": transfer})
            if event == "dragenter" and on:
                target = f"{self.viewport} [data-drop={on}]"
                self.page.wait_for_selector(target)

    def show(self, width: int = 300, height: int = 200, seed: int = 0) -> Pixels:
        """Drop a picture of noise and wait until it can be painted on."""
        pixels = noise(width, height, seed)
        self.drop((png(pixels), "noise.png", "image/png"))
        self.wait(width, height)
        return pixels

    def wait(self, width: int, height: int) -> None:
        self.page.wait_for_selector(f"{self.root}[data-state=ready]")
        words = f"{width} × {height}"
        self.page.wait_for_function("([s, w]) => document.querySelector(s).textContent.startsWith(w)", arg=[self.size, words])

    @property
    def size(self) -> str:
        return f"{self.root} .drawing-size"

    def problem(self) -> str:
        line = self.page.locator(f"{self.root} .drawing-problem:not([hidden]) span")
        line.wait_for()
        return str(line.inner_text())

    # ---- hands

    def _place(self) -> tuple[float, float, float]:
        """The picture's corner in the window, and CSS pixels per pixel."""
        corner = self.page.evaluate(
            "([name, viewport]) => { const view = atelier.canvas(name).view();"
            " const place = document.querySelector(viewport).getBoundingClientRect();"
            " return [place.left + view.x, place.top + view.y, view.scale]; }",
            [self.name, self.viewport],
        )
        return corner[0], corner[1], corner[2]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture is in the window."""
        left, top, scale = self._place()
        return left + x * scale, top + y * scale

    def under(self, x: float, y: float) -> tuple[float, float]:
        """The point of the picture that is there in the window."""
        left, top, scale = self._place()
        return (x - left) / scale, (y - top) / scale

    def stroke(self, *points: tuple[float, float], button: str = "left", steps: int = 4) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down(button=button)
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=steps)
        mouse.up(button=button)

    def choose(self, tool: str) -> None:
        self.page.click(f"{self.root} [data-tool={tool}]")

    def do(self, command: str) -> None:
        self.page.click(f"{self.root} [data-do={command}]:visible")

    def extend(self, side: str, key: str) -> None:
        """Press a key on a side of the frame, which the screen shows after its tool; what is hidden takes no focus."""
        handle = self.page.locator(f"{self.root} .drawing-frame [data-side={side}]")
        handle.wait_for()
        handle.press(key)

    def brush(self, size: float, hardness: float = 1.0) -> None:
        for name, value in (("size", size), ("hardness", 100 * hardness)):
            self.page.fill(f"{self.root} [data-number={name}]", f"{value:g}")
        self.page.focus(self.viewport)

    # ---- eyes

    def sent(self) -> dict[str, Any]:
        """The fields of a request."""
        found = self.page.evaluate(SENT, self.name)
        assert found, "the canvas is empty"
        return dict(found)

    def mask(self) -> Pixels:
        """The mask as it reached the server, height x width; all black when none was sent."""
        fields = self.sent()
        if fields["mask"] is None:
            size = self.page.evaluate("(n) => atelier.canvas(n).size()", self.name)
            return np.zeros((size["height"], size["width"]), np.uint8)
        return self.kept(fields["mask"])[..., 0]

    def kept(self, identity: str) -> Pixels:
        """A picture that the server keeps, RGB."""
        answer = self.page.request.get(urljoin(self.page.url, f"internal/sources/{identity}"))
        assert answer.ok, answer.status
        with Image.open(io.BytesIO(answer.body())) as image:
            return np.asarray(image.convert("RGB"))

    def stored(self) -> None:
        """Wait until what is on the canvas would survive a reload."""
        self.page.wait_for_selector(f"{self.root}:not([data-unsaved])")


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: Pixels, **options: Any) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG", **options)


def same(found: Pixels, expected: Pixels) -> None:
    """But for what two ways of rounding may differ by."""
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def posts_of(page: Any) -> list[str]:
    """Paths that this page posts to from now on; the list grows."""
    seen: list[str] = []
    page.on("request", lambda r: r.method == "POST" and seen.append(urlsplit(r.url).path))
    return seen

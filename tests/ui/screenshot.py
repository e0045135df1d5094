"""Take the README's screenshots with the starter checkpoint: `python -m tests.ui.screenshot [FILE] [--canvas FILE] [--dark]`.

Paints a row of prompts that the checkpoint itself recommends, in temporary folders, and saves the page as it then looks; then
takes one of the pictures to the canvas, paints a mask on it, and saves that too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from modules.app import App
from modules.settings import ROOT, Settings
from tests.ui.canvas.stand import CanvasPage
from tests.ui.conftest import CHROMIUM, FLAGS, Watched, served

PICTURES = 11
WAIT_MS = 300_000


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / ".github" / "screenshot.png")
    parser.add_argument("--canvas", type=Path, default=ROOT / ".github" / "canvas.png")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--prompts", nargs="*", help="instead of the checkpoint's own")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        app = App(Settings(data_dir=Path(folder) / "data", outputs_dir=Path(folder) / "outputs"))
        app.start()
        try:
            with served(app) as origin, sync_playwright() as running:
                browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                visitor = Watched(browser, origin, color_scheme="dark" if arguments.dark else "light")
                visitor.context.set_default_timeout(WAIT_MS)
                page = visitor.open()
                page.wait_for_selector(".chip")
                prompts = arguments.prompts or page.locator(".chip").all_inner_texts()
                # The owl last: it is the one on the canvas, and fills its place well
                for index, prompt in enumerate(sorted(prompts, key=lambda words: "owl" in words)[-PICTURES:]):
                    page.fill("#txt2img_prompt textarea", prompt)
                    page.fill("#txt2img_seed :is(input, textarea)", str(arguments.seed + index))
                    page.click("#txt2img_generate")
                    page.wait_for_function("(n) => document.querySelectorAll('.tile img').length > n", arg=index)
                    page.wait_for_selector("body:not([data-busy])")
                page.fill("#txt2img_seed :is(input, textarea)", "")
                page.evaluate("document.activeElement.blur()")
                page.mouse.move(640, 790)
                page.wait_for_selector("#engine[data-state=ready]")
                page.wait_for_function("[...document.images].every((image) => image.complete)")
                page.screenshot(path=arguments.file, animations="disabled")
                _mask(page)
                page.screenshot(path=arguments.canvas, animations="disabled")
                browser.close()
        finally:
            app.close()
    for file in (arguments.file, arguments.canvas):
        with Image.open(file) as image:
            image.convert("RGB").save(file, optimize=True)
        print(f"{file}: {file.stat().st_size // 1024} kB")


def _mask(page: Any) -> None:
    """The picture on the canvas, on the canvas of the inpainting tab, with its middle painted over."""
    page.click(".picture-info [data-to=inpaint]")
    page.wait_for_selector("#tab_inpaint[aria-selected=true]")
    canvas = CanvasPage(page, None, "inpaint")
    canvas.wait(256, 256)
    page.wait_for_function("document.querySelector('#inpaint_prompt textarea').value")  # its own comes along first
    page.fill("#inpaint_prompt textarea", "a cat face on a purple background")
    canvas.brush(52, 0.8)
    canvas.stroke((88, 88), (168, 80), (176, 120), (92, 124), (120, 100), steps=12)
    canvas.stored()
    page.mouse.move(*canvas.at(192, 168))


if __name__ == "__main__":
    main()

"""Take the README's screenshot with the starter checkpoint: `python -m tests.ui.screenshot [FILE] [--dark]`.

Paints a row of prompts that the checkpoint itself recommends, in temporary folders, and saves the page as it then looks.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from modules.app import App
from modules.settings import ROOT, Settings
from tests.ui.conftest import CHROMIUM, FLAGS, Watched, served

PICTURES = 11
WAIT_MS = 300_000


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / ".github" / "screenshot.png")
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
                for index, prompt in enumerate(prompts[:PICTURES]):
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
                browser.close()
        finally:
            app.close()
    with Image.open(arguments.file) as image:
        image.convert("RGB").save(arguments.file, optimize=True)
    print(f"{arguments.file}: {arguments.file.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

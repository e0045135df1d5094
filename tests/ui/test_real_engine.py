"""The page before a real App: an engine process that generates with the starter checkpoint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.app import App
from modules.settings import ROOT, Settings
from tests.ui.conftest import Watched, served

STARTER = ROOT / "models" / "atelier-starter.safetensors"
FIRST_PICTURE_MS = 120_000
"""Starting an engine takes seconds; on a busy machine, many."""


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    app = App(Settings(data_dir=folder / "data", models_dirs=(STARTER.parent,), outputs_dir=folder / "outputs"))
    app.start()
    yield app
    app.close()


@pytest.fixture(scope="module")
def address(real_app: App) -> Iterator[str]:
    with served(real_app) as url:
        yield url


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Watched]:
    visitor = Watched(browser, address)
    visitor.context.set_default_timeout(FIRST_PICTURE_MS)
    yield visitor
    visitor.context.close()
    assert not visitor.sins


@pytest.mark.browser
def test_a_chip_becomes_a_picture_that_carries_its_recipe(visitor: Watched, tmp_path: Path) -> None:
    page = visitor.open()
    words = page.locator(".chip").first.inner_text()
    page.locator(".chip").first.click()
    page.fill("#txt2img_steps input[type=number]", "6")
    page.click("#txt2img_generate")
    page.wait_for_selector("#result_picture")
    with page.expect_download() as download:
        page.click("#result_download")
    download.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        image.load()
        assert image.text["parameters"].startswith(f"{words}\nSteps: ")
        low, high = image.convert("L").getextrema()
        assert high - low > 80, "a picture, not one colour"
        shown = page.evaluate("[document.querySelector('#result_picture').naturalWidth, result_picture.naturalHeight]")
        assert tuple(shown) == image.size == (256, 256)


@pytest.mark.browser
def test_preview_of_the_running_latent_then_cancel(visitor: Watched, real_app: App) -> None:
    page = visitor.open()
    page.wait_for_selector("#engine[data-state=ready]")
    page.fill("#txt2img_steps input[type=number]", "150")
    page.fill("#txt2img_count input", "20")
    page.click("#txt2img_generate")
    page.wait_for_selector("#result_preview")
    page.wait_for_selector(".job-left:has-text('left')")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")
    assert page.get_attribute(".job", "data-state") == "cancelled"

    page.fill("#txt2img_steps input[type=number]", "2")
    page.fill("#txt2img_count input", "1")
    page.click("#txt2img_generate")
    page.wait_for_selector("#result_picture")


SCRIPT = """
import sys
from pathlib import Path
from starlette.testclient import TestClient
from modules.app import App
from modules.server import build_server
from modules.settings import Settings

folder = Path(sys.argv[1])
app = App(Settings(data_dir=folder / "data", outputs_dir=folder / "outputs"))
app.start()
try:
    with TestClient(build_server(app), base_url="http://127.0.0.1:7860") as client:
        assert client.get("/").status_code == 200
        assert client.get("/internal/checkpoints").json()
        for view in app.events(app.submit({"prompt": "a rocket", "steps": 1}, "me").id, "me"):
            pass
        assert view.state == "done", view.error
        assert client.get("/internal/jobs").status_code == 200
finally:
    app.close()
heavy = [name for name in ("torch", "transformers", "diffusers", "xformers", "safetensors") if name in sys.modules]
assert not heavy, heavy
print("light")
"""


def test_the_web_process_never_imports_torch(tmp_path: Path) -> None:
    """A whole life: start, page, lists, a picture, stop; all in a process of its own, whose modules are then looked at."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "light"

"""Repainting before a real App: the starter model paints, and the pixels of what comes back are looked at."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.settings import Settings
from tests.ui.canvas.stand import CanvasPage, Pixels
from tests.ui.conftest import Watched, served
from tests.ui.test_real_engine import FIRST_PICTURE_MS, STARTER
from tests.ui.test_tabs import show

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("painting")
    app = App(Settings(data_dir=folder / "data", models_dirs=(STARTER.parent,), outputs_dir=folder / "outputs"))
    app.start()
    with served(app) as url:
        yield url
    app.close()


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Watched]:
    visitor = Watched(browser, address)
    visitor.context.set_default_timeout(FIRST_PICTURE_MS)
    yield visitor
    visitor.context.close()
    assert not visitor.sins


def shown(page: Any) -> Pixels:
    """The picture on the canvas, as it was saved."""
    url = page.evaluate("document.querySelector('#result_picture').src")
    with Image.open(io.BytesIO(page.request.get(url).body())) as image:
        return np.asarray(image.convert("RGB"))


def painted(page: Any, tab: str) -> Pixels:
    """Generate, and the picture that is there when all is over."""
    before = page.evaluate("document.querySelector('#result_picture')?.src ?? ''")
    page.click(f"#{tab}_generate")
    new = "(old) => !document.body.dataset.busy && (document.querySelector('#result_picture')?.src ?? old) !== old"
    page.wait_for_function(new, arg=before)
    return shown(page)


def test_erase_an_object_ask_for_another_and_go_on_painting(visitor: Watched) -> None:
    page = visitor.open()
    page.fill("#txt2img_prompt textarea", "a red apple on a blue background")
    page.fill("#txt2img_seed :is(input, textarea)", "4")
    page.fill("#txt2img_steps input[type=number]", "2")
    apple = painted(page, "txt2img")
    page.click(".picture-info [data-to=inpaint]")
    page.wait_for_selector("#tab_inpaint[aria-selected=true]")
    canvas = CanvasPage(page, None, "inpaint")
    canvas.wait(256, 256)

    canvas.brush(80)
    canvas.stroke((128, 100), (128, 160))
    page.fill("#inpaint_steps input[type=number]", "2")
    page.fill("#inpaint_prompt textarea", "a lemon on a blue background")
    page.fill("#inpaint_denoising_strength input[type=number]", "0.9")
    page.fill("#inpaint_mask_blur input[type=number]", "0")
    mask = canvas.mask()
    first = painted(page, "inpaint")
    assert np.array_equal(first[mask == 0], apple[mask == 0]), "what is not masked comes back as it was"
    changed = np.abs(first[mask == 255].astype(int) - apple[mask == 255])
    assert changed.mean() > 5, "and what is masked does not"

    page.reload()
    page.wait_for_selector(":root[data-face=pictures]")
    page.click("#result_accept")
    page.wait_for_selector(":root[data-face=canvas]")
    canvas = CanvasPage(page, None, "inpaint")
    canvas.wait(256, 256)
    assert np.array_equal(canvas.mask(), mask), "the mask is there after a reload"
    assert np.array_equal(canvas.kept(canvas.sent()["source"]), first)

    canvas.stroke((40, 40), (60, 40))
    mask = canvas.mask()
    second = painted(page, "inpaint")
    assert np.array_equal(second[mask == 0], first[mask == 0])
    assert page.inner_text(".picture-info").count("Whole picture") == 1


def test_a_picture_from_a_picture_follows_it_as_far_as_the_strength_lets_it(visitor: Watched) -> None:
    page = visitor.open()
    show(page, "img2img")
    canvas = CanvasPage(page, None, "img2img")
    source = np.zeros((256, 256, 3), np.uint8)
    source[:, :] = (40, 60, 200)
    source[64:192, 64:192] = (230, 40, 40)
    buffer = io.BytesIO()
    Image.fromarray(source).save(buffer, "PNG")
    canvas.drop((buffer.getvalue(), "square.png", "image/png"))
    canvas.wait(256, 256)
    page.fill("#img2img_prompt textarea", "a red apple on a blue background")
    page.fill("#img2img_steps input[type=number]", "5")
    far = []
    for strength in ("0.1", "0.9"):
        page.fill("#img2img_denoising_strength input[type=number]", strength)
        result = painted(page, "img2img")
        far.append(float(np.abs(result.astype(int) - source).mean()))
    assert result.shape == source.shape
    assert far[0] < 0.7 * far[1]

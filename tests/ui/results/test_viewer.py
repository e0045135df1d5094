"""The picture viewer in Chromium: arrows, zoom, 100 %, download and seed, over the whole window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, number, paint

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

SAID = ".viewer .viewer-said"
IMAGE = ".viewer .viewer-viewport img"


def painted(page: Any, app: FakeApp, how_many: int, **fields: int) -> list[str]:
    for name, value in fields.items():
        page.fill(number(name), str(value))
    return [paint(page, app, len(app.records) + 1) for _ in range(how_many)]


def opened(page: Any) -> None:
    page.click("#results .result-pane .picture-button")
    page.wait_for_selector(".viewer[open]")
    page.wait_for_function("document.querySelector('.viewer img').naturalWidth")


def zoom(page: Any) -> int:
    return int(page.get_attribute(".viewer", "data-zoom"))


def shows(page: Any, key: str) -> None:
    page.wait_for_selector(f".viewer[data-picture='{key}']")


def test_arrows_and_buttons_walk_through_all_pictures(page: Any, app: FakeApp) -> None:
    first, second = painted(page, app, 2)
    page.fill(number("count"), "2")
    third = paint(page, app, 3)
    page.click(".picture-grid .picture-button >> nth=0")
    opened(page)
    assert "1 of 4 · 128 × 128 · seed 3000" in page.inner_text(SAID).replace("\u00a0", " ")
    assert page.is_hidden(".viewer [data-do=before]"), "there is none before the first"
    for key in (f"{third}.1", f"{second}.0", f"{first}.0"):
        page.keyboard.press("ArrowRight")
        shows(page, key)
    assert page.is_hidden(".viewer [data-do=after]")
    page.keyboard.press("ArrowRight")
    shows(page, f"{first}.0")
    page.click(".viewer [data-do=before]")
    shows(page, f"{second}.0")
    assert "seed 2000" in page.inner_text(SAID)
    page.keyboard.press("Home")
    shows(page, f"{third}.0")
    page.keyboard.press("End")
    shows(page, f"{first}.0")
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="detached")
    page.wait_for_selector(f"#result_picture[src*='{first}/0']")
    assert page.evaluate("document.activeElement.matches('#results .result-pane .picture-button')"), (
        "the keyboard goes on where it was"
    )


def test_escape_closes_the_viewer_and_leaves_the_job_alone(page: Any, app: FakeApp) -> None:
    painted(page, app, 1)
    page.click(GENERATE)
    running = app.wait_for_job(2)
    app.step(running, 3)
    page.click(".filmstrip .tile >> nth=1")
    page.wait_for_selector("#result_picture")
    opened(page)
    page.keyboard.press("Escape")
    page.wait_for_selector(".viewer", state="detached")
    assert app.records[running][1].state == "running"


def test_wheel_zooms_at_the_pointer_and_100_percent_is_a_pixel_per_pixel(page: Any, app: FakeApp) -> None:
    painted(page, app, 1, width=256, height=128)
    opened(page)
    fitted = page.locator(IMAGE).bounding_box()
    assert fitted["width"] == pytest.approx(1024, abs=1), "four times, as small pictures are shown"
    assert zoom(page) == 400
    page.click(".viewer [data-do=actual]")
    actual = page.locator(IMAGE).bounding_box()
    assert (actual["width"], actual["height"]) == pytest.approx((256, 128), abs=0.5)
    assert zoom(page) == 100

    corner = (fitted["x"] + 200, fitted["y"] + 100)
    page.keyboard.press("0")
    page.mouse.move(*corner)
    before = page.locator(IMAGE).bounding_box()
    page.mouse.wheel(0, -600)
    page.wait_for_function("Number(document.querySelector('.viewer').dataset.zoom) > 600")
    after = page.locator(IMAGE).bounding_box()
    under = [(corner[0] - box["x"]) / box["width"] for box in (before, after)]
    assert under[0] == pytest.approx(under[1], abs=0.01), "what is under the pointer stays there"
    page.mouse.down()
    page.mouse.move(corner[0] + 90, corner[1], steps=3)
    page.mouse.up()
    assert page.locator(IMAGE).bounding_box()["x"] == pytest.approx(after["x"] + 90, abs=1), "a drag moves it"
    assert page.is_visible(".viewer"), "and closes nothing"
    page.click(".viewer [data-do=fit]")
    assert page.locator(IMAGE).bounding_box() == pytest.approx(fitted, abs=0.5)


def test_a_wide_picture_gets_the_width_of_the_window(visit: Visit, app: FakeApp) -> None:
    page = visit(viewport={"width": 1440, "height": 900}).open()
    painted(page, app, 1, width=1024, height=512)
    opened(page)
    assert page.locator(IMAGE).bounding_box()["width"] == pytest.approx(1440, abs=2)


def test_download_and_a_click_beside_the_picture(page: Any, app: FakeApp, tmp_path: Path) -> None:
    (job,) = painted(page, app, 1)
    opened(page)
    with page.expect_download() as download:
        page.click(".viewer [data-do=download]")
    download.value.save_as(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert "Seed: 1000" in image.info["parameters"]
    assert download.value.suggested_filename == app.records[job][1].pictures[0].name
    page.mouse.click(300, 700)
    page.wait_for_selector(".viewer", state="detached")


def test_a_finger_swipes_to_the_next_picture(visit: Visit, app: FakeApp) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).open()
    first, second = painted(page, app, 2)
    page.locator("#results .result-pane .picture-button").tap()
    shows(page, f"{second}.0")
    swipe = """([from, to]) => {
      const viewport = document.querySelector('.viewer-viewport');
      viewport.setPointerCapture = () => {};
      const finger = {pointerId: 7, pointerType: 'touch', clientY: 400, bubbles: true};
      const send = (type, x) => viewport.dispatchEvent(new PointerEvent(type, {...finger, clientX: x}));
      send('pointerdown', from), send('pointermove', (from + to) / 2), send('pointermove', to), send('pointerup', to);
    }"""
    page.evaluate(swipe, [300, 120])
    shows(page, f"{first}.0")
    page.evaluate(swipe, [120, 300])
    shows(page, f"{second}.0")
    bar = page.locator(".viewer-bar > *")
    assert all(bar.nth(i).bounding_box()["x"] + bar.nth(i).bounding_box()["width"] <= 390 for i in range(bar.count()))

"""Inpainting never makes a picture smaller silently, and a box means "Only masked"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.canvas.stand import CanvasPage
from tests.ui.fake_app import FakeApp
from tests.ui.test_picture_to_picture import finished, opened, submitted
from tests.ui.test_txt2img_page import wait_value

pytestmark = pytest.mark.browser

NOTE = "#inpaint_below .canvas-note"


def painted(page: Any, app: FakeApp, width: int, height: int) -> CanvasPage:
    canvas = opened(page, app, "inpaint")
    canvas.show(width, height)
    canvas.brush(20)
    canvas.stroke((20, 20), (60, 20))
    return canvas


def area(page: Any) -> str:
    return str(page.input_value("#inpaint_inpaint_area input"))


def choose_area(page: Any, name: str) -> None:
    page.click("#inpaint_inpaint_area input")
    page.get_by_role("option", name=name, exact=True).click()


def test_the_whole_picture_keeps_its_own_size_where_it_may(page: Any, app: FakeApp) -> None:
    painted(page, app, 251, 200)  # 3 times what the model was made for; no multiple of 8
    wait_value(page, "#inpaint_width input", "256")
    wait_value(page, "#inpaint_height input", "200")
    assert page.is_hidden(NOTE)
    assert page.inner_text("#inpaint_below .canvas-size") == "becomes 256 × 200"
    request = submitted(page, app, "inpaint")
    assert (request.width, request.height, request.inpaint_area) == (256, 200, "Whole picture")


def test_a_smaller_result_is_reported_before_and_the_picture_s_size_is_offered(page: Any, app: FakeApp) -> None:
    painted(page, app, 512, 384)  # 12 times what the model was made for
    page.wait_for_selector(f"{NOTE}:not([hidden])")
    wait_value(page, "#inpaint_width input", "144")
    assert "The whole picture becomes 144 × 112, smaller than its 512 × 384." in page.inner_text(NOTE)
    page.click(f"{NOTE} >> text=Keep 512 × 384")
    page.wait_for_selector(NOTE, state="hidden")
    request = submitted(page, app, "inpaint")
    assert (request.width, request.height) == (512, 384)


def test_or_only_masked_or_another_factor(page: Any, app: FakeApp) -> None:
    canvas = painted(page, app, 512, 384)
    page.click(f"{NOTE} [data-do=masked]")
    page.wait_for_selector(NOTE, state="hidden")
    assert area(page) == "Only masked"
    choose_area(page, "Whole picture")
    page.wait_for_selector(f"{NOTE}:not([hidden])")
    page.click("#inpaint_size_by >> text=By a factor")
    page.wait_for_selector(NOTE, state="hidden")
    page.fill("#inpaint_size_factor input[type=number]", "0.5")
    page.wait_for_selector(f"{NOTE}:has-text('becomes 256 × 192')")
    page.click(f"{NOTE} >> text=Factor 1")
    page.wait_for_selector(NOTE, state="hidden")
    page.click("#inpaint_size_by >> text=To a size")
    page.evaluate("atelier.canvas('inpaint').clear()")
    page.wait_for_selector(f"{canvas.root}[data-state=empty]")
    assert page.is_hidden(NOTE)


def test_accept_says_when_the_canvas_becomes_smaller(page: Any, app: FakeApp) -> None:
    canvas = painted(page, app, 512, 384)
    page.wait_for_selector(f"{NOTE}:not([hidden])")
    page.fill("#inpaint_count input", "2")
    page.click("#inpaint_generate")
    finished(page, app, app.wait_for_job())
    page.wait_for_selector(".results[data-view=grid]")
    first = page.locator(".picture-grid .accept").first
    assert first.inner_text() == "Accept at 144 × 112"
    assert "512 × 384" in first.get_attribute("aria-label")
    page.click(".picture-grid .picture-button >> nth=0")
    page.wait_for_selector("#result_accept")
    assert page.inner_text("#result_accept") == "Accept at 144 × 112 (canvas: 512 × 384)"
    page.click("#result_accept")
    canvas.wait(144, 112)
    page.wait_for_selector("#complaint:not([hidden])")
    said = "The picture on the canvas is 144 × 112 now; the one before it was 512 × 384. Undo on the canvas takes it back."
    assert page.inner_text("#complaint") == said
    page.click("#inpaint_canvas [data-do=undo]")
    canvas.wait(512, 384)


def test_a_size_that_was_chosen_stays_over_a_reload(page: Any, app: FakeApp) -> None:
    """What is painted after it is no new picture, for which a size would be chosen anew."""
    canvas = painted(page, app, 512, 384)
    page.click(f"{NOTE} >> text=Keep 512 × 384")
    wait_value(page, "#inpaint_width input", "512")
    canvas.stored()
    page.reload()
    again = CanvasPage(page, app, "inpaint")
    again.wait(512, 384)
    wait_value(page, "#inpaint_width input", "512")
    again.stroke((100, 100), (160, 100))
    request = submitted(page, app, "inpaint")
    assert (request.width, request.height) == (512, 384)


def test_a_box_means_only_masked_and_is_sent(page: Any, app: FakeApp) -> None:
    canvas = painted(page, app, 256, 256)
    assert area(page) == "Whole picture"
    page.click("#inpaint_canvas [data-tool=box]")
    canvas.stroke((30, 40), (130, 150))
    page.wait_for_function("document.querySelector('#inpaint_inpaint_area input').value === 'Only masked'")
    request = submitted(page, app, "inpaint")
    assert request.inpaint_area == "Only masked"
    assert request.box == (30, 40, 100, 110)


def test_a_box_is_never_dropped_without_a_word(page: Any, app: FakeApp) -> None:
    canvas = painted(page, app, 256, 256)
    choose_area(page, "Crop and stitch")
    page.click("#inpaint_canvas [data-tool=box]")
    canvas.stroke((30, 40), (130, 150))
    page.wait_for_function("atelier.canvas('inpaint').box()")
    assert area(page) == "Crop and stitch", "where a box counts already, nothing is changed"
    choose_area(page, "Whole picture")
    page.wait_for_selector(f"{NOTE}:not([hidden])")
    assert "The box counts with “Only masked” alone." in page.inner_text(NOTE)
    page.click(f"{NOTE} [data-do=masked]")
    page.wait_for_selector(NOTE, state="hidden")
    assert submitted(page, app, "inpaint").box == (30, 40, 100, 110)

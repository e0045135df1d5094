"""Below the size, before the click: time, memory, and what size the checkpoint was made for."""

from __future__ import annotations

from typing import Any

import pytest

from modules.engine.costs import Call
from modules.jobs.memory import Memory
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.held import Held
from tests.ui.test_picture_to_picture import opened
from tests.ui.test_tabs import show
from tests.ui.test_txt2img_page import number

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

ESTIMATE = "#txt2img_estimate"


def told(page: Any, words: str, tab: str = "txt2img") -> None:
    page.wait_for_function("([s, w]) => document.querySelector(s).textContent === w", arg=[f"#{tab}_estimate", words])


def test_size_time_and_memory_are_reported_before_the_click(app: FakeApp, visit: Visit) -> None:
    app.costs.put([(Call("predict", "stickers", 128, 128, 2), 0.5), (Call("decode", "stickers", 128, 128, 1), 2.0)])
    app.weights = 57_000_000
    page = visit().open()
    told(page, "Takes about 12 s. The model takes 57 MB.")  # 20 steps of half a second, and the decoding
    page.fill(number("steps"), "40")
    told(page, "Takes about 22 s. The model takes 57 MB.")
    page.fill(number("width"), "512")
    page.fill(number("height"), "512")
    made_for = "Made for 128 × 128; this is 16 times the pixels."
    told(page, f"{made_for} At least about 6 min. The model takes 57 MB, and what is computed grows with the pixels.")
    assert page.get_attribute(ESTIMATE, "data-far") is not None
    assert not app.records, "nothing was begun for that"
    page.fill(number("width"), "63")
    told(page, "")  # the request's own words come at Generate
    page.click("#checkpoint input")
    page.get_by_role("option", name="Landscapes", exact=True).click()
    told(page, "How long it takes is not measured yet. The model takes 57 MB.")


def test_memory_is_compared_with_what_there_is_and_what_would_fit_is_named(app: FakeApp, visit: Visit) -> None:
    app.needs = Memory(8_500_000_000, 6_900_000_000, 12_000_000_000)
    page = visit().open()
    told(
        page, "How long it takes is not measured yet. It takes about 8.5 GB of memory at its peak, 6.9 GB of it for the model."
    )
    assert page.get_attribute(ESTIMATE, "data-short") is None
    app.needs = Memory(8_500_000_000, 6_900_000_000, 1_000_000_000, size=(512, 512))
    page.fill(number("steps"), "21")
    short = "Does not fit: it takes about 8.5 GB of memory, and 1.0 GB are there; at most 512 × 512 fits."
    told(page, f"How long it takes is not measured yet. {short}")
    assert page.get_attribute(ESTIMATE, "data-short") is not None


@pytest.mark.tabs
def test_a_picture_from_a_picture_counts_its_factor_and_strength(app: FakeApp, visit: Visit) -> None:
    app.costs.put([(Call("predict", "stickers", 256, 128, 2), 1.0), (Call("decode", "stickers", 256, 128, 1), 2.0)])
    page = visit().open()
    canvas = opened(page, app, "img2img")
    canvas.show(128, 64)
    page.click("#img2img_size_by >> text=By a factor")
    page.fill("#img2img_size_factor input[type=number]", "2")
    page.fill("#img2img_denoising_strength input[type=number]", "0.5")
    told(page, "Made for 128 × 128. Takes about 13 s.", "img2img")  # of 20 steps half are run, and one more as in A1111


def test_what_is_measured_while_the_page_is_open_comes_by_itself(app: FakeApp, visit: Visit) -> None:
    page = visit().open()
    told(page, "How long it takes is not measured yet.")
    app.costs.put([(Call("predict", "stickers", 128, 128, 2), 0.5)])  # the checkpoint was loaded, and timed
    told(page, "Takes about 10 s.")


@pytest.mark.tabs
def test_what_is_below_the_estimate_stays_where_it_is_when_it_comes(app: FakeApp, visit: Visit) -> None:
    """A click on what moves between press and release is lost."""
    page = visit().open()
    held = Held(page, "**/internal/quote")
    show(page, "img2img")
    held.wait(page)
    assert page.text_content("#img2img_estimate") == ""
    before = page.locator("#img2img_many").bounding_box()
    held.release()
    told(page, "How long it takes is not measured yet.", "img2img")
    assert page.locator("#img2img_many").bounding_box() == before

"""Skip, the menu at Generate, and what it says of Cancel and Ctrl+Enter, in Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, number

pytestmark = pytest.mark.browser

SKIP = "#txt2img_actions .skip"
MORE = "#txt2img_actions .generate-more"
MENU = "#txt2img_generate_menu"


def running(page: Any, app: FakeApp, count: int = 1, which: int = 1) -> str:
    page.fill(number("count"), str(count))
    page.click(GENERATE)
    job = app.wait_for_job(which)
    app.step(job, 3)
    page.wait_for_selector(f".job[data-job='{job}'][data-state=running]")
    return job


def test_skip_goes_on_with_the_next_picture_by_button_and_key(page: Any, app: FakeApp) -> None:
    assert not page.is_visible(SKIP)
    job = running(page, app, count=3)
    page.click(SKIP)
    page.wait_for_selector("text=1 of 3 finished")
    assert app.records[job][1].state == "running"
    app.step(job, 1)
    page.keyboard.press("Alt+Enter")
    page.wait_for_selector("text=2 of 3 finished")
    page.wait_for_selector(SKIP, state="hidden")  # the last one: nothing is left to go on with
    assert page.is_visible("#txt2img_cancel")
    assert len(app.records) == 1, "Alt+Enter is not Ctrl+Enter"


def test_cancel_keeps_the_unfinished_picture_where_that_is_chosen(page: Any, app: FakeApp) -> None:
    page.click(GENERATE, button="right")
    page.click(f"{MENU} [data-name=keep]")
    assert not page.is_visible(MENU)
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    job = running(page, app, count=3)
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")
    view = app.records[job][1]
    assert (view.state, view.done) == ("done", 1)
    page.click(MORE)
    assert page.get_attribute(f"{MENU} [data-name=keep]", "aria-checked") == "true"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.name") != "keep"
    page.keyboard.press("Escape")
    assert not page.is_visible(MENU)
    assert page.evaluate("document.activeElement.className") == "generate-more"


def test_ctrl_enter_interrupts_first_where_that_is_chosen(page: Any, app: FakeApp) -> None:
    first = running(page, app)
    page.keyboard.press("Control+Enter")
    app.wait_for_job(2)
    assert app.records[first][1].state == "running", "usually what is painted goes on"
    page.click(MORE)
    page.click(f"{MENU} [data-name=restart]")
    page.keyboard.press("Control+Enter")
    app.wait_for_job(3)
    page.wait_for_function("(id) => document.querySelector('.job').dataset.job !== id", arg=first)
    assert app.records[first][1].state == "done"

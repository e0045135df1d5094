"""Skip, the menu at Generate, and what it says of Cancel and Ctrl+Enter, in Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, PROMPT, number

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

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
    assert page.evaluate("document.activeElement.dataset.name") == "keep"
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


BAR = ".forever"


@pytest.mark.tabs
def test_generate_forever_is_seen_over_a_reload_until_it_is_stopped(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "a rocket")
    page.click(GENERATE, button="right")
    page.click(f"{MENU} [data-name=forever]")
    first = app.wait_for_job()
    page.wait_for_selector(f"{BAR}:has-text('0 pictures so far')")
    app.step(first, 3)
    app.forever.look()  # the server's own loop, which this test carries out
    second = app.wait_for_job(2)
    assert app.records[second][1].request.prompt == "a rocket"
    app.finish_picture(first)
    app.forever.look()
    page.wait_for_selector(f"{BAR}:has-text('1 picture so far')")
    page.wait_for_selector(f".job[data-job='{second}']")  # the page goes along with it
    page.reload()
    page.wait_for_selector(f"{BAR}:has-text('1 picture so far')")
    page.click("#tab_img2img")
    assert page.is_visible(BAR), "on each tab that paints"
    page.click("#tab_txt2img")
    app.step(second, 3)
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")
    assert page.is_visible(BAR), "Esc cancels a picture and not all of it"
    app.forever.look()
    third = app.wait_for_job(3)
    page.click(f"{BAR} button")
    page.wait_for_selector(BAR, state="hidden")
    assert app.records[third][1].state == "cancelled"
    app.forever.look()
    assert len(app.records) == 3


def test_forever_that_fails_ends_and_says_why(page: Any, app: FakeApp) -> None:
    page.click(MORE)
    page.click(f"{MENU} [data-name=forever]")
    job = app.wait_for_job()
    page.wait_for_selector(BAR)
    page.click(MORE)
    assert page.is_visible(f"{MENU} [data-name=stop]")
    page.keyboard.press("Escape")
    app.fail(job, "no memory")
    app.forever.look()
    page.wait_for_selector(BAR, state="hidden")
    page.wait_for_selector("#complaint:has-text('Generating forever ended: no memory.')")


def test_forever_with_nonsense_leaves_what_is_on(page: Any, app: FakeApp) -> None:
    page.click(MORE)
    page.click(f"{MENU} [data-name=forever]")
    app.wait_for_job()
    page.fill(number("width"), "63")
    page.click(MORE)
    page.click(f"{MENU} [data-name=forever]")
    page.wait_for_selector("#complaint:has-text('Width')")
    assert page.is_visible(BAR), "what was on stays"
    assert len(app.records) == 1

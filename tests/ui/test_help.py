"""The help of the page: keys, version, the API's address, and where A1111's things are."""

from __future__ import annotations

from typing import Any

import pytest

from modules import __version__
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, PROMPT

pytestmark = pytest.mark.browser


def test_the_question_mark_tells_keys_version_api_and_what_is_not_here(page: Any) -> None:
    page.click("#help")
    words = page.inner_text(".help[open]")
    assert f"Atelier {__version__}" in words
    known = ("Ctrl Enter", "Esc", "Outpainting", "Textual inversion", "Paste settings", "PNG Info", "Extra networks")
    for name in (
        *known,
        "VAE",
        "Refiner",
        "Hires. fix",
        "Extras",
        "Checkpoint merger",
        "Styles",
        "Canvas",
        "Gallery",
        "X/Y/Z plot",
    ):
        assert name in words
    missing = page.inner_text(".help-not")
    for absent in ("ControlNet", "Face restoration", "Extensions", "Flux"):
        assert absent in missing, f"an A1111 user looks for {absent}"
    with page.context.expect_page() as opened:
        page.click(".help a[href=docs]")
    opened.value.wait_for_load_state()
    assert opened.value.url.endswith("/docs")
    assert "/api/v1" in opened.value.content()
    opened.value.close()
    page.click(".help-close")
    page.wait_for_selector(".help", state="detached")
    assert page.evaluate("document.activeElement.id") == "help"


def test_the_key_opens_it_outside_of_fields_and_escape_closes_only_it(page: Any, app: FakeApp) -> None:
    page.click(PROMPT)
    page.keyboard.type("why?")
    assert page.input_value(PROMPT) == "why?"
    assert page.locator(".help").count() == 0, "in a prompt it is a question mark"
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 2)
    page.wait_for_selector("body[data-busy]")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector(".help[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector(".help", state="detached")
    assert app.records[job][1].state == "running"

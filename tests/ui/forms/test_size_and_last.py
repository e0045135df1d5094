"""Aspect ratios below the size, and the settings of the picture that was made last, in Chromium."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import PROMPT, number, paint, wait_value

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

LAST = "#txt2img_prompt .last-settings"

SIZES = """async (asked) => {
  const main = document.querySelector('link[rel=modulepreload][href$="main.js"]').href;
  const { ratioSize } = await import(main.replace('main.js', 'forms/ratio.js'));
  return asked.map(([ratio, native]) => Object.values(ratioSize(ratio, native)));
}"""


def chip(ratio: str) -> str:
    return f"#txt2img_ratios [data-ratio='{ratio}']"


def pressed(page: Any) -> list[str]:
    found: list[str] = page.locator("#txt2img_ratios [aria-pressed=true]").all_inner_texts()
    return found


def size_is(page: Any, width: int, height: int) -> None:
    wait_value(page, number("width"), str(width))
    wait_value(page, number("height"), str(height))


def test_sizes_are_near_those_that_checkpoints_were_trained_at(page: Any) -> None:
    asked = {
        ("1:1", 512 * 512): [512, 512],
        ("16:9", 512 * 512): [680, 384],
        ("3:2", 512 * 512): [624, 416],
        ("1:1", 1024 * 1024): [1024, 1024],
        ("16:9", 1024 * 1024): [1344, 768],
        ("9:16", 1024 * 1024): [768, 1344],
        ("4:3", 1024 * 1024): [1152, 896],
    }
    found = page.evaluate(SIZES, [list(key) for key in asked])
    assert dict(zip(asked, found, strict=True)) == asked


def test_a_ratio_is_held_until_it_is_let_go_or_another_size_comes(page: Any) -> None:
    page.click(chip("3:2"))
    size_is(page, 160, 104)
    assert pressed(page) == ["3:2"]
    page.fill(number("width"), "192")
    size_is(page, 192, 128)
    page.fill(number("height"), "64")
    size_is(page, 96, 64)
    page.click("#txt2img_swap")
    size_is(page, 64, 96)
    page.wait_for_selector(f"{chip('2:3')}[aria-pressed=true]")
    page.wait_for_function("JSON.parse(localStorage['atelier.form.txt2img']).height === 96")
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    size_is(page, 64, 96)
    assert pressed(page) == ["2:3"]
    page.click(chip("2:3"))
    assert pressed(page) == []
    page.fill(number("width"), "128")
    page.wait_for_function("window.atelierForms.txt2img.width === 128")
    size_is(page, 128, 96)


def test_another_size_from_elsewhere_lets_the_ratio_go_and_a_size_can_be_pasted(page: Any, app: FakeApp) -> None:
    paint(page, app)  # of 128 by 128
    page.click(chip("16:9"))
    page.wait_for_selector(f"{chip('16:9')}[aria-pressed=true]")
    page.click("#result_reuse")
    size_is(page, 128, 128)
    page.wait_for_selector("#txt2img_ratios:not(:has([aria-pressed=true]))")
    page.focus(number("width"))
    page.evaluate(
        """(box) => {
          const data = new DataTransfer();
          data.setData('text/plain', ' 1023 x 512 ');
          const paste = { clipboardData: data, bubbles: true, cancelable: true };
          document.querySelector(box).dispatchEvent(new ClipboardEvent('paste', paste));
        }""",
        number("width"),
    )
    size_is(page, 1024, 512)


@pytest.mark.tabs
def test_an_empty_prompt_gets_the_last_settings(page: Any, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are asked for before the server has told what the forms were left with."""
    assert not page.is_visible(LAST), "nothing was made yet"
    page.fill(PROMPT, "a rocket")
    page.fill(number("steps"), "9")
    job = paint(page, app)
    assert not page.is_visible(LAST)
    page.fill(PROMPT, "")
    page.fill(number("steps"), "30")
    answer = threading.Event()
    styles = app.library.styles
    monkeypatch.setattr(app.library, "styles", lambda: answer.wait(60) and styles())
    page.reload()
    page.click(LAST)
    assert page.get_attribute("body", "data-forms") is None
    answer.set()
    wait_value(page, PROMPT, "a rocket")
    wait_value(page, number("steps"), "9")
    wait_value(page, "#txt2img_seed :is(input, textarea)", str(app.records[job][1].pictures[0].seed))
    page.wait_for_selector(LAST, state="hidden")
    page.click("#tab_img2img")
    page.click("#img2img_prompt .last-settings")
    wait_value(page, "#img2img_prompt textarea", "a rocket")
    assert page.evaluate("location.hash") == "#img2img", "in the tab where it was asked for"

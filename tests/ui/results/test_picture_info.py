"""What the panel beside a picture says: each setting that is not at its default, the words that were painted, the real size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, PROMPT, paint
from tests.ui.window import resize

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

LABEL = """() => {
  const names = [...document.querySelectorAll('.picture-info dt')];
  return Object.fromEntries(names.map((name) => [name.textContent, name.nextSibling.textContent]));
}"""


def test_what_differs_in_advanced_is_reported_and_nothing_else(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_options button.label-wrap")
    page.fill("#txt2img_pag_scale :is(input, textarea)", "3")
    page.click("#txt2img_apg input")
    page.click("#txt2img_rng input")
    page.get_by_role("option", name="NV", exact=True).click()
    paint(page, app)
    said = page.evaluate(LABEL)
    assert (said["PAG scale"], said["Adaptive projected guidance"], said["Noise source"]) == ("3", "on", "NV")
    assert not {"CFG rescale", "Clip skip", "Comments", "Negative", "As written", "Painted at"} & said.keys()


def test_the_style_s_words_and_what_a_wildcard_drew(app: FakeApp, visit: Visit) -> None:
    folder: Path = app.settings.data_dir
    (folder / "wildcards").mkdir(parents=True)
    (folder / "wildcards" / "colour.txt").write_text("crimson\n", "utf-8")
    (folder / "styles.csv").write_text('name,prompt,negative_prompt\nInk,"{prompt}, ink drawing","photo, blurry"\n', "utf-8")
    page = visit().open()
    page.fill(PROMPT, "a __colour__ apple")
    page.click("#txt2img_styles input")
    page.get_by_role("option", name="Ink", exact=True).click()
    page.keyboard.press("Escape")
    paint(page, app)
    assert page.inner_text(".picture-info .title") == "a crimson apple, ink drawing"
    said = page.evaluate(LABEL)
    assert (said["As written"], said["Negative"], said["Styles"]) == ("a __colour__ apple", "photo, blurry", "Ink")
    page.click("#result_reuse")
    page.wait_for_function("document.querySelector('#complaint').hidden")
    assert page.input_value(PROMPT) == "a __colour__ apple", "its settings are those that it was asked for with"


def test_the_size_is_the_picture_s_own(page: Any, app: FakeApp) -> None:
    original = app._paint

    def pasted_back(job: Any, index: int) -> Any:
        return replace(original(job, index), width=1024, height=768)

    app._paint = pasted_back  # type: ignore[method-assign]
    paint(page, app)
    said = page.evaluate(LABEL)
    assert (said["Size"], said["Painted at"]) == ("1024 × 768", "128 × 128")


def test_a_running_job_says_its_settings_too(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_options button.label-wrap")
    page.fill("#txt2img_clip_skip :is(input, textarea)", "2")
    page.click(GENERATE)
    app.step(app.wait_for_job(), 1)
    page.wait_for_selector(".picture-info dl")
    said = page.evaluate(LABEL)
    assert (said["Clip skip"], said["Size"]) == ("2", "128 × 128")


@pytest.mark.tabs
def test_what_can_be_done_with_a_picture_covers_nothing_else(app: FakeApp, page: Any) -> None:
    paint(page, app)
    for size in ((390, 844), (820, 1180), (1440, 900)):  # a phone's, a tablet's, a wide one
        resize(page, *size)
        _covers_nothing(page)


def _covers_nothing(page: Any) -> None:
    boxes = page.evaluate("""() => [...document.querySelectorAll('#results .actions :is(button, a)')]
      .map((node) => node.getBoundingClientRect()).filter((box) => box.width)
      .map((box) => [box.left, box.top, box.right, box.bottom])""")
    assert len(boxes) >= 6
    for place, (left, top, right, bottom) in enumerate(boxes):
        for x0, y0, x1, y1 in boxes[place + 1 :]:
            assert right <= x0 or x1 <= left or bottom <= y0 or y1 <= top

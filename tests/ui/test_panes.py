"""What stays in sight, in windows of all sizes; contrast; numbers beside sliders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.ui.canvas.stand import CanvasPage
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import GENERATE, number, paint, wait_value
from tests.ui.window import resize

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

WINDOWS = {"laptop": (1366, 657), "low": (1280, 600), "150 %": (960, 600), "large": (1440, 900)}

HIT = """(selector) => {
  const node = document.querySelector(selector), box = node.getBoundingClientRect();
  const over = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return box.width > 0 && box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth && node.contains(over);
}"""
"""Whether all of a node is in the window, with nothing over it."""

CONTRAST = """(selector) => {
  const part = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const node = document.querySelector(selector), style = getComputedStyle(node, '::placeholder');
  let under = node;
  while (part(getComputedStyle(under).backgroundColor)[3] === 0) under = under.parentElement;
  const [a, b] = [light(part(style.color)), light(part(getComputedStyle(under).backgroundColor))].sort((x, y) => y - x);
  return style.opacity === '1' ? (a + 0.05) / (b + 0.05) : 0;
}"""


def windows(page: Any) -> Iterator[str]:
    """The page in a window of each size."""
    for name, (width, height) in WINDOWS.items():
        resize(page, width, height)
        yield name


@pytest.mark.tabs
def test_the_canvas_covers_nothing_of_its_own(app: FakeApp, page: Any) -> None:
    paint(page, app)  # with a picture in the strip
    page.click("#tab_inpaint")
    CanvasPage(page, app, "inpaint").show(256, 256)
    for name in windows(page):
        buttons = page.locator("#inpaint_canvas :is(.drawing-tools, .drawing-foot) > button")
        assert buttons.count() >= 18
        hidden = [
            button.get_attribute("aria-label") or button.inner_text()
            for button in buttons.all()
            if not page.evaluate("""(node) => {
              const box = node.getBoundingClientRect();
              const over = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
              return box.height >= 30 && box.top >= 0 && box.bottom <= innerHeight && node.contains(over);
            }""", button.element_handle())
        ]  # fmt: skip
        assert hidden == [], name
        assert page.evaluate(HIT, "#inpaint_generate"), name
        assert page.evaluate(HIT, "#inpaint_below [data-do=send]"), name
        assert page.locator("#inpaint_canvas .drawing-viewport").bounding_box()["height"] >= 180, name


def test_picture_and_generate_stay_in_sight_while_advanced_is_tuned(app: FakeApp, page: Any) -> None:
    paint(page, app)
    page.click("#txt2img_options button.label-wrap")
    for name in windows(page):
        for field in ("pag_scale", "apg_momentum", "clip_skip", "private"):
            page.locator(f"#txt2img_{field} :is(input, textarea)").first.scroll_into_view_if_needed()
            assert page.evaluate(HIT, f"#txt2img_{field} :is(input, textarea)"), (name, field)
            assert page.evaluate(HIT, GENERATE), (name, field)
            assert page.evaluate(HIT, "#result_picture"), (name, field)
        page.hover("#txt2img_cfg_rescale")
        help_text = page.locator("#txt2img_cfg_rescale .info-text").bounding_box()
        pane = page.locator("#txt2img_settings").bounding_box()
        assert pane["x"] <= help_text["x"], f"{name}: its help is not cut off"
        assert help_text["x"] + help_text["width"] <= pane["x"] + pane["width"], name


def test_a_low_window_shows_the_filmstrip_whatever_is_said_of_the_picture(app: FakeApp, page: Any) -> None:
    page.fill(number("count"), "2")
    paint(page, app)
    for size in ((1366, 657), (1280, 800)):
        resize(page, *size)
        assert page.evaluate(HIT, ".filmstrip .tile"), f"both pictures, {size}"
    page.click(".filmstrip .tile")
    page.wait_for_selector("#result_picture")
    for size in ((1366, 657), (1280, 800)):
        resize(page, *size)
        assert page.evaluate(HIT, ".filmstrip .tile"), f"one picture, {size}"
        buttons = page.locator(".picture-info").bounding_box()
        assert buttons["y"] + buttons["height"] > page.locator(".filmstrip").bounding_box()["y"], "its buttons go on beside it"


def test_on_a_phone_generate_comes_along(app: FakeApp, visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).open()
    assert page.evaluate("getComputedStyle(document.querySelector('#txt2img_actions')).position") != "fixed"
    page.locator("#txt2img_count input").scroll_into_view_if_needed()
    page.wait_for_selector("#txt2img_prompt_area[data-away]")
    assert page.evaluate(HIT, GENERATE)
    page.tap(GENERATE)
    app.wait_for_job()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_placeholders_can_be_read(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme).open()
    page.click("#txt2img_options button.label-wrap")
    page.wait_for_selector("#txt2img_pag_scale")
    for field in ("prompt textarea", "negative_prompt textarea", "seed :is(input, textarea)", "pag_scale :is(input, textarea)"):
        assert page.evaluate(CONTRAST, f"#txt2img_{field}") >= 4.5, field
    colours = """() => [getComputedStyle(document.querySelector('#txt2img_seed :is(input, textarea)'), '::placeholder').color,
                        getComputedStyle(document.querySelector('#txt2img_width input')).color]"""
    seed, value = page.evaluate(colours)
    assert seed == value, "Random is what counts, and looks like it"


def test_the_ring_around_the_first_tile_is_whole(page: Any, app: FakeApp) -> None:
    paint(page, app)
    tile, strip = page.locator(".filmstrip .tile").first.bounding_box(), page.locator(".filmstrip").bounding_box()
    assert tile["x"] - strip["x"] >= 4, "the ring is 4 pixels wide"


def test_a_number_beside_a_slider_never_changes_silently(page: Any) -> None:
    wait_value(page, number("steps"), "20")
    for field, typed, becomes, said in (
        ("steps", "", "33", "Steps was left empty, so 33 is set again."),
        ("cfg_scale", "", "4.5", "CFG scale was left empty, so 4.5 is set again."),
        ("steps", "500", "150", "Steps goes from 1 to 150: 150 is set and not 500."),
        ("cfg_scale", "-3", "0", "CFG scale goes from 0 to 30: 0 is set and not -3."),
    ):
        page.fill(number("steps"), "33")
        page.keyboard.press("Tab")
        page.fill(number(field), typed)
        page.keyboard.press("Tab")
        page.wait_for_selector(f"#complaint:not([hidden]):text-is({said!r})")
        wait_value(page, number(field), becomes)
        page.wait_for_function("([name, value]) => atelierForms.txt2img[name] === value", arg=[field, float(becomes)])


def test_half_a_picture_is_refused(page: Any, app: FakeApp) -> None:
    page.fill(number("count"), "2.5")
    page.click(GENERATE)
    page.wait_for_selector("#complaint:not([hidden])")
    assert page.inner_text("#complaint") == "Pictures must be a whole number from 1 to 100, 2.5 was given."
    assert not app.records


def test_choosing_a_checkpoint_that_is_gone_is_reported(page: Any, app: FakeApp) -> None:
    answers: list[int] = []
    page.on("response", lambda response: answers.append(response.status))
    app.models = [model for model in app.models if model.name != "big/landscapes"]
    page.click("#checkpoint input")
    page.get_by_role("option", name="Landscapes", exact=True).click()
    page.wait_for_selector("#complaint:not([hidden])")
    said = "Checkpoint 'big/landscapes' is not in the models folder any more. Rescan the folder, or choose another one."
    assert page.inner_text("#complaint") == said
    assert page.get_attribute("#checkpoint input", "aria-invalid") == "true"
    assert not [status for status in answers if status >= 400]
    wait_value(page, number("width"), "128")

"""The panel under the prompt: a row for each network, in step with the text in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.models.fake_routes import FakeRoutes, card

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img", "models")]

PROMPT = "#txt2img_prompt textarea"
PANEL = "#txt2img_adapters"


@pytest.fixture
def page(visit: Visit) -> Any:
    visitor = visit()
    misfit = "It is made for SDXL; the checkpoint 'stickers' is SD 1.x."
    FakeRoutes([card(1, name="ink"), card(2, name="wool", fits=misfit)]).answer_for(visitor.context)
    return visitor.open()


def row(page: Any, name: str) -> Any:
    return page.locator(f"{PANEL} .adapter:has(.adapter-name[title='{name}'])")


def wait_prompt(page: Any, text: str, selector: str = PROMPT) -> None:
    page.wait_for_function("([box, text]) => document.querySelector(box).value === text", arg=[selector, text])


def slide(slider: Any, value: float) -> None:
    """As a drag does it: several values, then the end."""
    slider.evaluate(
        """(node, value) => {
          for (const step of [0, value]) {
            node.value = step;
            node.dispatchEvent(new Event("input", { bubbles: true }));
          }
          node.dispatchEvent(new Event("change", { bubbles: true }));
        }""",
        value,
    )


def test_it_is_there_only_while_the_prompt_has_networks(page: Any) -> None:
    assert not page.is_visible(PANEL)
    page.fill(PROMPT, "a cat <lora:ink:0.8> <segment:x>")
    page.wait_for_selector(f"{PANEL} .adapter")
    assert page.locator(f"{PANEL} .adapter").count() == 1
    assert row(page, "ink").locator("input[type=text]").input_value() == "0.8"
    page.fill(PROMPT, "a cat # <lora:ink:0.8>")
    page.wait_for_selector(PANEL, state="hidden")


def test_slider_number_and_prompt_stay_in_step(page: Any) -> None:
    page.fill(PROMPT, "a <lora:ink:0.8>, b <lora:wool>")
    ink, wool = row(page, "ink"), row(page, "wool")
    slider = ink.locator("input[type=range]")
    assert [slider.get_attribute(name) for name in ("min", "max", "step")] == ["-2", "2", "0.05"]
    slide(slider, -1.25)
    wait_prompt(page, "a <lora:ink:-1.25>, b <lora:wool>")
    assert ink.locator("input[type=text]").input_value() == "-1.25"
    slider.focus()
    page.keyboard.press("ArrowRight")
    wait_prompt(page, "a <lora:ink:-1.2>, b <lora:wool>")
    wool.locator("input[type=text]").fill("3.5")  # further than the slider goes
    page.keyboard.press("Enter")
    wait_prompt(page, "a <lora:ink:-1.2>, b <lora:wool:3.5>")
    assert wool.locator("input[type=range]").input_value() == "2"
    wool.locator("input[type=text]").fill("much")
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelectorAll('{PANEL} input[type=text]')[1].value === '3.5'")
    page.fill(PROMPT, "a <lora:ink:0.5>, b <lora:wool:1>")
    page.wait_for_function(f"document.querySelector('{PANEL} input[type=range]').value === '0.5'")
    assert page.locator(f"{PANEL} input[type=text]").evaluate_all("(all) => all.map((one) => one.value)") == ["0.5", "1"]


APART = [
    ("<lora:ink:0.8:0.5>", "<lora:ink:1.5:0.5>", "<lora:ink:1.5:-1>"),
    ("<lora:ink:te=0.8:unet=0.5>", "<lora:ink:te=1.5:unet=0.5>", "<lora:ink:te=1.5:unet=-1>"),
    ("<lyco:ink:unet=0.5:dyn=8>", "<lyco:ink:1.5:unet=0.5:dyn=8>", "<lyco:ink:1.5:unet=-1:dyn=8>"),
]


def test_text_encoder_and_unet_apart_when_written_so(page: Any) -> None:
    for written, te, unet in APART:
        page.fill(PROMPT, f"a cat {written}")
        page.wait_for_function(f"document.querySelectorAll('{PANEL} input[type=range]').length === 2")
        sliders = row(page, "ink").locator("input[type=range]")
        assert "text encoder" in sliders.nth(0).get_attribute("aria-label")
        assert "U-Net" in sliders.nth(1).get_attribute("aria-label")
        slide(sliders.nth(0), 1.5)
        wait_prompt(page, f"a cat {te}")
        slide(sliders.nth(1), -1)
        wait_prompt(page, f"a cat {unet}")


def test_off_keeps_the_row_and_on_puts_the_text_back_where_it_was(page: Any) -> None:
    whole = "a cat, <lora:ink:0.8> <lora:wool:1>, in a hat <hypernet:h:0.4>"
    page.fill(PROMPT, whole)
    names = [row(page, name).locator("input[type=checkbox]") for name in ("ink", "wool", "h")]
    names[1].uncheck()
    wait_prompt(page, "a cat, <lora:ink:0.8>, in a hat <hypernet:h:0.4>")
    names[0].uncheck()
    names[2].uncheck()
    wait_prompt(page, "a cat, in a hat")
    assert page.locator(f"{PANEL} .adapter[data-off]").count() == 3
    for place in (2, 0, 1):
        names[place].check()
    wait_prompt(page, whole)
    names[0].uncheck()
    page.locator(PROMPT).press("End")
    page.keyboard.type(" now")
    page.wait_for_function(f"document.querySelectorAll('{PANEL} .adapter').length === 2")


def test_what_is_off_takes_another_weight_along(page: Any) -> None:
    page.fill(PROMPT, "a cat <lora:ink:0.8>")
    row(page, "ink").locator("input[type=checkbox]").uncheck()
    wait_prompt(page, "a cat")
    slide(row(page, "ink").locator("input[type=range]"), 0.3)
    assert page.input_value(PROMPT) == "a cat"
    row(page, "ink").locator("input[type=checkbox]").check()
    wait_prompt(page, "a cat <lora:ink:0.3>")


def test_remove_takes_it_out_and_the_focus_goes_on(page: Any) -> None:
    page.fill(PROMPT, "a cat, <lora:ink:1>, <lora:wool:1>")
    page.get_by_role("button", name="Remove LoRA ink from the prompt").click()
    wait_prompt(page, "a cat, <lora:wool:1>")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove LoRA wool from the prompt"
    page.keyboard.press("Enter")
    wait_prompt(page, "a cat")
    assert page.evaluate("document.activeElement === document.querySelector('#txt2img_prompt textarea')")


def test_the_focus_stays_and_undo_takes_a_drag_back_at_once(page: Any) -> None:
    page.focus(PROMPT)
    page.keyboard.type("a cat <lora:ink:1>")
    page.evaluate("document.querySelector('#txt2img_prompt textarea').setSelectionRange(2, 5)")
    slider = row(page, "ink").locator("input[type=range]")
    slider.focus()
    slide(slider, 0.4)
    wait_prompt(page, "a cat <lora:ink:0.4>")
    assert page.evaluate("document.activeElement.type") == "range"
    area = "document.querySelector('#txt2img_prompt textarea')"
    assert page.evaluate(f"[{area}.selectionStart, {area}.selectionEnd]") == [2, 5]
    page.focus(PROMPT)
    page.keyboard.press("Control+z")
    wait_prompt(page, "a cat <lora:ink:1>")
    page.wait_for_function(f"document.querySelector('{PANEL} input[type=range]').value === '1'")


def test_a_drag_with_the_mouse_goes_on_to_its_end(page: Any) -> None:
    page.fill(PROMPT, "a cat <lora:ink:1>")
    box = row(page, "ink").locator("input[type=range]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.6, 0.4, 0.2):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
    assert page.input_value(PROMPT) == "a cat <lora:ink:1>", "one step of Undo, at its end"
    page.mouse.up()
    page.wait_for_function("() => /ink:-/.test(document.querySelector('#txt2img_prompt textarea').value)")


def test_unknown_and_unfitting_ones_say_why(page: Any) -> None:
    page.fill(PROMPT, "<lora:nowhere:1> <lora:wool:1>")
    page.wait_for_selector(f"{PANEL} .adapter-why:has-text('No network of the name') >> visible=true")
    assert "nowhere" in row(page, "nowhere").locator(".adapter-why").inner_text()
    assert row(page, "nowhere").get_attribute("data-bad") is not None


def test_the_reason_of_a_file_is_said_where_the_prompt_is_sound(models: Path, visit: Visit) -> None:
    page = visit().open()
    page.fill(PROMPT, "<lora:HUGE:1> <lora:wool:1>")
    page.wait_for_selector(f"{PANEL} .adapter-why:has-text('SDXL') >> visible=true")
    assert "stickers" in row(page, "HUGE").locator(".adapter-why").inner_text()
    assert row(page, "wool").get_attribute("data-bad") is None


@pytest.mark.tabs()
def test_each_tab_has_its_own(page: Any) -> None:
    page.fill(PROMPT, "<lora:ink:1>")
    for tab in ("img2img", "inpaint"):
        page.click(f"#tab_{tab}")
        assert not page.is_visible(f"#{tab}_adapters")
        page.fill(f"#{tab}_prompt textarea", "<lora:wool:1>")
        slide(page.locator(f"#{tab}_adapters input[type=range]"), 0.7)
        wait_prompt(page, "<lora:wool:0.7>", f"#{tab}_prompt textarea")
        assert page.input_value(PROMPT) == "<lora:ink:1>"


def test_what_is_typed_with_it_is_what_is_painted(page: Any, app: Any) -> None:
    page.fill(PROMPT, "a cat <lora:ink:1>")
    slide(row(page, "ink").locator("input[type=range]"), 0.25)
    wait_prompt(page, "a cat <lora:ink:0.25>")
    page.wait_for_function("() => window.atelierForms.txt2img.prompt === 'a cat <lora:ink:0.25>'")
    page.click("#txt2img_generate")
    assert app.records[app.wait_for_job()][1].request.prompt == "a cat <lora:ink:0.25>"


def test_on_a_phone_nothing_is_wider_than_the_window(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True).open()
    page.fill(PROMPT, f"<lora:{'very_long_name_' * 8}:0.8:0.5> <lora:ink:1>")
    page.wait_for_selector(f"{PANEL} .adapter >> nth=1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    widths = page.locator(f"{PANEL} .adapter").evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().right)")
    assert max(widths) <= 390

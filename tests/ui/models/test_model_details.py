"""The details of a model: what is shown of it, and what is written to the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.models.conftest import card_of, to_models, wait_prompt

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img", "models")]

DETAIL = ".models-detail"


@pytest.fixture
def page(models: Path, visit: Visit) -> Any:
    return visit().open()


def opened(page: Any, name: str) -> Any:
    to_models(page, name)
    card_of(page, name).locator(".card-info").click(force=True)
    page.wait_for_selector(f"{DETAIL} .edit")
    return page.locator(DETAIL)


def field(page: Any, label: str) -> Any:
    return page.locator(DETAIL).get_by_label(label, exact=True)


def test_facts_and_tags_are_shown_for_people_and_tags_are_put_in(page: Any) -> None:
    page.fill("#txt2img_prompt textarea", "a cat <lora:hat:1>")  # a name in which a tag stands
    detail = opened(page, "ink")
    assert detail.locator("h2").inner_text() == "ink"
    assert "ss_tag_frequency" not in detail.inner_text()
    assert "loras/style/ink.safetensors" in detail.locator("dl").inner_text()
    words = detail.locator(".detail-word")
    assert [word.get_attribute("data-word") for word in words.all()] == ["inkstyle", "bold", "ink style", "1girl", "hat"]
    assert detail.locator(".detail-word[data-word='ink style']").inner_text() == "ink style 40"
    hat = detail.locator(".detail-word[data-word=hat]")
    assert hat.get_attribute("aria-pressed") == "false"
    hat.click()
    wait_prompt(page, "a cat <lora:hat:1>, hat")
    assert hat.get_attribute("aria-pressed") == "true"
    detail.locator(".detail-use").click()
    wait_prompt(page, "a cat <lora:hat:1>, hat <lora:ink:0.8>")
    hat.click()
    wait_prompt(page, "a cat <lora:hat:1> <lora:ink:0.8>")
    detail.locator(".detail-use").click()
    wait_prompt(page, "a cat <lora:hat:1>")


def test_what_is_edited_is_saved_beside_the_file_and_counts_at_once(page: Any, models: Path) -> None:
    opened(page, "wool")
    field(page, "Preferred weight").fill("0,6")
    field(page, "Trigger words, with commas between them").fill("woolly, felt")
    field(page, "Notes").fill("soft")
    assert page.inner_text(".edit-said") == "Not saved yet."
    page.click(".edit-save")
    page.wait_for_selector(".edit-said:text-is('Saved.')")
    kept = json.loads((models / "loras" / "wool.json").read_text())
    assert kept["preferred weight"] == 0.6
    assert kept["activation text"] == "woolly, felt"
    assert kept["notes"] == "soft"
    card_of(page, "wool").locator(".card-main").click()
    wait_prompt(page, "<lora:wool:0.6>")
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    opened(page, "wool")
    assert field(page, "Notes").input_value() == "soft"


def test_what_cannot_be_saved_is_said_and_what_was_typed_waits(page: Any, models: Path) -> None:
    opened(page, "wool")
    field(page, "Preferred weight").fill("heavy")
    page.click(".edit-save")
    page.wait_for_selector(".edit-said[data-tone=bad]:has-text('must be a number or empty')")
    field(page, "Preferred weight").fill("500")
    page.click(".edit-save")
    page.wait_for_selector(".edit-said[data-tone=bad]:has-text('weight')")
    assert not (models / "loras" / "wool.json").exists()
    card_of(page, "ink").locator(".card-info").click(force=True)
    page.wait_for_selector(f"{DETAIL} h2:text-is('ink')")
    card_of(page, "wool").locator(".card-info").click(force=True)
    page.wait_for_selector(f"{DETAIL} h2:text-is('wool')")
    page.wait_for_selector(".edit-said:text-is('Not saved yet.')")
    assert field(page, "Preferred weight").input_value() == "500"


def test_a_checkpoint_has_defaults_of_its_own(page: Any, models: Path) -> None:
    opened(page, "landscapes")
    field(page, "Steps").fill("17")
    field(page, "Sampler").fill("Euler a")
    page.click(".edit-save")
    page.wait_for_selector(".edit-said:text-is('Saved.')")
    kept = json.dumps(json.loads((models / "big" / "landscapes.json").read_text()))
    assert '"steps": 17' in kept and "Euler a" in kept
    page.click(".edit-take")
    assert field(page, "Width").input_value() == "128"
    field(page, "Steps").fill("many")
    page.click(".edit-save")
    page.wait_for_selector(".edit-said[data-tone=bad]:has-text('Steps must be a number')")


def test_the_shown_picture_becomes_its_preview_and_goes_again(page: Any, app: FakeApp, models: Path) -> None:
    opened(page, "wool")
    assert page.is_disabled(".detail-preview")
    page.click("#tab_txt2img")
    page.click("#txt2img_generate")
    app.finish_picture(app.wait_for_job())
    page.wait_for_selector("#result_picture")
    opened(page, "wool")
    page.click(".detail-preview")
    page.wait_for_selector(f"{DETAIL} .detail-picture img")
    with Image.open(models / "loras" / "wool.preview.png") as image:
        assert image.width > 0
    page.wait_for_function("() => document.querySelector('.detail-picture img').naturalWidth > 0")
    card_of(page, "wool").locator("img").wait_for()
    page.click(".detail-unpreview")
    page.wait_for_selector(f"{DETAIL} .detail-picture", state="detached")
    assert not (models / "loras" / "wool.preview.png").exists()
    card_of(page, "wool").locator(".card-initial").wait_for()


def test_a_preview_beside_the_file_is_shown(page: Any) -> None:
    to_models(page, "ink")
    page.wait_for_function("() => [...document.querySelectorAll('.models-list img')].some((image) => image.naturalWidth > 0)")


def test_the_hash_comes_by_itself(page: Any) -> None:
    detail = opened(page, "wool")
    detail.locator("dd:text-matches('^[0-9a-f]{64}$')").first.wait_for()


def test_a_favourite_is_marked(page: Any) -> None:
    opened(page, "wool")
    page.click(".detail-star")
    page.wait_for_selector(".detail-star[aria-pressed=true]")
    assert page.evaluate("document.activeElement.className") == "detail-star"
    card_of(page, "wool")
    page.wait_for_selector(".card-star")
    page.click(".detail-star")
    page.wait_for_selector(".card-star", state="detached")


def test_a_file_that_has_gone_is_said(page: Any, models: Path) -> None:
    to_models(page, "wool")
    (models / "loras" / "wool.safetensors").unlink()
    card_of(page, "wool").locator(".card-info").click(force=True)
    page.wait_for_selector(".detail-said:has-text('not in the models folder any more') >> visible=true")


def test_narrow_windows_show_it_above_and_give_the_focus_back(models: Path, visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}).open()
    page.evaluate("location.hash = 'models'")
    page.wait_for_selector(".model-card .card-name:text-is('wool')")
    info = card_of(page, "wool").locator(".card-info")
    info.click()
    page.wait_for_selector(f"{DETAIL} .edit")
    box = page.locator(DETAIL).bounding_box()
    assert (box["x"], box["width"]) == (0, 390)
    page.get_by_role("button", name="Close the details").click()
    page.wait_for_selector(DETAIL, state="hidden")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Details of wool"

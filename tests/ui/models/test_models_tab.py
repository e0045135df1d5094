"""The Models tab in Chromium: finding models, and what a click on one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.models.conftest import card_of, to_models, wait_prompt
from tests.ui.models.fake_routes import FakeRoutes, card
from tests.ui.window import resize

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img", "models")]

PROMPT = "#txt2img_prompt textarea"
FIND = ".models-find"


@pytest.fixture
def page(models: Path, visit: Visit) -> Any:
    return visit().open()


def says(page: Any, name: str) -> str:
    return str(card_of(page, name).locator(".card-says").inner_text())


def test_a_click_inserts_and_a_second_one_takes_it_out_exactly(page: Any) -> None:
    cases = (("ink", "<lora:ink:0.8>"), ("bad_hands", "bad_hands"))
    for before in ("", "a cat", "a cat, ", "a cat <lora:wool:0.5>", "two\nlines\n"):
        page.click("#tab_txt2img")
        page.fill(PROMPT, before)
        to_models(page, *(name for name, _ in cases))
        for name, text in cases:
            main = card_of(page, name).locator(".card-main")
            main.click()
            page.wait_for_function(
                "(text) => document.querySelector('#txt2img_prompt textarea').value.endsWith(text)", arg=text
            )
            assert page.input_value(PROMPT).startswith(before)
            assert main.get_attribute("aria-pressed") == "true"
            assert card_of(page, name).locator(".card-used").inner_text() == "In the prompt"
            main.click()
            wait_prompt(page, before)
            assert main.get_attribute("aria-pressed") == "false"


def test_a_file_that_is_not_read_yet_goes_in_with_its_preferred_weight(visit: Visit) -> None:
    """The first list after thousands of files came says little of them."""
    visitor = visit()
    FakeRoutes([card(1, name="ink")], read={"lora-1": {"insert": "<lora:ink:0.8>", "weight": 0.8}}).answer_for(visitor.context)
    page = to_models(visitor.open(), "ink")
    card_of(page, "ink").locator(".card-main").click()
    wait_prompt(page, "<lora:ink:0.8>")
    card_of(page, "ink").locator(".card-main").click()
    wait_prompt(page, "")


def test_what_was_changed_since_is_taken_out_by_its_name(page: Any) -> None:
    page.fill(PROMPT, "a cat, <lora:INK:0.3:0.5>, in a hat")
    to_models(page, "ink")
    page.wait_for_selector(".model-card[data-used] .card-name:text-is('ink')")
    card_of(page, "ink").locator(".card-main").click()
    wait_prompt(page, "a cat, in a hat")


def test_trigger_words_come_and_go_with_it_when_asked_for(page: Any) -> None:
    page.fill(PROMPT, "a cat, bold")
    to_models(page, "ink")
    page.check(".models-triggers input")
    main = card_of(page, "ink").locator(".card-main")
    main.click()
    wait_prompt(page, "a cat, bold <lora:ink:0.8>, inkstyle")
    main.click()
    wait_prompt(page, "a cat, bold")
    main.click()
    page.click("#tab_txt2img")
    page.locator("#txt2img_adapters input[type=text]").fill("0.4")
    page.keyboard.press("Enter")
    wait_prompt(page, "a cat, bold <lora:ink:0.4>, inkstyle")
    to_models(page, "ink")
    main.click()
    wait_prompt(page, "a cat, bold")
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    assert page.is_checked(".models-triggers input")


def test_its_words_for_the_negative_prompt_come_and_go_with_it(page: Any, models: Path) -> None:
    kept = {"negative text": "blurry, flat", "activation text": "woolly"}
    (models / "loras" / "wool.json").write_text(json.dumps(kept))
    page.fill("#txt2img_negative_prompt textarea", "dog")
    to_models(page, "wool")
    page.check(".models-triggers input")
    main = card_of(page, "wool").locator(".card-main")
    main.click()
    wait_prompt(page, "<lora:wool:1>, woolly")
    wait_prompt(page, "dog, blurry, flat", field="negative_prompt")
    main.click()
    wait_prompt(page, "")
    wait_prompt(page, "dog", field="negative_prompt")


@pytest.mark.tabs()
def test_it_goes_into_the_tab_that_was_used_last_and_undo_takes_it_back(page: Any) -> None:
    page.click("#tab_img2img")
    page.focus("#img2img_prompt textarea")
    page.keyboard.type("a lake")
    to_models(page, "wool")
    assert page.input_value(".models-target select") == "img2img"
    card_of(page, "wool").locator(".card-main").click()
    wait_prompt(page, "a lake <lora:wool:1>", "img2img")
    assert page.inner_text(".models-prompt") == "a lake <lora:wool:1>"
    assert page.input_value(PROMPT) == ""
    page.click(".models-back")
    page.wait_for_selector("#tab_img2img[aria-selected=true]")
    page.wait_for_selector("#img2img_adapters .adapter")
    page.keyboard.press("Control+z")
    wait_prompt(page, "a lake", "img2img")
    to_models(page, "wool")
    page.select_option(".models-target select", "inpaint")
    card_of(page, "wool").locator(".card-main").click()
    wait_prompt(page, "<lora:wool:1>", "inpaint")


def test_with_shift_or_alt_it_goes_into_the_negative_prompt(page: Any) -> None:
    to_models(page, "wool", "bad_hands")
    for modifier in ("Shift", "Alt"):
        main = card_of(page, "bad_hands").locator(".card-main")
        main.click(modifiers=[modifier])
        wait_prompt(page, "bad_hands", field="negative_prompt")
        assert card_of(page, "bad_hands").locator(".card-used").inner_text() == "In the negative prompt"
        main.click(modifiers=[modifier])
        wait_prompt(page, "", field="negative_prompt")
    card_of(page, "wool").locator(".card-main").click(modifiers=["Shift"])
    page.wait_for_selector("#complaint:has-text('LoRAs do nothing in a negative prompt')")
    assert page.input_value("#txt2img_negative_prompt textarea") == page.input_value(PROMPT) == ""


def test_what_does_not_fit_is_dimmed_with_the_reason_in_words(page: Any) -> None:
    to_models(page, "huge", "torn", "wool")
    page.wait_for_function("() => [...document.querySelectorAll('.card-says')].some((one) => one.textContent.includes('SDXL'))")
    assert "SDXL" in says(page, "huge")
    assert "SD 1.x" in card_of(page, "huge").locator(".card-says").get_attribute("title")
    assert card_of(page, "huge").get_attribute("data-dim") is not None
    assert card_of(page, "wool").get_attribute("data-dim") is None
    page.wait_for_selector(".model-card:has(.card-name:text-is('torn')) .card-says[data-tone=bad]:not(:empty)")


def test_search_is_typed_and_asked_for_once(models: Path, visit: Visit) -> None:
    visitor = visit()
    asked: list[str] = []
    visitor.context.on("request", lambda r: "/internal/models?" in r.url and "q=" in r.url and asked.append(r.url))
    page = to_models(visitor.open(), "wool", "ink")
    page.locator(".card-main").first.focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.className") == "models-find"
    page.keyboard.type("ink")
    page.wait_for_function("() => document.querySelector('.models-count').textContent === '1 model'")
    assert page.locator(".model-card .card-name").all_inner_texts() == ["ink"]
    assert len([url for url in asked if "q=ink" in url]) == 1
    page.fill(FIND, "zebra")
    page.wait_for_selector(".models-empty:has-text('Nothing found'):has-text('zebra') >> visible=true")
    page.click(".models-empty button")
    to_models(page, "wool", "ink")
    assert page.input_value(FIND) == ""


def test_kinds_folders_and_order(page: Any) -> None:
    to_models(page, "wool")
    page.click(".models-kinds [data-kind=lora]")
    page.wait_for_selector(".models-count:text-is('4 models')")
    assert page.locator(".model-card .card-name").all_inner_texts() == ["huge", "ink", "torn", "wool"]
    tree = page.get_by_role("tree", name="Folders")
    tree.get_by_role("treeitem", name="loras").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.path") == "loras/style"
    page.keyboard.press("Enter")
    page.wait_for_selector(".models-count:text-is('1 model')")
    assert tree.get_by_role("treeitem", name="style").get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.wait_for_selector(".models-count:text-is('4 models')")
    page.select_option(".models-sort select", "size")
    page.wait_for_function("() => document.querySelector('.card-name')?.textContent === 'huge'")
    page.click(".models-kinds [data-kind=vae]")
    page.wait_for_selector(".models-empty:has-text('No VAEs yet') >> visible=true")


def test_a_checkpoint_is_chosen_with_its_settings(page: Any, app: FakeApp) -> None:
    to_models(page, "stickers", "landscapes")
    page.wait_for_selector(".model-card[data-used] .card-name:text-is('stickers')")
    card_of(page, "landscapes").locator(".card-main").click()
    page.wait_for_selector(".model-card[data-used] .card-name:text-is('landscapes')")
    assert page.input_value("#checkpoint input") == "Landscapes"
    page.click("#tab_txt2img")
    page.wait_for_function("() => document.querySelector('#txt2img_steps input[type=number]').value === '30'")
    page.click("#txt2img_generate")
    assert app.records[app.wait_for_job()][1].request.checkpoint == "big/landscapes"


def test_a_checkpoint_whose_file_has_gone_is_refused_in_words(page: Any, app: FakeApp) -> None:
    to_models(page, "landscapes")
    app.models.pop()
    card_of(page, "landscapes").locator(".card-main").click()
    page.wait_for_selector("#complaint:has-text('is not in the models folder any more')")
    assert page.input_value("#checkpoint input") == "Stickers"


def test_refresh_finds_new_files(page: Any, models: Path) -> None:
    to_models(page, "wool")
    (models / "loras" / "felt.safetensors").write_bytes((models / "loras" / "wool.safetensors").read_bytes())
    page.click(".models-refresh")
    page.wait_for_selector(".model-card .card-name:text-is('felt')")


def test_the_button_at_the_prompt_leads_to_the_loras(page: Any) -> None:
    page.get_by_role("button", name="LoRAs and other networks: open the Models tab").click()
    page.wait_for_selector("#tab_models[aria-selected=true]")
    page.wait_for_selector(".models-kinds [data-kind=lora][aria-pressed=true]")
    page.wait_for_selector(".models-count:text-is('4 models')")
    assert page.evaluate("document.activeElement.className") == "models-find"


def test_keys_walk_through_the_grid_and_the_focus_comes_back(page: Any) -> None:
    to_models(page, "huge", "wool")
    page.focus(FIND)
    page.keyboard.press("ArrowDown")
    active = "() => document.activeElement.closest('.model-card').querySelector('.card-name').textContent"
    names = page.locator(".model-card .card-name").all_inner_texts()
    assert page.evaluate(active) == names[0]
    page.keyboard.press("End")
    assert page.evaluate(active) == names[-1]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(active) == names[1]
    assert page.locator(".card-main[tabindex='0']").count() == 1
    page.keyboard.press("i")
    page.wait_for_selector(".models-detail .edit")
    assert page.evaluate("document.activeElement.tagName") == "H2"
    page.keyboard.press("Escape")
    page.wait_for_selector(".models-detail", state="hidden")
    assert page.evaluate(active) == names[1]
    grid = page.get_by_role("grid", name="Models")
    assert grid.get_attribute("aria-rowcount")
    assert page.locator("[role=row][aria-rowindex='1'] [role=gridcell]").count() > 1


def test_five_thousand_cards_are_never_all_in_the_document(visit: Visit) -> None:
    visitor = visit()
    routes = FakeRoutes([card(number) for number in range(5000)]).answer_for(visitor.context)
    page = to_models(visitor.open(), "style 0000")
    count = "document.querySelectorAll('.models-list *').length"
    assert page.inner_text(".models-count") == "5,000 models"
    most = page.evaluate(count)
    for share in (0.25, 0.5, 0.75, 1.0):
        page.evaluate(
            "(share) => { const list = document.querySelector('.models-list'); list.scrollTop = share * list.scrollHeight; }",
            share,
        )
        page.wait_for_function("() => !document.querySelector('.model-card.waiting') && document.querySelector('.model-card')")
        most = max(most, page.evaluate(count))
    page.wait_for_selector(".model-card .card-name:text-is('style 4999')")
    assert most < 800
    assert len(routes.asked) < 20, "only pages that are looked at are asked for"
    page.locator(".card-main").first.focus()
    page.keyboard.press("Home")
    page.wait_for_selector(".model-card .card-name:text-is('style 0000')")
    page.keyboard.press("End")
    page.wait_for_function(
        "() => document.activeElement.closest('.model-card')?.querySelector('.card-name')?.textContent === 'style 4999'"
    )


def test_what_is_in_memory_is_asked_for_only_while_it_is_seen(app: FakeApp, models: Path, visit: Visit) -> None:
    app.memory = [
        {"name": "stickers", "kind": "checkpoint", "bytes": 84_000_000, "device": "cuda:0", "users": [], "idle_seconds": 300}
    ]
    visitor = visit()
    asked: list[str] = []
    visitor.context.on("request", lambda request: request.url.endswith("/internal/models/loaded") and asked.append(request.url))
    page = visitor.open()
    page.fill(PROMPT, "a cat")
    assert not asked
    to_models(page, "stickers")
    page.wait_for_selector(".models-loaded li:has-text('stickers')")
    assert page.inner_text(".models-loaded li") == "stickers Checkpoint · 84 MB · cuda:0 · idle for 5 min"
    assert says(page, "stickers") == "In memory."


def test_without_any_model_it_says_what_to_do(app: FakeApp, tmp_path: Path, page_without_models: Any) -> None:
    page = page_without_models
    page.click("#tab_models")
    page.wait_for_selector(".models-empty:has-text('There is no model here yet') >> visible=true")
    assert "models/loras" in page.inner_text(".models-empty")


@pytest.fixture
def page_without_models(app: FakeApp, visit: Visit, tmp_path: Path) -> Any:
    app.catalogue.folders = [tmp_path / "nowhere"]
    return visit().open()


def test_with_the_starter_alone_it_says_how_to_add_more(app: FakeApp, stickers: Path, visit: Visit) -> None:
    app.catalogue.folders = [stickers.parent]
    page = to_models(visit().open(), "stickers")
    page.wait_for_selector(".models-hint:has-text('Only what came with Atelier is here yet') >> visible=true")
    app.model_library.close()


HOSTILE = "<img src=x onerror=window.__x=1>${window.__x=1}{{window.__x=1}}"


def test_no_name_is_ever_more_than_text(visit: Visit) -> None:
    visitor = visit()
    one = card(1, name=HOSTILE, fits=HOSTILE, triggers=[HOSTILE], folder=HOSTILE, family=HOSTILE)
    one |= {
        "tags": [{"tag": HOSTILE, "count": 1}],
        "facts": [{"label": HOSTILE, "value": HOSTILE}],
        "description": HOSTILE,
        "notes": HOSTILE,
    }
    FakeRoutes([one]).answer_for(visitor.context)
    page = visitor.open()
    page.click("#tab_models")
    page.wait_for_selector(".model-card .card-name")
    page.locator(".card-info").click()
    page.wait_for_selector(".models-detail .edit")
    assert page.evaluate("() => window.__x") is None
    assert page.locator(".models img").count() == 0


def test_nothing_is_wider_than_the_window(models: Path, page: Any) -> None:
    page.evaluate("location.hash = 'models'")
    page.wait_for_selector(".model-card .card-name")
    _fits_each_window(page)
    page.locator(".card-info").first.click(force=True)
    page.wait_for_selector(".models-detail .edit")
    _fits_each_window(page)


def _fits_each_window(page: Any) -> None:
    for width, height in ((1366, 657), (390, 844)):
        resize(page, width, height)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

"""The Script section and the grid of a script in the browser: chosen, priced, made, looked at, made again, and found again."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.ui.canvas.stand import CanvasPage
from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_tabs import show
from tests.ui.test_txt2img_page import wait_value

pytestmark = pytest.mark.browser

SELECT = "#txt2img_script_name select"


def fill(page: Any, selector: str, words: str) -> None:
    page.locator(selector).fill(words)


def choose_plot(page: Any) -> None:
    """Two values of Steps beside two of the guidance scale."""
    page.fill("#txt2img_prompt textarea", "a cat")
    page.select_option(SELECT, "xyz")
    page.select_option("#txt2img_script_x_type select", "steps")
    fill(page, "#txt2img_script_x_values textarea", "4-5")
    page.select_option("#txt2img_script_y_type select", "cfg_scale")
    fill(page, "#txt2img_script_y_values textarea", "5, 7")


def said(page: Any, words: str, tab: str = "txt2img") -> None:
    page.locator(f"#{tab}_script .script-preview", has_text=words).wait_for()


def cell(page: Any, number: int, state: str) -> Any:
    page.wait_for_selector(f'.script-run td[data-cell="{number}"][data-state="{state}"]')
    return page.locator(f'.script-run td[data-cell="{number}"]')


def test_a_plot_is_priced_made_looked_at_and_found_again(page: Any, app: FakeApp) -> None:
    choose_plot(page)
    said(page, "4 pictures.")
    page.wait_for_selector('#txt2img_generate[data-script="4"]')
    page.click("#txt2img_generate")
    page.wait_for_selector(".script-run td[data-cell]")
    assert page.locator(".script-run thead th").all_inner_texts() == ["Steps: 4", "Steps: 5"]
    assert page.locator(".script-run tbody th").all_inner_texts() == ["CFG Scale: 5", "CFG Scale: 7"]

    app.scripts.look()
    jobs = list(app.records)
    app.finish_picture(jobs[0])
    app.fail(jobs[1], "the engine died twice")
    app.scripts.look()
    cell(page, 0, "done").locator("img").wait_for()
    assert "the engine died twice" in cell(page, 1, "failed").inner_text()

    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    cell(page, 0, "done").locator("button.cell-picture").click()
    page.wait_for_selector(f'dialog.viewer[data-picture="{jobs[0]}.0"]')
    page.keyboard.press("Escape")
    assert page.input_value(SELECT) == "xyz"

    for job in jobs[2:]:
        app.finish_picture(job)
    app.scripts.look()
    page.locator(".script-grids a").wait_for()
    with page.expect_response(re.compile("/sheets/0")) as grid:
        page.evaluate("fetch(document.querySelector('.script-grids a').href)")
    assert grid.value.headers["content-type"] == "image/png"

    cell(page, 1, "failed").get_by_role("button", name="Again").click()
    cell(page, 1, "waiting")
    app.scripts.look()
    app.finish_picture(app.newest())
    app.scripts.look()
    cell(page, 1, "done")

    page.locator('td[data-cell="3"]').hover()
    page.locator('td[data-cell="3"]').get_by_role("button", name="Use").click()
    page.wait_for_function(
        "Number(window.atelierForms.txt2img.steps) === 5 && Number(window.atelierForms.txt2img.cfg_scale) === 7"
    )

    page.click(".script-run [data-do=close]")
    assert page.locator(".result-area").is_visible()
    page.click(".script-bar button")
    cell(page, 0, "done")


def test_errors_stand_at_the_field_and_choices_are_filled_in(page: Any, app: FakeApp) -> None:
    choose_plot(page)
    page.select_option("#txt2img_script_x_type select", "sampler")
    fill(page, "#txt2img_script_x_values textarea", "Euler, Nobody")
    said(page, "X, Sampler: sampler 'Nobody' is not here")
    assert page.get_attribute("#txt2img_script_x_values textarea", "aria-invalid") == "true"
    page.click("#txt2img_generate")
    page.locator("#complaint", has_text="'Nobody' is not here").wait_for()
    assert not app.scripts.runs("owner")

    page.locator("#txt2img_script_x_values .quiet").click()
    assert "Euler a" in page.input_value("#txt2img_script_x_values textarea")
    said(page, "pictures.")
    assert page.get_attribute("#txt2img_script_x_values textarea", "aria-invalid") is None
    page.click('.script-swaps button:has-text("X ⇄ Y")')
    page.wait_for_selector("#txt2img_script_y_values .script-fill")
    assert page.input_value("#txt2img_script_x_values textarea") == "5, 7"

    page.select_option(SELECT, "matrix")
    said(page, "has no | in it")
    page.fill("#txt2img_prompt textarea", "a cat | red | old")
    said(page, "4 pictures.")
    page.select_option(SELECT, "prompts")
    fill(page, "#txt2img_script_prompts textarea", "one\n--steps many")
    said(page, "Line 2: --steps: must be a whole number")
    page.select_option(SELECT, "")
    page.wait_for_selector("#txt2img_script .script-preview", state="hidden")
    assert page.locator(f"{SELECT} option[value=loopback]").count() == 0
    assert page.locator("#img2img_script_name option[value=loopback]").count() == 1


def test_the_whole_is_cancelled_at_once(page: Any, app: FakeApp) -> None:
    choose_plot(page)
    page.click("#txt2img_generate")
    page.wait_for_selector(".script-run td[data-cell]")
    app.scripts.look()
    page.click(".script-run [data-do=cancel]")
    cell(page, 3, "cancelled")
    assert {job.state for _, job in app.records.values()} == {"cancelled"}


def test_a_phone_shows_the_grid_within_its_width(visit: Visit, app: FakeApp) -> None:
    page = visit(viewport={"width": 390, "height": 844}).open()
    choose_plot(page)
    said(page, "4 pictures.")
    page.click("#txt2img_generate")
    page.wait_for_selector(".script-run td[data-cell]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_picture_is_enlarged_in_tiles_and_its_details_are_painted_again(page: Any, app: FakeApp) -> None:
    assert page.locator(f"{SELECT} option[value=upscale]").count() == 0, "it starts from a picture"
    show(page, "img2img")
    CanvasPage(page, app, "img2img").show(512, 256)
    wait_value(page, "#img2img_width input", "184")
    page.select_option("#img2img_script_name select", "upscale")
    fill(page, "#img2img_script_scale_factor input", "1")
    fill(page, "#img2img_script_overlap input", "500")
    said(page, "The overlap is 0 to", "img2img")
    assert page.get_attribute("#img2img_script_overlap input", "aria-invalid") == "true"
    fill(page, "#img2img_script_overlap input", "32")
    said(page, "It becomes 512 x 256 pixels, in 16 tiles of 184 x 88.", "img2img")
    page.click("#img2img_generate")
    page.wait_for_selector(".script-run td[data-cell]")
    for _ in range(4):  # eight at a time
        app.scripts.look()
        for job in [job for job, (_, view) in app.records.items() if not view.over]:
            app.finish_picture(job)
    page.locator(".script-grids a", has_text="The large picture").wait_for()
    run = app.scripts.runs(app.records[app.newest()][0])[0]
    assert (run.sheets[0]["width"], run.sheets[0]["height"]) == (512, 256)

    page.select_option("#img2img_script_name select", "detail")
    fill(page, "#img2img_script_boxes input", "10 10 40")
    said(page, "Boxes are four whole numbers each", "img2img")
    fill(page, "#img2img_script_boxes input", "10 10 40 40; 90 20 30 30")
    said(page, "2 pictures.", "img2img")
    before = len(app.records)
    page.click("#img2img_generate")
    page.wait_for_function("() => document.querySelectorAll('.script-run td[data-cell]').length === 2")
    app.scripts.look()
    request = list(app.records.values())[before][1].request
    assert (request.inpaint_area, request.mask is not None) == ("Crop and stitch", True)

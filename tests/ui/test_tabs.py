"""The tabs of the page in Chromium: one bar, one results area, a form and prompt tools in each."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.conftest import Visit
from tests.ui.fake_app import FakeApp
from tests.ui.test_txt2img_page import PROMPT, paint, wait_value

pytestmark = pytest.mark.browser

PAINTING = ("txt2img", "img2img", "inpaint")
HOSTILE = "<img src=x onerror=window.__x=1>${window.__x=1}{{window.__x=1}}<script>window.__x=1</script>"


def show(page: Any, tab: str) -> None:
    page.click(f"#tab_{tab}")
    page.wait_for_selector(f"#tab_{tab}[aria-selected=true]")


def test_the_bar_is_a_tab_list_for_clicks_and_for_keys(page: Any) -> None:
    bar = ["txt2img", "img2img", "Inpaint", "Extras", "PNG Info", "Gallery", "Models", "Extensions", "Settings"]
    assert page.locator("[role=tab]").all_inner_texts() == bar
    assert page.get_attribute("#tab_txt2img", "aria-selected") == "true"
    page.focus("#tab_txt2img")
    for key, tab in (("ArrowRight", "img2img"), ("End", "settings"), ("ArrowRight", "txt2img"), ("ArrowLeft", "settings")):
        page.keyboard.press(key)
        page.wait_for_selector(f"#tab_{tab}[aria-selected=true]")
        assert page.evaluate("document.activeElement.id") == f"tab_{tab}"
    assert page.locator("[role=tab][tabindex='0']").count() == 1
    show(page, "inpaint")
    panel = page.locator("[role=tabpanel]:has(#inpaint_generate)")
    assert panel.get_attribute("aria-labelledby") == "tab_inpaint"
    assert page.locator("button[id$=_generate] >> visible=true").count() == 1


@pytest.mark.tabs("txt2img", "pnginfo")
def test_a_page_without_some_tabs_sends_nothing_to_them(page: Any, app: FakeApp) -> None:
    """As `--hide-tab` builds it."""
    assert page.locator("[role=tab]").all_inner_texts() == ["txt2img", "PNG Info"]
    page.evaluate("location.hash = 'inpaint'")
    assert page.get_attribute("#tab_txt2img", "aria-selected") == "true"
    page.fill(PROMPT, "a rocket")
    paint(page, app)
    page.wait_for_selector(".picture-info .send")
    assert page.locator(".picture-info .send button").all_inner_texts() == ["txt2img"]
    assert not page.locator("#result_upscale").count(), "it enlarges as the Extras tab says"
    send = "(detail) => document.dispatchEvent(new CustomEvent('atelier:send', { detail }))"
    page.evaluate(send, {"tab": "img2img", "fields": {"prompt": "a fox", "steps": 7}})
    page.wait_for_selector("#complaint:has-text('belong in the tab img2img')")
    assert page.input_value(PROMPT) == "a rocket"
    page.reload()
    wait_value(page, PROMPT, "a rocket")


def test_the_address_keeps_the_tab_and_back_goes_back(page: Any) -> None:
    show(page, "inpaint")
    assert page.url.endswith("#inpaint")
    page.reload()
    page.wait_for_selector("#inpaint_generate")
    assert page.get_attribute("#tab_inpaint", "aria-selected") == "true"
    show(page, "img2img")
    page.go_back()
    page.wait_for_selector("#tab_inpaint[aria-selected=true]")
    page.wait_for_selector("#inpaint_generate")


def test_prompt_tools_work_in_each_tab(page: Any) -> None:
    for tab in PAINTING:
        show(page, tab)
        prompt = f"#{tab}_prompt textarea"
        page.fill(prompt, "a (red:1.2) apple")
        page.wait_for_selector(f"#{tab}_prompt .count:text-is('3/75')")
        page.wait_for_selector(f"#{tab}_reading .gist:has-text('1 weight')")
        page.focus(prompt)
        page.evaluate("(s) => document.querySelector(s).setSelectionRange(16, 16)", prompt)
        page.keyboard.press("Control+ArrowUp")
        wait_value(page, prompt, "a (red:1.2) (apple:1.1)")


def test_each_tab_keeps_its_own_form_over_a_reload(page: Any) -> None:
    for tab in PAINTING:
        show(page, tab)
        page.fill(f"#{tab}_prompt textarea", f"words of {tab}")
    page.fill("#inpaint_denoising_strength input[type=number]", "0.4")
    page.click("#inpaint_mask_mode input")
    page.get_by_role("option", name="Inpaint not masked", exact=True).click()
    kept = "() => JSON.parse(localStorage.getItem('atelier.form.inpaint'))"
    page.wait_for_function(f"{kept[6:]}.mask_mode === 'Inpaint not masked' && {kept[6:]}.denoising_strength === 0.4")
    page.reload()
    page.wait_for_selector("#inpaint_generate")
    for tab in PAINTING:
        wait_value(page, f"#{tab}_prompt textarea", f"words of {tab}")
    wait_value(page, "#inpaint_denoising_strength input[type=number]", "0.4")
    wait_value(page, "#inpaint_mask_mode input", "Inpaint not masked")
    wait_value(page, "#img2img_denoising_strength input[type=number]", "0.75")


def test_keys_and_the_checkpoint_are_for_the_tab_that_is_seen(page: Any, app: FakeApp) -> None:
    page.fill("#txt2img_prompt textarea", "of the first tab")
    show(page, "img2img")
    page.focus("#img2img_prompt textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#complaint:has-text('There is no picture to start from yet')")
    assert not app.records, "the other tab's Generate was not pressed"
    page.click("#checkpoint input")
    page.get_by_role("option", name="Landscapes", exact=True).click()
    wait_value(page, "#img2img_steps input[type=number]", "30")
    show(page, "txt2img")
    wait_value(page, "#txt2img_steps input[type=number]", "30")
    page.focus("#txt2img_prompt textarea")
    page.keyboard.press("Control+Enter")
    assert app.records[app.wait_for_job()][1].request.checkpoint == "big/landscapes"
    page.wait_for_selector("body[data-busy]")
    show(page, "inpaint")
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")


def test_a_schedule_that_makes_no_difference_is_greyed_with_the_reason(page: Any) -> None:
    show(page, "img2img")
    page.click("#img2img_sampler input")
    page.get_by_role("option", name="DDIM", exact=True).click()
    page.wait_for_selector("#img2img_schedule:has-text('DDIM has noise levels of its own') input:disabled")
    page.click("#img2img_sampler input")
    page.get_by_role("option", name="Heun", exact=True).click()
    page.wait_for_selector("#img2img_schedule:not(:has-text('noise levels of its own')) input:enabled")


def test_a_job_in_line_shows_its_place_and_no_empty_sheet(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_generate")
    app.step(app.wait_for_job(), 3)
    page.click("#txt2img_generate")
    app.wait_for_job(2)
    page.wait_for_selector(".tile.under-way >> nth=1")
    assert page.is_visible(".result-pane .pending"), "what is painted goes on being seen"
    page.click(".tile.under-way >> nth=0")
    page.wait_for_selector(".result-pane .waiting:has-text('In line, 1 ahead')")
    assert page.locator(".result-pane .pending").count() == 0
    app.finish_picture("job1")
    app.step("job2", 2)
    page.wait_for_selector("#result_preview")


def test_the_same_submission_twice_is_one_job(page: Any, app: FakeApp) -> None:
    """As when a connection breaks after the server has heard."""
    with page.expect_request(lambda request: "/run/" in request.url and '"key' in (request.post_data or "")) as caught:
        page.click("#txt2img_generate")
    app.wait_for_job()
    request = caught.value
    again = page.request.post(request.url, data=request.post_data, headers={"content-type": "application/json"})
    assert again.ok, again.status
    assert len(app.records) == 1
    page.click("#txt2img_generate")
    app.wait_for_job(2)


def test_text_of_users_never_runs_in_any_tab(page: Any) -> None:
    for tab in PAINTING:
        show(page, tab)
        page.fill(f"#{tab}_prompt textarea", f"({HOSTILE}:1.2)")
        page.wait_for_selector(f"#{tab}_reading .gist:not(:empty)")
        page.click(f"#{tab}_reading summary")
        page.wait_for_selector(f"#{tab}_reading .reading section")
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    for tab in PAINTING:
        show(page, tab)
        wait_value(page, f"#{tab}_prompt textarea", f"({HOSTILE}:1.2)")
        assert page.evaluate("window.__x") is None, tab


def test_no_tab_needs_sideways_scrolling_on_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True).open()
    drawn = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
    for tab in (*PAINTING, "pnginfo", "gallery", "models", "extensions", "settings"):
        show(page, tab)
        page.wait_for_function(drawn)
        assert page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)") <= 390, tab

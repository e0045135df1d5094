"""What is seen and what is said of it, in Chromium: the job that is shown, what Esc and Tab close, ended sessions, reloads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.ui.fake_app import FakeApp
from tests.ui.test_picture_to_picture import opened, submitted
from tests.ui.test_tabs import show
from tests.ui.test_txt2img_page import GENERATE, PROMPT, number, paint

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]


def test_the_line_cancel_and_preview_are_those_of_the_job_that_is_shown(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    first = app.wait_for_job()
    app.step(first, 3)
    page.wait_for_selector("#result_preview")
    page.click(GENERATE)
    second = app.wait_for_job(2)
    page.wait_for_selector(".job-left:has-text('1 more in line')")
    assert page.get_attribute(".job", "data-job") == first
    assert page.is_visible("#result_preview")

    page.click(".tile.under-way >> nth=0")
    page.wait_for_selector(f".job[data-job='{second}'][data-state=queued]")
    page.wait_for_selector(".result-pane .waiting:has-text('In line, 1 ahead')")
    page.keyboard.press("Escape")
    page.wait_for_selector(f".job[data-job='{first}'][data-state=running]")
    assert app.records[second][1].state == "cancelled"
    assert app.records[first][1].state == "running"
    app.step(first, 4)
    page.wait_for_selector("#result_preview")


def test_a_job_that_is_over_before_the_page_hears_of_it_is_shown(
    page: Any, app: FakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fast device and a slow page: what is shown before it is over as well."""
    paint(page, app)
    submit = app.submit

    def at_once(*given: Any) -> Any:
        job = submit(*given)
        for _ in range(job.count):
            app.finish_picture(job.id)
        return app.records[job.id][1]

    monkeypatch.setattr(app, "submit", at_once)
    page.fill(number("count"), "2")
    page.click(GENERATE)
    job = app.wait_for_job(2)
    page.wait_for_selector(f".picture-grid img[src*='{job}/'] >> nth=1")


def test_a_finished_picture_says_nothing_of_another_job_and_leads_to_it(page: Any, app: FakeApp) -> None:
    done = paint(page, app)
    page.click(GENERATE)
    other = app.wait_for_job(2)
    app.step(other, 2)
    page.wait_for_selector(f".job[data-job='{other}']")
    page.click(f".filmstrip .tile:has(img[src*='{done}/'])")
    page.wait_for_selector("#result_picture")
    page.wait_for_selector(".show-running:text-is('1 being painted: show')")
    assert page.inner_text(".job-what") == ""
    page.keyboard.press("Escape")
    assert app.records[other][1].state == "running", "what is not seen is not cancelled by the way"
    page.click(".show-running")
    page.wait_for_selector("#result_preview")


def test_no_word_is_wider_than_its_button(page: Any, app: FakeApp) -> None:
    page.set_viewport_size({"width": 1366, "height": 657})
    paint(page, app)
    page.wait_for_selector(".picture-info .send")
    too_wide = """() => [...document.querySelectorAll(".picture-info button, .actions button")]
        .filter((button) => button.scrollWidth > button.clientWidth + 1).map((button) => button.innerText)"""
    assert page.evaluate(too_wide) == []


@pytest.mark.parametrize("panel", ["#engine", "#txt2img_reading"])
def test_escape_closes_an_open_panel_and_only_then_cancels(page: Any, app: FakeApp, panel: str) -> None:
    page.fill(PROMPT, "a (red:1.2) apple")
    page.click(GENERATE)
    job = app.wait_for_job()
    page.wait_for_selector("body[data-busy]")
    page.click(f"{panel} summary")
    page.wait_for_selector(f"{panel}[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector(f"{panel}:not([open])")
    assert app.records[job][1].state == "queued"
    page.keyboard.press("Escape")
    page.wait_for_selector("body:not([data-busy])")
    assert app.records[job][1].state == "cancelled"


def test_escape_at_once_after_a_panel_opened_closes_it(page: Any, app: FakeApp) -> None:
    """Before the browser's `toggle` event, which comes a task later."""
    page.click(GENERATE)
    job = app.wait_for_job()
    page.wait_for_selector("body[data-busy]")
    left_open = page.evaluate("""async () => {
        const panel = document.querySelector("#engine");
        panel.open = true;
        await null;
        document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true, cancelable: true}));
        return panel.open;
    }""")
    assert not left_open
    assert app.records[job][1].state == "queued"


def test_tab_closes_lists_and_stops_only_at_what_has_a_name(page: Any) -> None:
    page.focus("#txt2img_sampler input")
    page.wait_for_selector("#txt2img_sampler [role=option]")
    page.keyboard.press("Tab")
    page.wait_for_selector("#txt2img_sampler [role=option]", state="detached")
    assert page.evaluate("document.activeElement === document.querySelector('#txt2img_schedule input')")
    page.keyboard.press("Tab")
    page.wait_for_selector("#txt2img_schedule [role=option]", state="detached")
    assert page.evaluate("document.activeElement.closest('#txt2img_steps') !== null")
    page.focus("#txt2img_sampler input")
    page.wait_for_selector("#txt2img_sampler [role=option]")
    page.click(PROMPT)
    page.wait_for_selector("#txt2img_sampler [role=option]", state="detached")


def test_what_a_prompt_asks_for_in_vain_is_reported_in_red_and_the_picture_is_painted(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "a cat <lora:ink:1>")
    page.click(GENERATE)
    job = app.wait_for_job()
    page.wait_for_selector("#complaint[data-kind=warning]:has-text('<lora:ink:1>: no network of the name')")
    app.finish_picture(job)
    user, view = app.records[job]
    picture = view.pictures[0]
    told = replace(picture, infotext=f'{picture.infotext}, Networks left out: "<lora:ink:1>", Version: Atelier')
    app.records[job] = (user, replace(view, pictures=(told,)))
    page.reload()
    page.wait_for_selector(".picture-info .left-out:has-text('<lora:ink:1>')")


def test_screen_readers_hear_how_many_pictures_are_finished(page: Any, app: FakeApp) -> None:
    page.fill(number("count"), "3")
    paint(page, app)
    page.wait_for_selector(".said:text-is('3 pictures are finished.')", state="attached")


def test_the_dot_says_what_is_going_on(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 2)
    page.wait_for_selector("#engine[data-state=painting] .engine-word:text-is('Painting')")
    app.finish_picture(job)
    page.wait_for_selector("#engine[data-state=ready]")
    page.route("**/internal/**", lambda route: route.abort())
    page.route("**/gradio_api/**", lambda route: route.abort())
    page.click(GENERATE)
    page.wait_for_selector("#engine[data-state=failed] .engine-word:text-is('Server not reachable')")


def test_a_session_that_ended_elsewhere_is_reported_with_the_way_back(page: Any) -> None:
    refusal = {"status": 401, "json": {"error": "Log in first, or send an API token."}}
    page.route("**/internal/**", lambda route: route.fulfill(**refusal))
    page.route("**/gradio_api/queue/join*", lambda route: route.fulfill(**refusal))
    page.click(GENERATE)
    page.wait_for_selector("#complaint:has-text('You were logged out')")
    assert page.get_attribute("#complaint a", "href") == "login"
    assert page.inner_text(".engine-word") == "Logged out"


@pytest.mark.tabs
def test_errors_go_with_their_cause_and_stay_in_their_tab(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    page.click("#inpaint_generate")
    page.wait_for_selector("#complaint:has-text('There is no picture to start from yet')")
    show(page, "txt2img")
    page.wait_for_selector("#complaint", state="hidden")
    show(page, "inpaint")
    page.wait_for_selector("#complaint:has-text('There is no picture to start from yet')")
    canvas.show(128, 128)
    page.wait_for_selector("#complaint", state="hidden")


@pytest.mark.tabs
def test_a_reload_shows_accepted_pictures_and_the_job_of_a_canvas(page: Any, app: FakeApp) -> None:
    canvas = opened(page, app, "inpaint")
    canvas.show(128, 128)
    canvas.brush(30)
    canvas.stroke((60, 60), (80, 60))
    submitted(page, app, "inpaint")
    app.finish_picture("job1")
    page.wait_for_selector("#result_accept")
    page.click("#result_accept")
    page.wait_for_selector("#inpaint_below .steps li:nth-child(2)")
    page.wait_for_selector("#inpaint_canvas .drawing:not([data-unsaved])")
    page.reload()
    page.wait_for_selector("#inpaint_canvas .drawing[data-ready]")
    page.wait_for_selector("#inpaint_below .steps li:nth-child(2)")
    assert page.is_visible("#inpaint_below [data-do=send]")

    submitted(page, app, "inpaint", 2)
    app.step("job2", 3)
    page.wait_for_selector("#result_preview")
    page.reload()
    page.wait_for_selector("text=Step 3 of 20")
    page.wait_for_selector("#result_preview")
    app.finish_picture("job2")
    page.wait_for_selector("#result_picture[src*='job2/']")

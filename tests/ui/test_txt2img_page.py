"""The txt2img page in Chromium, before a fake App whose jobs move only when the test says so."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.jobs.views import EngineState
from tests.ui.conftest import Visit, Watched, served
from tests.ui.fake_app import BROKEN, LANDSCAPES, STICKERS, FakeApp
from tests.ui.held import Held

pytestmark = [pytest.mark.browser, pytest.mark.tabs("txt2img")]

PROMPT = "#txt2img_prompt textarea"
GENERATE = "#txt2img_generate"
SEED = "#txt2img_seed :is(input, textarea)"

PIXELS = """async (selector) => {
  const image = document.querySelector(selector);
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const at = (x, y) => [...context.getImageData(x, y, 1, 1).data.slice(0, 3)];
  const [w, h] = [image.naturalWidth, image.naturalHeight];
  return {w, h, middle: at(w >> 1, h >> 1), corner: at(2, 2)};
}"""


def number(name: str) -> str:
    return f"#txt2img_{name} input[type=number]"


def wait_value(page: Any, selector: str, value: str) -> None:
    page.wait_for_function("([s, v]) => document.querySelector(s)?.value === v", arg=[selector, value])


def paint(page: Any, app: FakeApp, which: int = 1) -> str:
    """Generate, and let the fake finish all pictures of the job."""
    page.click(GENERATE)
    job = app.wait_for_job(which)
    for _ in range(app.records[job][1].count):
        app.finish_picture(job)
    page.wait_for_selector(f"#result_picture[src*='{job}/']:visible, .picture-grid img[src*='{job}/']:visible")
    page.wait_for_selector("body:not([data-busy])")
    return job


def test_first_visit_offers_what_the_model_does_well(page: Any) -> None:
    assert page.locator(".chip").all_inner_texts() == ["a red apple", "a cat face on blue", "a rocket"]
    empty = page.inner_text(".empty")
    assert (
        "A small model that paints one sticker of 48 motifs; to paint anything else, put a Stable Diffusion checkpoint" in empty
    )
    assert ".safetensors" in empty
    assert "Rescan" in empty
    for name, value in (("steps", "20"), ("cfg_scale", "4.5"), ("width", "128"), ("height", "128"), ("count", "1")):
        wait_value(page, number(name), value)
    wait_value(page, "#txt2img_sampler input", "DPM++ 2M")
    wait_value(page, "#txt2img_schedule input", "Karras")
    wait_value(page, SEED, "")


def test_what_is_typed_before_the_forms_are_filled_stays(visit: Visit, app: FakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes its time answers with the defaults after the user has begun to write."""
    answer = threading.Event()
    styles = app.library.styles
    monkeypatch.setattr(app.library, "styles", lambda: answer.wait(60) and styles())
    visitor = visit()
    page = visitor.new_page()
    page.goto(visitor.origin)
    page.wait_for_selector(".results:not([data-view=loading])")
    page.fill(PROMPT, "a lighthouse")
    page.fill(number("width"), "256")
    assert page.get_attribute("body", "data-forms") is None
    answer.set()
    page.wait_for_selector("body[data-forms=filled]")
    assert page.input_value(PROMPT) == "a lighthouse"
    assert page.input_value(number("width")) == "256"
    wait_value(page, number("height"), "128")
    page.click(GENERATE)
    request = app.records[app.wait_for_job()][1].request
    assert (request.prompt, request.width) == ("a lighthouse", 256)


def test_without_any_checkpoint_the_page_says_how_to_add_one(app: FakeApp, visit: Visit) -> None:
    app.models = [BROKEN]
    page = visit().open()
    page.wait_for_selector("text=There is no model here yet")
    assert "torn: the file ends in the middle of a tensor" in page.inner_text(".empty")
    page.click(GENERATE)
    page.wait_for_selector("#complaint:not([hidden])")
    assert "No checkpoint found" in page.inner_text("#complaint")


def test_no_model_is_missed_before_the_list_of_models_is_there(visit: Visit) -> None:
    visitor = visit()
    held = Held(visitor.context, "**/internal/checkpoints")
    page = visitor.new_page()
    page.goto(visitor.origin)
    page.wait_for_selector("body[data-forms=filled]")
    page.fill(PROMPT, "a lighthouse")
    page.wait_for_function("window.atelierForms.txt2img.prompt === 'a lighthouse'")
    assert page.get_attribute(".results", "data-view") == "loading"
    held.wait(page)
    held.release()
    page.wait_for_selector(".chip")


def test_chip_and_generate_give_a_picture_that_downloads_with_its_recipe(page: Any, app: FakeApp, tmp_path: Path) -> None:
    page.click("text=a cat face on blue")
    wait_value(page, PROMPT, "a cat face on blue")
    page.click(GENERATE)
    job = app.wait_for_job()
    page.wait_for_selector(".job[data-state=queued]")

    app.step(job, 7)
    page.wait_for_selector("#result_preview")
    page.wait_for_selector("text=Step 7 of 20")
    assert "about 4 s left" in page.inner_text(".job-left")
    assert page.get_attribute(".job-line", "aria-valuenow") == "35"

    app.finish_picture(job)
    page.wait_for_selector("#result_picture")
    seen = page.evaluate(PIXELS, "#result_picture")
    assert (seen["w"], seen["h"]) == (128, 128)
    assert seen["middle"] == [200, 40, 50]
    assert seen["corner"] == [230, 235, 240]
    assert page.locator("#result_picture").bounding_box()["width"] > 300, "small pictures are shown enlarged"

    label = page.inner_text(".picture-info")
    assert "a cat face on blue" in label
    assert re.search(r"Seed\s+1000", label)
    with page.expect_download() as download:
        page.click("#result_download")
    download.value.save_as(tmp_path / "saved.png")
    assert download.value.suggested_filename == f"{job}-0.png"
    with Image.open(tmp_path / "saved.png") as image:
        assert image.text["parameters"].startswith("a cat face on blue\nSteps: 20")


def test_form_arrives_as_it_was_filled_in(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "two lines\nof text")
    page.fill("#txt2img_negative_prompt textarea", "fog")
    for name, value in (("steps", "33"), ("cfg_scale", "6.5"), ("width", "256"), ("height", "64"), ("count", "3")):
        page.fill(number(name), value)
    page.fill(SEED, "4294967295")
    page.click("#txt2img_sampler input")
    page.get_by_role("option", name="Heun", exact=True).click()
    page.click("#txt2img_schedule input")
    page.get_by_role("option", name="Exponential", exact=True).click()
    page.click(GENERATE)
    request = app.records[app.wait_for_job()][1].request
    expected = {
        "prompt": "two lines\nof text",
        "negative_prompt": "fog",
        "seed": 4294967295,
        "steps": 33,
        "cfg_scale": 6.5,
        "sampler": "Heun",
        "schedule": "Exponential",
        "width": 256,
        "height": 64,
        "count": 3,
        "checkpoint": "stickers",
    }
    assert request.model_dump(include=set(expected)) == expected


def test_keyboard_generates_and_cancels(page: Any, app: FakeApp) -> None:
    page.focus(PROMPT)
    page.keyboard.type("typed")
    page.keyboard.press("Control+Enter")
    job = app.wait_for_job()
    assert app.records[job][1].request.prompt == "typed"
    app.step(job, 3)
    page.wait_for_selector("text=Step 3 of 20")
    page.keyboard.press("Escape")
    page.wait_for_selector(".job[data-state=cancelled]")
    assert app.records[job][1].state == "cancelled"
    page.wait_for_selector("body:not([data-busy])")
    page.wait_for_selector(".results[data-view=ended] .result-pane:has-text('Cancelled')")
    page.click(".result-pane button:text-is('Try again')")
    page.wait_for_selector("body[data-busy]")
    assert app.records[job][1].state == "queued", "the same job again"


def test_escape_closes_an_open_list_before_it_cancels(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    page.wait_for_selector("body[data-busy]")
    page.click("#txt2img_sampler input")
    page.wait_for_selector("#txt2img_sampler [aria-expanded=true]")
    page.keyboard.press("Escape")
    assert app.records[job][1].state == "queued"


def test_cancel_button_is_there_only_while_something_is_under_way(page: Any, app: FakeApp) -> None:
    assert not page.is_visible("#txt2img_cancel")
    page.click(GENERATE)
    job = app.wait_for_job()
    page.click("#txt2img_cancel")
    page.wait_for_selector("body:not([data-busy])")
    assert app.records[job][1].state == "cancelled"
    assert not page.is_visible("#txt2img_cancel")


def test_reload_in_the_middle_attaches_again(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "a rocket")
    page.fill(number("steps"), "25")
    page.click(GENERATE)
    job = app.wait_for_job()
    for step in (5, 10, 15):
        app.step(job, step)
        page.reload()
        page.wait_for_selector(f"text=Step {step} of 25")
        page.wait_for_selector("#result_preview")
    assert len(app.records) == 1, "nothing was submitted twice"
    wait_value(page, PROMPT, "a rocket")
    wait_value(page, number("steps"), "25")

    app.finish_picture(job)
    page.wait_for_selector("#result_picture")
    page.reload()
    page.wait_for_selector("#result_picture")
    assert page.locator(".tile").count() == 1


def test_second_tab_and_another_browser_see_the_same_jobs(app: FakeApp, visit: Visit) -> None:
    visitor = visit()
    page = visitor.open()
    job = paint(page, app)
    second = visitor.open()
    second.wait_for_selector("#result_picture")
    other = visit().open()
    other.wait_for_selector(f"#result_picture[src*='{job}/']")
    assert other.evaluate("async (path) => (await fetch(path)).status", f"internal/pictures/{job}/0") == 200


def test_pictures_are_found_again_under_another_host_name_and_port(browser: Any, app: FakeApp, visit: Visit) -> None:
    job = paint(visit().open(), app)
    with served(app) as address:
        elsewhere = Watched(browser, address.replace("127.0.0.1", "localhost"))
        elsewhere.open().wait_for_selector(f"#result_picture[src*='{job}/']")
        assert not elsewhere.sins
        elsewhere.context.close()


def test_cookie_is_out_of_reach_of_scripts(app: FakeApp, visit: Visit) -> None:
    visitor = visit()
    page = visitor.open()
    (cookie,) = visitor.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert page.evaluate("document.cookie") == ""


def test_several_pictures_stand_side_by_side_and_one_by_one(page: Any, app: FakeApp) -> None:
    page.fill(number("count"), "3")
    page.click(GENERATE)
    job = app.wait_for_job()
    app.finish_picture(job)
    page.wait_for_selector("text=1 of 3 finished")
    page.wait_for_selector(".tile img")
    app.finish_picture(job)
    app.finish_picture(job)
    page.wait_for_selector(".results[data-view=grid]")
    assert page.locator(".picture-grid img").count() == 3

    page.locator(".picture-grid .picture-button").nth(1).click()
    page.wait_for_selector("#result_picture")
    assert re.search(r"Seed\s+1001", page.inner_text(".picture-info"))
    page.click("text=All 3 pictures")
    page.wait_for_selector(".results[data-view=grid]")


def test_arrow_keys_walk_along_the_film(page: Any, app: FakeApp) -> None:
    paint(page, app)
    paint(page, app, 2)
    page.wait_for_selector(".tile[aria-current=true]")
    page.focus(".tile[aria-current=true]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.picture-info dl').dataset.seed === '1000'")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('.picture-info dl').dataset.seed === '2000'")


def test_settings_of_a_picture_come_back_into_the_form(page: Any, app: FakeApp) -> None:
    page.fill(PROMPT, "first words")
    page.fill(number("steps"), "11")
    page.fill(number("width"), "192")
    paint(page, app)
    page.fill(PROMPT, "other words")
    page.fill(number("steps"), "40")
    page.fill(number("width"), "64")
    page.click("#result_reuse")
    wait_value(page, PROMPT, "first words")
    wait_value(page, number("steps"), "11")
    wait_value(page, number("width"), "192")
    wait_value(page, SEED, "1000")
    page.click(GENERATE)
    assert app.records[app.wait_for_job(2)][1].request.seed == 1000


def test_settings_that_name_something_gone_say_so(page: Any, app: FakeApp) -> None:
    paint(page, app)
    app.models = app.models[1:]
    page.click("#result_reuse")
    page.wait_for_selector("#complaint:not([hidden])")
    assert "Checkpoint 'stickers'" in page.inner_text("#complaint")


def test_seed_buttons(page: Any, app: FakeApp) -> None:
    paint(page, app)
    page.get_by_role("button", name="Reuse the seed").click()
    wait_value(page, SEED, "1000")
    page.get_by_role("button", name="Random seed").click()
    wait_value(page, SEED, "")


def test_swap_exchanges_width_and_height(page: Any) -> None:
    page.fill(number("width"), "192")
    page.get_by_role("button", name="Swap width and height").click()
    wait_value(page, number("width"), "128")
    wait_value(page, number("height"), "192")


def test_another_checkpoint_brings_its_settings_and_its_prompts(page: Any, app: FakeApp) -> None:
    page.click("#checkpoint input")
    page.get_by_role("option", name="Landscapes", exact=True).click()
    for name, value in (("width", "512"), ("height", "384"), ("steps", "30"), ("cfg_scale", "7")):
        wait_value(page, number(name), value)
    wait_value(page, "#txt2img_sampler input", "Euler a")
    page.wait_for_selector(".chip >> text=a lake at dawn")
    page.click(GENERATE)
    assert app.records[app.wait_for_job()][1].request.checkpoint == "big/landscapes"


def test_a_checkpoint_s_own_defaults_fill_the_form_and_leave_what_was_typed(page: Any, app: FakeApp, tmp_path: Path) -> None:
    defaults = {"negative_prompt": "fog, text", "clip_skip": 2}
    (tmp_path / "landscapes.json").write_text(json.dumps({"atelier": {"defaults": defaults}}))
    app.models = [STICKERS, replace(LANDSCAPES, path=tmp_path / "landscapes.safetensors")]

    def choose(title: str) -> None:
        page.click("#checkpoint input")
        page.get_by_role("option", name=title, exact=True).click()
        wait_value(page, number("steps"), "30" if title == "Landscapes" else "20")

    negative = "#txt2img_negative_prompt textarea"
    choose("Landscapes")
    wait_value(page, negative, "fog, text")
    page.click(GENERATE)
    request = app.records[app.wait_for_job()][1].request
    assert (request.negative_prompt, request.clip_skip) == ("fog, text", 2)
    choose("Stickers")
    wait_value(page, negative, "")
    form = "(words) => window.atelierForms.txt2img.negative_prompt === words"
    page.wait_for_function(form, arg="")  # Gradio goes on putting the answer's values in for some milliseconds
    page.fill(negative, "my own")
    page.wait_for_function(form, arg="my own")
    choose("Landscapes")
    wait_value(page, negative, "my own")
    page.click(GENERATE)
    request = app.records[app.wait_for_job(2)][1].request
    assert (request.negative_prompt, request.clip_skip) == ("my own", 2)


def test_rescan_finds_new_files_and_names_broken_ones(page: Any, app: FakeApp) -> None:
    app.models = [*app.models, replace(app.models[0], name="new", title="New one"), BROKEN]
    page.get_by_role("button", name="Rescan the models folder").click()
    page.wait_for_selector("#complaint:not([hidden])")
    assert "3 checkpoints found" in page.inner_text("#complaint")
    assert "torn: the file ends in the middle of a tensor" in page.inner_text("#complaint")
    page.click("#checkpoint input")
    page.get_by_role("option", name="New one", exact=True).click()
    page.wait_for_load_state("networkidle")  # the answer to a choice may open the list once more, which Gradio cannot shorten
    page.wait_for_selector("ul.option-list", state="detached")
    app.models = [replace(app.models[0], note="stickers.yaml is no YAML (line 3); only what is legible of it counts")]
    page.get_by_role("button", name="Rescan the models folder").click()
    page.wait_for_selector("#complaint:has-text('1 checkpoint found. stickers: stickers.yaml is no YAML (line 3)')")


def test_rescan_waits_until_a_list_of_choices_has_closed(page: Any, app: FakeApp) -> None:
    """Gradio draws a list for a while after it was left, and broke the page where its choices became fewer meanwhile."""
    both = list(app.models)
    for _ in range(3):
        app.models = both
        page.click("#rescan")
        page.wait_for_selector("#complaint:has-text('2 checkpoints found')")
        page.click("#checkpoint input")
        app.models = both[:1]
        page.click("#rescan")
        page.wait_for_selector("#complaint:has-text('1 checkpoint found')")


def test_bad_input_is_answered_near_the_form(page: Any, app: FakeApp) -> None:
    for field, good, bad, expected in (
        (number("width"), "128", "63", "Width must be a multiple of 8 from 64 to 8192, 63 was given"),
        (number("height"), "128", "100000", "Height must be a multiple of 8"),
        (number("count"), "1", "0", "Pictures"),
        (SEED, "", "abc", "Seed must be a whole number"),
        (SEED, "", "99999999999999999999", "Seed"),
        (PROMPT, "", "x" * 33_000, "Prompt at most 32,768 characters, 33,000 were given"),
    ):
        page.fill(field, bad)
        page.click(GENERATE)
        page.wait_for_selector(f"#complaint:not([hidden]):has-text({expected!r})")
        page.wait_for_selector("body:not([data-busy])")
        assert page.locator("[aria-invalid=true]").count() >= 1, expected
        assert not app.records, expected
        page.fill(field, good)


def test_sliders_pull_numbers_back_into_their_range(page: Any, app: FakeApp) -> None:
    for which, (steps, cfg_scale, kept) in enumerate((("1000000", "1000", (150, 30)), ("-1", "-3", (1, 0))), 1):
        for name, typed, number_kept in (("steps", steps, kept[0]), ("cfg_scale", cfg_scale, kept[1])):
            page.fill(number(name), typed)
            page.keyboard.press("Tab")
            wait_value(page, number(name), str(number_kept))
        paint(page, app, which)
        request = app.records[app.wait_for_job(which)][1].request
        assert (request.steps, request.cfg_scale) == kept


def test_complaint_goes_away_with_the_next_good_request(page: Any, app: FakeApp) -> None:
    page.fill(number("width"), "63")
    page.click(GENERATE)
    page.wait_for_selector("#complaint:not([hidden])")
    page.fill(number("width"), "64")
    page.click(GENERATE)
    app.wait_for_job()
    page.wait_for_selector("#complaint", state="hidden")
    assert page.locator("[aria-invalid=true]").count() == 0


def test_failed_job_says_why_and_the_next_one_works(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    app.fail(job, "not enough memory for 2048x2048")
    page.wait_for_selector("text=not enough memory for 2048x2048")
    paint(page, app, 2)


def test_job_that_the_server_lost_is_said_to_be_lost(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    app.step(app.wait_for_job(), 2)
    page.wait_for_selector("text=Step 2 of 20")
    app.forget(app.newest())
    page.wait_for_selector("text=does not know this job")
    page.wait_for_selector("body:not([data-busy])")


def test_jobs_in_line_know_their_place(page: Any, app: FakeApp) -> None:
    page.click(GENERATE)
    app.wait_for_job()
    page.click(GENERATE)
    app.wait_for_job(2)
    page.wait_for_selector("text=1 more in line")
    assert page.locator(".tile.under-way").count() == 2
    app.finish_picture("job1")
    page.wait_for_selector(".tile img")
    app.finish_picture("job2")
    page.wait_for_selector("body:not([data-busy])")
    assert page.locator(".tile").count() == 2


def test_engine_state_is_seen(app: FakeApp, visit: Visit) -> None:
    ready = app.state
    app.state = replace(ready, state="starting", message="Loading stickers …")
    page = visit().open()
    page.wait_for_selector("#engine[data-state=starting]")
    page.click(GENERATE)
    page.wait_for_selector(".job-what:has-text('Loading stickers')")
    app.state = ready
    page.wait_for_selector("#engine[data-state=ready]")
    page.click("#engine summary")
    assert "sdpa (no xformers on cpu)" in page.inner_text(".engine-card")
    assert page.inner_text(".engine-card dt:has-text('Accelerator') + dd") == "none (cpu)"


def test_the_status_line_names_the_pass(app: FakeApp, page: Any) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 3)
    page.wait_for_selector(".job-what:has-text('Step 3 of')")
    app.change(job, step=35, steps=50, stage=2, stages=2, stage_step=5, stage_steps=20)
    page.wait_for_selector(".job-what:has-text('Second pass, step 5 of 20')")
    app.change(job, step=12, steps=50, stage=1, stages=2, stage_step=12, stage_steps=30)
    page.wait_for_selector(".job-what:has-text('First pass, step 12 of 30')")


def test_each_of_several_workers_is_seen(app: FakeApp, visit: Visit) -> None:
    ready = app.state
    other = EngineState("restarting", "The engine is starting again.")
    app.state = replace(ready, workers=(ready, other))
    page = visit().open()
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 3)
    page.wait_for_selector(".job-what:has-text('Step 3 of')")
    page.click("#engine summary")
    assert page.locator(".engine-card dt:has-text('Worker') + dd").all_inner_texts() == [
        "Ready. cpu (no GPU here)",
        "The engine is starting again.",
    ]
    app.change(job, doing="Loading stickers …")
    page.wait_for_selector(".job-what:has-text('Loading stickers')")


def test_text_of_users_never_runs(page: Any, app: FakeApp) -> None:
    hostile = "<img src=x onerror=window.__x=1>${window.__x=1}{{window.__x=1}}<script>window.__x=1</script>"
    app.models = [
        replace(app.models[0], title=hostile, description=hostile, prompts=(hostile,)),
        replace(BROKEN, problem=hostile),
    ]
    page.reload()
    page.wait_for_selector(".chip")
    page.fill("#txt2img_negative_prompt textarea", hostile)
    page.click(".chip")
    paint(page, app)
    page.click("#result_reuse")
    wait_value(page, PROMPT, hostile)
    page.get_by_role("button", name="Rescan the models folder").click()
    page.wait_for_selector("#complaint:not([hidden])")
    page.click(GENERATE)
    app.fail(app.wait_for_job(2), hostile)
    page.wait_for_selector("#complaint[data-kind=bad]")
    assert hostile in page.inner_text(".picture-info .title")
    assert page.evaluate("window.__x") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_modes_differ_and_the_switch_is_remembered(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme).open()
    brightness = "() => Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.evaluate(brightness) > 128) == (scheme == "light")
    page.click("#mode")
    page.wait_for_function(f"(light) => (({brightness})() > 128) === light", arg=scheme == "dark")
    page.reload()
    page.wait_for_selector(".chip")
    assert (page.evaluate(brightness) > 128) == (scheme == "dark")


def test_phone_wide_window_needs_no_sideways_scrolling(app: FakeApp, visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True, is_mobile=True).open()
    widest = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert page.evaluate(widest) <= 390
    page.fill(PROMPT, "averyveryveryverylongwordwithoutanyspaces" * 5)
    page.fill(number("count"), "2")
    paint(page, app)
    assert page.evaluate(widest) <= 390
    generate, results, settings = (page.locator(s).bounding_box()["y"] for s in (GENERATE, "#results", "#txt2img_settings"))
    assert results < settings, "the picture comes before the settings"
    assert 0 < generate < 844, "the button stays in sight wherever one scrolls"


def test_every_control_has_a_name(page: Any, app: FakeApp) -> None:
    paint(page, app)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select, a, summary, [role=button]')]
          .filter((node) => node.getClientRects().length)
          .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim()))
          .filter((node) => !node.labels?.[0]?.textContent.trim())
          .map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_full_size_view_opens_and_closes_by_keyboard(page: Any, app: FakeApp) -> None:
    paint(page, app)
    page.wait_for_selector("#result_picture")
    page.focus(".picture-button")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] img")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")


def test_preview_is_a_picture(page: Any, app: FakeApp, visit: Visit) -> None:
    page.click(GENERATE)
    job = app.wait_for_job()
    app.step(job, 4)
    page.wait_for_selector("#result_preview")
    source = page.get_attribute("#result_preview", "src")
    app.step(job, 5)
    page.wait_for_function("(old) => document.querySelector('#result_preview')?.src !== old", arg=source)
    shot = Image.open(BytesIO(page.locator("#result_preview").screenshot())).convert("L")
    low, high = shot.getextrema()
    assert high - low > 60, "noise, not one colour"


def test_page_survives_a_restart_of_the_server(browser: Any, app: FakeApp) -> None:
    with served(app) as origin:
        visitor = Watched(browser, origin)
        page = visitor.open()
        page.click(GENERATE)
        job = app.wait_for_job()
        app.step(job, 5)
        page.wait_for_selector("text=Step 5 of 20")
    page.wait_for_selector("text=Server not reachable")
    app.step(job, 9)
    with served(app, port=int(origin.rpartition(":")[2])):
        page.wait_for_selector("text=Step 9 of 20")
        page.wait_for_selector("#engine[data-state=painting]")
        app.finish_picture(job)
        page.wait_for_selector("#result_picture")
        page.wait_for_selector("#engine[data-state=ready]")
        paint(page, app, 2)
        visitor.context.close()
    assert not visitor.sins

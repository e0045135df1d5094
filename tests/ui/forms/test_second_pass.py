"""The second pass (hires fix) of the txt2img form: from its controls to the request, and back."""

from __future__ import annotations

from typing import Any

import pytest

from modules.errors import RequestError
from modules.request import Img2Img, parse_request
from modules.ui import second_pass
from tests.ui.fake_app import LANDSCAPES, FakeApp
from tests.ui.test_picture_to_picture import submitted
from tests.ui.test_txt2img_page import number, paint

OFF = {"width": 128, "height": 192, "steps": 20, "hires": False, "hires_factor": 2, "hires_upscaler": "Latent"}
ON = {
    **OFF,
    "hires": True,
    "hires_denoising_strength": 0.5,
    "hires_sampler": second_pass.SAME,
    "hires_schedule": second_pass.SAME,
    "hires_checkpoint": second_pass.SAME,
}


def test_a_form_without_a_second_pass_asks_for_none() -> None:
    assert second_pass.read(OFF) == {"width": 128, "height": 192, "steps": 20}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"width": 256, "height": 384}),
        ({"hires_factor": 1.3}, {"width": 160, "height": 248}),
        ({"hires_width": "200"}, {"width": 200, "height": 296}),
        ({"hires_height": "96"}, {"width": 64, "height": 96}),
        ({"hires_width": "256", "hires_height": "256", "hires_steps": "7"}, {"width": 256, "height": 256, "steps": "7"}),
        ({"hires_sampler": "DDIM", "hires_prompt": "b"}, {"width": 256, "height": 384, "sampler": "DDIM", "prompt": "b"}),
        ({"hires_checkpoint": "xl"}, {"width": 256, "height": 384, "checkpoint": "xl"}),
    ],
)
def test_the_size_is_a_factor_or_pixels_and_what_is_empty_is_the_first_pass_s(more: Any, expected: dict[str, Any]) -> None:
    found = second_pass.read({**ON, **more})
    assert found == {
        "width": 128,
        "height": 192,
        "steps": 20,
        "hires": {"upscaler": "Latent", "denoising_strength": 0.5, **expected},
    }
    parse_request({**found, "sampler": "Euler"})


@pytest.mark.parametrize(
    "hires",
    [
        {"width": 256, "height": 384},
        {"width": 200, "height": 200, "steps": 9, "cfg_scale": 3.0, "sampler": "DDIM", "checkpoint": "xl"},
    ],
)
def test_what_a_request_asks_for_comes_back_from_the_form_that_shows_it(hires: dict[str, Any]) -> None:
    request = parse_request({"prompt": "a", "width": 128, "height": 192, "hires": hires}).model_dump()
    shown = second_pass.spread(request)
    again = second_pass.read({name: value for name, value in shown.items() if value is not None})
    assert parse_request(again) == parse_request(request)
    assert (shown["hires_width"] is None) == (hires["width"] == 256), "by the factor where one makes it"


def test_a_request_without_one_switches_it_off_and_other_fields_say_nothing() -> None:
    assert second_pass.spread({"hires": None, "steps": 3}) == {"hires": False, "steps": 3}
    assert second_pass.spread({"steps": 3}) == {"steps": 3}


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(RequestError, match="hires_width: must be a whole number of pixels, 'wide' was given"):
        second_pass.read({**ON, "hires_width": "wide"})
    with pytest.raises(RequestError, match="hires_factor"):
        second_pass.read({**ON, "hires_factor": "twice"})


@pytest.mark.browser
@pytest.mark.tabs("txt2img")
def test_it_is_painted_shown_in_the_panel_and_taken_over_again(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_second_pass button.label-wrap")
    page.check("#txt2img_hires input")
    page.fill("#txt2img_hires_factor input[type=number]", "1.5")
    page.fill("#txt2img_hires_steps :is(input, textarea)", "7")
    page.wait_for_selector("#txt2img_estimate:has-text('Becomes 192 × 192.')")
    job = paint(page, app)
    request = app.records[job][1].request
    assert request.hires is not None
    assert (request.hires.width, request.hires.height, request.hires.steps) == (192, 192, 7)
    page.wait_for_selector(".picture-info dd:has-text('192x192, Latent, denoising strength 0.7')")

    page.uncheck("#txt2img_hires input")
    page.fill("#txt2img_hires_steps :is(input, textarea)", "")
    page.wait_for_function("window.atelierForms.txt2img.hires === false")
    page.click("#result_reuse")
    page.wait_for_function("window.atelierForms.txt2img.hires === true && window.atelierForms.txt2img.hires_steps === '7'")
    again = submitted(page, app, "txt2img", 2)
    assert again.hires == request.hires


@pytest.mark.browser
@pytest.mark.tabs("txt2img")
def test_settings_of_a_picture_without_one_switch_it_off(page: Any, app: FakeApp) -> None:
    paint(page, app)
    page.click("#txt2img_second_pass button.label-wrap")
    page.check("#txt2img_hires input")
    page.wait_for_function("window.atelierForms.txt2img.hires === true")
    page.click("#result_reuse")
    page.wait_for_function("window.atelierForms.txt2img.hires === false")
    assert not page.is_checked("#txt2img_hires input")
    assert page.input_value(number("steps")) == "20"


@pytest.mark.browser
@pytest.mark.tabs("txt2img")
def test_what_the_second_pass_cannot_be_is_said_at_its_own_field(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_second_pass button.label-wrap")
    page.check("#txt2img_hires input")
    page.fill("#txt2img_hires_width :is(input, textarea)", "90000")
    page.wait_for_function("window.atelierForms.txt2img.hires_width === '90000'")
    page.click("#txt2img_generate")
    page.wait_for_selector("#complaint:has-text('Resize width to must be')")
    assert page.get_attribute("#txt2img_hires_width :is(input, textarea)", "aria-invalid") == "true"
    assert not app.records


@pytest.mark.browser
@pytest.mark.tabs("txt2img")
def test_another_checkpoint_runs_it_and_is_named_where_it_is_gone(page: Any, app: FakeApp) -> None:
    page.click("#txt2img_second_pass button.label-wrap")
    page.check("#txt2img_hires input")
    page.click("#txt2img_hires_checkpoint input")
    assert page.locator("#txt2img_hires_checkpoint [role=option]").all_inner_texts()[0].strip().endswith(second_pass.SAME)
    page.click("#txt2img_hires_checkpoint [role=option] >> nth=2")
    page.wait_for_function(f"window.atelierForms.txt2img.hires_checkpoint === '{LANDSCAPES.name}'")
    job = paint(page, app)
    request = app.records[job][1].request
    assert request.hires is not None
    assert request.hires.checkpoint == LANDSCAPES.name
    page.reload()
    page.wait_for_selector("body[data-forms=filled]")
    page.wait_for_function(f"window.atelierForms.txt2img.hires_checkpoint === '{LANDSCAPES.name}'")
    app.models.remove(LANDSCAPES)
    page.click("#result_reuse")
    page.wait_for_selector(f"#complaint:has-text(\"Hires checkpoint '{LANDSCAPES.name}'\")")
    page.wait_for_function(f"window.atelierForms.txt2img.hires_checkpoint === '{second_pass.SAME}'")


@pytest.mark.browser
@pytest.mark.tabs("txt2img")
def test_one_picture_is_upscaled_with_its_seed_and_that_one_again(page: Any, app: FakeApp) -> None:
    """A picture from words by a second pass behind it; one that had a second pass by img2img at exactly its steps."""
    page.fill("#txt2img_prompt textarea", "a rocket")
    page.fill(number("count"), "2")
    first = paint(page, app)
    page.click("#txt2img_second_pass button.label-wrap")
    page.fill("#txt2img_hires_factor input[type=number]", "1.5")
    page.fill("#txt2img_hires_steps :is(input, textarea)", "7")
    page.fill("#txt2img_prompt textarea", "something else")
    page.wait_for_function("window.atelierForms.txt2img.hires_steps === '7'")
    page.click(".picture-grid button >> nth=1")
    page.click("#result_second_pass")
    second = app.wait_for_job(2)
    request, made = app.records[second][1].request, app.records[first][1]
    assert (request.prompt, request.seed, request.count) == ("a rocket", made.pictures[1].seed, 1)
    assert request.hires is not None
    assert (request.hires.width, request.hires.height, request.hires.steps, request.hires.upscaler) == (192, 192, 7, "Latent")
    assert request.model_copy(update={"hires": None}) == made.request.image(1)
    page.wait_for_selector(f".job[data-job='{second}']")

    app.finish_picture(second)
    page.wait_for_selector(f"#result_picture[src*='{second}/']")
    page.click("#result_second_pass")
    again = app.records[app.wait_for_job(3)][1].request
    assert isinstance(again, Img2Img)
    assert (again.width, again.height, again.steps, again.fix_steps, again.denoising_strength) == (192, 192, 7, True, 0.7)
    assert (again.seed, again.prompt, again.hires) == (request.seed, "a rocket", None)
    app.finish_picture(app.newest())

    page.fill("#txt2img_hires_factor input[type=number]", "4")
    page.fill("#txt2img_hires_width :is(input, textarea)", "4096")
    page.wait_for_function("window.atelierForms.txt2img.hires_width === '4096'")
    page.wait_for_selector(f"#result_picture[src*='{app.newest()}/']")
    page.click("#result_second_pass")
    page.wait_for_selector("#complaint:has-text('It cannot be upscaled. width: must be')")

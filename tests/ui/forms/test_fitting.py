"""What the chosen checkpoint cannot use is dimmed and said before Generate, and a value that fits is a click away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from modules.checkpoints.files import Defaults
from tests.ui.conftest import Visit
from tests.ui.fake_app import STICKERS, FakeApp

pytestmark = pytest.mark.browser

OWN = Defaults(64, 64, 4, 1.0, "Euler", "Simple", 3.5)
FLUX = replace(STICKERS, name="flux", title="Flux", family="flux", defaults=OWN)
SD3 = replace(FLUX, name="sd3", title="SD 3", family="sd3", defaults=replace(OWN, cfg_scale=5.0))


@pytest.fixture
def page(app: FakeApp, visit: Visit) -> Any:
    app.models = [STICKERS, FLUX, SD3]
    return visit().open()


def choose(page: Any, field: str, words: str) -> None:
    page.click(f"{field} input")
    page.get_by_role("option", name=words, exact=True).click()
    page.wait_for_selector("ul.option-list", state="detached")


def line(page: Any, field: str, words: str, tab: str = "txt2img") -> Any:
    found = page.locator(f"#{tab}_{field} > .fitting", has_text=words)
    found.wait_for()
    return found


def gone(page: Any, field: str, tab: str = "txt2img") -> None:
    page.wait_for_selector(f"#{tab}_{field} > .fitting", state="detached")


def now(page: Any, field: str, value: Any, tab: str = "txt2img") -> None:
    page.wait_for_function("([tab, field, value]) => window.atelierForms[tab][field] === value", arg=[tab, field, value])


def test_what_makes_no_sense_is_dimmed_marked_and_put_right_at_a_click(page: Any) -> None:
    choose(page, "#txt2img_sampler", "DDIM")
    gone(page, "sampler")  # with a checkpoint of SD 1.x all fit
    choose(page, "#checkpoint", "Flux")
    now(page, "sampler", "Euler")
    now(page, "distilled_cfg_scale", 3.5)

    page.click("#txt2img_sampler input")
    page.wait_for_selector("#txt2img_sampler [role=option].unfit")
    option = page.get_by_role("option", name="DDIM", exact=True)
    assert "unfit" in option.get_attribute("class")
    assert "noise levels of its own" in option.get_attribute("title")
    assert "unfit" not in page.get_by_role("option", name="Euler", exact=True).get_attribute("class")
    option.click()
    line(page, "sampler", "DDIM does not fit Flux. It walks down noise levels of its own").get_by_role("button").click()
    now(page, "sampler", "Euler")
    gone(page, "sampler")

    choose(page, "#txt2img_schedule", "Karras")
    note = line(page, "schedule", "Karras does not fit Flux.")
    page.set_viewport_size({"width": 390, "height": 844})
    below, next_one = note.bounding_box(), page.locator("#txt2img_steps").bounding_box()
    assert below["y"] + below["height"] <= next_one["y"], "it has room of its own on a phone too"
    page.set_viewport_size({"width": 1280, "height": 800})
    choose(page, "#checkpoint", "Stickers")
    gone(page, "schedule")


def test_without_guidance_cfg_scale_and_negative_prompt_are_dimmed(page: Any) -> None:
    choose(page, "#checkpoint", "Flux")
    line(page, "negative_prompt", "At a CFG scale of 1 the negative prompt has no part in the picture.")
    line(page, "cfg_scale", "Flux is run at 1. Its guidance is the distilled CFG scale")
    assert page.locator("#txt2img_cfg_scale.no-part").count() == 1
    page.fill("#txt2img_cfg_scale input[type=number]", "3")
    gone(page, "negative_prompt")
    line(page, "cfg_scale", "twice as long").get_by_role("button", name="Use 1").click()
    now(page, "cfg_scale", 1)
    line(page, "negative_prompt", "no part")
    page.fill("#txt2img_prompt textarea", "a cat AND a dog :0.5")  # sides whose weights are not 1 look at it
    gone(page, "negative_prompt")
    choose(page, "#checkpoint", "Stickers")
    gone(page, "cfg_scale")
    page.wait_for_selector("#txt2img_distilled_cfg_scale", state="detached")


def test_the_second_pass_is_judged_by_its_own_checkpoint_and_a_plot_by_the_form_s(page: Any) -> None:
    page.click("#txt2img_second_pass > button")
    page.check("#txt2img_hires input")
    choose(page, "#txt2img_sampler", "PLMS")
    gone(page, "hires_sampler")
    choose(page, "#txt2img_hires_checkpoint", "SD 3")
    line(page, "hires_sampler", "PLMS does not fit SD 3.").get_by_role("button", name="Use Euler").click()
    now(page, "hires_sampler", "Euler")
    gone(page, "hires_sampler")
    line(page, "hires_schedule", "does not fit SD 3.")
    page.uncheck("#txt2img_hires input")
    gone(page, "hires_schedule")

    choose(page, "#checkpoint", "SD 3")
    now(page, "sampler", "Euler")
    page.select_option("#txt2img_script_name select", "xyz")
    page.select_option("#txt2img_script_x_type select", "schedule")
    page.get_by_role("button", name="Fill in all").click()
    values = page.input_value("#txt2img_script_x_values textarea")
    assert "Simple" in values
    assert "Karras" not in values
    page.focus("#txt2img_script_x_values select")
    assert page.locator("#txt2img_script_x_values option:disabled").count() == 10


@pytest.mark.tabs("txt2img")
def test_a_checkpoint_whose_file_is_gone_is_asked_for_once(page: Any, app: FakeApp) -> None:
    choose(page, "#checkpoint", "Flux")
    now(page, "sampler", "Euler")
    app.models = [STICKERS]
    asked: list[str] = []
    page.on("request", lambda request: "internal/checkpoints" in request.url and asked.append(request.url))
    page.evaluate("document.dispatchEvent(new Event('atelier:models'))")  # the list without it
    for steps in ("5", "6", "7"):
        page.fill("#txt2img_steps input[type=number]", steps)
        now(page, "steps", int(steps))
    page.wait_for_load_state("networkidle")
    assert len(asked) <= 6, "each reader of the list, and this one once more"

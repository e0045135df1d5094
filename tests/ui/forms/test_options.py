"""The accordion of options: what it sends, what it greys, what it says when something makes no sense, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.app import App
from modules.fields import kind_of
from modules.images.infotext import parse
from modules.jobs.worker import engine_configuration
from modules.options import FROM_PICTURES, OPTIONS
from modules.request import Img2Img, Txt2Img
from modules.settings import Settings
from modules.ui.form import Figure
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint, write
from tests.ui.conftest import Watched, served
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser

LABEL = "#txt2img_options > button span:first-child"


def test_every_option_is_a_field_and_every_field_has_its_place() -> None:
    names = [option.name for group in OPTIONS.values() for option in group]
    assert len(names) == len(set(names))
    elsewhere = {"prompt", "negative_prompt", "seed", "steps", "cfg_scale", "sampler", "schedule", "width", "height", "count"}
    elsewhere |= {"checkpoint", "styles", "extensions", "kept_extensions"}
    assert {*names, *elsewhere, "hires"} == set(Txt2Img.model_fields)
    assert {option.name for option in FROM_PICTURES} <= set(Img2Img.model_fields) - set(Txt2Img.model_fields)
    for option in (*(option for group in OPTIONS.values() for option in group), *FROM_PICTURES):
        field = Img2Img.model_fields[option.name]
        assert option.switch == (field.annotation is bool), option.name
        assert option.choices == getattr(kind_of(Img2Img, option.name), "__args__", ()), option.name
        assert option.help[:1].islower() or option.help[:2].isupper(), option.name


def test_a_figure_is_a_number_that_may_be_left_out() -> None:
    figure = Figure()
    figure.default = 1.0
    assert [figure.preprocess(typed) for typed in (" 2 ", "", "  ", None, "x")] == ["2", None, None, None, "x"]
    assert [figure.postprocess(value) for value in (0.5, 1, None, "0.5")] == ["0.5", "", "", "0.5"]


def opened(page: Any) -> Any:
    page.click("#txt2img_options > button")
    page.wait_for_selector("#txt2img_rng input")
    return page


def enabled(page: Any, name: str) -> bool:
    return bool(page.is_enabled(f"#txt2img_{name} :is(input, textarea)"))


def wait_for(page: Any, name: str, state: str) -> None:
    page.wait_for_selector(f"#txt2img_{name} :is(input, textarea):{state}")


def choose(page: Any, name: str, value: str) -> None:
    page.fill(f"#txt2img_{name} input", value)
    page.click(f"ul[role=listbox] li[aria-label='{value}']")


def test_it_is_closed_at_first_and_greys_what_makes_no_difference(page: Any) -> None:
    assert not page.is_visible("#txt2img_rng")
    opened(page)
    off = ("eta", "s_churn", "s_noise", "variation_seed", "sag_blur", "apg_eta", "beta_alpha", "ensd")
    assert not any(enabled(page, name) for name in off), "with DPM++ 2M and Karras"
    assert all(enabled(page, name) for name in ("rho", "rng", "variation_strength", "pag_scale", "mimic_scale", "clip_skip"))
    choose(page, "sampler", "Euler a")
    wait_for(page, "eta", "enabled")
    assert enabled(page, "s_noise")
    assert enabled(page, "ensd")
    assert not enabled(page, "s_churn")
    page.fill("#txt2img_eta :is(input, textarea)", "0")
    wait_for(page, "s_noise", "disabled")
    choose(page, "schedule", "Beta")
    wait_for(page, "beta_alpha", "enabled")
    page.check("#txt2img_apg input")
    wait_for(page, "apg_eta", "enabled")
    assert not enabled(page, "mimic_scale")


def test_a_refiner_is_chosen_among_the_checkpoints_and_greys_what_counts_with_one_alone(page: Any, app: FakeApp) -> None:
    opened(page)
    assert not enabled(page, "refiner_switch_at")
    chosen = app.models[-1]
    choose(page, "refiner", chosen.title)
    wait_for(page, "refiner_switch_at", "enabled")
    page.fill("#txt2img_refiner_switch_at :is(input, textarea)", "0.6")
    page.wait_for_selector(f"{LABEL}:has-text('Advanced · 2 set')")
    page.fill("#txt2img_prompt textarea", "a red apple")
    page.click("#txt2img_generate")
    request = app.records[app.wait_for_job()][1].request
    assert (request.refiner, request.refiner_switch_at) == (chosen.name, 0.6)


def test_its_title_counts_what_is_set_and_one_button_sets_all_back(page: Any, app: FakeApp) -> None:
    opened(page)
    page.fill("#txt2img_pag_scale :is(input, textarea)", "3")
    page.fill("#txt2img_clip_skip :is(input, textarea)", "2")
    page.check("#txt2img_zero_snr input")
    page.wait_for_selector(f"{LABEL}:has-text('Advanced · 3 set')")
    page.click("#txt2img_options_reset")
    page.wait_for_function(f"() => document.querySelector({LABEL!r}).textContent === 'Advanced'")
    page.fill("#txt2img_prompt textarea", "a red apple")
    page.click("#txt2img_generate")
    request = app.records[app.wait_for_job()][1].request
    defaults = {name: Txt2Img.model_fields[name].default for group in OPTIONS.values() for name in [o.name for o in group]}
    assert {name: getattr(request, name) for name in defaults} == defaults


def test_nonsense_is_refused_in_words_beside_the_form(page: Any, app: FakeApp) -> None:
    opened(page)
    page.fill("#txt2img_pag_scale :is(input, textarea)", "lots")
    page.fill("#txt2img_clip_skip :is(input, textarea)", "40")
    page.click("#txt2img_generate")
    said = page.wait_for_selector("#complaint:not([hidden])").inner_text()
    assert "PAG scale must be a number from 0 to 20, 'lots' was given" in said
    assert "clip skip must be a whole number from 1 to 12, '40' was given".casefold() in said.casefold()
    assert page.get_attribute("#txt2img_pag_scale :is(input, textarea)", "aria-invalid") == "true"
    assert not app.records


def test_embeddings_are_offered_and_loras_in_the_models_folders_are_understood(page: Any, app: FakeApp, tmp_path: Path) -> None:
    (tmp_path / "models" / "embeddings").mkdir(parents=True)
    (tmp_path / "models" / "loras").mkdir()
    write(tmp_path / "models" / "embeddings" / "inkwash.safetensors", {"emb_params": torch.zeros(3, 768)})
    (tmp_path / "models" / "embeddings" / "inkpot.pt").write_bytes(b"")
    write(tmp_path / "models" / "loras" / "lines.safetensors", {"a": torch.zeros(1)})
    app.catalogue.folders = [tmp_path / "models"]
    prompt = "#txt2img_prompt textarea"
    page.click(prompt)
    page.keyboard.type("a cat, ink")
    page.wait_for_selector("#txt2img_prompt_names >> text=inkwash")
    assert page.locator("#txt2img_prompt_names [role=option]").all_inner_texts() == ["inkwash"]
    page.keyboard.press("Enter")
    page.keyboard.type(" <lora:li")
    page.wait_for_selector("#txt2img_prompt_names >> text=lines")
    page.keyboard.press("Enter")
    assert page.input_value(prompt) == "a cat, inkwash <lora:lines:1>"
    page.wait_for_function("() => document.querySelector('#txt2img_prompt .count')?.textContent === '6/75'")
    page.click("#txt2img_reading summary")
    page.wait_for_selector("#txt2img_reading .networks:has-text('<lora:lines:1> inkwash (3 vectors)')")
    assert page.locator("#txt2img_reading .remarks").count() == 0, "it is here, and will be applied"


@pytest.fixture(scope="module")
def real_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, str]]:
    folder = tmp_path_factory.mktemp("options")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "tiny.safetensors")
    settings = Settings(
        data_dir=folder / "data", models_dirs=(folder / "models",), outputs_dir=folder / "outputs", device="cpu"
    )
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    with served(app) as address:
        yield app, address
    app.close()


def test_options_are_in_the_picture_s_text_and_come_back_from_it(real_app: tuple[App, str], browser: Any) -> None:
    _, address = real_app
    visitor = Watched(browser, address)
    page = opened(visitor.open())
    choose(page, "sampler", "Euler a")
    wait_for(page, "eta", "enabled")
    set_to = {"eta": "0.5", "pag_scale": "2.5", "variation_strength": "0.2", "variation_seed": "77", "clip_skip": "2"}
    page.fill("#txt2img_variation_strength :is(input, textarea)", "0.2")
    wait_for(page, "variation_seed", "enabled")
    for name, value in set_to.items():
        page.fill(f"#txt2img_{name} :is(input, textarea)", value)
    choose(page, "rng", "NV")
    page.check("#txt2img_zero_snr input")
    page.fill("#txt2img_prompt textarea", "a cat")
    page.click("#txt2img_generate")
    page.wait_for_selector("#result_picture")
    text = page.evaluate("(async () => (await (await fetch('internal/jobs')).json()))()")
    (job,) = text if isinstance(text, list) else text["jobs"]
    said = parse(job["pictures"][0]["infotext"])
    assert said["Eta"] == "0.5"
    assert said["PAG scale"] == "2.5"
    assert (said["Variation seed"], said["Variation seed strength"]) == ("77", "0.2")
    assert (said["Clip skip"], said["RNG"], said["Noise Schedule"]) == ("2", "NV", "Zero Terminal SNR")

    page.click("#txt2img_options_reset")
    page.wait_for_function(f"() => document.querySelector({LABEL!r}).textContent === 'Advanced'")
    page.click("#txt2img_options > button")
    page.click("#result_reuse")
    page.wait_for_selector(f"{LABEL}:has-text('7 set')")
    page.click("#txt2img_options > button")
    for name, value in set_to.items():
        assert page.input_value(f"#txt2img_{name} :is(input, textarea)") == value
    assert page.input_value("#txt2img_rng input") == "NV"
    assert page.is_checked("#txt2img_zero_snr input")
    visitor.context.close()
    assert not visitor.sins

"""What A1111 accepts or ignores is accepted or ignored here, and said in `info`; what would change the picture is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from modules.api.a1111 import generation as generation_calls
from modules.api.a1111.option_table import EXPLANATIONS, KEPT, OPTIONS, PICTURE, SERVER, UNBUILT
from modules.api.a1111.options import option_fields, read_options
from modules.app import App
from modules.errors import RequestError
from modules.request import Txt2Img
from tests.api.a1111.conftest import SMALL, Visitor, as_text, detail, opened, png
from tests.api.test_json_writer import strict

INPAINT = {"init_images": [as_text(png())], "mask": as_text(png(colour=255, mode="L")), "inpaint_full_res": False}


def paint(api: TestClient, route: str = "txt2img", **fields: Any) -> dict[str, Any]:
    """The call's info."""
    answer = api.post(f"/sdapi/v1/{route}", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text[:500]
    assert len(answer.json()["images"]) >= 1
    return dict(json.loads(answer.json()["info"]))


def newest(painting: App) -> Any:
    return painting.jobs("local", 1)[0].request


@pytest.mark.parametrize(
    ("given", "field", "taken"),
    [
        ({"steps": 8.7}, "steps", 8),
        ({"steps": True}, "steps", 1),
        ({"steps": " 3 "}, "steps", 3),
        ({"cfg_scale": True}, "cfg_scale", 1.0),
        ({"cfg_scale": "2.5"}, "cfg_scale", 2.5),
        ({"width": 71.9}, "width", 64),
        ({"n_iter": False, "batch_size": 1}, "n_iter", None),
        ({"prompt": 5}, "prompt", "5"),
        ({"negative_prompt": 2.5}, "negative_prompt", "2.5"),
        ({"seed": "6687881544318117707"}, "seed", 6687881544318117707),
        ({"seed": 2**64 - 1}, "seed", 2**64 - 1),
        ({"seed": -2}, "seed", 2**64 - 2),
        ({"subseed": -7, "subseed_strength": 0.5}, "variation_seed", 2**64 - 7),
        ({"batch_size": 12, "steps": 1}, "count", 12),
        ({"seed_resize_from_w": -8, "firstphase_width": -1}, "seed_resize_width", 0),
        ({"override_settings": {"CLIP_stop_at_last_layers": 0}}, "clip_skip", 1),
    ],
)
def test_values_are_converted_as_its_models_do(
    api: TestClient, painting: App, given: dict[str, Any], field: str, taken: Any
) -> None:
    if taken is None:
        detail(api.post("/sdapi/v1/txt2img", json={**SMALL, **given}))
        return
    paint(api, **given)
    assert getattr(newest(painting), field) == taken


@pytest.mark.parametrize("value", [False, 0, "0", "false", 0.0])
@pytest.mark.parametrize("other", [True, 1, "1", "True", 1.0])
def test_the_mask_s_side_is_a_number_or_a_boolean(api: TestClient, painting: App, value: Any, other: Any) -> None:
    sides = []
    for inverted in (value, other):
        body = {**SMALL, **INPAINT, "steps": 1, "send_images": False, "inpainting_mask_invert": inverted, "mask_blur": 4.5}
        assert api.post("/sdapi/v1/img2img", json=body).status_code == 200
        sides.append((newest(painting).mask_mode, newest(painting).mask_blur_x))
    assert sides == [("Inpaint masked", 4), ("Inpaint not masked", 4)]


def test_null_is_the_default_of_every_field(api: TestClient, painting: App) -> None:
    """A1111's models have all of these Optional; clients send null for what a user has not touched."""
    schema = api.get("/openapi.json").json()["paths"]
    for route, given in (("txt2img", {}), ("img2img", INPAINT)):
        content = schema[f"/sdapi/v1/{route}"]["post"]["requestBody"]["content"]["application/json"]
        fields = content["schema"]["properties"]
        null = {name: None for name in fields if name not in {**SMALL, **given}}
        assert {"hr_second_pass_steps", "mask_round", "resize_mode"} & set(fields)
        assert {"do_not_save_grid", "disable_extra_networks", "override_settings_restore_afterwards"} < set(null)
        paint(api, route, **{**given, **null})
        nulled = newest(painting)
        paint(api, route, **given)
        assert nulled == newest(painting)
        for name in null:
            variants = fields[name].get("anyOf", [fields[name]])
            assert {"type": "null"} in variants, f"{name} is described without null"


def test_hires_fields_count_with_hires_alone(api: TestClient) -> None:
    info = paint(api, enable_hr=False, hr_second_pass_steps=7.5, hr_scale="2", hr_upscaler="ESRGAN_4x", hr_resize_x=True)
    assert "notes" not in info
    counted = {"enable_hr": True, "hr_upscaler": "ESRGAN_4x"}
    assert "hr_upscaler: 'ESRGAN_4x' is not here" in detail(api.post("/sdapi/v1/txt2img", json={**SMALL, **counted}))


def test_networks_that_options_name_stand_behind_the_prompt(
    api: TestClient, painting: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting.catalogue, "loras", lambda: ["Ink"])
    chosen = {"sd_lora": "ink", "extra_networks_default_multiplier": 0.5}
    paint(api, prompt="a cat", override_settings=chosen)
    assert newest(painting).prompt == "a cat<lora:Ink:0.5>"
    paint(api, prompt="a cat <lora:Ink:1>", override_settings=chosen)
    assert newest(painting).prompt == "a cat <lora:Ink:1>", "it names it itself"


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"styles": ["None"]}, "style 'None' is not here; it was left out"),
        ({"styles": ["Gone", None, "Gone", ""]}, "style 'Gone' is not here; it was left out"),
        ({"restore_faces": True}, "restore_faces: face restoration is not built"),
        ({"tiling": True}, "tiling: seamless tiling is not built"),
        ({"firstpass_image": "x"}, "firstpass_image: it counts with enable_hr alone"),
        ({"refiner_checkpoint": "x", "refiner_switch_at": 1}, "refiner_checkpoint: a refiner that is switched to at 1"),
        ({"seed": -5}, "seed: counted from 2**64 down: 18446744073709551611"),
        ({"override_settings": {"sd_vae": "nice.vae.pt"}}, "the VAE 'nice.vae.pt' is not here; the checkpoint's own is used"),
        ({"override_settings": {"sd_unet": "nice"}}, "option sd_unet: there are no U-Net files here"),
        ({"override_settings": {"sd_hypernetwork": "nice"}}, "option sd_hypernetwork: 'nice' is not here"),
        ({"override_settings": {"sd_lora": "nice"}}, "option sd_lora: 'nice' is not here"),
        ({"override_settings": {"tiling": "true"}}, "option tiling: "),
        ({"override_settings": {"face_restoration": True}}, "option face_restoration: "),
        ({"override_settings": {"samples_save": False}}, "option samples_save: every picture is kept"),
        (
            {"override_settings": {"send_seed": False, "n_rows": 2}},
            "options without effect on a picture here: send_seed, n_rows",
        ),
        ({"alwayson_scripts": {"Regional": {"args": []}}}, "always on script Regional: not here"),
        ({"alwayson_scripts": {"Odd one": {"args": []}}}, "always on script Odd one: not here, and switched off"),
        ({"alwayson_scripts": {"Soft Inpainting": {"args": [False, 1]}}}, "always on script Soft Inpainting: not here"),
        (
            {"alwayson_scripts": {"ControlNet": {"args": [{"enabled": "false", "model": "canny"}, False, None]}}},
            "always on script ControlNet: not here",
        ),
    ],
)
def test_what_is_passed_over_is_reported(api: TestClient, fields: dict[str, Any], note: str) -> None:
    [said] = paint(api, **fields)["notes"]
    assert said.startswith(note)


@pytest.mark.parametrize(
    "fields",
    [
        {"override_settings": []},
        {"override_settings": [["CLIP_stop_at_last_layers", 2]]},
        {
            "override_settings": {
                "sd_vae": "None",
                "sd_unet": "None",
                "fp8_storage": "Enable for SDXL",
                "sd_vae_explanation": "<b>",
            }
        },
        {"override_settings": {"outdir_samples": "", "samples_filename_pattern": "", "save_to_dirs": True}},
        {"override_settings": {"comma_padding_backtrack": 20.0, "ddim_discretize": "uniform", "eta_noise_seed_delta": 0.0}},
        {
            "override_settings": {
                "uni_pc_order": 2,
                "upscaler_for_img2img": "ESRGAN_4x",
                "use_old_karras_scheduler_sigmas": True,
            }
        },
        {"override_settings": {"comma_padding_backtrack": 0, "pad_cond_uncond": True, "enable_batch_seeds": False}},
        {"alwayson_scripts": []},
        {"alwayson_scripts": {"Comments": {"args": []}, "Hypertile": {}, "seed": {"args": None}}},
        {"script_name": "none", "refiner_checkpoint": "none", "sampler_name": "", "scheduler": ""},
        {"restore_faces": False, "tiling": False, "styles": []},
    ],
)
def test_what_changes_nothing_goes_unsaid(api: TestClient, fields: dict[str, Any]) -> None:
    """Options that would not matter for this call included: A1111 paints the same picture with and without them."""
    assert "notes" not in paint(api, **fields)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"comma_padding_backtrack": 0}, {"prompt": "a, " * 80}),
        ({"pad_cond_uncond": True}, {"prompt": "a, " * 80}),
        ({"enable_batch_seeds": False}, {"n_iter": 2}),
        ({"uni_pc_order": 2}, {"sampler_name": "UniPC"}),
        ({"use_old_karras_scheduler_sigmas": True}, {"sampler_name": "DPM++ 2M Karras"}),
        ({"use_old_karras_scheduler_sigmas": True}, {"sampler_name": "DPM++ 2M"}),
        ({"no_dpmpp_sde_batch_determinism": True}, {"sampler_name": "DPM++ SDE"}),
        ({"dont_fix_second_order_samplers_schedule": True}, {"sampler_name": "Heun", "prompt": "[a:b:0.5]"}),
        ({"use_old_emphasis_implementation": True}, {"prompt": "(a)"}),
        ({"enable_emphasis": False}, {"prompt": "(a)"}),
        ({"k_sched_type": "karras"}, {}),
        ({"token_merging_ratio": 0.5}, {}),
        ({"upscaler_for_img2img": "ESRGAN_4x"}, INPAINT),
        ({"overlay_inpaint": False}, INPAINT),
        ({"img2img_background_color": "#000000"}, INPAINT),
        ({"token_merging_ratio_img2img": 0.5}, INPAINT),
    ],
)
def test_options_that_would_change_the_picture_are_refused_by_name(
    api: TestClient, options: dict[str, Any], fields: dict[str, Any]
) -> None:
    [name] = options
    route = "img2img" if "mask" in fields else "txt2img"
    body = {**SMALL, **fields, "override_settings": options, "override_settings_restore_afterwards": False}
    said = detail(api.post(f"/sdapi/v1/{route}", json=body))
    assert said.startswith(f"option {name}: ")
    assert f"send {OPTIONS[name].default!r}" in said
    assert api.get("/sdapi/v1/options").json()[name] == OPTIONS[name].default, "a call that is refused keeps no options"


@pytest.mark.parametrize("half", ["decode", "encode"])
def test_taesd_is_refused_with_the_file_that_is_missing(api: TestClient, half: str) -> None:
    body = {**SMALL, **INPAINT, "steps": 1, "override_settings": {f"sd_vae_{half}_method": "TAESD"}}
    said = detail(api.post("/sdapi/v1/img2img", json=body))
    assert f"vae_{half}r: TAESD was asked for" in said
    assert f"put taesd_{half}r.safetensors into the folder vae_approx" in said


def test_options_of_sdxl_s_sizes_are_fields_which_other_checkpoints_are_not_told(api: TestClient, painting: App) -> None:
    given = {
        "sdxl_crop_top": 8,
        "sdxl_crop_left": 16.0,
        "sdxl_refiner_low_aesthetic_score": 3,
        "sdxl_refiner_high_aesthetic_score": "7",
    }
    fields = option_fields(read_options(given), image=False)
    assert fields == {"crop_top": 8, "crop_left": 16, "negative_aesthetic_score": 3.0, "aesthetic_score": 7.0}
    paint(api, steps=1, override_settings=given)
    assert newest(painting).crop_top == 0


def test_every_option_of_a1111_is_known_and_kept_per_caller(visitor: Visitor) -> None:
    """Each with a value that is not its default; none of them is anybody else's."""
    mine, yours = visitor(), visitor(browser=True)
    before = mine.get("/sdapi/v1/options").json()
    assert {"send_seed", "send_size", "quicksettings_list", "comma_padding_backtrack", "interrogate_clip_num_beams"} < set(
        before
    )
    changed = {name: other(name) for name in KEPT}
    assert mine.post("/sdapi/v1/options", json=changed).status_code == 200
    assert {name: mine.get("/sdapi/v1/options").json()[name] for name in KEPT} == changed
    assert yours.get("/sdapi/v1/options").json() == before
    assert mine.post("/sdapi/v1/options", json=before).status_code == 200
    assert mine.get("/sdapi/v1/options").json() == before


def other(name: str) -> Any:
    """Another value that the option can have, of its default's type."""
    default = KEPT[name].default
    if isinstance(default, list):
        return ["x"]
    candidates = (not default,) if isinstance(default, bool) else ("x",) if isinstance(default, str) else (1, 0.15, 2, 100, 0)
    for value in candidates:
        with suppress(RequestError):
            [read] = read_options({name: value}).values()
            if read != default and type(read) is type(default):
                return read
    raise AssertionError(f"{name} has one value only")


def test_the_table_of_options_is_whole() -> None:
    """No name twice, no server's option among those that may be set, and A1111's own defaults are taken as they are."""
    assert len(OPTIONS) == len(PICTURE) + len(UNBUILT) + len(KEPT)
    assert not set(OPTIONS) & (set(SERVER) | EXPLANATIONS)
    assert len(OPTIONS) + len(SERVER) + len(EXPLANATIONS) > 280
    assert read_options(SERVER) == {}
    for name, option in {**UNBUILT, **KEPT}.items():
        assert read_options({name: option.default}) == {name: option.default}


def test_seeds_of_64_bits_are_painted_with_and_told_back(api: TestClient, painting: App) -> None:
    """Torch's CPU generator gives equal noise for equal remainders of 2**32."""
    seed = 6687881544318117707
    pictures = []
    for each in (seed, seed % 2**32):
        answer = api.post("/sdapi/v1/txt2img", json={**SMALL, "seed": each, "n_iter": 2}).json()
        assert json.loads(answer["info"])["all_seeds"] == [each, each + 1]
        assert [picture.seed for picture in painting.jobs("local", 1)[0].pictures] == [each, each + 1]
        pictures.append([np.asarray(opened(image).convert("RGB")) for image in answer["images"]])
    for one, other in zip(*pictures, strict=True):  # rows that share a forward or not differ in the last bit
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    text = api.post("/sdapi/v1/png-info", json={"image": answer["images"][0]}).json()["info"]
    assert f"Seed: {seed % 2**32}," in text


def test_the_largest_seed_is_followed_by_the_smallest(api: TestClient) -> None:
    info = paint(api, seed=2**64 - 1, n_iter=2)
    assert info["all_seeds"] == [2**64 - 1, 0]


@pytest.mark.parametrize("seed", [-1, None, "-1", -1.0])
def test_no_seed_is_a_random_one_that_every_json_reader_can_hold(api: TestClient, seed: Any) -> None:
    drawn = {paint(api, seed=seed, steps=1)["seed"] for _ in range(2)}
    assert len(drawn) == 2
    assert all(0 <= each < 2**32 for each in drawn)


def test_image_wrap_is_that_of_64_bits() -> None:
    assert Txt2Img(seed=2**32 - 1, count=2).image(1).seed == 2**32


def test_a_damaged_styles_file_hurts_those_alone_who_name_a_style(api: TestClient, painting: App) -> None:
    path = painting.settings.data_dir / "styles.csv"
    path.write_text("nothing,of,this\n1,2,3\n")
    try:
        assert paint(api, styles=["None"])["notes"] == ["style 'None' is not here; it was left out"]
        assert "no column 'name'" in detail(api.post("/sdapi/v1/txt2img", json={**SMALL, "styles": ["Photo"]}))
    finally:
        path.unlink()


@pytest.mark.parametrize(
    "fields", [{"upscaling_resize": "2"}, {"upscaling_crop": "true", "resize_mode": False}, {"upscaler_2": None}]
)
def test_extras_convert_too(api: TestClient, fields: dict[str, Any]) -> None:
    body: dict[str, Any] = {
        "image": as_text(png((16, 16))),
        "upscaler_1": "Nearest",
        "gfpgan_visibility": None,
        "codeformer_weight": False,
    }
    answer = api.post("/sdapi/v1/extra-single-image", json={**body, **fields})
    assert answer.status_code == 200, answer.text
    assert opened(answer.json()["image"]).size == (32, 32)
    body["upscaling_resize_w"] = 40.9
    answer = api.post("/sdapi/v1/extra-single-image", json={**body, "resize_mode": True, "upscaling_resize_h": "40"})
    assert opened(answer.json()["image"]).size == (40, 40)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_answers_are_json_whatever_numbers_were_sent(api: TestClient, number: str) -> None:
    """Other languages' parsers refuse NaN and Infinity, which Python's takes and writes."""
    picture = as_text(png())
    echoed = (
        f'"script_args": [{number}], "comments": {{"a": {number}}}, "made_up": {number}, '
        f'"alwayson_scripts": {{"seed": {{"args": [{number}, {{"x": {number}}}]}}}}'
    )
    small = json.dumps(SMALL)[:-1]
    calls = {
        "txt2img": f"{small}, {echoed}}}",
        "img2img": f'{small}, "init_images": ["{picture}"], "include_init_images": true, {echoed}}}',
        "options": f'{{"eta_ddim": {number}, "made_up": [{number}]}}',
        "extra-single-image": f'{{"image": "{picture}", "upscaling_resize": {number}, "upscaler_1": "Lanczos"}}',
        "extra-batch-images": f'{{"imageList": [{{"data": "{picture}", "name": {number}}}], "upscaling_resize": {number}}}',
        "png-info": f'{{"image": "{picture}", "x": [{number}]}}',
    }
    painted = 0
    for route, body in calls.items():
        answer = api.post(f"/sdapi/v1/{route}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 422), (route, answer.text[:300])
        told = strict(answer.text)
        painted += bool(told.get("images"))
        if "info" in told and route.endswith("2img"):
            strict(told["info"])
    assert painted >= 2
    strict(api.get("/sdapi/v1/options").text)


def test_a_number_that_is_none_in_a_picture_s_record_leaves_the_answer_json(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the answer is made of: here an echo that a reader of the request has missed."""
    made = generation_calls.answer

    def with_nan(*given: Any) -> dict[str, Any]:
        told = made(*given)
        told["parameters"]["s_noise"] = float("nan")
        return told

    monkeypatch.setattr(generation_calls, "answer", with_nan)
    assert strict(api.post("/sdapi/v1/txt2img", json=SMALL).text)["parameters"]["s_noise"] is None

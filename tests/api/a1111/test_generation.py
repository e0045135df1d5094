"""txt2img and img2img with a real engine: pictures, their texts, the echo of the request and the info text."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.api.a1111.options import CHECKPOINT, Chosen
from modules.api.a1111.requests import TextBody
from modules.api.a1111.translate import asked_of
from modules.api.guard.middleware import PICTURES
from modules.app import App
from modules.errors import RequestError
from modules.images.infotext import parse
from modules.images.recipe import read_recipe
from modules.request import Img2Img
from tests.api.a1111.conftest import SMALL, as_text, detail, opened, png
from tests.tiny import TINY_METADATA, tiny_checkpoint

INFO_KEYS = [
    *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed", "all_subseeds"),
    *("subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size", "restore_faces"),
    *("face_restoration_model", "sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w"),
    *("seed_resize_from_h", "denoising_strength", "extra_generation_params", "index_of_first_image", "infotexts", "styles"),
    *("job_timestamp", "clip_skip", "is_using_inpainting_conditioning", "version"),
]


def paint(api: TestClient, route: str = "txt2img", **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = api.post(f"/sdapi/v1/{route}", json={**SMALL, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json(), json.loads(answer.json()["info"])


def newest(painting: App) -> Any:
    return painting.jobs("local", 1)[0].request


def test_a_picture_with_its_text_as_it_lies_on_disk(api: TestClient, painting: App) -> None:
    body, info = paint(api, negative_prompt="rain", cfg_scale=4.5)
    [image] = body["images"]
    view = painting.jobs("local", 1)[0].pictures[0]
    found = opened(image)
    assert (found.format, found.size) == ("PNG", (64, 64))
    assert found.text["parameters"] == info["infotexts"][0] == view.infotext  # type: ignore[attr-defined]
    assert view.path.read_bytes() == base64.b64decode(image)
    said = parse(info["infotexts"][0])
    assert (said["Prompt"], said["Negative prompt"], said["CFG scale"], said["Seed"]) == ("a cat", "rain", "4.5", "5")


def test_info_has_all_keys_of_a1111(api: TestClient) -> None:
    _, info = paint(api, batch_size=2, n_iter=2)
    assert list(info) == INFO_KEYS
    assert info["all_seeds"] == [5, 6, 7, 8]
    assert info["all_prompts"] == ["a cat"] * 4
    assert (info["batch_size"], info["steps"], info["width"], info["height"]) == (2, 2, 64, 64)
    assert (info["sampler_name"], info["sd_model_name"], len(info["sd_model_hash"])) == ("Euler", "tiny", 10)
    assert len(info["job_timestamp"]) == 14
    assert [parse(text)["Seed"] for text in info["infotexts"]] == ["5", "6", "7", "8"]


def test_the_api_s_defaults_are_not_the_page_s(api: TestClient, painting: App) -> None:
    body = api.post("/sdapi/v1/txt2img", json={"prompt": "a cat", "width": 64, "height": 64, "seed": 1}).json()
    request = newest(painting)
    assert (request.steps, request.sampler, request.cfg_scale, request.count) == (50, "Euler", 7.0, 1)
    assert (body["parameters"]["steps"], body["parameters"]["sampler_index"]) == (50, "Euler")

    init = as_text(png())
    api.post("/sdapi/v1/img2img", json={"init_images": [init], "mask": as_text(png(colour=255, mode="L")), **SMALL})
    request = newest(painting)
    assert isinstance(request, Img2Img)
    assert (request.denoising_strength, request.masked_content, request.inpaint_area) == (0.75, "fill", "Only masked")
    assert (request.masked_padding, request.mask_blur_x, request.mask_blur_y, request.mask_round) == (0, 4, 4, True)
    assert (request.mask_mode, request.resize_mode, request.noise_multiplier) == ("Inpaint masked", "Just resize", 1.0)


def test_sides_that_are_not_named_are_at_most_the_checkpoints_own(api: TestClient, painting: App, models: Path) -> None:
    """512 otherwise: a checkpoint of 64x64 is not asked for more, one of 512x512 or 1024x1024 paints what A1111 paints."""
    body = api.post("/sdapi/v1/txt2img", json={"prompt": "a cat", "steps": 1}).json()
    assert opened(body["images"][0]).size == (64, 64)
    body = api.post("/sdapi/v1/txt2img", json={"prompt": "a cat", "steps": 1, "height": 128}).json()
    assert opened(body["images"][0]).size == (64, 128)
    api.post("/sdapi/v1/img2img", json={"init_images": [as_text(png())], "steps": 1})
    assert (newest(painting).width, newest(painting).height) == (64, 64)
    for name, side in (("wide", 1024), ("narrow", 96)):
        tiny_checkpoint(models / f"{name}.safetensors", metadata={**TINY_METADATA, "atelier.native_size": f"{side}x{side}"})
        try:
            fields = asked_of(painting, TextBody(prompt="a cat"), Chosen({CHECKPOINT: name}), {}).fields
        finally:
            (models / f"{name}.safetensors").unlink()
        assert (fields["width"], fields["height"]) == (min(side, 512),) * 2


def test_the_echo_has_every_field_and_no_unknown_one(api: TestClient) -> None:
    body, _ = paint(api, foo="bar", hr_scale=3)
    assert "foo" not in body["parameters"]
    assert body["parameters"]["hr_scale"] == 3
    assert body["parameters"]["seed_resize_from_h"] == -1


def test_numbers_may_come_as_text(api: TestClient, painting: App) -> None:
    paint(api, steps="3", cfg_scale="2.5", seed="9", width=64.0)
    request = newest(painting)
    assert (request.steps, request.cfg_scale, request.seed, request.width) == (3, 2.5, 9, 64)


def test_sizes_are_rounded_down_to_what_latents_have(api: TestClient) -> None:
    body, info = paint(api, width=70, height=79)
    assert opened(body["images"][0]).size == (64, 72) == (info["width"], info["height"])


def test_the_same_seed_paints_the_same_picture_as_the_page(api: TestClient, painting: App) -> None:
    body, _ = paint(api, sampler_name="DPM++ 2M Karras")
    job = painting.submit({**SMALL, "cfg_scale": 7, "sampler": "DPM++ 2M", "schedule": "Karras"}, "another")
    *_, view = painting.events(job.id, "another")
    mine, theirs = (np.asarray(image.convert("RGB")).astype(int) for image in (opened(body["images"][0]), _open(view)))
    assert np.abs(mine - theirs).max() <= 1


def _open(view: Any) -> Image.Image:
    return Image.open(view.pictures[0].path)


def test_a_grid_comes_first_where_a1111_sends_one(api: TestClient) -> None:
    body, info = paint(api, n_iter=3, save_images=True)
    assert [opened(image).size for image in body["images"]] == [(128, 128), (64, 64), (64, 64), (64, 64)]
    assert info["index_of_first_image"] == 1
    assert len(info["infotexts"]) == 4
    assert np.array_equal(np.asarray(opened(body["images"][0]))[:64, :64], np.asarray(opened(body["images"][1])))
    for fields in ({"n_iter": 1, "save_images": True}, {"n_iter": 2}):
        body, info = paint(api, **fields)
        assert (len(body["images"]), info["index_of_first_image"]) == (fields["n_iter"], 0)
    body, _ = paint(api, n_iter=2, save_images=True, override_settings={"return_grid": False})
    assert len(body["images"]) == 2


def test_pictures_need_not_be_sent(api: TestClient) -> None:
    body, info = paint(api, send_images=False)
    assert body["images"] == []
    assert len(info["infotexts"]) == 1


@pytest.mark.parametrize(("kind", "form"), [("jpg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_carry_the_text_in_exif(api: TestClient, kind: str, form: str) -> None:
    body, info = paint(api, override_settings={"samples_format": kind}, prompt="ein Kätzchen 🐈")
    image = opened(body["images"][0])
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert image.format == form
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == info["infotexts"][0]
    assert "Kätzchen 🐈" in info["infotexts"][0]


def test_prompts_are_returned_as_they_were_drawn(api: TestClient, painting: App) -> None:
    folder = painting.settings.data_dir
    (folder / "styles.csv").write_text("name,prompt,negative_prompt\nPhoto,photo of {prompt},blurry\n")
    body, info = paint(api, prompt="a {red|blue} cat # a note", styles=["Photo"], seed=3)
    assert info["all_prompts"][0].strip() in ("photo of a red cat", "photo of a blue cat")
    assert (info["negative_prompt"], info["styles"]) == ("blurry", ["Photo"])
    assert body["parameters"]["prompt"] == "a {red|blue} cat # a note"
    assert "Template" in info["extra_generation_params"]


def test_what_was_left_out_of_a_prompt_is_reported(api: TestClient) -> None:
    _, info = paint(api, prompt="a cat <lora:ink:0.8>")
    assert list(info) == [*INFO_KEYS, "notes"]
    assert "ink" in info["notes"][0]


def test_subseeds_count_where_they_are_used(api: TestClient) -> None:
    _, info = paint(api, subseed=10, subseed_strength=0.5, n_iter=2)
    assert (info["all_seeds"], info["all_subseeds"], info["subseed_strength"]) == ([5, 5], [10, 11], 0.5)
    _, info = paint(api, subseed=10)
    assert (info["subseed"], info["all_subseeds"]) == (-1, [-1])


def test_a_picture_from_a_picture(api: TestClient, painting: App) -> None:
    body, info = paint(
        api,
        "img2img",
        init_images=["data:image/png;base64," + as_text(png((80, 64)))],
        denoising_strength=0.5,
        resize_mode=1,
        initial_noise_multiplier=0.9,
    )
    assert opened(body["images"][0]).size == (64, 64)
    assert (body["parameters"]["init_images"], body["parameters"]["mask"]) == (None, None)
    assert info["denoising_strength"] == 0.5
    assert parse(info["infotexts"][0])["Denoising strength"] == "0.5"
    request = newest(painting)
    assert (request.resize_mode, request.noise_multiplier, request.mask) == ("Crop and resize", 0.9, None)


def test_the_pictures_are_repeated_on_request(api: TestClient) -> None:
    init = as_text(png())
    body, _ = paint(api, "img2img", init_images=[init], include_init_images=True)
    assert body["parameters"]["init_images"] == [init]


def test_a_mask_keeps_what_is_black(api: TestClient) -> None:
    """Outside the mask the source comes back to the byte; inside it does not."""
    rng = np.random.default_rng(0)
    source = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    body, _ = paint(
        api,
        "img2img",
        init_images=[as_text(_png_of(source))],
        mask=as_text(_png_of(mask)),
        mask_blur=0,
        inpaint_full_res=False,
        denoising_strength=1,
    )
    painted = np.asarray(opened(body["images"][0]).convert("RGB"))
    assert np.array_equal(painted[mask == 0], source[mask == 0])
    assert np.abs(painted.astype(int) - source)[mask == 255].mean() > 20


def test_masks_count_by_alpha_and_are_brought_to_the_picture_s_size(api: TestClient, painting: App) -> None:
    mask = np.zeros((32, 32, 4), np.uint8)
    mask[8:24, 8:24, 3] = 200
    fields = {"init_images": [as_text(png())], "mask": as_text(_png_of(mask)), "mask_blur": 7, "inpainting_fill": 2}
    paint(api, "img2img", inpainting_mask_invert=1, **fields)
    request = newest(painting)
    kept = np.asarray(painting.input_images.uploads.open(request.mask, "local").convert("L"))
    assert kept.shape == (64, 64)
    assert (kept[32, 32], kept[2, 2]) == (255, 0)
    assert (request.mask_mode, request.masked_content) == ("Inpaint not masked", "latent noise")
    assert (request.mask_blur_x, request.mask_blur_y) == (7, 7)


def _png_of(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_soft_inpainting_by_its_script(api: TestClient, painting: App) -> None:
    fields = {"init_images": [as_text(png())], "mask": as_text(png(colour=255, mode="L"))}
    paint(api, "img2img", alwayson_scripts={"Soft Inpainting": {"args": [True, 1.5, 0.7]}}, **fields)
    request = newest(painting)
    assert (request.soft_inpainting, request.soft_bias, request.soft_preservation) == (True, 1.5, 0.7)
    assert request.soft_contrast_boost == 4


def test_an_infotext_fills_what_the_request_leaves_out(api: TestClient, painting: App) -> None:
    text = "a dog\nNegative prompt: fog\nSteps: 3, Sampler: Heun, Schedule type: Karras, CFG scale: 2, Seed: 77, Size: 72x64"
    paint(api, infotext=text)
    request = newest(painting)
    assert (request.prompt, request.seed, request.steps, request.width) == ("a cat", 5, 2, 64), "the body's own fields win"
    answer = api.post("/sdapi/v1/txt2img", json={"infotext": text})
    assert answer.status_code == 200, answer.text
    request = newest(painting)
    assert (request.prompt, request.negative_prompt, request.seed) == ("a dog", "fog", 77)
    assert (request.steps, request.sampler, request.schedule, request.width) == (3, "Heun", "Karras", 72)


def test_overrides_hold_for_one_call(api: TestClient, painting: App) -> None:
    overrides = {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "sub/other.safetensors", "eta_noise_seed_delta": 31337}
    _, info = paint(api, override_settings=overrides, sampler_name="Euler a")
    assert (info["clip_skip"], info["sd_model_name"]) == (2, "sub/other")
    assert newest(painting).ensd == 31337
    job = painting.submit({**SMALL, "checkpoint": "sub/other"}, "another")
    assert [*painting.events(job.id, "another")][-1].state == "done"
    _, info = paint(api)
    assert (info["clip_skip"], info["sd_model_name"]) == (1, "tiny"), "the instance's latest is not the caller's"
    assert api.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"refiner_checkpoint": "other.safetensors", "refiner_switch_at": 0.5},
        {"alwayson_scripts": {"Refiner": {"args": [True, "sub/other", 0.5]}}},
        {"infotext": "a cat\nSteps: 2, Sampler: Euler, Seed: 5, Size: 64x64, Refiner: other [0], Refiner switch at: 0.5"},
    ],
    ids=["fields", "script", "infotext"],
)
def test_a_refiner_is_asked_for_as_there(api: TestClient, painting: App, fields: dict[str, Any]) -> None:
    options = {"refiner_switch_by_sample_steps": True, "hires_fix_refiner_pass": "first pass"}
    if "infotext" in fields:
        fields = {**fields, "infotext": fields["infotext"].replace(" [0]", "")}
    _, info = paint(api, steps=2, override_settings=options, **fields)
    request = newest(painting)
    assert (request.refiner, request.refiner_switch_at, request.refiner_by_steps) == (
        "sub/other",
        0.5,
        "infotext" not in fields,
    )
    assert request.refiner_pass == "second pass", "which pass says nothing where there is one"
    said = parse(info["infotexts"][0])
    assert re.fullmatch(r"sub/other \[[0-9a-f]{10}\]", said["Refiner"])
    assert said["Refiner switch at"] == "0.5"
    again, _ = paint(api, infotext=info["infotexts"][0])
    first, second = (np.asarray(opened(each)) for each in (painting_bytes(painting, 1), again["images"][0]))
    assert np.array_equal(first, second), "the text alone makes the same picture"
    recorded = read_recipe(painting.jobs("local", 2)[1].pictures[0].path).fields
    assert recorded["refiner"] == said["Refiner"], "with the hash, by which it is found under another name"
    assert painting.recipe_refiner(recorded) == ""
    assert painting.complete(recorded) == request.image(0)


def test_a_second_pass_by_another_checkpoint_is_asked_for_as_there(api: TestClient, painting: App) -> None:
    _, info = paint(api, steps=2, enable_hr=True, hr_scale=1.5, hr_checkpoint_name="other.safetensors", hr_second_pass_steps=1)
    request = newest(painting)
    assert request.hires is not None
    assert request.hires.checkpoint == "sub/other"
    said = parse(info["infotexts"][0])
    assert re.fullmatch(r"sub/other \[[0-9a-f]{10}\]", said["Hires checkpoint"])
    assert info["sd_model_name"] == "tiny"
    again, _ = paint(api, infotext=info["infotexts"][0])
    first, second = (np.asarray(opened(each)) for each in (painting_bytes(painting, 1), again["images"][0]))
    assert np.array_equal(first, second), "the text alone makes the same picture"
    recorded = read_recipe(painting.jobs("local", 2)[1].pictures[0].path).fields
    assert recorded["hires"]["checkpoint"] == said["Hires checkpoint"], "with the hash, by which it is found under another name"
    assert painting.recipe_hires(recorded) == ""
    assert painting.complete(recorded) == request.image(0)
    _, info = paint(
        api, infotext=info["infotexts"][0].replace("sub/other", "gone").replace(said["Hires checkpoint"][-11:-1], "0" * 10)
    )
    assert newest(painting).hires == request.hires.model_copy(update={"checkpoint": ""})
    assert any("the hires checkpoint 'gone [0000000000]' is not here" in note for note in info["notes"])


def test_a_second_pass_over_a_picture_that_is_sent_is_the_second_pass_alone(api: TestClient, painting: App) -> None:
    second = {
        "enable_hr": True,
        "hr_scale": 1.5,
        "hr_upscaler": "Lanczos",
        "hr_second_pass_steps": 3,
        "denoising_strength": 0.5,
    }
    first, _ = paint(api, seed=9)
    whole, _ = paint(api, seed=9, **second, hr_prompt="a dog")
    alone, _ = paint(api, seed=9, **second, hr_prompt="a dog", firstpass_image=first["images"][0])
    request = newest(painting)
    assert isinstance(request, Img2Img)
    assert (request.width, request.steps, request.fix_steps, request.prompt, request.hires) == (96, 3, True, "a dog", None)
    one, other = (np.asarray(opened(each["images"][0])).astype(int) for each in (whole, alone))
    assert np.abs(one - other).max() <= 1


def painting_bytes(painting: App, back: int) -> str:
    """The picture of the job before the newest `back` ones."""
    return as_text(painting.jobs("local", back + 1)[back].pictures[0].path.read_bytes())


def test_names_of_refiners_are_resolved_when_a_request_is_accepted(painting: App) -> None:
    fields = {"prompt": "a cat", "checkpoint": "tiny", "refiner_switch_at": 0.5}
    assert painting.complete({**fields, "refiner": "OTHER.safetensors"}).refiner == "sub/other"
    for same in ({"refiner": "tiny"}, {"refiner": "None"}, {"refiner": "other", "refiner_switch_at": 1.0}):
        request = painting.complete({**fields, **same})
        assert (request.refiner, request.refiner_switch_at) == ("", 0.8), "what has no part in a picture is not named"
    with pytest.raises(RequestError, match="refiner: checkpoint 'gone' is not here"):
        painting.complete({**fields, "refiner": "gone"})


def test_a_refiner_of_an_infotext_that_is_not_here_is_left_out_with_a_note(api: TestClient, painting: App) -> None:
    text = "a cat\nSteps: 2, Sampler: Euler, Seed: 5, Size: 64x64, Refiner: gone [0123456789], Refiner switch at: 0.5"
    _, info = paint(api, infotext=text)
    assert newest(painting).refiner == ""
    assert "the refiner 'gone [0123456789]' is not here; the checkpoint goes on alone" in info["notes"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"sampler_name": "Gone"}, 400, "Sampler not found"),
        ({"scheduler": "Gone"}, 422, "schedule 'Gone' is not here"),
        ({"enable_hr": True, "hr_upscaler": "ESRGAN_4x"}, 422, "hr_upscaler: 'ESRGAN_4x' is not here; known are Latent"),
        ({"enable_hr": True, "hr_checkpoint_name": "gone"}, 422, "hr_checkpoint_name: checkpoint 'gone' is not here"),
        ({"enable_hr": True, "firstpass_image": "x"}, 422, "firstpass_image: "),
        (
            {"enable_hr": True, "firstpass_image": as_text(png()), "hr_upscaler": "Nearest"},
            422,
            "hr_upscaler: firstpass_image is enlarged by Lanczos or as a latent, not by 'Nearest'",
        ),
        (
            {"enable_hr": True, "hr_scale": 100},
            422,
            "hires.width: must be 2048 at most without tiled diffusion, 6400 was given",
        ),
        ({"width": 4096}, 422, "width: must be 2048 at most without tiled diffusion, 4096 was given"),
        ({"refiner_checkpoint": "x"}, 422, "refiner_checkpoint: checkpoint 'x' is not here"),
        ({"refiner_checkpoint": "x", "refiner_switch_at": 0.8}, 422, "refiner_checkpoint: checkpoint 'x' is not here"),
        ({"refiner_checkpoint": "sub/other", "refiner_switch_at": 0}, 422, "refiner_switch_at: must be "),
        ({"script_name": "SD upscale"}, 422, "Script 'SD upscale' not found"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, 422, "ADetailer: send an object with ad_model"),
        ({"alwayson_scripts": {"Soft Inpainting": {"args": [True]}}}, 422, "always on script Soft Inpainting not found"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}, 422, "always on script ControlNet not found"),
        ({"alwayson_scripts": {"Refiner": {"args": [True, "x", 0.8]}}}, 422, "refiner_checkpoint: checkpoint 'x' is not here"),
        ({"alwayson_scripts": {"Refiner": {"args": [True, 7]}}}, 422, "is the name of a checkpoint, 7 was given"),
        ({"alwayson_scripts": {"Seed": 7}}, 422, "must be an object with a list of args"),
        ({"override_settings": {"outdir_samples": "/tmp"}}, 403, "belongs to the server"),
        ({"override_settings": {"nonsense": 1}}, 422, "option 'nonsense' is not known here"),
        ({"override_settings": {"sd_model_checkpoint": "gone"}}, 422, "checkpoint 'gone' is not here"),
        ({"steps": 151}, 422, "steps: "),
        ({"steps": "8.7"}, 422, "steps: "),
        ({"seed": 2**64}, 422, "seed: "),
        ({"seed": -(2**63) - 1}, 422, "seed: "),
        ({"subseed": 2**64}, 422, "subseed: "),
        ({"override_settings": {"sd_vae": "../../x"}}, 422, "option sd_vae: must be a text"),
        ({"batch_size": 101}, 422, "batch_size: "),
        ({"n_iter": 101}, 422, "n_iter: "),
        ({"n_iter": 50, "batch_size": 8}, 422, "count"),
        ({"width": 4096}, 422, "width: "),
        ({"prompt": "x" * 32_769}, 422, "prompt: "),
        ({"infotext": "a cat"}, 422, "infotext"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    api: TestClient, painting: App, fields: dict[str, Any], status: int, words: str
) -> None:
    before = len(painting.jobs("local", 200))
    assert words in detail(api.post("/sdapi/v1/txt2img", json={**SMALL, **fields}), status)
    assert len(painting.jobs("local", 200)) == before


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 404, "Init image not found"),
        ({"init_images": []}, 404, "Init image not found"),
        (
            {"init_images": ["http://127.0.0.1:1/x.png"]},
            422,
            "init_images.0: pictures are not fetched from addresses; send base64",
        ),
        ({"init_images": ["file:///etc/passwd"]}, 422, "not fetched from addresses"),
        ({"init_images": ["%%%"]}, 422, "this is not base64"),
        ({"init_images": [""]}, 422, "there is no picture"),
        ({"init_images": ["aGVsbG8="]}, 422, "is not a picture that is read here"),
        ({"init_images": ["A", "B"]}, 422, "2 pictures were given"),
        ({"init_images": [3]}, 422, "init_images.0"),
        ({"mask": "https://example.org/m.png"}, 422, "mask: pictures are not fetched"),
        ({"latent_mask": "x"}, 422, "latent_mask"),
        ({"resize_mode": 4}, 422, "resize_mode"),
        ({"inpainting_fill": 4}, 422, "inpainting_fill"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused(api: TestClient, fields: dict[str, Any], status: int, words: str) -> None:
    given = {} if "init_images" in fields or not fields else {"init_images": [as_text(png())]}
    assert words in detail(api.post("/sdapi/v1/img2img", json={**SMALL, **given, **fields}), status)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"{}", "text/plain", 415, "Content-Type: application/json"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "application/json"),
        (b"[1]", "application/json", 422, "JSON object"),
        (b"{", "application/json", 422, "not valid JSON"),
        (b"\xff\xfe", "application/json", 422, "not valid JSON"),
        (b"[" * 100_000, "application/json", 422, "nested more than 32"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "application/json", 422, "nested more than 32"),
        (b'{"cfg_scale": NaN}', "application/json", 422, "cfg_scale"),
        (b'{"cfg_scale": 1e999}', "application/json", 422, "cfg_scale"),
    ],
)
def test_bodies_that_are_none(api: TestClient, body: bytes, kind: str, status: int, words: str) -> None:
    answer = api.post("/sdapi/v1/txt2img", content=body, headers={"content-type": kind})
    assert words in detail(answer, status)


def test_text_that_no_file_can_carry_is_left_out(api: TestClient) -> None:
    body = b'{"prompt": "a\\ud800 cat\\u0000", "foo": "\\udfff", "steps": 2, "width": 64, "height": 64, "seed": 5}'
    answer = api.post("/sdapi/v1/txt2img", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["parameters"]["prompt"] == "a cat"


def test_every_picture_is_a_file_that_stays(api: TestClient, painting: App) -> None:
    """`save_images` false is about A1111's folders; a job of this server is on disk before it is answered."""
    body, _ = paint(api, seed=99, save_images=False)
    data = base64.b64decode(body["images"][0])
    names = painting.settings.outputs_dir.rglob("*-99.png")
    assert hashlib.sha256(data).digest() in [hashlib.sha256(path.read_bytes()).digest() for path in names]


def test_an_init_image_of_forty_megabytes_is_taken_and_one_beyond_the_limit_is_413(api: TestClient, painting: App) -> None:
    """Bodies with pictures may have 64 MB; base64 makes four characters of three bytes."""
    noise = np.tile(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), (50, 50, 1))
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=0)
    text = base64.b64encode(buffer.getvalue()).decode()
    assert 40_000_000 < len(text) < PICTURES
    body = {**SMALL, "init_images": [text], "steps": 2, "denoising_strength": 0.5}
    answer = api.post("/sdapi/v1/img2img", json=body)
    assert answer.status_code == 200, answer.text[:300]
    assert opened(answer.json()["images"][0]).size == (64, 64)
    source = painting.upload_path(painting.jobs("local", 1)[0].request.source, "local")
    with Image.open(source) as kept:
        assert np.array_equal(np.asarray(kept.convert("RGB")), noise)
    headers = {"content-type": "application/json", "content-length": str(PICTURES + 1)}
    assert api.post("/sdapi/v1/img2img", content=b"{}", headers=headers).status_code == 413


def test_styles_of_the_file_are_applied_in_the_order_of_the_call(api: TestClient, painting: App) -> None:
    """A file as A1111 and spreadsheets leave it: with a byte order mark, a line for None, and quotes within quotes."""
    (painting.settings.data_dir / "styles.csv").write_bytes(
        b'\xef\xbb\xbfname,prompt,negative_prompt\r\nNone,,\r\nInk,"an ""ink"" drawing of {prompt}, bold","grey, flat"\r\n'
        b"Sharp,sharp focus,blurry\r\nOld,only words\r\n"
    )
    listed = {style["name"]: style for style in api.get("/sdapi/v1/prompt-styles").json()}
    assert listed["Ink"] == {"name": "Ink", "prompt": 'an "ink" drawing of {prompt}, bold', "negative_prompt": "grey, flat"}
    asked = {"prompt": "a cat", "negative_prompt": "bad"}
    body, info = paint(api, **asked, styles=["Sharp", "Ink", "None"])
    assert info["all_prompts"] == ['an "ink" drawing of a cat, sharp focus, bold']
    assert info["all_negative_prompts"] == ["bad, blurry, grey, flat"]
    assert body["parameters"]["prompt"] == "a cat"
    _, info = paint(api, **asked, styles=["Ink", "Sharp"])
    assert info["all_prompts"] == ['an "ink" drawing of a cat, bold, sharp focus']
    _, info = paint(api, **asked, styles=["ink"])
    assert info["all_prompts"] == ["a cat"]
    assert "style 'ink' is not here" in info["notes"][0]
    (painting.settings.data_dir / "styles.csv").unlink()  # the app is shared, and other tests name a style that is not here


def test_a_second_pass(api: TestClient, painting: App) -> None:
    body, info = paint(
        api,
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler="Latent (nearest)",
        hr_second_pass_steps=3,
        denoising_strength=0.4,
        hr_sampler_name="Euler a",
        hr_scheduler="Karras",
        hr_prompt="a dog",
        hr_negative_prompt="fog",
        hr_cfg=3.0,
    )
    hires = newest(painting).hires
    assert hires is not None
    assert (hires.width, hires.height, hires.upscaler, hires.steps) == (96, 96, "Latent (nearest)", 3)
    assert (hires.denoising_strength, hires.sampler, hires.schedule, hires.cfg_scale) == (0.4, "Euler a", "Karras", 3.0)
    assert (hires.prompt, hires.negative_prompt) == ("a dog", "fog")
    assert Image.open(io.BytesIO(base64.b64decode(body["images"][0]))).size == (96, 96)
    told = parse(info["infotexts"][0])
    assert (told["Hires upscale"], told["Denoising strength"], told["Size"]) == ("1.5", "0.4", "64x64")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (128, 128, "Latent", 0, 0.75)),
        ({"hr_upscaler": "None", "hr_resize_x": 96, "denoising_strength": 0.2}, (96, 96, "Lanczos", 0, 0.2)),
        ({"hr_resize_x": 100, "hr_resize_y": 77, "hr_sampler_name": "Use same sampler"}, (96, 72, "Latent", 0, 0.75)),
        ({"firstphase_width": 64, "firstphase_height": 64, "width": 80, "height": 96}, (80, 96, "Latent", 0, 0.75)),
    ],
)
def test_what_a_second_pass_is_left_to_say(
    api: TestClient, painting: App, fields: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    paint(api, enable_hr=True, **fields)
    request = newest(painting)
    assert request.hires is not None
    assert (request.width, request.height) == (64, 64)
    hires = request.hires
    assert (hires.width, hires.height, hires.upscaler, hires.steps, hires.denoising_strength) == expected
    assert (hires.sampler, hires.schedule, hires.prompt, hires.cfg_scale) == ("", "", "", None)

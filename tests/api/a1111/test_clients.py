"""What well-known clients call, in their order and with the bodies that they send."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api.a1111.client_calls import CLIENTS, MASK, PAINTED, PICTURE, Call
from tests.api.a1111.conftest import as_text, detail, opened, png

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_what_it_expects(api: TestClient, client: str) -> None:
    before = api.get("/sdapi/v1/options").json()
    painted = as_text(png())
    for call in CLIENTS[client]:
        answer = replayed(api, call, painted)
        if call.status != 200:
            assert call.says in detail(answer, call.status)
            continue
        assert answer.status_code == 200, f"{call.route}: {answer.text[:500]}"
        said = answer.json()
        assert {key: said[key] for key in call.expected} == call.expected, call.route
        if call.pictures:
            painted = checked(call, said)
    api.post("/sdapi/v1/options", json=before)


def replayed(api: TestClient, call: Call, painted: str) -> Any:
    if call.body is None:
        return api.get(call.route)
    stands_for = {PICTURE: as_text(png()), MASK: as_text(png(colour=255, mode="L")), PAINTED: painted}
    text = json.dumps(call.body)
    for sign, picture in stands_for.items():
        text = text.replace(sign, picture)
    return api.post(call.route, content=text, headers={"content-type": "application/json; charset=UTF-8"})


def checked(call: Call, said: dict[str, Any]) -> str:
    """The first of the answer's pictures: clients index it.  Plug-ins pair pictures with seeds and texts by their places."""
    info = json.loads(said["info"])
    first = info["index_of_first_image"]
    assert len(said["images"]) == call.pictures + first, call.route
    assert len(info["all_seeds"]) == call.pictures == len(info["infotexts"]) - first
    assert opened(said["images"][0]).format == "PNG"
    assert {key: info[key] for key in call.info} == call.info, call.route
    notes = info.get("notes", [])
    assert len(notes) == len(call.notes), notes
    assert all(note.startswith(begin) for note, begin in zip(notes, call.notes, strict=True)), notes
    return str(said["images"][first])


def test_the_readme_names_clients_that_are_replayed_and_no_others() -> None:
    [said] = re.findall(r"What speaks A1111's API works here as it is: (.+?)\.\s", README.read_text("utf-8"), re.DOTALL)
    named = {re.sub(r" \(.+\)|`", "", " ".join(name.split())) for name in re.split(r",|\band\b", said)} - {""}
    assert {name.strip() for name in named} == {*CLIENTS, "SillyTavern", "Open WebUI", "webuiapi"}, "the latter have own tests"


def get(api: TestClient, path: str) -> Any:
    answer = api.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return answer.json()


def test_open_webui(api: TestClient) -> None:
    """It asks for options to see that the server answers, and chooses a model by sending all of them back."""
    options = get(api, "/sdapi/v1/options")
    models = [(model["title"], model["model_name"]) for model in get(api, "/sdapi/v1/sd-models")]
    chosen = next(title for title, name in models if name == "sub_other")
    assert api.post("/sdapi/v1/options", json={**options, "sd_model_checkpoint": chosen}).status_code == 200
    body = {
        "prompt": "a cat",
        "batch_size": 2,
        "width": 64,
        "height": 64,
        "steps": 2,
        "cfg_scale": 5.0,
        "sampler_name": "Euler",
    }
    answer = api.post("/sdapi/v1/txt2img", json={**body, "scheduler": "Karras", "negative_prompt": "rain"}).json()
    assert [opened(image).size for image in answer["images"]] == [(64, 64)] * 2
    assert '"sd_model_name": "sub/other"' in answer["info"]
    assert api.post("/sdapi/v1/options", json=options).status_code == 200
    back = get(api, "/sdapi/v1/options")
    assert back["sd_model_checkpoint"] in (options["sd_model_checkpoint"], chosen)
    api.post("/sdapi/v1/options", json={"sd_model_checkpoint": "tiny"})


def test_sillytavern(api: TestClient) -> None:
    for path in ("options", "samplers", "schedulers", "sd-models", "upscalers", "latent-upscale-modes", "sd-vae", "progress"):
        get(api, f"/sdapi/v1/{path}")
    body = {
        "prompt": "a cat",
        "negative_prompt": "",
        "sampler_name": "Euler a",
        "scheduler": "Automatic",
        "steps": 2,
        "cfg_scale": 7,
        "width": 64,
        "height": 64,
        "restore_faces": False,
        "enable_hr": False,
        "hr_upscaler": "Latent",
        "hr_scale": 2,
        "hr_additional_modules": [],
        "denoising_strength": 0.7,
        "hr_second_pass_steps": 0,
        "seed": 5,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
        "override_settings_restore_afterwards": True,
        "clip_skip": 1,
        "save_images": True,
        "send_images": True,
        "do_not_save_grid": False,
        "do_not_save_samples": False,
    }
    answer = api.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["images"]) == 1
    assert api.post("/sdapi/v1/interrupt", json={}).status_code == 200


def test_plug_ins_of_picture_editors(api: TestClient) -> None:
    """They list everything first, and send selections with a mask, many fields at once and ControlNet units that are off."""
    for path in (
        *("options", "samplers", "sd-models", "upscalers", "hypernetworks", "embeddings", "loras", "extensions", "script-info"),
        *("scripts", "prompt-styles", "cmd-flags", "progress?skip_current_image=true", "memory"),
    ):
        get(api, f"/sdapi/v1/{path}")
    for path in ("version", "model_list", "module_list?alias_names=1", "control_types", "settings"):
        get(api, f"/controlnet/{path}")
    body = {
        "init_images": ["data:image/png;base64," + as_text(png((96, 64)))],
        "mask": "data:image/png;base64," + as_text(png((96, 64), 255, "L")),
        "prompt": "a cat",
        "width": 96,
        "height": 64,
        "steps": "2",
        "cfg_scale": "6.5",
        "seed": "-1",
        "denoising_strength": 0.8,
        "mask_blur": 4,
        "inpainting_fill": 1,
        "inpaint_full_res": 0,
        "inpaint_full_res_padding": 32,
        "inpainting_mask_invert": 0,
        "restore_faces": False,
        "tiling": False,
        "sampler_index": "DPM++ 2M Karras",
        "script_name": None,
        "script_args": [],
        "alwayson_scripts": {"ControlNet": {"args": [{"enabled": False, "model": "None", "module": "none", "weight": 1}]}},
        "batch_count": 1,
        "firstphase_width": 0,
        "use_prompt_shortcut": True,
    }
    answer = api.post("/sdapi/v1/img2img", json=body)
    assert answer.status_code == 200, answer.text
    assert opened(answer.json()["images"][0]).size == (96, 64)

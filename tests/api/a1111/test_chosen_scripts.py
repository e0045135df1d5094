"""`script_name` and `script_args` by HTTP: A1111's arguments by their places, its order of pictures, its words."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.api.a1111 import results
from modules.api.a1111.chosen_scripts import chosen_script
from modules.api.a1111.pictures import file_as_asked
from modules.api.a1111.results import read_results
from modules.app import App
from modules.images.infotext import parse
from tests.api.a1111.conftest import SMALL, Visitor

PLOT = "X/Y/Z plot"
AXES = [4, "1-2", [], "CFG Scale", "5, 7", "", 0, "", ""]
"""Steps by its number, the guidance scale by its label, and nothing."""


def call(api: TestClient, script: str, args: list[Any], route: str = "txt2img", **more: Any) -> dict[str, Any]:
    answer = api.post(f"/sdapi/v1/{route}", json={**SMALL, **more, "script_name": script, "script_args": args})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found | {"info": json.loads(found["info"])}


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_plot_is_answered_with_its_grid_and_on_demand_with_its_cells(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(results, "read_results", lambda job: read.append(job.id) or read_results(job))
    found = call(api, PLOT, [*AXES, True, "False", False, False, False, False, False, 4, False])
    assert len(found["images"]) == 1
    assert len(read) == 1, "files of cells were read that are not in the answer"
    grid = picture(found["images"][0])
    assert grid.size[0] > 2 * 64 + 4
    items = parse(str(grid.info["parameters"]))
    assert (items["Script"], items["X Type"], items["X Values"], items["Y Values"]) == (PLOT, "Steps", "1-2", "5, 7")
    assert found["info"]["infotexts"] == [grid.info["parameters"]]

    found = call(api, PLOT.lower(), [*AXES, "False", "True"])
    assert [picture(image).size for image in found["images"]] == [(128, 128), *[(64, 64)] * 4]
    info = found["info"]
    assert info["index_of_first_image"] == 1
    assert [parse(text)["Steps"] for text in info["infotexts"][1:]] == ["1", "2", "1", "2"]
    assert len(info["all_seeds"]) == len(info["all_prompts"]) == 5


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_grid_that_is_too_large_to_be_decoded_is_answered_as_it_was_saved(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9000, 8)).save(buffer, "PNG")
    options = {"samples_format": kind, "jpeg_quality": 80, "webp_lossless": False}
    assert file_as_asked(buffer.getvalue(), options) == buffer.getvalue()


def test_lists_of_values_count_for_axes_with_choices_unless_text_is_asked_for(painting: App) -> None:
    args = ["Sampler", "Euler a", ["Euler", "DDIM"], "Steps", "1", ["2"]]
    chosen = chosen_script(PLOT, args, False, painting.scripts)
    assert (chosen["x_values"], chosen["y_values"]) == (["Euler", "DDIM"], "1")
    chosen = chosen_script(
        PLOT, [*args, "", "", "", True, False, False, False, False, False, False, 2, True], False, painting.scripts
    )
    assert (chosen["x_values"], chosen["margin_size"]) == ("Euler a", 2)
    older = chosen_script(PLOT, [*args, "", "", "", True, False, False, False, 6], False, painting.scripts)
    assert (older["margin_size"], older["vary_seeds_x"]) == (6, False)


def test_a_matrix(api: TestClient) -> None:
    found = call(api, "Prompt matrix", [False, True, "positive", "comma", 0], prompt="a cat|red|old")
    assert len(found["images"]) == 5
    assert found["info"]["all_prompts"][1:] == ["a cat", "a cat, red", "a cat, old", "a cat, red, old"]
    assert found["info"]["all_seeds"][1:] == [5, 6, 7, 8]


def test_prompts_from_a_text(api: TestClient) -> None:
    text = 'a dog\n--prompt "a bird" --steps 1 --seed 9'
    found = call(api, "prompts from file or textbox", [False, False, "none", text])
    assert found["info"]["all_prompts"] == ["a dog", "a bird"]
    assert found["info"]["all_seeds"] == [5, 9]


def test_loopback(api: TestClient) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    found = call(api, "loopback", [2, 0.9, "Linear"], "img2img", init_images=[source], denoising_strength=0.5)
    grid, *loops = found["info"]["infotexts"]
    assert [parse(text)["Denoising strength"] for text in loops] == ["0.5", "0.9"]
    assert parse(grid)["Denoising curve"] == "Linear"
    assert found["info"]["all_seeds"][1:] == [5, 6]


def encoded(size: tuple[int, int], colour: str = "teal") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_sd_upscale_is_answered_with_the_large_picture(api: TestClient) -> None:
    init = {"init_images": [encoded((64, 48))], "denoising_strength": 0.3}
    names = ["None", "Lanczos", "Nearest", "RealESRGAN_x4plus", "Sharp 2x"]
    infos = [one for one in api.get("/sdapi/v1/script-info").json() if one["name"] == "sd upscale"]
    assert [one["choices"] for one in infos[0]["args"] if one["label"] == "Upscaler"] == [names]
    for upscaler, name in ((1, "Lanczos"), ("lanczos", "Lanczos"), (4, "Sharp 2x")):
        found = call(api, "SD upscale", ["", 16, upscaler, 2], "img2img", **init)
        (large,) = (picture(image) for image in found["images"])
        assert large.size == (128, 96)
        items = parse(str(large.info["parameters"]))
        assert (items["SD upscale overlap"], items["SD upscale upscaler"]) == ("16", name)
    refused = api.post(
        "/sdapi/v1/img2img", json={**SMALL, **init, "script_name": "SD upscale", "script_args": ["", 16, "R-ESRGAN 2x+"]}
    )
    assert refused.status_code == 422
    assert "SD upscale: upscaler 'R-ESRGAN 2x+' is not here" in refused.json()["detail"]


def test_outpainting_extends_the_picture_and_keeps_what_was_there(api: TestClient) -> None:
    init = {"init_images": [encoded((64, 48))], "denoising_strength": 0.8}
    found = call(api, "Outpainting mk2", ["", 32, 2, ["left", "down"], 1.5, 0.05], "img2img", **init)
    made = picture(found["images"][0])
    assert made.size == (64 + 32, 48 + 32)
    kept = made.convert("RGB").crop((32 + 32, 0, 96, 16))
    assert kept.getcolors() == [(32 * 16, (0, 128, 128))], "away from the new edge the bytes stay"
    items = parse(found["info"]["infotexts"][0])
    assert (items["Outpaint left"], items["Outpaint down"], items["Mask blur"]) == ("32", "32", "2")
    assert any("Fall-off exponent" in note for note in found["info"]["notes"])
    poor = call(api, "Poor man's outpainting", [32, 2, 3, "right"], "img2img", **init)
    assert picture(poor["images"][0]).size == (96, 48)
    assert parse(poor["info"]["infotexts"][0])["Masked content"] == "latent nothing"
    for args, words in ((["", 32, 2, ["north"]], "a list of left, right, up, down"), (["", 4000], "whole number from 1 to")):
        refused = api.post("/sdapi/v1/img2img", json={**SMALL, **init, "script_name": "outpainting mk2", "script_args": args})
        assert refused.status_code == 422
        assert words in refused.json()["detail"]


def test_tiled_diffusion_by_its_places_and_by_its_names(api: TestClient) -> None:
    by_place = [True, "Mixture of Diffusers", False, True, 1024, 1024, 16, 16, 8, 2]
    by_name = [
        {
            "enabled": True,
            "method": "Mixture of Diffusers",
            "tile_width": 16,
            "tile_height": 16,
            "overlap": 8,
            "tile_batch_size": 2,
        }
    ]
    said = set()
    for args in (by_place, by_name):
        answer = api.post(
            "/sdapi/v1/txt2img", json={**SMALL, "width": 192, "alwayson_scripts": {"Tiled Diffusion": {"args": args}}}
        )
        assert answer.status_code == 200, answer.text
        said.add(parse(json.loads(answer.json()["info"])["infotexts"][0])["Tiled Diffusion"])
    assert said == {
        '{"Method": "Mixture of Diffusers", "Tile tile width": 16, "Tile tile height": 16, '
        '"Tile Overlap": 8, "Tile batch size": 2}'
    }
    over = [*by_place[:2], True, True, 128, 72, *by_place[6:]]
    answer = api.post("/sdapi/v1/txt2img", json={**SMALL, "alwayson_scripts": {"tiled diffusion": {"args": over}}})
    assert picture(answer.json()["images"][0]).size == (128, 72), "it may overwrite the size"
    for args, words in (
        ([True, "DemoFusion"], "there is no method 'DemoFusion'"),
        ([True, "MultiDiffusion", *[0] * 4, 64, 64, 32, 1, "None", 1, True], "noise inversion is not here"),
        ([True, "MultiDiffusion", *[0] * 4, "wide"], "tile_width must be a whole number, 'wide' was given"),
    ):
        answer = api.post("/sdapi/v1/txt2img", json={**SMALL, "alwayson_scripts": {"Tiled Diffusion": {"args": args}}})
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    for off in ([False], [{"enabled": False}], []):
        body = {**SMALL, "width": 192, "alwayson_scripts": {"Tiled Diffusion": {"args": off}}}
        answer = api.post("/sdapi/v1/txt2img", json=body)
        assert "Tiled" not in answer.json()["info"]


@pytest.mark.parametrize(
    ("script", "args", "words"),
    [
        (PLOT, ["Steps", "many"], "X, Steps: 'many' is not a whole number"),
        (PLOT, ["Sampler", "Euler z"], "X, Sampler: sampler 'Euler z' is not here"),
        (PLOT, ["Face restore", "None"], "X: Face restore cannot vary here"),
        (PLOT, [0] * 40, "40 were given, and X/Y/Z plot takes 18"),
        ("Prompt matrix", [], "has no |"),
        ("Prompts from file or textbox", [False, False, "none", "--steps x"], "line 1: --steps"),
        ("Loopback", [], "Script 'Loopback' not found"),
        ("SD upscale", [], "Script 'SD upscale' not found; known here: x/y/z plot"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(api: TestClient, script: str, args: list[Any], words: str) -> None:
    answer = api.post("/sdapi/v1/txt2img", json={**SMALL, "script_name": script, "script_args": args})
    assert answer.status_code == 422
    assert words in answer.json()["detail"]


def test_lists_name_the_scripts_and_their_arguments(api: TestClient) -> None:
    scripts = api.get("/sdapi/v1/scripts").json()
    assert scripts["txt2img"][:3] == ["x/y/z plot", "prompt matrix", "prompts from file or textbox"]
    assert "loopback" in scripts["img2img"]
    assert {"sd upscale", "outpainting mk2", "poor man's outpainting"} <= set(scripts["img2img"])
    assert not {"loopback", "sd upscale", "outpainting mk2"} & set(scripts["txt2img"])
    assert all("tiled diffusion" in names for names in scripts.values())
    infos = {(one["name"], one["is_img2img"]): one for one in api.get("/sdapi/v1/script-info").json()}
    plot = infos["x/y/z plot", False]
    assert plot["is_alwayson"] is False
    assert len(plot["args"]) == 18
    assert plot["args"][0]["choices"][4] == "Steps"
    assert plot["args"][16]["label"] == "Grid margins (px)"
    assert [one["label"] for one in infos["outpainting mk2", True]["args"]][1:3] == ["Pixels to expand", "Mask blur"]
    assert infos["sd upscale", True]["args"][2]["choices"][:3] == ["None", "Lanczos", "Nearest"]
    assert infos["tiled diffusion", False]["args"][6]["value"] == 96


def test_interrupt_ends_the_whole_script(visitor: Visitor, real_app: App) -> None:
    client = visitor()
    script = {"name": "xyz", "x_type": "Steps", "x_values": "1-9"}
    run = real_app.scripts.start(script, SMALL, "local").id
    real_app.scripts.look()
    other = real_app.submit(SMALL, "local").id
    assert client.post("/sdapi/v1/interrupt").json() == {}
    view = real_app.scripts.run(run, "local")
    assert view is not None
    assert view.state == "cancelled"
    assert {cell.state for cell in view.cells} == {"cancelled"}
    assert [job.id for job in real_app.queue("local").jobs] == [other]

"""A client that thousands use, from the outside: the server started as a person starts it, and `webuiapi` from PyPI before it.

Every function of the client that the server claims is called; of the others, that they are refused with the reason.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_checkpoint

webuiapi = pytest.importorskip("webuiapi")

ROOT = Path(__file__).resolve().parents[3]
SMALL: dict[str, Any] = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 5}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """`python webui.py` on a free port, with folders of its own, until the tests are over."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "a-tiny.safetensors")
    (folder / "data").mkdir()
    (folder / "data" / "styles.csv").write_text("name,prompt,negative_prompt\nInk,ink drawing of {prompt},photo\n")
    command = [sys.executable, "-m", "modules.cli", "serve", "--port", "0", "--no-browser"]
    for name, where in (("data", "data"), ("models", "models"), ("outputs", "out")):
        command += [f"--{name}-dir", str(folder / where)]
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ATELIER_DEVICE": "cpu"},
    )
    lines: queue.Queue[str] = queue.Queue()
    assert server.stdout is not None
    reader = threading.Thread(target=lambda: [lines.put(line) for line in server.stdout or ()], daemon=True)
    reader.start()
    try:
        said = []
        while not said or "Atelier is at http://" not in said[-1]:
            said.append(lines.get(timeout=240))
        yield "127.0.0.1", int(said[-1].split("http://127.0.0.1:")[1].split()[0])
    finally:
        server.terminate()
        code = server.wait(timeout=60)
        reader.join(timeout=60)
        server.stdout.close()
    assert code == 0
    assert "Traceback" not in "".join([*said, *lines.queue])


@pytest.fixture(scope="module")
def client(address: tuple[str, int]) -> Iterator[Any]:
    host, port = address
    client = webuiapi.WebUIApi(host=host, port=port, sampler="Euler a", steps=2)
    client.util_set_model("a-tiny")
    yield client
    client.session.close()


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (size, size, 3), dtype=np.uint8))


def test_txt2img(client: Any) -> None:
    result = client.txt2img(**SMALL, n_iter=2, styles=["Ink"], negative_prompt="rain", cfg_scale=4)
    assert [image.size for image in result.images] == [(64, 64), (64, 64)]
    assert result.info["all_seeds"] == [5, 6]
    assert result.info["prompt"] == "ink drawing of a cat"
    assert result.image.info["parameters"] == result.info["infotexts"][0]
    assert (result.parameters["sampler_name"], result.info["sampler_name"]) == ("Euler a", "Euler a")
    again = client.txt2img(**SMALL, n_iter=1, styles=["Ink"], negative_prompt="rain", cfg_scale=4)
    assert np.abs(np.asarray(again.image).astype(int) - np.asarray(result.image)).max() <= 1


def test_img2img_and_inpainting(client: Any) -> None:
    source = noise()
    result = client.img2img(images=[source], denoising_strength=0.4, **SMALL)
    assert result.image.size == (64, 64)
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    result = client.img2img(
        images=[source], mask_image=mask, inpainting_fill=1, inpaint_full_res=False, mask_blur=0, denoising_strength=1, **SMALL
    )
    painted = np.asarray(result.image.convert("RGB"))
    assert np.array_equal(painted[:, 32:], np.asarray(source)[:, 32:])
    assert not np.array_equal(painted[:, :32], np.asarray(source)[:, :32])


def test_an_xyz_plot(client: Any) -> None:
    axes = ["Steps", "1-2", "", "Prompt S/R", "cat, dog", "", "Nothing", "", ""]
    result = client.txt2img(**SMALL, script_name="X/Y/Z Plot", script_args=[*axes, "True", "True", "False", "False"])
    grid, *cells = result.images
    assert grid.width > 128
    assert grid.height > 128
    assert [cell.size for cell in cells] == [(64, 64)] * 4
    assert result.info["all_prompts"][1:] == ["a cat", "a cat", "a dog", "a dog"]
    assert "X Type: Steps" in grid.info["parameters"]


def test_extras(client: Any) -> None:
    result = client.extra_single_image(noise(), upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert result.image.size == (96, 96)
    assert "Lanczos" in result.info
    result = client.extra_batch_images([noise(), noise(32)], upscaler_1="Nearest", upscaling_resize=2)
    assert [image.size for image in result.images] == [(128, 128), (64, 64)]


def test_extras_and_a_second_pass_by_the_upscaler_that_ships(client: Any) -> None:
    fields = {"upscaler_1": "atelier-2x", "upscaler_2": "Lanczos", "extras_upscaler_2_visibility": 0.5, "upscaling_resize": 2}
    result = client.extra_single_image(noise(32), **fields)
    assert result.image.size == (64, 64)
    assert "Postprocess upscaler: atelier-2x, Postprocess upscaler 2: Lanczos" in result.info
    second = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "atelier-2x", "denoising_strength": 0.4}
    painted = client.txt2img(**{**SMALL, **second})
    assert painted.image.size == (96, 96)
    assert "Hires upscaler: atelier-2x" in painted.info["infotexts"][0]


def test_png_info(client: Any) -> None:
    painted = client.txt2img(**SMALL)
    told = client.png_info(painted.image)
    assert told.info == painted.info["infotexts"][0]
    assert told.parameters["Seed"] == "5"


def test_options(client: Any) -> None:
    assert client.util_get_current_model().startswith("a-tiny.safetensors")
    client.set_options({"CLIP_stop_at_last_layers": 2})
    assert client.get_options()["CLIP_stop_at_last_layers"] == 2
    assert client.txt2img(**SMALL).info["clip_skip"] == 2
    client.set_options({"CLIP_stop_at_last_layers": 1})
    assert client.get_cmd_flags()["api"] is True


def test_models_and_lists(client: Any) -> None:
    assert [name.split(".")[0] for name in client.util_get_model_names()] == ["a-tiny", "atelier-starter"]
    assert "DPM++ 2M" in client.util_get_sampler_names()
    assert "karras" in client.util_get_scheduler_names()
    assert [upscaler["name"] for upscaler in client.get_upscalers()] == ["None", "Lanczos", "Nearest", "atelier-2x"]
    assert [style["name"] for style in client.get_prompt_styles()] == ["Ink"]
    assert client.get_scripts()["txt2img"]
    assert client.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert [each["name"] for each in client.get_loras()] == ["atelier-outline"]
    assert client.get_memory()["ram"]
    assert [model["name"] for model in client.get_realesrgan_models()] == ["atelier-2x"]
    assert client.get_latent_upscale_modes()[0]["name"] == "Latent"
    for empty in ("sd_vae", "hypernetworks", "face_restorers"):
        assert getattr(client, f"get_{empty}")() == [], empty
    assert client.refresh_checkpoints() is None
    assert (client.controlnet_version(), client.controlnet_model_list(), client.controlnet_module_list()) == (2, [], [])
    assert not client.has_controlnet


def test_control_while_nothing_runs(client: Any) -> None:
    assert client.get_progress()["progress"] == 0
    assert client.interrupt() == {}
    assert client.skip() is None
    client.util_wait_for_ready(check_interval=0.1)
    assert client.custom_get("sdapi/v1/limits")["steps"] == 150


def test_interrupt_while_something_runs(address: tuple[str, int], client: Any) -> None:
    """A second client, as another window of the same program: local callers without a cookie are one user."""
    other = webuiapi.WebUIApi(host=address[0], port=address[1])
    answers: queue.Queue[Any] = queue.Queue()
    long = {**SMALL, "steps": 150, "n_iter": 50}
    thread = threading.Thread(target=lambda: answers.put(other.txt2img(**long)))
    thread.start()
    while client.get_progress()["state"]["sampling_step"] < 1:
        assert thread.is_alive()
    assert client.get_progress()["progress"] > 0
    client.interrupt()
    thread.join(timeout=120)
    assert len(answers.get(timeout=1).images) < 50
    other.session.close()


def test_what_is_passed_over_is_reported(client: Any) -> None:
    result = client.txt2img(**SMALL, restore_faces=True, tiling=True, styles=["None", "Ink"])
    assert result.image.size == (64, 64)
    assert [note.split(":")[0] for note in result.info["notes"]] == [
        "restore_faces",
        "tiling",
        "style 'None' is not here; it was left out",
    ]


def test_what_is_not_built_is_an_error_with_the_reason(client: Any) -> None:
    unit = webuiapi.ControlNetUnit(image=noise(), model="canny")
    for call, words in (
        (
            lambda: client.txt2img(**SMALL, enable_hr=True, hr_scale=100),
            "hires.width: must be 2048 at most without tiled diffusion",
        ),
        (lambda: client.txt2img(**SMALL, script_name="SD upscale"), "not found"),
        (
            lambda: client.txt2img(**SMALL, controlnet_units=[unit]),
            "not found",
        ),
        (lambda: client.txt2img(**SMALL, sampler_name="Gone"), "Sampler not found"),
        (lambda: client.interrogate(noise()), "no model here that describes"),
        (lambda: client.extra_single_image(noise(), upscaler_1=webuiapi.Upscaler.ESRGAN_4x), "is not here"),
        (lambda: client.img2img(images=[], **SMALL), "Init image not found"),
    ):
        with pytest.raises(RuntimeError, match=words):
            call()

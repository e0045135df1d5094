"""A second pass by another checkpoint, in the engine and by the reference runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.families import FAMILIES
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.second_passes import second_pass_problem
from modules.diffusion.attention import sdpa
from modules.engine.messages import Message
from modules.pipelines.stages import checkpoints_of, stages_of
from modules.pixels.resize import upscale
from modules.request import Hires, parse_request
from tests.engine.conftest import Bench
from tests.engine.test_refiner import evaluated
from tests.sdxl import sdxl_checkpoint
from tests.tiny import tiny_checkpoint

TWICE = {"width": 128, "height": 128, "steps": 2, "denoising_strength": 0.6}
OTHER = {**TWICE, "checkpoint": "other"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    tiny_checkpoint(folder / "other.safetensors", seed=1)
    sdxl_checkpoint(folder / "xl.safetensors")
    return folder


@pytest.fixture
def manager(models: Path, tmp_path: Path) -> ModelManager:
    return ModelManager([models], torch.device("cpu"), torch.float32, sdpa, cache=tmp_path / "hashes.json")


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one - other).max()) <= 1


def test_each_pass_is_evaluated_by_its_own_checkpoint_and_reads_its_own_prompt(bench: Bench) -> None:
    seen = evaluated(bench, steps=3, sampler="Euler", cfg_scale=1.0, hires=OTHER)
    assert [(name, width) for name, _, _, width in seen] == [("tiny", 8)] * 3 + [("other", 16)] * 2
    alone = evaluated(bench, steps=3, sampler="Euler", cfg_scale=1.0, checkpoint="other")
    assert seen[-1][2] == alone[0][2] != seen[0][2], "by the second one's text encoder"


def test_it_is_img2img_with_that_checkpoint_of_the_first_one_s_picture(bench: Bench) -> None:
    hires = {**OTHER, "upscaler": "Lanczos", "steps": 4}
    first = bench.alone(sampler="Euler a").astype(np.uint8)
    init = Image.fromarray(upscale(first, 128, 128, "Lanczos"))
    again = {"steps": 4, "fix_steps": True, "denoising_strength": 0.6, "width": 128, "height": 128}
    expected = bench.alone(sampler="Euler a", source=init, checkpoint="other", **again)
    assert close(bench.alone(sampler="Euler a", hires=hires), expected)


def test_such_pictures_are_the_reference_runner_s_and_say_which_checkpoint_it_was(bench: Bench) -> None:
    requests: dict[str, dict[str, Any]] = {
        "latent": {"hires": OTHER},
        "pixels": {"seed": 2, "hires": {**OTHER, "upscaler": "Nearest"}},
        "other kind": {"seed": 3, "hires": {**TWICE, "checkpoint": "xl", "upscaler": "Lanczos"}},
        "back": {"seed": 4, "checkpoint": "other", "hires": {**TWICE, "checkpoint": "tiny"}},
        "refined": {"seed": 5, "hires": OTHER, "refiner": "tiny", "refiner_switch_at": 0.5, "refiner_pass": "second pass"},
        "same": {"seed": 6, "hires": {**TWICE, "checkpoint": "tiny"}},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    for name, fields in requests.items():
        assert close(bench.pixels(name), bench.alone(**fields)), name
    done = {name: message.data for name, message in bench.of("done").items()}
    digest = bench.manager.load("other").hash.value()[:10]
    assert done["latent"]["extras"]["Hires checkpoint"] == f"other [{digest}]"
    assert done["latent"]["model_name"] == "tiny"
    assert "Hires checkpoint" not in done["same"]["extras"]
    assert not close(bench.pixels("latent"), bench.alone(hires=TWICE))


def test_finishing_in_the_first_pass_is_decoded_by_its_own_checkpoint(bench: Bench) -> None:
    bench.submit("a", steps=6, hires={**TWICE, "checkpoint": "xl", "upscaler": "Lanczos"})
    bench.run(until=lambda: sum(message.kind == "progress" for message in bench.said) == 2)
    bench.engine._handle(Message("finish", {"task": "a"}))
    bench.run()
    assert bench.pixels("a").shape == (64, 64, 3)
    assert "Hires checkpoint" not in bench.of("done")["a"].data["extras"]


def test_latents_do_not_go_from_one_kind_to_another(bench: Bench) -> None:
    bench.submit("a", hires={**TWICE, "checkpoint": "xl"})
    bench.run()
    error = bench.of("failed")["a"].data["error"]
    assert error.startswith("hires.checkpoint: 'xl' (")
    assert "choose an upscaler of pixels such as Lanczos" in error


@pytest.mark.parametrize(
    ("first", "second", "upscaler", "fits"),
    [
        ("sd1", "sd2", "Latent", True),
        ("sd1", "sd1-inpaint", "Latent (bicubic)", True),
        ("sd1", "sdxl", "Latent", False),
        ("sd1", "sdxl", "Lanczos", True),
        ("sd1", "sd1-edit", "Lanczos", False),
    ],
)
def test_which_kinds_can_repaint_which(first: str, second: str, upscaler: str, fits: bool) -> None:
    families = {family.name: family for family in FAMILIES}
    problem = second_pass_problem("a", families[first], "b", families[second], upscaler)
    assert (problem == "") == fits
    assert fits or "choose" in problem


def test_what_a_request_needs_is_known_beforehand_and_records_of_before_stay_as_they_were() -> None:
    request = parse_request({"checkpoint": "tiny", "hires": OTHER, "refiner": "xl", "refiner_switch_at": 0.5})
    assert checkpoints_of(stages_of(request)) == ("tiny", "other", "xl")
    without = parse_request({"checkpoint": "tiny", "hires": TWICE})
    assert checkpoints_of(stages_of(without)) == ("tiny",)
    assert "checkpoint" not in without.model_dump()["hires"]
    assert "checkpoint" not in without.model_dump(mode="json")["hires"]
    assert Hires.model_validate_json(Hires(**OTHER).model_dump_json()) == Hires(**OTHER)

"""The LoRA that comes with the project: small, listed, for the starter that is here, and its style in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from modules.checkpoints.companions import scan_loras
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.pixels import Picture
from modules.training.lora.command import SHIPPED
from modules.training.lora.painting import paint
from modules.training.lora.styles import STYLES
from tests.engine.conftest import Bench

MODELS = Path(__file__).parents[2] / "models"
NAME = f"atelier-{SHIPPED}"
FILE = MODELS / "loras" / f"{NAME}.safetensors"
PROMPTS = ("a red apple", "a blue car")


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> ModelManager:
    cache = tmp_path_factory.mktemp("cache") / "hashes.json"
    return ModelManager([MODELS], torch.device("cpu"), torch.float32, sdpa, cache)


@pytest.fixture(scope="module")
def starter(manager: ModelManager) -> ModelHandle:
    return manager.load("atelier-starter")


def test_it_is_small_and_says_what_it_is() -> None:
    assert FILE.stat().st_size <= 1_000_000
    with safe_open(str(FILE), "pt") as handle:
        said = handle.metadata()
    assert said["ss_base_model_version"] == "sd_v1"
    assert said["ss_output_name"] == NAME
    assert said["ss_sd_model_name"] == "atelier-starter.safetensors"
    assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert said["modelspec.trigger_phrase"] == STYLES[SHIPPED].trigger
    assert f"<lora:{NAME}:1>" in said["modelspec.usage_hint"]
    assert said["modelspec.license"]
    (tags,) = json.loads(said["ss_tag_frequency"]).values()
    assert tags[STYLES[SHIPPED].trigger] == int(said["ss_num_train_images"])


def test_its_card_and_preview_stand_beside_it() -> None:
    card = FILE.with_suffix(".md").read_text(encoding="utf-8")
    for words in ("python -m modules.training lora", f"<lora:{NAME}:1>", "Noto Color Emoji", "Open Font License"):
        assert words in card
    preview = FILE.with_suffix(".preview.png")
    assert preview.stat().st_size <= 60_000
    with Image.open(preview) as image:
        image.load()
        assert image.size == (256, 256)


def test_it_is_listed_and_fits_the_starter_whole(starter: ModelHandle) -> None:
    assert NAME in {info.name for info in scan_loras([MODELS]) if not info.problem}
    read = starter.adapter(NAME)
    assert read.unmatched == ()
    assert set(read.parts) == {"unet"}
    assert len(read.parts["unet"].deltas) > 100


def test_its_pictures_are_ink_on_paper_and_half_of_it_is_between(starter: ModelHandle) -> None:
    parts = starter.adapter(NAME).parts
    plain, half, full = (np.stack(list(paint(starter, PROMPTS, (2, 3), parts, weight, steps=6))) for weight in (0.0, 0.5, 1.0))
    assert colour(full) < colour(plain) / 4
    assert colour(full) < colour(half) < colour(plain)
    grey = full.mean(axis=-1)
    assert (grey > 200).mean() > 0.6, "paper"
    assert 0.02 < (grey < 100).mean() < 0.25, "ink"
    assert ((grey > 200) | (grey < 100)).mean() > 0.8, "and little between"


def colour(pictures: Picture) -> float:
    """The mean difference between a pixel's strongest and weakest channel."""
    return float(np.ptp(pictures.astype(int), axis=-1).mean())


def test_at_weight_0_a_picture_is_the_one_without_it(manager: ModelManager) -> None:
    bench = Bench(manager)
    how = {"checkpoint": "atelier-starter", "steps": 3, "width": 128, "height": 128}
    plain = bench.alone(prompt="a fox", **how)
    assert (bench.alone(prompt=f"a fox<lora:{NAME}:0>", **how) == plain).all()
    assert np.abs(bench.alone(prompt=f"a fox<lora:{NAME}:1>", **how) - plain).max() > 50

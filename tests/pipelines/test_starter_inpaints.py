"""The starter model really inpaints: an object is erased, another one is asked for and got, and the rest does not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import Img2Img, Txt2Img
from modules.settings import ROOT

BASE: dict[str, Any] = {
    "seed": 11, "steps": 8, "width": 256, "height": 256, "checkpoint": "atelier-starter", "cfg_scale": 3.0,
    "sampler": "DPM++ 2M", "schedule": "Karras",
}  # fmt: skip
CAR = (128, 56, 256, 208)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> ModelManager:
    cache = tmp_path_factory.mktemp("cache") / "hashes.json"
    return ModelManager([ROOT / "models"], torch.device("cpu"), torch.float32, sdpa, cache)


@pytest.fixture(scope="module")
def cat_and_car(manager: ModelManager) -> Image.Image:
    painted = run_reference(generate(stages_of(Txt2Img(**BASE, prompt="a cat and a red car"))), manager)
    picture = Image.fromarray(painted.pixels.numpy())
    assert red(np.asarray(picture)[inside()]) > 0.1, "there is a red car to begin with"
    return picture


def inside() -> tuple[slice, slice]:
    return slice(CAR[1], CAR[3]), slice(CAR[0], CAR[2])


def red(pixels: np.ndarray) -> float:
    """The part of the pixels that are red, and neither orange nor yellow."""
    r, g, b = (pixels[..., channel].astype(int) for channel in range(3))
    return float(((r > 120) & (g < r - 120) & (b < r - 60)).mean())


def yellow(pixels: np.ndarray) -> float:
    r, g, b = (pixels[..., channel].astype(int) for channel in range(3))
    return float(((r > 150) & (g > 120) & (b < r - 60)).mean())


def repainted(manager: ModelManager, source: Image.Image, **fields: Any) -> np.ndarray:
    mask = Image.new("L", source.size)
    mask.paste(255, CAR)
    request = Img2Img(**{**BASE, "source": "0" * 64, "mask": "1" * 64, "mask_blur_x": 4, "mask_blur_y": 4, **fields})
    result = run_reference(generate(stages_of(request), {"init": source, "mask": mask}), manager).pixels.numpy()
    kept = np.ones((256, 256), bool)
    kept[CAR[1] - 10 : CAR[3] + 10, CAR[0] - 10 : CAR[2]] = False
    assert (result[kept] == np.asarray(source)[kept]).all(), "the cat is the same cat, byte for byte"
    return result


def test_another_object_is_asked_for_and_got(manager: ModelManager, cat_and_car: Image.Image) -> None:
    result = repainted(manager, cat_and_car, prompt="a cat and a banana", denoising_strength=0.8)[inside()]
    assert red(result) < 0.02
    assert yellow(result) > 0.1


def test_an_object_is_erased(manager: ModelManager, cat_and_car: Image.Image) -> None:
    """No words, the surroundings continued under the mask, and little strength."""
    fields = {"prompt": "", "cfg_scale": 1.0, "masked_content": "blurred", "denoising_strength": 0.4}
    result = repainted(manager, cat_and_car, **fields)[inside()]
    ground = np.median(np.asarray(cat_and_car)[8:40].reshape(-1, 3), axis=0)
    assert red(result) == 0
    assert np.abs(result - ground).mean() < 4, "what is left is the ground"


def test_the_less_strength_the_more_stays(manager: ModelManager, cat_and_car: Image.Image) -> None:
    source = cat_and_car.resize((128, 128))  # what stays does not depend on the size
    small = {**BASE, "steps": 5, "width": 128, "height": 128, "source": "0" * 64, "prompt": "a lemon"}

    def changed(strength: float) -> float:
        request = Img2Img(**{**small, "denoising_strength": strength})
        result = run_reference(generate(stages_of(request), {"init": source}), manager).pixels.numpy()
        return float(np.abs(result.astype(int) - np.asarray(source)).mean())

    none, some, much = changed(0.0), changed(0.3), changed(0.9)
    assert none < 4, "through the autoencoder and back"
    assert none < some < much

"""Pictures of a real device against those of a CPU in float32: each number format, with each way to evaluate the U-Net.

Differences are in levels of 0 to 255.  What a number format costs follows from its mantissa: bfloat16 has 8 bits, float16 and
the TF32 of float32 convolutions on such cards have 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.engine.engine import Engine
from modules.engine.messages import Message, Submit
from modules.engine.setup import build_engine
from modules.errors import SettingsError
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import parse_request
from modules.settings import ROOT
from tests.bench._device.plan import NARROW_TEXT, NARROW_UNET, NARROW_VAE
from tests.tiny import random_state

STARTER = "atelier-starter"
RANDOM = "random"

FORMATS = ("float32", "float16", "bfloat16")
ACCELERATORS = ("none", "graphs")
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M SDE", "UniPC")

LARGEST = {"float32": 1, "float16": 32, "bfloat16": 32}
"""Levels by which any pixel may differ; a CPU's bfloat16 differs by 5 with the starter and by 11 with random weights."""
MEAN = {
    STARTER: {"float32": 0.1, "float16": 1.0, "bfloat16": 1.0},
    RANDOM: {"float32": 0.1, "float16": 3.0, "bfloat16": 4.0},
}
"""Levels by which pixels may differ on average; a CPU's bfloat16 differs by 0.3 and by 1.2.  The autoencoder computes in
bfloat16 beside both short formats."""

BASE = {"prompt": "a fox on a blue background", "seed": 5, "width": 256, "height": 256, "steps": 12, "cfg_scale": 3.0}

Pixels = np.ndarray[Any, np.dtype[np.int64]]


class Device:
    """An engine of this process on the device, driven tick by tick."""

    def __init__(self, models: Path, cache_dir: Path, device: str, dtype: str, accelerator: str) -> None:
        self.said: list[Message] = []
        configuration = {
            "models_dirs": [str(models), str(ROOT / "models")],
            "cache_dir": str(cache_dir),
            "device": device,
            "dtype": dtype,
            "attention": "auto",
            "accelerator": accelerator,
            "exact": False,
        }
        self.engine: Engine = build_engine(configuration, self.said.append)[0]

    def paint(self, requests: Sequence[dict[str, Any]]) -> list[Pixels]:
        """All at once, each of another user."""
        self.said.clear()
        for number, fields in enumerate(requests):
            self.engine._handle(Submit.of(str(number), f"user {number}", fields, {}).message())
        with torch.inference_mode():
            while self.engine.tasks:
                self.engine.tick()
        done = {message.data["task"]: message for message in self.said if message.kind == "done"}
        failed = [message.data for message in self.said if message.kind == "failed"]
        assert not failed, failed
        return [_pixels(done[str(number)]) for number in range(len(requests))]


def _pixels(done: Message) -> Pixels:
    return np.frombuffer(done.blob, np.uint8).reshape(done.data["height"], done.data["width"], 3).astype(np.int64)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, place: str) -> Path:
    """A models folder with random weights in Stable Diffusion 1.x layout: its real width on a GPU."""
    folder = tmp_path_factory.mktemp("models")
    narrow = place == "cpu"
    shape = (NARROW_UNET, NARROW_VAE, NARROW_TEXT) if narrow else (UNetConfig(), VAEConfig(), TextConfig())
    state = random_state(*shape, device=place)
    on_host = {name: (each.half() if each.is_floating_point() else each).cpu() for name, each in state.items()}
    save_file(on_host, folder / f"{RANDOM}.safetensors", {"format": "pt", "atelier.native_size": "128x128"})
    return folder


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where hashes of files are remembered, for all engines."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def expected(models: Path, cache_dir: Path) -> Callable[..., Pixels]:
    """The picture of a request, on a CPU in float32, with the reference runner."""
    folders = [models, ROOT / "models"]
    manager = ModelManager(folders, torch.device("cpu"), torch.float32, sdpa, cache=cache_dir / "hashes.json")

    @cache
    def painted(items: frozenset[tuple[str, Any]]) -> Pixels:
        request = parse_request(dict(items))
        return run_reference(generate(stages_of(request)), manager).pixels.numpy().astype(np.int64)

    return lambda fields: painted(frozenset(fields.items()))


@pytest.fixture(scope="module", params=[(d, a) for d in FORMATS for a in ACCELERATORS], ids="-".join)
def painter(request: pytest.FixtureRequest, models: Path, cache_dir: Path, place: str) -> Iterator[tuple[str, Device]]:
    """A number format and an engine that has it."""
    dtype, accelerator = request.param
    try:
        yield dtype, Device(models, cache_dir, place, dtype, accelerator)
    except SettingsError as error:
        if place != "cpu":
            raise
        pytest.skip(f"not on a CPU: {error}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def of(checkpoint: str, sampler: str, **fields: Any) -> dict[str, Any]:
    return {**BASE, "checkpoint": checkpoint, "sampler": sampler, "schedule": "Automatic", **fields}


def alike(got: Pixels, wanted: Pixels, dtype: str, checkpoint: str = STARTER) -> None:
    difference = np.abs(got - wanted)
    said = f"{dtype}: mean {difference.mean():.3f} levels, largest {difference.max()}"
    print(said)
    assert difference.mean() <= MEAN[checkpoint][dtype], said
    assert difference.max() <= LARGEST[dtype], said


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_starters_pictures_are_those_of_a_cpu(
    painter: tuple[str, Device], expected: Callable[..., Pixels], sampler: str
) -> None:
    dtype, engine = painter
    wanted = of(STARTER, sampler)
    alike(engine.paint([wanted])[0], expected(wanted), dtype)
    alike(engine.paint([wanted])[0], expected(wanted), dtype)  # again, when an accelerator has seen the shape


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M"])
def test_a_random_files_pictures_are_those_of_a_cpu(
    painter: tuple[str, Device], expected: Callable[..., Pixels], sampler: str
) -> None:
    dtype, engine = painter
    wanted = of(RANDOM, sampler, steps=6)
    assert expected(wanted).std() > 8, "a picture that is nothing would be alike everywhere"
    alike(engine.paint([wanted])[0], expected(wanted), dtype, RANDOM)


def test_pictures_that_share_forwards_are_those_painted_alone(painter: tuple[str, Device]) -> None:
    """Users with other samplers, steps, guidance and lengths of prompts."""
    dtype, engine = painter
    requests = [
        of(STARTER, "Euler", prompt="a red apple"),
        of(STARTER, "Heun", prompt="a green tree", steps=5),
        of(STARTER, "DPM++ 2M", prompt="a rocket over a lake at night, " * 12, cfg_scale=5.0),
        of(STARTER, "Euler a", prompt="a house", cfg_scale=1.0),
        of(STARTER, "DPM++ 2M", prompt="a cat", steps=9, seed=9),
    ]
    forwards, rows = engine.engine.runner.forwards, engine.engine.runner.rows
    together = engine.paint(requests)
    rows_each = (engine.engine.runner.rows - rows) / (engine.engine.runner.forwards - forwards)
    assert rows_each > 3, "they shared forwards"
    for request, shared in zip(requests, together, strict=True):
        alike(shared, engine.paint([request])[0], dtype)

"""Pictures painted on the device in each number format and by each accelerator, against the processor's in float32."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.manager import ModelManager
from modules.diffusion.accelerators import AcceleratorChoice, eager
from modules.diffusion.attention import sliced
from modules.diffusion.attention.backends import first_line
from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.engine.check.findings import Bench, Result, name_of
from modules.engine.setup import choose_accelerator
from modules.errors import SettingsError, UnknownName
from modules.pipelines.generate import generate
from modules.pipelines.ops import Report
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import parse_request

STARTER = "atelier-starter"
NARROW = "narrow"

BOUNDS = {torch.float32: (6, 0.1), torch.float16: (32, 1.0), torch.bfloat16: (80, 3.0)}
"""The largest and the mean difference of a picture's values, of 255, that a number format may make in a few steps.  Kernels of
another device round otherwise, and the largest is one value at an edge: what is wrong shows in the mean."""

ACCELERATORS = ("none", "auto", "graphs")
"""Those that are checked beside the chosen one; compiling takes longer than a check may."""

EMULATED = 4.0
"""A processor that takes this many times as long for a matrix product in bfloat16 as in float32 does not compute it itself."""

Picture = np.ndarray[Any, np.dtype[np.int64]]


def starter(bench: Bench) -> Iterator[Result]:
    """The model that comes with the program, at its own size unless the bench has another."""
    yield from _painted(bench, STARTER, bench.models_dirs, bench.side)


def narrow(bench: Bench) -> Iterator[Result]:
    """A model of SD 1.x's form with random weights: four levels, eight heads, only narrow."""
    random_checkpoint(bench.folder / f"{NARROW}.safetensors")
    yield from _painted(bench, NARROW, [bench.folder], 64)


def _painted(bench: Bench, name: str, folders: Sequence[Path], side: int) -> Iterator[Result]:
    plain = _Painter(bench, name, folders, side, torch.device("cpu"), torch.float32)
    try:
        expected, seconds = plain.paint()
    except UnknownName:
        yield Result(name, "is not in the models folders and was not painted", "note")
        return
    yield Result(name, f"painted by the processor in float32, {seconds:.2f} s a step")
    for dtype in bench.dtypes:
        if bench.device.type == "cpu" and dtype == torch.bfloat16 and _emulated():
            yield Result(f"{name} bfloat16", "left out: this processor does not compute it itself, and is slow at it", "note")
            continue
        for accelerator in accelerators(bench):
            yield _compared(bench, name, folders, side, dtype, accelerator, expected)


def accelerators(bench: Bench) -> list[AcceleratorChoice]:
    """Each once, of those that run on the device."""
    found = {bench.choices.accelerator.name: bench.choices.accelerator}
    for name in ACCELERATORS:
        try:
            choice = choose_accelerator(name, bench.device)
        except SettingsError:
            continue
        found.setdefault(choice.name, choice)
    return sorted(found.values(), key=lambda choice: choice.name != "none")


def _compared(
    bench: Bench,
    name: str,
    folders: Sequence[Path],
    side: int,
    dtype: torch.dtype,
    accelerator: AcceleratorChoice,
    expected: Picture,
) -> Result:
    what = f"{name} {name_of(dtype)}" + (f" {accelerator.name}" if accelerator.name != "none" else "")
    remedy = "--accelerator none" if accelerator.name != "none" else "--dtype float32" if dtype != torch.float32 else ""
    try:
        picture, seconds = _Painter(bench, name, folders, side, bench.device, dtype, accelerator).paint()
    except Exception as error:  # whatever a device's libraries raise is what was to be found out
        return Result(what, f"could not be painted: {first_line(error)}", "missing", remedy)
    largest, mean = int(abs(picture - expected).max()), float(abs(picture - expected).mean())
    most, average = BOUNDS[dtype]
    good = largest <= most and mean <= average
    found = (
        f"{'' if good else 'WRONG: '}differs from the processor's by at most {largest} of 255, {mean:.2g} in the mean "
        f"(bounds {most}, {average:g}); {seconds:.3f} s a step"
    )
    return Result(what, found, "good" if good else "missing", "" if good else remedy, mean, average)


class _Painter:
    """Paints one picture on one device.  Without an accelerator given it is the reference: nothing but the plain formulas."""

    def __init__(
        self,
        bench: Bench,
        name: str,
        folders: Sequence[Path],
        side: int,
        device: torch.device,
        dtype: torch.dtype,
        accelerator: AcceleratorChoice | None = None,
    ) -> None:
        self._bench, self._name, self._side = bench, name, side
        self._manager = ModelManager(
            folders,
            device,
            dtype,
            attend=bench.choices.attention.attend if accelerator else sliced,
            cache=bench.folder / "hashes.json",
            accelerate=accelerator.accelerate if accelerator else eager,
        )

    def paint(self) -> tuple[Picture, float]:
        """The picture's values (side, side, 3), and the seconds of a step: the median without the first, which warms up."""
        request = parse_request(
            {
                "prompt": "a red apple",
                "negative_prompt": "a blue background",
                "seed": 5,
                "checkpoint": self._name,
                "width": self._side,
                "height": self._side,
                "steps": self._bench.steps,
                "cfg_scale": 3.0,
                "sampler": "DPM++ 2M",
                "schedule": "Karras",
            }
        )
        times: list[float] = []

        def on_report(report: Report) -> None:
            self._bench.settle()
            times.append(time.perf_counter())

        painted = run_reference(generate(stages_of(request)), self._manager, on_report)
        steps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return painted.pixels.numpy().astype(np.int64), statistics.median(steps[1:] or steps)


def _emulated() -> bool:
    def seconds(dtype: torch.dtype) -> float:
        matrix = torch.ones(256, 256, dtype=dtype)
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            matrix @ matrix
            taken.append(time.perf_counter() - started)
        return min(taken)

    return seconds(torch.bfloat16) > EMULATED * seconds(torch.float32)


def random_checkpoint(path: Path) -> None:
    """Write a checkpoint in SD 1.x's form; its weights are such that signals keep their size from layer to layer."""
    text = TextEncoder(TextConfig(width=64, layers=1, heads=2, hidden=128))
    networks: dict[str, nn.Module] = {
        keys.UNET: UNet(UNetConfig(channels=(32, 64, 128, 128), res_blocks=1, context_dim=64)),
        keys.VAE: AutoencoderKL(VAEConfig(channels=(32, 32, 64, 64), res_blocks=1)),
        keys.TEXT + "text_model.": text.network,
    }
    generator = torch.Generator().manual_seed(0)
    state = {
        prefix + name: _drawn(name, tensor.shape, generator)
        for prefix, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    save_file(state, path)


def _drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        return values * 0.1 + (1.0 if name.endswith("weight") else 0.0)  # the only vectors called weight are norms
    return values * (0.5 if "embedding.weight" in name else (shape.numel() / shape[0]) ** -0.5)

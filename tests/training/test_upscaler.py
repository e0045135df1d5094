"""The upscaler that ships is closer than Lanczos to drawings that it never saw; and its trainer, in a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from modules.checkpoints.header import read_header
from modules.checkpoints.upscalers import layout_of
from modules.diffusion.upscaler_config import CompactConfig
from modules.diffusion.upscalers import Compact
from modules.training.__main__ import parser
from modules.training.upscaler import command
from modules.training.upscaler.degrading import degraded, smaller
from modules.training.upscaler.drawings import drawing

SHIPPED = Path(__file__).parents[2] / command.MODEL


def test_the_upscaler_that_ships_beats_lanczos_on_drawings_that_it_never_saw() -> None:
    config = layout_of(read_header(SHIPPED)).config
    assert isinstance(config, CompactConfig)
    network = Compact(config)
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(SHIPPED).items()})
    gains = command.gain(network, 8)
    assert gains["clean"] > 0.5, "dB"
    assert gains["spoilt"] > 0.1, "dB"


def test_drawings_are_the_same_each_time_and_differ_by_their_seed() -> None:
    first = drawing(5, 48)
    assert first.shape == (48, 48, 3)
    assert np.array_equal(first, drawing(5, 48))
    assert not np.array_equal(first, drawing(6, 48))
    assert smaller(first, 2).shape == (24, 24, 3)
    assert np.abs(smaller(first, 2)[0, 0] - first[:2, :2].mean(axis=(0, 1))).max() <= 1, "averages, rounded in each direction"
    spoilt = [degraded(first, 2, np.random.default_rng(3), always=True) for _ in range(2)]
    assert np.array_equal(spoilt[0], spoilt[1])
    assert not np.array_equal(spoilt[0], smaller(first, 2))


def test_pieces_and_judgement_fit_scales_that_do_not_divide_the_drawings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """128 pixels and pieces of 64 are no multiples of 3."""
    threads, seen = torch.get_num_threads(), []

    def one_step(network: Compact, batches: Iterator[tuple[Tensor, Tensor]], seconds: float, rate: float) -> int:
        small, large = next(batches)
        seen.append((network(small).shape, large.shape))
        return 1

    gains = command.gain
    monkeypatch.setattr(command, "gain", lambda network, count: gains(network, 1))
    monkeypatch.setattr(command, "train", one_step)
    small = ["--features", "8", "--convs", "1", "--drawings", "2", "--batch", "2", "--scale", "3", "--threads", str(threads)]
    command.run(parser().parse_args(["upscaler", *small, "--out", str(tmp_path / "a.safetensors")]))
    assert seen == [((2, 3, 63, 63), (2, 3, 63, 63))]
    assert layout_of(read_header(tmp_path / "a.safetensors")).config == CompactConfig(8, 1, 3)


def test_training_makes_a_file_that_is_known_and_goes_on_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a fixed number of steps: the loss falls below that of the nearest neighbours, with which it begins."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(command, "gain", lambda network, count: {"clean": 1.0, "spoilt": 0.5})
    monkeypatch.setattr(command, "train", few_steps)
    small = ["--features", "8", "--convs", "1", "--drawings", "2", "--batch", "2", "--edge", "32", "--threads", str(threads)]
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for arguments in (["--out", str(first)], ["--out", str(second), "--resume", str(first)]):
        command.run(parser().parse_args(["upscaler", *small, *arguments]))
    header = read_header(second)
    assert layout_of(header).config == CompactConfig(8, 1, 2)
    assert header.metadata["modelspec.license"] == "Apache-2.0"
    assert "+1.00 dB over Lanczos" in header.metadata["modelspec.description"]
    assert SEEN[1][0] < SEEN[0][0], "the second run began where the first one ended"
    assert SEEN[0][1] < SEEN[0][0]


SEEN: list[tuple[float, float]] = []
"""The loss of one batch before and after each run."""


def few_steps(network: Compact, batches: object, seconds: float, rate: float) -> int:
    given = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    wanted = torch.nn.functional.interpolate(given, scale_factor=2.0, mode="bicubic")

    def loss() -> float:
        return float((network(given) - wanted).detach().abs().mean())

    begun = loss()
    command_train(network, iter([(given, wanted)] * 12), seconds=1e9, rate=5e-3)
    SEEN.append((begun, loss()))
    return 12


def command_train(network: Compact, batches: object, seconds: float, rate: float) -> None:
    try:
        _TRAIN(network, batches, seconds, rate)  # type: ignore[arg-type]
    except StopIteration:
        return  # the batches are used up


_TRAIN = command.train

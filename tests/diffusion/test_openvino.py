"""OpenVINO's forwards: their cache on disk and their failures with a fake of its interface, parity where it is installed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.diffusion.openvino_unet import (
    PART_SECONDS,
    ConvertedNetworks,
    Converter,
    OpenVINO,
    Run,
    openvino_missing,
)
from modules.diffusion.takeover import TOLERANCE, example
from modules.diffusion.unet import UNet
from tests.tiny import TINY_UNET, randomised

pytestmark = [  # OpenVINO's front end reads traced graphs
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

CONFIGS = {"sd": TINY_UNET, "sdxl": replace(TINY_UNET, vector_width=48)}


class FakeOpenVINO:
    """Runs the traced graph itself, which its "files" name; `said` says what was done."""

    version = "2026.0"

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.models: dict[str, Any] = {}

    def convert(self, traced: Any, shapes: list[list[int]]) -> Any:
        self.said.append(("convert", shapes))
        return traced

    def save(self, model: Any, path: Path, half: bool) -> None:
        self.said.append(("save", half))
        name = str(len(self.models))
        self.models[name] = model
        path.write_text(name)
        path.with_suffix(".bin").write_bytes(b"0" * 100)

    def compile(self, path: Path, bfloat16: bool, threads: int) -> Run:
        self.said.append(("compile", bfloat16))
        if path.read_text() not in self.models:
            raise RuntimeError("Unable to read the model")
        model = self.models[path.read_text()]

        def run(inputs: list[Tensor]) -> Tensor:
            assert {tensor.dtype for tensor in inputs} == {torch.float32}
            return model(*inputs)

        return run

    @property
    def done(self) -> list[str]:
        return [what for what, _ in self.said]


def network(config: str = "sd", dtype: torch.dtype = torch.float32, source: str = "a file") -> UNet:
    unet = randomised(UNet(CONFIGS[config])).to(dtype).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    assert isinstance(unet, UNet)
    unet.source = source
    return unet


def inputs_of(unet: UNet, rows: int, height: int, width: int, tokens: int) -> tuple[Tensor, ...]:
    config, dtype = unet.config, next(unet.parameters()).dtype
    vector = (torch.randn(rows, config.vector_width).to(dtype),) if config.vector_width else ()
    x, context = torch.randn(rows, 4, height, width), torch.randn(rows, tokens, config.context_dim)
    return (x.to(dtype), torch.linspace(1, 999, rows), context.to(dtype), *vector)


def difference(unet: UNet, forward: Any, inputs: tuple[Tensor, ...]) -> float:
    x, timesteps, context, *vector = inputs
    with torch.inference_mode():
        answers = [each(x, timesteps, context, None, *vector) for each in (unet, forward)]
    expected, found = answers
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    return float((found - expected).float().norm() / expected.float().norm())


Convert = Callable[[UNet], Any]


@pytest.fixture
def fake() -> FakeOpenVINO:
    return FakeOpenVINO()


@pytest.fixture
def convert(fake: FakeOpenVINO, tmp_path: Path) -> Convert:
    return lambda unet: Converter(lambda: fake, ConvertedNetworks(tmp_path))(unet, example(unet))


SIZES = [(2, 16, 24, 77), (1, 9, 7, 154), (5, 8, 8, 77)]
"""Rows, latent rows and columns, tokens: none that the network was traced with, and odd ones."""


@pytest.mark.parametrize("config", CONFIGS)
def test_one_conversion_serves_all_rows_sizes_and_prompts(config: str, convert: Convert, fake: FakeOpenVINO) -> None:
    unet = network(config)
    forward = convert(unet)
    assert all(difference(unet, forward, inputs_of(unet, *size)) < 1e-5 for size in SIZES)
    assert fake.done == ["convert", "save", "compile"]
    vector = [[-1, 48]] if config == "sdxl" else []
    assert fake.said[0][1] == [[-1, 4, -1, -1], [-1], [-1, -1, 32], *vector]


def test_bfloat16_converts_weights_in_float32_and_stores_half(convert: Convert, fake: FakeOpenVINO) -> None:
    unet = network(dtype=torch.bfloat16)
    assert difference(unet, convert(unet), inputs_of(unet, *SIZES[0])) < TOLERANCE[torch.bfloat16]
    assert fake.said[1:] == [("save", True), ("compile", True)]
    assert {p.dtype for p in unet.parameters()} == {torch.bfloat16}, "the network itself is left as it was"


def test_a_converted_network_is_found_again_for_the_same_weights_and_versions(convert: Convert, fake: FakeOpenVINO) -> None:
    convert(network())
    fake.said.clear()
    unet = network()
    assert difference(unet, convert(unet), inputs_of(unet, *SIZES[0])) < 1e-5
    assert fake.done == ["compile"]
    fake.version = "2026.1"
    for other in (network(), network(source="another file"), network(dtype=torch.bfloat16)):
        fake.said.clear()
        convert(other)
        assert fake.done == ["convert", "save", "compile"]


def test_weights_of_unknown_source_are_never_taken_for_others(convert: Convert, fake: FakeOpenVINO) -> None:
    for _ in range(2):
        fake.said.clear()
        convert(network(source=""))
        assert fake.done == ["convert", "save", "compile"]


def test_a_converted_network_that_cannot_be_read_is_made_again(convert: Convert, fake: FakeOpenVINO, tmp_path: Path) -> None:
    convert(network())
    next(tmp_path.glob("*/unet.xml")).write_text("half a file")
    fake.said.clear()
    convert(network())
    assert fake.done == ["compile", "convert", "save", "compile"]
    assert next(tmp_path.glob("*/unet.xml")).read_text() in fake.models


def written(path: Path) -> None:
    path.write_bytes(b"0" * 10)
    path.with_suffix(".bin").write_bytes(b"0" * 90)


def test_the_longest_unused_converted_networks_go(tmp_path: Path) -> None:
    networks = ConvertedNetworks(tmp_path, limit=250)
    for number, key in enumerate("ab"):
        networks.add(key, written)
        os.utime(tmp_path / key, (1000 + number, 1000 + number))
    assert networks.find("a")  # used now: b is older
    networks.add("c", written)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "c"]
    ConvertedNetworks(tmp_path, limit=50).add("d", written)
    assert [each.name for each in tmp_path.iterdir()] == ["d"], "the last stays, whatever its size"


def test_what_fails_or_is_interrupted_leaves_no_network_and_no_rubbish(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"0")
        raise OSError("No space left on device")

    networks = ConvertedNetworks(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        networks.add("a", full)
    assert list(tmp_path.iterdir()) == []
    for name in ("old.1.part", "running.2.part"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "old.1.part", (1000, 1000))
    assert PART_SECONDS > 3600
    networks.add("a", written)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "running.2.part"]


def test_two_processes_that_convert_the_same_network_share_the_first(tmp_path: Path) -> None:
    networks = ConvertedNetworks(tmp_path)

    def beaten(path: Path) -> None:
        written(path)
        (tmp_path / "a").mkdir()
        written(tmp_path / "a" / "unet.xml")

    assert networks.add("a", beaten) == tmp_path / "a" / "unet.xml"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_missing_openvino_and_a_gpu_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert openvino_missing(torch.device("cuda", 0)).endswith("use --device cpu or --accelerator auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert openvino_missing(torch.device("cpu")).startswith("it is not installed; run ")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert openvino_missing(torch.device("cpu")) == ""


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_installed_openvino_answers_as_the_network_does(config: str, dtype: torch.dtype, tmp_path: Path) -> None:
    unet = network(config, dtype)
    for _ in ("converted", "found on disk"):
        forward = Converter(OpenVINO, ConvertedNetworks(tmp_path))(unet, example(unet))
        for size in SIZES:
            assert difference(unet, forward, inputs_of(unet, *size)) < TOLERANCE[dtype] / 1.5
    assert len(list(tmp_path.iterdir())) == 1

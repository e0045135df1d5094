"""Layers that keep a file's blocks of quantised numbers: to the bit what those compute whose weights were brought to the
computing format when they were loaded, wherever the blocks lie; and the bytes that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.sources import open_source
from modules.checkpoints.weights import Filler, Weights
from modules.diffusion import placement
from modules.diffusion.adapters import Adapter, Delta, Dense, LowRank
from modules.diffusion.block_formats import BLOCK_FORMATS, bytes_of
from modules.diffusion.blocks import blocks_of, resting_weight
from modules.diffusion.deltas import Decomposed, Full, Parted, Scaled
from modules.diffusion.forward import Linear, Stack, context_for
from modules.diffusion.placement import Placement
from modules.diffusion.quantised import QuantisedLinear
from tests import joint
from tests.gguf_files import NUMBERS, write_gguf

CPU = torch.device("cpu")
WIDE = replace(joint.FLUX, width=256, heads=8, doubles=1, singles=1)
"""Rows of whole blocks of 256."""


@pytest.fixture(autouse=True)
def no_block_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SMALL", 1)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    state = joint.state_of(joint.transformer(WIDE), "", 1)
    return {name: tensor.numpy() for name, tensor in state.items()}


@pytest.fixture
def file(arrays: dict[str, np.ndarray], tmp_path: Path) -> Callable[[str], Path]:
    def written(form: str) -> Path:
        block = BLOCK_FORMATS[form].numbers
        forms = {name: form if each.ndim == 2 and each.shape[1] % block == 0 else "F16" for name, each in arrays.items()}
        return write_gguf(tmp_path / f"{form}.gguf", {name: (each, forms[name]) for name, each in arrays.items()}, drawn=True)

    return written


@contextmanager
def loaded(path: Path, dtype: torch.dtype = torch.float32) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The network with weights in the computing format, and with the file's blocks."""
    with open_source(path) as source:
        networks = []
        for keeps_blocks in (False, True):
            network = joint.transformer(WIDE)
            fill = Filler(Weights(source.files, source.header), CPU, path.name, keeps_blocks)
            fill(network, keys.layout(source.header.tensors).unet, dtype, "transformer")
            networks.append(network)
        yield networks[0], networks[1]


@torch.inference_mode()
def answer(network: nn.Module, adapter: Adapter | None = None) -> Tensor:
    dtype = network.get_parameter("img_in.bias").dtype
    generator = torch.Generator().manual_seed(5)
    x, context = (torch.randn(shape, generator=generator).to(dtype) for shape in ((2, 16, 8, 8), (2, 6, 112)))
    vector = torch.randn(2, 32 + 256, generator=generator).to(dtype)
    ctx = None if adapter is None else context_for([[(adapter, 0.7)], []], [(), ()], None, CPU)
    out: Tensor = network(x, torch.tensor([900.0, 30.0]), context, vector, None, ctx)
    return out.float()


def adapter_of_every_kind() -> Adapter:
    """Also those that ask for the weight."""
    generator = torch.Generator().manual_seed(6)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / 16

    low = LowRank(drawn(4, 256), drawn(256, 4))
    part = Full(drawn(256, 256))
    deltas: dict[str, Delta] = {
        "double_blocks.0.img_attn.proj": Decomposed(low, 1 + drawn(256, 1).abs(), True),
        "double_blocks.0.txt_attn.proj": Scaled(1 + drawn(256), on_input=True),
        "double_blocks.0.img_attn.qkv": Parted((low, part), ((0, 256), (512, 256))),
        "double_blocks.0.txt_mlp.2": Dense(Scaled(1 + drawn(256))),
        "single_blocks.0.linear1": LowRank(drawn(4, 256), drawn(1792, 4)),
    }
    return Adapter("every kind", deltas)


@pytest.mark.parametrize("form", [form for form in BLOCK_FORMATS if form in NUMBERS])
def test_every_format_computes_what_its_numbers_compute(form: str, file: Callable[[str], Path]) -> None:
    with loaded(file(form)) as (plain, kept):
        held = {name for name, layer in kept.named_modules() if isinstance(layer, QuantisedLinear)}
        assert {"img_in", "double_blocks.0.img_mlp.2", "single_blocks.0.linear2", "final_layer.linear"} - held <= {"img_in"}
        wanted = answer(plain)
        assert wanted.isfinite().all()
        assert float(wanted.std()) > 0
        assert torch.equal(answer(kept), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_streaming_and_coming_back_change_nothing(dtype: torch.dtype, file: Callable[[str], Path]) -> None:
    with loaded(file("Q4_K"), dtype) as (plain, kept):
        adapter = adapter_of_every_kind()
        adapter = Adapter(adapter.name, {place: delta.to(dtype) for place, delta in adapter.deltas.items()})
        wanted, changed = answer(plain), answer(plain, adapter)
        assert not torch.equal(wanted, changed)
        placed, whole = Placement(kept, CPU), Placement(plain, CPU)
        assert placed.quantised
        assert not placed.plain, "no graph or compiled form knows such layers"
        assert not placed.store_in_eight_bits(), "they are in fewer bits already"
        for where in (lambda: True, placed.stream, lambda: placed.settle() is None):
            assert where()
            for _ in range(2):
                assert torch.equal(answer(kept), wanted)
                assert torch.equal(answer(kept, adapter), changed)
            if placed.streamed:
                assert placed.streamed_bytes < 0.4 * sum(each.numel() for each in kept_numbers(whole.network)) * dtype.itemsize


def kept_numbers(network: nn.Module) -> list[Tensor]:
    return [each for block in blocks_of(network) for each in block.parameters()]


def test_the_bytes_are_the_file_s(file: Callable[[str], Path]) -> None:
    for form in ("Q8_0", "Q4_0", "Q2_K"):
        with loaded(file(form), torch.bfloat16) as (plain, kept):
            layers = [layer for layer in kept.modules() if isinstance(layer, QuantisedLinear)]
            packed = sum(bytes_of((layer.out_features, layer.in_features), form) for layer in layers)
            numbers = sum(each.numel() for each in plain.parameters())
            wide = numbers - sum(layer.in_features * layer.out_features for layer in layers)
            assert Placement(kept, CPU).size == packed + 2 * wide
            assert Placement(plain, CPU).size == 2 * numbers
            assert wide < 0.1 * numbers


def test_a_weight_is_read_as_it_is_kept_while_it_is_streamed(file: Callable[[str], Path]) -> None:
    """Adapters that replace weights are read on another thread than the one that runs the network."""
    with loaded(file("Q5_1")) as (plain, kept):
        placed = Placement(kept, CPU)
        placed.stream()
        pairs = [(layer, plain.get_submodule(name)) for name, layer in kept.named_modules() if isinstance(layer, Linear)]
        read: list[bool] = []

        def compare(*_: object) -> None:
            read.append(all(torch.equal(resting_weight(layer), resting_weight(twin)) for layer, twin in pairs))

        next(iter(blocks_of(kept))).register_forward_hook(compare)
        answer(kept)
        assert read == [True]
        assert placed.streamed


def test_stacked_layers_that_are_quantised_stay_products_of_their_own() -> None:
    layers = [Linear(32, 4, bias=False) for _ in range(2)]
    stack = Stack(layers)
    for layer in layers:
        QuantisedLinear.take(layer, "Q8_0", torch.float32)
        layer.load_state_dict({"packed": torch.arange(4 * 34, dtype=torch.uint8).view(4, 34) % 60}, assign=True)
    stack.join()
    x = torch.randn(3, 32)
    assert not stack.joined
    assert all(torch.equal(part, layer(x)) for part, layer in zip(stack(x), layers, strict=True))

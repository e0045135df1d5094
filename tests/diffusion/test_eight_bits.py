"""Weights kept in 8 bits: half the bytes, exactly what a network of the rounded weights computes, wherever they lie."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion import eight_bits, placement
from modules.diffusion.blocks import blocks_of, resting_weight
from modules.diffusion.placement import Placement
from modules.diffusion.unet import UNet
from tests.tiny import TINY_UNET, randomised

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_block_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SMALL", 1)


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def unet(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 4, 9, 7, generator=generator), torch.randn(2, 77, 32, generator=generator)
    network = randomised(UNet(TINY_UNET)).to(dtype).requires_grad_(False)
    return network, lambda of: of(x.to(dtype), torch.tensor([900.0, 3.0]), context.to(dtype)).float()


def widened(weight: Tensor) -> Tensor:
    narrow, scale = eight_bits.narrowed(weight)
    out = torch.empty_like(weight)
    eight_bits.widen(narrow, scale, out)
    return out


def rounded(network: nn.Module) -> nn.Module:
    """The plain twin: the same network with the weights of its blocks rounded once and for all."""
    twin = copy.deepcopy(network)
    for block in blocks_of(twin):
        for parameter in block.parameters():
            if eight_bits.suits(parameter):
                parameter.copy_(widened(parameter))
    return twin


@pytest.mark.parametrize("scale", [1e-6, 0.03, 1.0, 400.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_any_magnitude_are_rounded_by_a_sixteenth_at_most(dtype: torch.dtype, scale: float) -> None:
    if dtype == torch.float16 and scale < 1e-4:
        pytest.skip("float16 has no such numbers but subnormal ones")
    weight = (torch.randn(16, 40, 3, 3, generator=torch.Generator().manual_seed(1)) * scale).to(dtype)
    found = widened(weight).float()
    wrong = (found - weight.float()).abs()
    largest = weight.float().abs().amax(dim=(1, 2, 3), keepdim=True)
    subnormal = torch.maximum(largest * 2.0**-18, torch.tensor(2.0**-34))  # half of the format's smallest number
    assert bool((wrong <= torch.maximum(weight.float().abs() / 16, subnormal) * 1.01).all())
    assert float(wrong.norm() / weight.float().norm()) < 0.03


def test_zeros_stay_and_what_was_in_8_bits_before_keeps_its_values() -> None:
    assert not widened(torch.zeros(3, 4)).any()
    every = torch.arange(256, dtype=torch.uint8).view(eight_bits.FORMAT).float()
    stored = every[every.isfinite()].reshape(2, 127)  # the first row positive, the second negative
    assert torch.equal(widened(stored), stored)
    assert torch.equal(widened(stored.half()), stored.half())


def test_what_is_no_number_stays_none() -> None:
    assert not widened(torch.tensor([[1.0, float("nan")], [float("inf"), 1.0]])).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_weights_take_less_and_the_output_is_that_of_rounded_weights(dtype: torch.dtype) -> None:
    network, run = unet(dtype)
    whole, wanted = run(network), run(rounded(network))
    before = sum(p.numel() * p.element_size() for p in network.parameters())
    placed = Placement(network, CPU)
    assert placed.plain
    assert placed.size == before
    assert placed.store_in_eight_bits()
    assert placed.in_eight_bits
    assert not placed.streamed
    assert not placed.store_in_eight_bits(), "they are so already"
    for _ in range(2):
        found = run(network)
        assert float((found - wanted).norm() / wanted.norm()) < (1e-5 if dtype == torch.float32 else 0.02)
    difference = float((found - whole).norm() / whole.norm())
    assert 0 < difference < 0.15, "0.027 a layer, which random weights neither damp nor amplify"
    per_weight = dtype.itemsize
    assert placed.size < before * (1 / per_weight + 0.08), "of two bytes half is left, of four a quarter, and biases and scales"
    assert placed.size >= before / per_weight


def test_in_8_bits_they_are_streamed_too_and_come_back() -> None:
    network, run = unet()
    wanted = run(rounded(network))
    placed = Placement(network, CPU)
    placed.store_in_eight_bits()
    resident = placed.size
    with torch.inference_mode():
        assert placed.stream()
        assert not placed.stream()
        assert placed.streamed_bytes < resident
        for _ in range(2):
            assert torch.allclose(run(network), wanted, atol=1e-4)
        placed.settle()
        assert placed.in_eight_bits
        assert not placed.streamed
        assert torch.allclose(run(network), wanted, atol=1e-4)


def test_only_one_block_is_in_the_computing_format_and_none_behind_a_forward() -> None:
    network, run = unet()
    placed = Placement(network, CPU)
    placed.store_in_eight_bits()
    blocks = [block for block in blocks_of(network) if any(p.dtype == eight_bits.FORMAT for p in block.parameters())]

    def wide() -> int:
        return sum(all(p.dtype == torch.float32 for p in block.parameters()) for block in blocks)

    seen: list[int] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: seen.append(wide()))
    assert len(blocks) > 5
    run(network)
    assert seen == [1] * len(blocks)
    assert wide() == 0
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 5, 8, 8), torch.tensor([1.0]), torch.zeros(1, 77, 32))
    assert wide() == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_weight_is_read_as_it_is_kept_while_other_blocks_run(streamed: bool) -> None:
    """Adapters that replace weights are read on another thread than the one that runs the network."""
    network, run = unet()
    twin = rounded(network)
    placed = Placement(network, CPU)
    placed.store_in_eight_bits()
    if streamed:
        placed.stream()
    read: list[bool] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    wanted = [module.weight for module in twin.modules() if isinstance(module, nn.Linear | nn.Conv2d)]

    def compare(*_: object) -> None:
        read.append(all(torch.equal(resting_weight(layer), want) for layer, want in zip(layers, wanted, strict=True)))

    next(iter(blocks_of(network))).register_forward_hook(compare)
    compare()
    run(network)
    assert read == [True, True]


def test_a_network_and_its_weights_go_without_the_collector(without_collector: None) -> None:
    """Gigabytes on a GPU must not wait for it."""
    for held in ("eight bits", "streamed"):
        network, run = unet()
        placed = Placement(network, CPU)
        assert placed.store_in_eight_bits() if held == "eight bits" else placed.stream()
        run(network)
        kept = weakref.ref(next(iter(blocks_of(network)))), weakref.ref(next(network.parameters()).untyped_storage())
        del network, placed
        assert [reference() for reference in kept] == [None, None], held

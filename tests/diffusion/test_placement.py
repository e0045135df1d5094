"""Streamed weights: the same numbers, whatever runs between the blocks, from two buffers and main memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion import placement
from modules.diffusion.attention import sdpa
from modules.diffusion.blocks import blocks_of
from modules.diffusion.clip import TextConfig
from modules.diffusion.placement import Placement
from modules.diffusion.slicing import SwitchableAttention
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, randomised

CPU = torch.device("cpu")

TOLERANCE = 1e-3
"""Of outputs around 1: kernels that lie otherwise in memory are summed in another order.  A wrong block differs by 1."""


@pytest.fixture(autouse=True)
def no_block_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SMALL", 1)


def unet() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, 4, 9, 7, generator=generator), torch.randn(2, 77, 32, generator=generator)
    return randomised(UNet(TINY_UNET)), lambda network: network(x, torch.tensor([900.0, 3.0]), context)


def text() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    tokens = torch.arange(77)[None] + 300
    return randomised(TextEncoder(TINY_TEXT)), lambda network: network(tokens)[0]


def vae() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    x = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return randomised(AutoencoderKL(TINY_VAE)), lambda network: network.decode(network.encode(x)[0])  # type: ignore[operator]


NETWORKS = pytest.mark.parametrize("make", [unet, text, vae])


@NETWORKS
def test_a_streamed_network_computes_the_same(make: Any) -> None:
    network, run = make()
    network.requires_grad_(False)
    whole = run(network)
    placed = Placement(network, CPU)
    assert placed.stream()
    assert placed.streamed
    assert placed.streamed_bytes > 0
    for _ in range(3):
        assert torch.allclose(run(network), whole, atol=TOLERANCE)
    placed.settle()
    assert not placed.streamed
    assert torch.allclose(run(network), whole, atol=TOLERANCE)


@NETWORKS
def test_it_streams_in_inference_mode_too_as_the_engine_runs_it(make: Any) -> None:
    network, run = make()
    network.requires_grad_(False)
    with torch.inference_mode():
        whole = run(network)
        placed = Placement(network, CPU)
        placed.stream()
        assert torch.allclose(run(network), whole, atol=TOLERANCE)
        placed.settle()
        assert torch.allclose(run(network), whole, atol=TOLERANCE)
    with torch.inference_mode():  # one whose weights were read in inference mode
        network, run = make()
        whole = run(network)
        placed = Placement(network, CPU)
        placed.stream()
        assert torch.allclose(run(network), whole, atol=TOLERANCE)


def test_at_most_two_blocks_are_bound_to_the_device_s_buffers_and_none_behind_a_forward() -> None:
    """Seen from within: while a block runs, its weights are in a buffer, and those of all others in main memory."""
    network, run = unet()
    network.requires_grad_(False)
    placed = Placement(network, CPU)
    placed.stream()
    blocks = list(blocks_of(network))
    home = {block: [p.data_ptr() for p in block.parameters()] for block in blocks}

    def away() -> int:
        return sum([p.data_ptr() for p in block.parameters()] != home[block] for block in blocks)

    elsewhere: list[int] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: elsewhere.append(away()))
    run(network)
    assert set(elsewhere) == {1}
    assert len(elsewhere) == len(blocks)
    assert away() == 0
    stream = placed._held
    assert stream is not None
    assert (
        sum(map(len, stream._buffers))
        == 2 * max(len(block.bytes) for block in stream.blocks)
        < sum(len(block.bytes) for block in stream.blocks)
    )


class Late:
    """Copies as late as a side stream may make them, when they are waited for; what is waiting reads as not a number."""

    def __init__(self) -> None:
        self.pending: dict[int, tuple[Tensor, Tensor]] = {}
        self.read: set[int] = set()

    def copy(self, buffer: int, into: Tensor, source: Tensor) -> None:
        assert buffer not in self.read, "a block may still run on what this overwrites"
        into.fill_(255)  # NaN in every number format
        self.pending[buffer] = into, source

    def wait(self, buffer: int) -> None:
        if buffer in self.pending:
            into, source = self.pending.pop(buffer)
            into.copy_(source)
        self.read.add(buffer)

    def used(self, buffer: int) -> None:
        self.read.discard(buffer)

    def end(self) -> None:
        self.pending.clear()


@NETWORKS
def test_copies_are_waited_for_and_overwrite_nothing_in_use(make: Any) -> None:
    """The order that holds on a GPU, where copies and blocks run on streams of their own."""
    network, run = make()
    network.requires_grad_(False)
    whole = run(network)
    placed = Placement(network, CPU)
    placed.stream()
    assert placed._held is not None
    placed._held._transfers = late = Late()
    for _ in range(3):
        assert torch.allclose(run(network), whole, atol=TOLERANCE)
    assert bool(late.pending) == (len(placed._held.blocks) > 2), "the next forward's first block is on its way"
    assert not late.read


def test_buffers_are_taken_anew_after_they_were_let_go_of() -> None:
    network, run = unet()
    network.requires_grad_(False)
    placed = Placement(network, CPU)
    placed.let_go_of_buffers()
    assert placed.stream()
    first = run(network)
    assert placed._held is not None
    assert placed._held._buffers
    placed.let_go_of_buffers()
    assert not placed._held._buffers
    assert torch.equal(run(network), first)


def test_a_forward_that_fails_in_the_middle_harms_no_later_one() -> None:
    network, run = unet()
    network.requires_grad_(False)
    whole = run(network)
    placed = Placement(network, CPU)
    placed.stream()
    blocks = list(blocks_of(network))
    for failing in (0, len(blocks) // 2, len(blocks) - 1):
        inner = next(module for module in blocks[failing].modules() if not list(module.children()))

        def fail(*_: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        hook = inner.register_forward_pre_hook(fail)
        with pytest.raises(torch.OutOfMemoryError):
            run(network)
        hook.remove()
        assert torch.allclose(run(network), whole, atol=TOLERANCE)


def test_weights_come_back_to_the_device_only_together(monkeypatch: pytest.MonkeyPatch) -> None:
    network, run = unet()
    network.requires_grad_(False)
    whole = run(network)
    placed = Placement(network, CPU)
    placed.stream()
    to, left = Tensor.to, [5]

    def full(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if kwargs.get("copy"):
            left[0] -= 1
            if left[0] < 0:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return to(tensor, *args, **kwargs)

    monkeypatch.setattr(Tensor, "to", full)
    with pytest.raises(torch.OutOfMemoryError):
        placed.settle()
    monkeypatch.undo()
    assert placed.streamed
    assert torch.allclose(run(network), whole, atol=TOLERANCE)


def test_where_main_memory_is_too_small_the_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    network, run = unet()
    network.requires_grad_(False)
    whole, room, left = run(network), placement._room, [3]

    def small(size: int, pinned: bool) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return room(size, pinned)

    monkeypatch.setattr(placement, "_room", small)
    placed = Placement(network, CPU)
    with pytest.raises(RuntimeError, match="allocate"):
        placed.stream()
    assert not placed.streamed
    assert torch.allclose(run(network), whole, atol=TOLERANCE)


def test_weights_that_were_on_the_device_are_let_go() -> None:
    network, _ = unet()
    conv = next(block for block in blocks_of(network) if isinstance(block, nn.Conv2d))
    before = weakref.ref(conv.weight.untyped_storage())
    placed = Placement(network.requires_grad_(False), CPU)
    placed.stream()
    gc.collect()
    assert before() is None
    host = weakref.ref(conv.weight.untyped_storage())
    placed.settle()
    gc.collect()
    assert host() is None


def test_every_weight_of_a_published_network_but_a_few_is_in_a_block() -> None:
    """What is no block stays on the device: it must be little, and the largest block much less than all."""
    with torch.device("meta"):
        networks: list[tuple[nn.Module, float]] = [
            (UNet(UNetConfig()), 0.01),
            (
                UNet(UNetConfig(channels=(320, 640, 1280), transformer_depth=(0, 2, 10), middle_depth=10, context_dim=2048)),
                0.01,
            ),
            (AutoencoderKL(VAEConfig()), 0.3),  # the middle blocks
            (TextEncoder(TextConfig()).network, 0.35),  # the tokens' vectors
        ]
    for network, most in networks:
        sizes = [sum(p.numel() for p in block.parameters()) for block in blocks_of(network)]
        everything = sum(p.numel() for p in network.parameters())
        assert everything - sum(sizes) <= most * everything
        assert 2 * max(sizes) <= 0.25 * everything


def test_a_network_of_small_parts_is_not_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "SMALL", 2**30)
    placed = Placement(unet()[0], CPU)
    assert not placed.stream()
    assert not placed.streamed


def test_attention_goes_back_to_its_back_end_behind_its_slices() -> None:
    calls: list[int] = []

    def counted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(1)
        return sdpa(q, k, v)

    attend = SwitchableAttention(counted)
    q, k, v = torch.randn(3, 2, 50, 4, 8)
    whole = attend(q, k, v)
    with attend.in_slices(2 * 4 * 50 * 4 * 7):
        assert torch.allclose(attend(q, k, v), whole, atol=1e-5)
    assert len(calls) == 1
    with pytest.raises(RuntimeError), attend.in_slices(100):
        raise RuntimeError
    attend(q, k, v)
    assert len(calls) == 2

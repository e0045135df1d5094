"""Compiled U-Nets: one for each shape that repeats, bounded in number, with the network's own answers."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from modules.diffusion import takeover
from modules.diffusion.accelerators import UNetForward
from modules.diffusion.compiled_unet import ByShape, compiled
from modules.diffusion.forward import ForwardContext
from modules.diffusion.takeover import Inputs, Takeover, example
from modules.diffusion.unet import UNet, UNetConfig
from tests.tiny import TINY_UNET, randomised


@pytest.fixture
def unet() -> UNet:
    return randomised(UNet(TINY_UNET)).eval().requires_grad_(False)  # type: ignore[return-value]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that were prepared, each taking over without a check."""
    shapes: list[tuple[int, ...]] = []
    prepare = Takeover.prepare

    def prepared(self: Takeover) -> None:
        shapes.append(tuple(self._inputs[0].shape))
        prepare(self)

    monkeypatch.setattr(Takeover, "prepare", prepared)
    monkeypatch.setattr(takeover, "check", lambda unet, fast, inputs: ("", 2.0))
    return shapes


def twice(unet: UNet, inputs: Inputs) -> UNetForward:
    """A forward that shows that it was used, and takes no other shape than that it was made for."""

    def forward(x: Tensor, timesteps: Tensor, context: Tensor, ctx: object = None, vector: Tensor | None = None) -> Tensor:
        assert (x.shape, context.shape) == (inputs[0].shape, inputs[2].shape)
        return unet(x, timesteps, context, None, vector) * 2

    return forward


def inputs(side: int = 8, rows: int = 2, tokens: int = 77) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    context = torch.randn(rows, tokens, TINY_UNET.context_dim, generator=generator)
    return torch.randn(rows, 4, side, side, generator=generator), torch.full((rows,), 500.0), context


def test_a_shape_is_compiled_when_it_repeats(unet: UNet, prepared: list[tuple[int, ...]]) -> None:
    forward = ByShape(unet, twice, limit=4, repeats=3)
    for _ in range(2):
        for other in (inputs(), inputs(16), inputs(rows=1), inputs(tokens=154)):
            assert torch.equal(forward(*other), unet(*other))
    assert prepared == []
    assert torch.equal(forward(*inputs()), unet(*inputs()) * 2)
    assert torch.equal(forward(*inputs(16)), unet(*inputs(16)) * 2)
    assert torch.equal(forward(*inputs(tokens=154)), unet(*inputs(tokens=154)) * 2)
    assert prepared == [(2, 4, 8, 8), (2, 4, 16, 16), (2, 4, 8, 8)]


def test_a_shape_is_compiled_on_the_calling_thread(unet: UNet) -> None:
    """torch's tracers replace `nn.Module.__call__` for all threads."""
    threads = []

    def prepare(unet: UNet, inputs: Inputs) -> UNetForward:
        threads.append(threading.get_ident())
        return twice(unet, inputs)

    ByShape(unet, prepare, limit=1, repeats=1)(*inputs())
    assert threads == [threading.get_ident()]


def test_rows_with_a_context_are_the_network_s_and_count_for_nothing(unet: UNet, prepared: list[tuple[int, ...]]) -> None:
    forward = ByShape(unet, twice, limit=4, repeats=1)
    assert torch.equal(forward(*inputs(), ForwardContext()), unet(*inputs()))
    assert prepared == []


def test_the_longest_unused_shape_goes_and_is_counted_anew(unet: UNet, prepared: list[tuple[int, ...]]) -> None:
    forward = ByShape(unet, twice, limit=2, repeats=2)
    for side in (8, 8, 16, 16, 8, 24, 24):  # 16 goes, as 8 was used after it
        forward(*inputs(side))
    assert len(forward.takeovers) == 2
    assert torch.equal(forward(*inputs(8)), unet(*inputs(8)) * 2)
    assert torch.equal(forward(*inputs(16)), unet(*inputs(16)))
    assert prepared == [(2, 4, side, side) for side in (8, 16, 24)]


def test_what_fails_to_compile_is_not_tried_again(unet: UNet, prepared: list[tuple[int, ...]]) -> None:
    def failing(unet: UNet, inputs: Inputs) -> UNetForward:
        raise RuntimeError("no kernel")

    forward = ByShape(unet, failing, limit=2, repeats=1)
    for _ in range(5):
        assert torch.equal(forward(*inputs()), unet(*inputs()))
    assert len(prepared) == 1


def test_the_whole_network_is_one_graph_that_answers_as_it_does() -> None:
    """Traced by torch.compile, its graph run as it is: what inductor makes of it takes minutes (`tests.bench cpu`)."""
    unet = randomised(UNet(UNetConfig(channels=(32,), res_blocks=1, transformer_depth=(1,), context_dim=32))).eval()
    unet.requires_grad_(False).to(memory_format=torch.channels_last)
    assert isinstance(unet, UNet)
    with torch.inference_mode():
        x, timesteps, context, _ = traced = example(unet)
        forward = compiled(unet, traced, backend="eager")
        expected = unet(x, timesteps, context)
        assert float((forward(x, timesteps, context) - expected).norm() / expected.norm()) < 1e-6
        other_layout = x.to(memory_format=torch.channels_last)
        with torch.compiler.set_stance("fail_on_recompile"):
            forward(other_layout, timesteps, context)

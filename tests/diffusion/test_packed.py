"""Weights in oneDNN's layouts: the same output, the same state dict, and plain layers where packing brings nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion import packed
from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.deltas import Decomposed
from modules.diffusion.forward import Conv2d, Linear, context_for
from modules.diffusion.packed import PackedConv2d, PackedLinear, pack, unpack
from modules.diffusion.placement import Placement
from modules.diffusion.takeover import example
from modules.diffusion.unet import UNet
from tests.tiny import TINY_UNET, randomised

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@pytest.fixture(autouse=True)
def every_layer_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 0)
    monkeypatch.setattr(packed, "LARGE_MATRIX", 0)


def network() -> UNet:
    unet = randomised(UNet(TINY_UNET)).eval().requires_grad_(False)
    assert isinstance(unet, UNet)
    return unet


def opaque(network: nn.Module) -> list[str]:
    return [name for name, weight in network.named_parameters() if weight.is_mkldnn]


@torch.inference_mode()
def test_a_packed_network_computes_the_same_and_keeps_its_state_dict() -> None:
    unet = network()
    x, timesteps, context, _ = example(unet)
    expected = unet(x, timesteps, context)
    state = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    pack(unet)
    assert not opaque(unet), "weights are packed by their first calls"
    for _ in range(2):
        found = unet(x, timesteps, context)
        assert float((found - expected).norm() / expected.norm()) < 1e-5
    names = opaque(unet)
    assert any(name.endswith("attn1.to_q.weight") for name in names)
    assert any(name.endswith("proj_in.weight") for name in names)
    assert any(name.endswith("in_layers.2.weight") for name in names)
    assert not any("emb" in name for name in names), "those are given vectors"
    assert list(unet.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())
    unpack(unet)
    assert not opaque(unet)
    assert not any(isinstance(layer, PackedConv2d | PackedLinear) for layer in unet.modules())
    assert torch.equal(unet(x, timesteps, context), expected)


@torch.inference_mode()
def test_other_sizes_and_numbers_of_rows_come_out_the_same() -> None:
    unet, twin = network(), network()
    twin.load_state_dict(unet.state_dict())
    pack(unet)
    for rows, height, width in ((2, 8, 8), (1, 6, 10), (5, 16, 8), (2, 8, 8)):
        x = torch.randn(rows, 4, height, width)
        timesteps, context = torch.linspace(900, 1, rows), torch.randn(rows, 77, 32)
        expected = twin(x, timesteps, context)
        assert float((unet(x, timesteps, context) - expected).norm() / expected.norm()) < 1e-5


@torch.inference_mode()
def test_adapters_reach_packed_layers() -> None:
    unet, twin = network(), network()
    twin.load_state_dict(unet.state_dict())
    pack(unet)
    x, timesteps, context, _ = example(unet)
    unet(x, timesteps, context)
    linear, convolution = "middle_block.1.transformer_blocks.0.attn2.to_k", "middle_block.0.in_layers.2"
    low = LowRank(torch.randn(4, 32), torch.randn(64, 4), 0.5)
    assert {linear + ".weight", convolution + ".weight"} <= set(opaque(unet))
    around = Decomposed(
        LowRank(torch.randn(4, 64, 3, 3), torch.randn(64, 4, 1, 1), 0.1), torch.rand(64, 1, 1, 1) + 0.5, by_row=True
    )
    adapter = Adapter("a", {linear: low, convolution: around})
    context_of = context_for([[(adapter, 0.8)], []], [[], []], None, x.device)
    expected, found = twin(x, timesteps, context, context_of), unet(x, timesteps, context, context_of)
    assert float((found - expected).norm() / expected.norm()) < 1e-5
    assert float((found - twin(x, timesteps, context)).norm() / expected.norm()) > 1e-3, "the adapter changes something"


@torch.inference_mode()
def test_a_convolution_that_wants_other_blocks_at_other_sizes_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(packed, "_one_layout", lambda inputs, outputs, dtype: asked.append((inputs, outputs)) or False)
    layer = Conv2d(8, 12, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 8, 5, 5)
    expected = layer(x)
    pack(layer)
    assert torch.equal(layer(x), expected)
    assert (type(layer), layer.weight.is_mkldnn, asked) == (Conv2d, False, [(8, 12)])


def test_layouts_are_compared_by_what_packing_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    for answers in ([True, True], [True, False], [False]):
        left = list(answers)
        monkeypatch.setattr(packed, "_alike", lambda *pair, left=left: left.pop(0))
        assert packed._one_layout.__wrapped__(16, 32, torch.float32) is all(answers)
        assert not left, "each size was compared, up to the first that differs"
    monkeypatch.undo()
    reordered = torch.ops.mkldnn._reorder_convolution_weight
    how = ((1, 1), (1, 1), (1, 1), 1)
    first, other = torch.randn(2, 64, 64, 3, 3)
    assert packed._alike(reordered(first, *how), reordered(first.clone(), *how))
    assert not packed._alike(reordered(first, *how), reordered(other, *how))
    assert not packed._alike(reordered(first, *how), reordered(first[:32].contiguous(), *how))


@pytest.mark.parametrize(
    "layer",
    [
        Conv2d(8, 8, 3, padding=1, stride=2),
        Conv2d(8, 8, 3),
        Conv2d(8, 8, 3, padding=1, groups=2),
        Conv2d(8, 8, 3, padding=1, padding_mode="circular"),
        Conv2d(8, 8, 1, stride=2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Linear(8, 8),
    ],
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    kind = type(layer)
    pack(layer)
    assert type(layer) is kind


def test_small_layers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "LARGE", 8 * 8 * 9 + 1)
    monkeypatch.setattr(packed, "LARGE_MATRIX", 8 * 8 + 1)
    layers = nn.ModuleList([Conv2d(8, 8, 3, padding=1), Conv2d(8, 8, 1), Linear(8, 8)])
    pack(layers)
    assert [type(layer) for layer in layers] == [Conv2d, Conv2d, Linear]
    larger = nn.ModuleList([Conv2d(9, 8, 3, padding=1), Conv2d(9, 8, 1), Linear(9, 8)])
    pack(larger)
    assert [type(layer) for layer in larger] == [PackedConv2d, PackedConv2d, PackedLinear]


@torch.inference_mode()
def test_weights_that_are_to_be_streamed_or_narrowed_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.diffusion.placement.SMALL", 1)
    for move in (Placement.stream, Placement.store_in_eight_bits):
        unet = network()
        x, timesteps, context, _ = example(unet)
        expected: Tensor = unet(x, timesteps, context)
        pack(unet)
        unet(x, timesteps, context)
        placement = Placement(unet, torch.device("cpu"))
        size = placement.size
        assert move(placement)
        assert not opaque(unet)
        found = unet(x, timesteps, context)
        assert float((found - expected).norm() / expected.norm()) < (1e-5 if move is Placement.stream else 0.2)
        assert placement.size <= size

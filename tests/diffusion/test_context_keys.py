"""Keys and values of a prompt: computed once for all steps of a picture, as one product where weights lie together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.diffusion import accelerators
from modules.diffusion.accelerators import eager
from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.forward import ForwardContext, context_for
from modules.diffusion.unet import UNet, UNetConfig
from tests.tiny import TINY_UNET, randomised

KEYS = "middle_block.1.transformer_blocks.0.attn2.to_k"
CONFIGS = {
    "sd": TINY_UNET,
    "deep": replace(TINY_UNET, transformer_depth=(1, 2), cross_only=(True, False)),
    "without a context": replace(TINY_UNET, self_only=True),
}


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def network(config: UNetConfig = TINY_UNET) -> UNet:
    unet = randomised(UNet(config)).eval().requires_grad_(False)
    assert isinstance(unet, UNet)
    return unet


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 32, generator=generator)
    return x, torch.tensor([700.0, 20.0]), context


def counting(unet: UNet, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The contexts of which keys and values are computed."""
    seen: list[Tensor] = []
    before = unet.keys_values

    def keys_values(context: Tensor, ctx: ForwardContext | None = None) -> Any:
        seen.append(context)
        return before(context, ctx)

    monkeypatch.setattr(unet, "keys_values", keys_values)
    return seen


@pytest.mark.parametrize("name", CONFIGS)
def test_the_steps_of_a_picture_share_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = network(CONFIGS[name])
    seen, forward = counting(unet, monkeypatch), eager(unet)
    (x, timesteps, context), (later, _, other) = inputs(), inputs(1)
    for each in (x, later):
        assert torch.equal(forward(each, timesteps, context), unet(each, timesteps, context))
    assert torch.equal(forward(x, timesteps, other), unet(x, timesteps, other))
    assert torch.equal(forward(later, timesteps, context), unet(later, timesteps, context)), "pictures take turns"
    assert [one is context for one in seen] == [True, False]


def test_they_go_with_their_context_and_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    forward: Any = eager(network())
    x, timesteps, context = inputs()
    forward(x, timesteps, context)
    assert len(forward._known) == 1
    del context
    assert not forward._known
    monkeypatch.setattr(accelerators, "MOST", 2)
    contexts = [inputs(seed)[2] for seed in range(3)]
    for context in contexts:
        forward(x, timesteps, context)
    assert list(forward._known) == [id(context) for context in contexts[1:]]
    monkeypatch.setattr(accelerators, "MOST_BYTES", 1)
    forward(x, timesteps, contexts[0])
    assert id(contexts[0]) not in forward._known


@pytest.mark.parametrize("joined", [False, True])
def test_adapters_change_them(joined: bool) -> None:
    unet, plain = network(), network()
    if joined:
        unet.join()
        assert unet.of_context.joined
    x, timesteps, context = inputs()
    forward = eager(unet)
    unchanged = forward(x, timesteps, context)
    torch.testing.assert_close(unchanged, plain(x, timesteps, context), rtol=1e-5, atol=1e-5)
    lora = Adapter("a", {KEYS: LowRank(torch.randn(4, 32), torch.randn(64, 4), 0.5)})
    hyper = Adapter("b", {}, {KEYS: lambda given: given * 0.5})
    for adapter in (lora, hyper):
        for on in ([[(adapter, 0.7)], []], [[(adapter, 1.0)], [(adapter, 0.3)]]):
            ctx = context_for(on, [[], []], None, x.device)
            changed = forward(x, timesteps, context, ctx)
            torch.testing.assert_close(changed, plain(x, timesteps, context, ctx), rtol=1e-5, atol=1e-5)
            assert float((changed - unchanged).abs().max()) > 1e-4, adapter.name
    assert torch.equal(forward(x, timesteps, context), unchanged), "and leave nothing behind"


def test_weights_that_lie_together_make_them_in_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["deep"]
    unet, plain = network(config), network(config)
    unet.join()
    assert all(attention.of_context.joined for attention in unet._to_context), "as where blocks are moved apart"
    x, timesteps, context = inputs()
    shapes: list[tuple[int, ...]] = []
    linear = torch.nn.functional.linear

    def counted(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if given is context:
            shapes.append(tuple(weight.shape))
        return linear(given, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    found = unet(x, timesteps, context)
    assert shapes == [(sum(unet.of_context.widths), 32)]
    shapes.clear()
    expected = plain(x, timesteps, context)
    assert len(shapes) == len(plain.of_context.widths)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

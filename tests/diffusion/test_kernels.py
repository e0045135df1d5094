"""Kernels between convolutions and matrix products: the plain ones against the textbook, Triton's by its interpreter.

That runs only where Triton is installed; `tests/gpu` runs them on a device.  And projections joined into one matrix product.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion.adapters import Adapter, LowRank
from modules.diffusion.forward import Linear, Stack, adaptable_layers, context_for
from modules.diffusion.kernels import PLAIN, PlainKernels, choose_kernels, disagreement
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import randomised

CPU = torch.device("cpu")
CONFIG = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(1, 1), context_dim=16, heads=4, vector_width=24)


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_group_norm_is_the_textbooks() -> None:
    x, shift, bias = draw(2, 64, 5, 7), draw(2, 64, seed=1), draw(64, seed=2)
    norm = nn.GroupNorm(32, 64, eps=1e-6)
    norm.weight.data, norm.bias.data = draw(64, seed=3), draw(64, seed=4)
    groups = (x + (shift + bias)[:, :, None, None]).reshape(2, 32, -1)
    normal = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    expected = normal.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(PLAIN.group_norm(x, norm, False, shift, bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        PLAIN.group_norm(x, norm, True, shift, bias), expected * expected.sigmoid(), rtol=1e-5, atol=1e-5
    )


def test_what_is_added_later_is_in_the_sum_and_not_in_its_norm() -> None:
    x, change, later, norm = draw(2, 9, 32), draw(2, 9, 32, seed=1), draw(32, seed=2), nn.LayerNorm(32)
    total, normal = PLAIN.add_norm(x, change, norm, later)
    assert torch.equal(normal, norm(x + change))
    torch.testing.assert_close(total, x + change + later)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_plain_kernels_agree_with_themselves_in_float64(dtype: torch.dtype) -> None:
    assert disagreement(PLAIN, CPU, dtype) == ""


def test_kernels_that_compute_something_else_are_named() -> None:
    class Wrong(PlainKernels):
        def geglu(self, x: Tensor) -> Tensor:
            return super().geglu(x) * 1.01

    assert disagreement(Wrong(), CPU).startswith("geglu by 1.")


def test_a_cpu_has_the_plain_ones() -> None:
    choice = choose_kernels(CPU)
    assert (choice.name, choice.kernels) == ("plain", PLAIN)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_tritons_agree_by_its_interpreter() -> None:
    script = (
        "import torch; from modules.diffusion.kernels import disagreement; "
        "from modules.diffusion.triton_kernels import TritonKernels; "
        "print('said:', disagreement(TritonKernels(), torch.device('cpu'), torch.float32))"
    )
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "said:", done.stderr


def test_a_joined_network_is_the_same_network() -> None:
    unet = randomised(UNet(CONFIG), seed=5).requires_grad_(False).eval()
    inputs = draw(2, 4, 6, 10), torch.tensor([20.0, 700.0]), draw(2, 77, 16, seed=1), None, draw(2, 24, seed=2)
    layers = {name: layer for name, layer in unet.named_modules() if isinstance(layer, Linear)}
    low_rank = {
        name: LowRank(draw(2, layer.in_features, seed=3), draw(layer.out_features, 2, seed=4), 0.1)
        for name, layer in layers.items()
    }
    ctx = context_for([[(Adapter("a", low_rank), 0.7)], []], [(), ()], None, CPU)
    before, adapted = unet(*inputs), unet(*inputs[:3], ctx, inputs[4])
    state, size = {name: tensor.clone() for name, tensor in unet.state_dict().items()}, _bytes(unet)
    unet.join()
    torch.testing.assert_close(unet(*inputs), before, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(unet(*inputs[:3], ctx, inputs[4]), adapted, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in unet.state_dict().items())
    assert _bytes(unet) == size


def test_layers_whose_weights_were_moved_apart_are_products_of_their_own() -> None:
    stack, x = Stack([Linear(4, 3), Linear(4, 5)]), draw(2, 4)
    stack.join()
    assert stack.joined
    expected = [layer(x) for layer in stack.layers]
    stack.layers[0].weight.data = stack.layers[0].weight.data.clone()
    assert not stack.joined
    for out, own in zip(stack(x), expected, strict=True):
        torch.testing.assert_close(out, own)


def _bytes(network: nn.Module) -> int:
    """Of the memory that the weights lie in."""
    storages = {weight.untyped_storage().data_ptr(): weight.untyped_storage().nbytes() for weight in network.parameters()}
    return sum(storages.values())


class Late(PlainKernels):
    """The plain kernels, with biases added where fused ones add them."""

    late_bias = True


def test_biases_that_are_added_later_make_the_same_networks() -> None:
    plain = randomised(UNet(CONFIG), seed=5).requires_grad_(False).eval()
    late = UNet(CONFIG, kernels=Late()).requires_grad_(False).eval()
    late.load_state_dict(plain.state_dict())
    inputs = draw(2, 4, 6, 10), torch.tensor([20.0, 700.0]), draw(2, 77, 16, seed=1)
    vector = draw(2, 24, seed=2)
    low_rank = {
        name: LowRank(
            draw(2, *layer.weight.shape[1:], seed=3), draw(len(layer.weight), 2, *[1] * (layer.weight.ndim - 2)), 0.02
        )
        for name, layer in adaptable_layers(plain).items()
    }
    ctx = context_for([[(Adapter("a", low_rank), 0.7)], []], [(), ()], None, CPU)
    for asked in (None, ctx):
        torch.testing.assert_close(late(*inputs, asked, vector), plain(*inputs, asked, vector), rtol=1e-4, atol=1e-4)
    config = VAEConfig(channels=(32, 64), res_blocks=1)
    vae, late_vae = randomised(AutoencoderKL(config), seed=6), AutoencoderKL(config, kernels=Late())
    late_vae.load_state_dict(vae.state_dict())
    torch.testing.assert_close(late_vae.decode(draw(1, 4, 5, 7)), vae.decode(draw(1, 4, 5, 7)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(late_vae.encode(draw(1, 3, 10, 14)), vae.encode(draw(1, 3, 10, 14)), rtol=1e-4, atol=1e-4)

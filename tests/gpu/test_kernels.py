"""Triton's kernels on a device, against the plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modules.diffusion.kernels import PLAIN, choose_kernels, disagreement

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda")
SHAPES = [
    *[(2, 320, 64, 64), (3, 960, 31, 17), (2, 2560, 8, 8), (2, 96, 16, 16), (2, 48 * 32, 5, 3)],  # U-Nets'
    *[(1, 512, 1, 1), (1, 512, 128, 130), (1, 256, 300, 1030), (1, 128, 512, 512)],  # autoencoders'
]


@pytest.fixture(autouse=True, scope="module")
def exact_products() -> None:
    """float32 products are float32, not TF32."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def test_they_are_chosen() -> None:
    choice = choose_kernels(CUDA)
    assert choice.name == "triton", choice.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_they_agree(dtype: torch.dtype) -> None:
    assert disagreement(choose_kernels(CUDA).kernels, CUDA, dtype) == ""


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@torch.inference_mode()
def test_group_norm_at_the_networks_shapes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = nn.GroupNorm(32, shape[1]).to(CUDA, dtype)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (torch.randn(shape, device=CUDA) * 3 + 1).to(dtype).contiguous(memory_format=torch.channels_last)
    shift = torch.randn(shape[0], shape[1] * 2, device=CUDA).to(dtype)[:, : shape[1]]
    kernels = choose_kernels(CUDA).kernels
    exact = PLAIN.group_norm(x.double(), _double(norm), True, shift.double())
    ours = kernels.group_norm(x, norm, True, shift)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert float((ours - exact).norm() / exact.norm()) <= 4 * torch.finfo(dtype).eps


def _double(norm: nn.GroupNorm) -> nn.GroupNorm:
    other = nn.GroupNorm(norm.num_groups, norm.num_channels, norm.eps).to(CUDA, torch.float64)
    other.load_state_dict(norm.state_dict())
    return other

"""What no program of the same mathematics gets below: the operations of a network over the rate at which the device multiplies.

Operations are counted by torch on the meta device, where nothing is computed, with attention written out as its two products.
Norms, activations and memory are not in it, so the floor is never reached; it says how much is left at most.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from modules.diffusion.unet import UNet
from modules.diffusion.vae import AutoencoderKL
from tests.bench._device.plan import Plan
from tests.bench._device.turns import timed

TOKENS = 77
MATRIX = {"cuda": 8192, "cpu": 2048}
"""Side of the square matrices whose product gives the rate."""


def _written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as the counter sees it: (B, N, heads, width) as in `diffusion.attention.Attend`."""
    scores = q.transpose(1, 2) @ k.transpose(1, 2).transpose(-1, -2)
    return (scores.softmax(dim=-1) @ v.transpose(1, 2)).transpose(1, 2)


def unet_operations(plan: Plan, rows: int, side: int) -> float:
    """Floating-point operations of one forward; a multiplication and its addition are two."""
    config = plan.unet
    with torch.device("meta"), torch.no_grad():
        network = UNet(config, _written_out)
        latent = torch.empty(rows, config.in_channels, side // 8, side // 8)
        return _counted(lambda: network(latent, torch.empty(rows), torch.empty(rows, TOKENS, config.context_dim)))


def decode_operations(plan: Plan, side: int) -> float:
    config = plan.vae
    with torch.device("meta"), torch.no_grad():
        network = AutoencoderKL(config, _written_out)
        return _counted(lambda: network.decode(torch.empty(1, config.latent_channels, side // 8, side // 8)))


def _counted(call: Any) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def matrix_rate(plan: Plan, dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product in `dtype`, the best of five."""
    side = MATRIX[plan.device.type]
    matrix = torch.randn(side, side, device=plan.device, dtype=dtype)
    matrix @ matrix
    return 2.0 * side**3 / min(timed(lambda: matrix @ matrix, plan) for _ in range(5))

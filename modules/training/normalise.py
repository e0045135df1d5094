"""A GroupNorm that trains fast on a CPU, with the parameters and the result of `nn.GroupNorm`.

torch 2.13's own backward takes half of an autoencoder step when tensors are channels-last (247 of 493 ms measured on two
Zen 5 cores, bfloat16), its forward 16 ms where 1.7 suffice (64 x 96 x 16 x 16). Written as matrix products and one fused
pass, both are about ten times faster.
Only the trainer uses it: inference needs no backward.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class FastGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` whose backward reads channels-last tensors as (batch, positions, channels) matrices."""

    def forward(self, input: Tensor) -> Tensor:
        return cast(Tensor, _GroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps))


def use_fast_norms(network: nn.Module, eps: float | None = None) -> None:
    """Turn every GroupNorm of `network` into a `FastGroupNorm` in place; `eps`, if given, becomes theirs."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = FastGroupNorm
            module.eps = module.eps if eps is None else eps


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        batch, channels = x.shape[:2]
        positions = x.numel() // (batch * channels)
        x = x.contiguous(memory_format=torch.channels_last)
        if x.dtype == torch.bfloat16:
            y, mean, rstd = _normalise(x, weight, bias, groups, eps)
        else:
            y, mean, rstd = torch.ops.aten.native_group_norm(x, weight, bias, batch, channels, positions, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, mean, rstd = ctx.saved_tensors  # type: ignore[attr-defined]
        (dy,) = grads
        batch, channels = x.shape[:2]
        groups = mean.shape[1]
        rows, drows = _rows(x), _rows(dy.to(x.dtype))

        # Sums over positions as matrix products with ones: accumulated in fp32, on all cores.
        ones = rows.new_ones(batch, 1, rows.shape[1])
        scaled = torch.bmm(ones, rows * drows).float().view(batch, groups, -1)
        plain = torch.bmm(ones, drows).float().view(batch, groups, -1)

        # dL/dx = a dy + b x + c, with b and c from the chain through mean and variance of the group.
        mean, rstd = mean.float()[..., None], rstd.float()[..., None]
        gain = weight.float().view(1, groups, -1)
        elements = rows.shape[1] * channels // groups
        sum_scaled, sum_plain = ((t * gain).sum(-1, keepdim=True) for t in (scaled, plain))
        a = gain * rstd
        b = (sum_plain * mean - sum_scaled) * rstd**3 / elements
        c = -b * mean - sum_plain * rstd / elements
        a, b, c = (t.expand(batch, groups, channels // groups).reshape(batch, 1, channels).to(x.dtype) for t in (a, b, c))
        dx = torch.addcmul(torch.addcmul(c, drows, a), rows, b)

        dweight = ((scaled - plain * mean) * rstd).sum(0).view(-1)
        return _picture(dx, x), dweight.to(weight.dtype), plain.sum(0).view(-1).to(weight.dtype), None, None


def _normalise(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The forward pass in bfloat16, ten times faster than torch's: moments as matrix products, then one fused pass."""
    rows = _rows(x)
    batch, positions, channels = rows.shape
    elements = positions * channels // groups
    ones = rows.new_ones(batch, 1, positions)
    mean = torch.bmm(ones, rows).float().view(batch, groups, -1).sum(-1, keepdim=True) / elements
    square = torch.bmm(ones, rows * rows).float().view(batch, groups, -1).sum(-1, keepdim=True) / elements
    rstd = ((square - mean * mean).clamp_min(0) + eps).rsqrt()
    a = weight.float().view(1, groups, -1) * rstd
    c = bias.float().view(1, groups, -1) - a * mean
    a, c = (t.reshape(batch, 1, channels).to(x.dtype) for t in (a, c))
    return _picture(torch.addcmul(c, rows, a), x), mean[..., 0], rstd[..., 0]


def _rows(x: Tensor) -> Tensor:
    """(B, C, H, W) channels-last as (B, H·W, C), without a copy."""
    return x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1, 2)


def _picture(rows: Tensor, like: Tensor) -> Tensor:
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)

"""Fused kernels for CUDA (and ROCm), written in Triton; `kernels.PlainKernels` are their plain twins.

Feature maps are channels-last, as cuDNN's fast convolutions want them: position (h, w) of a picture is one row of C values.
torch's GroupNorm wants the other layout, copies there and back, and adds and SiLU are passes of their own; here a GroupNorm
with what stands around it reads its input twice and writes once, whatever is fused.

This file is imported only where Triton is installed.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,unused-ignore,import-not-found,import-untyped"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 4096
"""Values that one program holds at once, padding included."""

LANES = 64
"""Channels side by side that make reads of a row whole: one program takes as many groups as have that many."""


@triton.jit
def _group_offsets(
    first, place, positions, C: tl.constexpr, CG: tl.constexpr, CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr
):
    """Of ROWS positions from `first` and GROUPS groups from channel `place`: offsets (ROWS, GROUPS, CP), which are there, and
    the channels (GROUPS, CP)."""
    row = first + tl.arange(0, ROWS)
    group = tl.arange(0, GROUPS)
    inside = tl.arange(0, CP)
    channel = place + group[:, None] * CG + inside[None, :]
    there = (row < positions)[:, None, None] & (inside < CG)[None, None, :]
    return row[:, None, None] * C + channel[None, :, :], there, channel


@triton.jit
def _group_statistics(
    x, shift, partial, positions, shift_stride, parts, C: tl.constexpr, CG: tl.constexpr, CP: tl.constexpr,
    GROUPS: tl.constexpr, ROWS: tl.constexpr, SHIFTED: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of x + shift over ROWS positions of GROUPS groups: `partial` (B, C / CG, parts, 2)."""
    part, bundle, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    offsets, there, channel = _group_offsets(part * ROWS, bundle * GROUPS * CG, positions, C, CG, CP, GROUPS, ROWS)
    value = tl.load(x + image.to(tl.int64) * positions * C + offsets, mask=there, other=0.0).to(tl.float32)
    if SHIFTED:
        known = (tl.arange(0, CP) < CG)[None, :] & (channel < C)
        value += tl.load(shift + image * shift_stride + channel, mask=known, other=0.0).to(tl.float32)[None, :, :]
    value = tl.where(there, value, 0.0)
    count = (tl.minimum(positions - part * ROWS, ROWS) * CG).to(tl.float32)
    mean = tl.sum(tl.sum(value, axis=2), axis=0) / count
    apart = tl.where(there, value - mean[None, :, None], 0.0)
    squares = tl.sum(tl.sum(apart * apart, axis=2), axis=0)
    group = bundle * GROUPS + tl.arange(0, GROUPS)
    where = partial + ((image * (C // CG) + group) * parts + part) * 2
    tl.store(where, mean)
    tl.store(where + 1, squares)


@triton.jit
def _group_apply(
    x, y, shift, weight, bias, partial, positions, shift_stride, parts, stat_rows, eps, C: tl.constexpr, CG: tl.constexpr,
    CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, PARTS: tl.constexpr, SHIFTED: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """Normalise ROWS positions of GROUPS groups, whose statistics over `stat_rows` positions each are in `partial`."""
    block, bundle, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    # Parts' means and squares together (Chan et al. 1979)
    group = bundle * GROUPS + tl.arange(0, GROUPS)
    part = tl.arange(0, PARTS)
    where = ((image * (C // CG) + group)[:, None] * parts + part[None, :]) * 2
    some = (part < parts)[None, :] & (group >= 0)[:, None]
    means = tl.load(partial + where, mask=some, other=0.0)
    squares = tl.load(partial + where + 1, mask=some, other=0.0)
    counts = (tl.minimum(tl.maximum(positions - part * stat_rows, 0), stat_rows) * CG).to(tl.float32)[None, :]
    total = (positions * CG).to(tl.float32)
    mean = tl.sum(means * counts, axis=1) / total
    apart = means - mean[:, None]
    variance = tl.sum(squares + apart * apart * counts, axis=1) / total
    scale = 1.0 / tl.sqrt(variance + eps)

    offsets, there, channel = _group_offsets(block * ROWS, bundle * GROUPS * CG, positions, C, CG, CP, GROUPS, ROWS)
    known = (tl.arange(0, CP) < CG)[None, :] & (channel < C)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * scale[:, None]
    added = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    start = image.to(tl.int64) * positions * C
    value = tl.load(x + start + offsets, mask=there, other=0.0).to(tl.float32)
    if SHIFTED:
        value += tl.load(shift + image * shift_stride + channel, mask=known, other=0.0).to(tl.float32)[None, :, :]
    value = (value - mean[None, :, None]) * factor[None, :, :] + added[None, :, :]
    if SILU:
        value = value / (1.0 + tl.exp(-value))
    tl.store(y + start + offsets, value.to(y.dtype.element_ty), mask=there)


@triton.jit
def _add_norm(x, change, total, out, weight, bias, eps, C, WIDTH: tl.constexpr):
    """One token: the sum, and its LayerNorm."""
    start = tl.program_id(0).to(tl.int64) * C
    column = tl.arange(0, WIDTH)
    there = column < C
    value = tl.load(x + start + column, mask=there, other=0.0).to(tl.float32)
    value += tl.load(change + start + column, mask=there, other=0.0).to(tl.float32)
    rounded = value.to(total.dtype.element_ty)
    tl.store(total + start + column, rounded, mask=there)
    value = rounded.to(tl.float32)
    mean = tl.sum(value, axis=0) / C
    apart = tl.where(there, value - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(apart * apart, axis=0) / C + eps)
    factor = tl.load(weight + column, mask=there, other=0.0).to(tl.float32)
    added = tl.load(bias + column, mask=there, other=0.0).to(tl.float32)
    tl.store(out + start + column, (apart * scale * factor + added).to(out.dtype.element_ty), mask=there)


@triton.jit
def _geglu(x, out, values, C, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = number < values
    place = (number // C) * 2 * C + number % C
    value = tl.load(x + place, mask=there, other=0.0).to(tl.float32)
    gate = tl.load(x + place + C, mask=there, other=0.0).to(tl.float32)
    gelu = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(out + number, (value * gelu).to(out.dtype.element_ty), mask=there)


@triton.jit
def _add(x, change, bias, out, values, C, BLOCK: tl.constexpr):
    number = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = number < values
    total = tl.load(x + number, mask=there, other=0.0).to(tl.float32)
    total += tl.load(change + number, mask=there, other=0.0).to(tl.float32)
    total += tl.load(bias + number % C, mask=there, other=0.0).to(tl.float32)
    tl.store(out + number, total.to(out.dtype.element_ty), mask=there)


class TritonKernels:
    """`kernels.Kernels` for tensors on a GPU."""

    def group_norm(self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        batch, channels, height, width = x.shape
        positions, of_group = height * width, channels // norm.num_groups
        groups = 1
        while groups * of_group < LANES and norm.num_groups % (groups * 2) == 0:
            groups *= 2
        padded = triton.next_power_of_2(of_group)
        rows = max(1, min(TILE // (padded * groups), triton.next_power_of_2(positions)))
        parts = triton.cdiv(positions, rows)
        shape = {"C": channels, "CG": of_group, "CP": padded, "GROUPS": groups, "ROWS": rows, "SHIFTED": shift is not None}
        stride = channels if shift is not None and shift.ndim == 2 else 0
        shift = x if shift is None else shift.contiguous()
        partial = torch.empty(batch, norm.num_groups, parts, 2, device=x.device, dtype=torch.float32)
        grid = (parts, norm.num_groups // groups, batch)
        _group_statistics[grid](x, shift, partial, positions, stride, parts, **shape, num_warps=4)
        _group_apply[grid](
            *(x, out, shift, norm.weight, norm.bias, partial, positions, stride, parts, rows, norm.eps),
            **shape,
            PARTS=triton.next_power_of_2(parts),
            SILU=silu,
            num_warps=4,
        )
        return out

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
        x, change = x.contiguous(), change.contiguous()
        total, out = torch.empty_like(x), torch.empty_like(x)
        width = x.shape[-1]
        block = triton.next_power_of_2(width)
        grid = (x.numel() // width,)
        warps = 1 if block <= 512 else 4
        _add_norm[grid](x, change, total, out, norm.weight, norm.bias, norm.eps, width, block, num_warps=warps)
        return total, out

    def add(self, x: Tensor, change: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is None:
            return x + change
        x, change = (each.contiguous(memory_format=torch.channels_last) for each in (x, change))
        out = torch.empty_like(x)
        grid = (triton.cdiv(x.numel(), 2048),)
        _add[grid](x, change, bias, out, x.numel(), x.shape[1], 2048, num_warps=4)
        return out

    def geglu(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        _geglu[(triton.cdiv(out.numel(), 1024),)](x, out, out.numel(), out.shape[-1], 1024, num_warps=4)
        return out

    def pointwise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As a matrix product, whose epilogue adds the bias; of channels-last maps it is one already."""
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)

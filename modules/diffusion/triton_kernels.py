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

WHOLE = 16_384
"""Groups of a picture that are no larger, padding included, are normalised by one program that holds them whole."""

LANES = 32
"""Channels side by side that make reads of a row whole: one program takes as many groups as have that many."""

PARTS = 64
"""Where statistics come in more parts, a program of their own puts them together, once for all that use them."""


COUNTS = ["positions", "shift_stride", "has_shift", "has_more", "silu", "parts", "stat_rows", "per_position"]
"""Arguments whose values are no reason to compile another version of a kernel: each takes a quarter of a second."""


@triton.jit
def _offsets(
    first, place, positions, C: tl.constexpr, CG: tl.constexpr, CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr
):
    """Of ROWS positions from `first` and GROUPS groups from channel `place`: offsets (ROWS, GROUPS, CP), which are there, the
    channels (GROUPS, CP) and which of those are there."""
    row = first + tl.arange(0, ROWS)
    group = tl.arange(0, GROUPS)
    inside = tl.arange(0, CP)
    channel = place + group[:, None] * CG + inside[None, :]
    there = (row < positions)[:, None, None] & (inside < CG)[None, None, :]
    return row[:, None, None] * C + channel[None, :, :], there, channel, (inside < CG)[None, :] & (channel < C)


@triton.jit
def _shifted(value, shift, more, channel, known, has_shift, has_more):
    """What is added to a channel before its norm."""
    value += tl.load(shift + channel, mask=known & (has_shift != 0), other=0.0).to(tl.float32)[None, :, :]
    value += tl.load(more + channel, mask=known & (has_more != 0), other=0.0).to(tl.float32)[None, :, :]
    return value


@triton.jit
def _activated(value, silu):
    return tl.where(silu != 0, value / (1.0 + tl.exp(-value)), value)


@triton.jit
def _together(means, squares, counts, total):
    """Mean and variance over the second axis of parts with these means and squared deviations (Chan et al. 1979)."""
    mean = tl.sum(means * counts, axis=1) / total
    apart = means - mean[:, None]
    return mean, tl.sum(squares + apart * apart * counts, axis=1) / total


@triton.jit(do_not_specialize=COUNTS)
def _group_whole(
    x, y, shift, more, weight, bias, positions, shift_stride, has_shift, has_more, silu, eps, C: tl.constexpr,
    CG: tl.constexpr, CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """GroupNorm of GROUPS groups of one picture, held whole."""
    bundle, image = tl.program_id(0), tl.program_id(1)
    offsets, there, channel, known = _offsets(0, bundle * GROUPS * CG, positions, C, CG, CP, GROUPS, ROWS)
    start = image.to(tl.int64) * positions * C
    value = tl.load(x + start + offsets, mask=there, other=0.0).to(tl.float32)
    value = _shifted(value, shift + image * shift_stride, more, channel, known, has_shift, has_more)
    value = tl.where(there, value, 0.0)
    count = (positions * CG).to(tl.float32)
    mean = tl.sum(tl.sum(value, axis=2), axis=0) / count
    apart = tl.where(there, value - mean[None, :, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(tl.sum(apart * apart, axis=2), axis=0) / count + eps)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * scale[:, None]
    added = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    value = apart * factor[None, :, :] + added[None, :, :]
    value = _activated(value, silu)
    tl.store(y + start + offsets, value.to(y.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=COUNTS)
def _group_statistics(
    x, shift, more, partial, positions, shift_stride, has_shift, has_more, parts, C: tl.constexpr, CG: tl.constexpr,
    CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations over ROWS positions of GROUPS groups: `partial` (B, C / CG, parts, 2)."""
    part, bundle, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    offsets, there, channel, known = _offsets(part * ROWS, bundle * GROUPS * CG, positions, C, CG, CP, GROUPS, ROWS)
    value = tl.load(x + image.to(tl.int64) * positions * C + offsets, mask=there, other=0.0).to(tl.float32)
    value = _shifted(value, shift + image * shift_stride, more, channel, known, has_shift, has_more)
    value = tl.where(there, value, 0.0)
    count = (tl.minimum(positions - part * ROWS, ROWS) * CG).to(tl.float32)
    mean = tl.sum(tl.sum(value, axis=2), axis=0) / count
    apart = tl.where(there, value - mean[None, :, None], 0.0)
    squares = tl.sum(tl.sum(apart * apart, axis=2), axis=0)
    group = bundle * GROUPS + tl.arange(0, GROUPS)
    where = partial + ((image * (C // CG) + group) * parts + part) * 2
    tl.store(where, mean)
    tl.store(where + 1, squares)


@triton.jit(do_not_specialize=COUNTS)
def _group_merge(partial, merged, positions, stat_rows, parts, per_position, BLOCK: tl.constexpr, BLOCKS: tl.constexpr):
    """One group's parts of statistics become one: `merged` (B, C / CG, 1, 2)."""
    group = tl.program_id(0)
    part = tl.arange(0, BLOCK)
    mean, square, seen = 0.0, 0.0, 0.0
    for block in range(BLOCKS):
        number = block * BLOCK + part
        some = number < parts
        where = partial + (group.to(tl.int64) * parts + number) * 2
        means = tl.load(where, mask=some, other=0.0)
        squares = tl.load(where + 1, mask=some, other=0.0)
        counts = (tl.minimum(tl.maximum(positions - number * stat_rows, 0), stat_rows) * per_position).to(tl.float32)
        count = tl.sum(counts, axis=0)
        here = tl.sum(means * counts, axis=0) / count
        apart = means - here
        between = here - mean
        square += tl.sum(squares + apart * apart * counts, axis=0) + between * between * seen * count / (seen + count)
        mean += between * count / (seen + count)
        seen += count
    tl.store(merged + group * 2, mean)
    tl.store(merged + group * 2 + 1, square)


@triton.jit(do_not_specialize=COUNTS)
def _group_apply(
    x, y, shift, more, weight, bias, partial, positions, shift_stride, has_shift, has_more, silu, parts, stat_rows, eps,
    C: tl.constexpr, CG: tl.constexpr, CP: tl.constexpr, GROUPS: tl.constexpr, ROWS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Normalise ROWS positions of GROUPS groups, whose statistics over `stat_rows` positions each are in `partial`."""
    block, bundle, image = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    group = bundle * GROUPS + tl.arange(0, GROUPS)
    part = tl.arange(0, PADDED)
    where = ((image * (C // CG) + group)[:, None] * parts + part[None, :]) * 2
    some = (part < parts)[None, :] & (group >= 0)[:, None]
    means = tl.load(partial + where, mask=some, other=0.0)
    squares = tl.load(partial + where + 1, mask=some, other=0.0)
    counts = (tl.minimum(tl.maximum(positions - part * stat_rows, 0), stat_rows) * CG).to(tl.float32)[None, :]
    mean, variance = _together(means, squares, counts, (positions * CG).to(tl.float32))
    scale = 1.0 / tl.sqrt(variance + eps)

    offsets, there, channel, known = _offsets(block * ROWS, bundle * GROUPS * CG, positions, C, CG, CP, GROUPS, ROWS)
    factor = tl.load(weight + channel, mask=known, other=0.0).to(tl.float32) * scale[:, None]
    added = tl.load(bias + channel, mask=known, other=0.0).to(tl.float32)
    start = image.to(tl.int64) * positions * C
    value = tl.load(x + start + offsets, mask=there, other=0.0).to(tl.float32)
    value = _shifted(value, shift + image * shift_stride, more, channel, known, has_shift, has_more)
    value = (value - mean[None, :, None]) * factor[None, :, :] + added[None, :, :]
    value = _activated(value, silu)
    tl.store(y + start + offsets, value.to(y.dtype.element_ty), mask=there)


@triton.jit
def _add_norm(x, change, later, total, out, weight, bias, eps, C, WIDTH: tl.constexpr, ADD: tl.constexpr, LATER: tl.constexpr):
    """One token: x + change, its LayerNorm, and the sum with what is to be added `later`."""
    start = tl.program_id(0).to(tl.int64) * C
    column = tl.arange(0, WIDTH)
    there = column < C
    value = tl.load(x + start + column, mask=there, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(change + start + column, mask=there, other=0.0).to(tl.float32)
        kept = value
        if LATER:
            kept += tl.load(later + column, mask=there, other=0.0).to(tl.float32)
        tl.store(total + start + column, kept.to(total.dtype.element_ty), mask=there)
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

    late_bias = True

    def group_norm(
        self, x: Tensor, norm: nn.GroupNorm, silu: bool = False, shift: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out = torch.empty_like(x)
        batch, channels, height, width = x.shape
        positions, of_group = height * width, channels // norm.num_groups
        padded, rows = triton.next_power_of_2(of_group), triton.next_power_of_2(positions)
        shape = {"C": channels, "CG": of_group, "CP": padded}
        counts = (positions, 0 if shift is None else shift.stride(0), int(shift is not None), int(bias is not None))
        inputs = (x, out, x if shift is None else shift, x if bias is None else bias)
        if padded * rows <= WHOLE:
            warps = 4 if padded * rows <= TILE else 8
            _group_whole[norm.num_groups, batch](
                *(*inputs, norm.weight, norm.bias, *counts, int(silu), norm.eps),
                **(shape | {"GROUPS": 1, "ROWS": rows}),
                num_warps=warps,
            )
            return out
        groups = 1
        while groups * of_group < LANES and norm.num_groups % (groups * 2) == 0:
            groups *= 2
        rows = max(1, min(TILE // (padded * groups), rows))
        parts = triton.cdiv(positions, rows)
        grid = (parts, norm.num_groups // groups, batch)
        shape |= {"GROUPS": groups, "ROWS": rows}
        statistics, seen = x.new_empty(batch, norm.num_groups, parts, 2, dtype=torch.float32), rows
        _group_statistics[grid](x, *inputs[2:], statistics, *counts, parts, **shape, num_warps=4)
        if parts > PARTS:
            merged = x.new_empty(batch, norm.num_groups, 1, 2, dtype=torch.float32)
            blocks = triton.cdiv(parts, 1024)
            _group_merge[(batch * norm.num_groups,)](statistics, merged, positions, rows, parts, of_group, 1024, blocks)
            statistics, seen, parts = merged, positions, 1
        _group_apply[grid](
            *(*inputs, norm.weight, norm.bias, statistics, *counts, int(silu), parts, seen, norm.eps),
            **(shape | {"PADDED": 1 if parts == 1 else PARTS}),
            num_warps=4,
        )
        return out

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        return self._normalised(x, None, norm, None)[1]

    def add_norm(self, x: Tensor, change: Tensor, norm: nn.LayerNorm, later: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._normalised(x, change, norm, later)

    def _normalised(self, x: Tensor, change: Tensor | None, norm: nn.LayerNorm, later: Tensor | None) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        out = torch.empty_like(x)
        total = out if change is None else torch.empty_like(x)
        change = x if change is None else change.contiguous()
        width = x.shape[-1]
        block = triton.next_power_of_2(width)
        _add_norm[(x.numel() // width,)](
            *(x, change, x if later is None else later, total, out, norm.weight, norm.bias, norm.eps, width),
            WIDTH=block,
            ADD=total is not out,
            LATER=later is not None,
            num_warps=1 if block <= 512 else 4,
        )
        return total, out

    def accumulate(self, total: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """In the product's own epilogue."""
        total.flatten(0, -2).addmm_(x.flatten(0, -2), weight.t())
        return total

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

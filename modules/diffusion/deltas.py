"""The kinds of change that adapters make beside LoRA: LoHa, LoKr, GLoRA, IA3, full differences, OFT, BOFT, and DoRA around any.

Formulas after LyCORIS (Yeh et al. 2023, arXiv:2309.14859), OFT (Qiu et al. 2023, arXiv:2306.07280), BOFT (Liu et al. 2023,
arXiv:2311.06243), IA3 (Liu et al. 2022, arXiv:2205.05638) and DoRA (Liu et al. 2024, arXiv:2402.09353).  W is a layer's weight,
(out, in) or (out, in, kh, kw); the difference of a kind that has no cheaper form may be kept (`adapters.Dense`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from modules.diffusion.adapters import Delta, Layer, LowRank, applied, rows_of


@dataclass(frozen=True, eq=False)
class Factors:
    """A matrix as a product: `left` (out, r) and `right` (r, in * kernel), or with a `core` (r, r, kh, kw) `left` (r, out) and
    `right` (r, in)."""

    left: Tensor
    right: Tensor
    core: Tensor | None = None

    def product(self) -> Tensor:
        left, right = self.left.float(), self.right.float()
        if self.core is None:
            return left @ right.flatten(1)
        return torch.einsum("abhw,ao,bi->oihw", self.core.float(), left, right)


@dataclass(frozen=True, eq=False)
class Hadamard(Delta):
    """LoHa: scale * (A1 B1 * A2 B2), element by element.  Each factor as in `Factors`."""

    left1: Tensor
    right1: Tensor
    left2: Tensor
    right2: Tensor
    scale: float = 1.0
    core1: Tensor | None = None
    core2: Tensor | None = None

    def weight(self, weight: Tensor) -> Tensor:
        first = Factors(self.left1, self.right1, self.core1).product()
        second = Factors(self.left2, self.right2, self.core2).product()
        return (first * second).reshape(weight.shape) * self.scale


@dataclass(frozen=True, eq=False)
class Kronecker(Delta):
    """LoKr: scale * (w1 (x) w2), `w1` (o1, i1) and `w2` (o2, i2) or (o2, i2, kh, kw) with out = o1 o2 and in = i1 i2."""

    w1: Tensor
    w2: Tensor
    scale: float = 1.0

    def weight(self, weight: Tensor) -> Tensor:
        w1 = self.w1.float().reshape(*self.w1.shape[:2], *[1] * (self.w2.ndim - 2))
        return torch.kron(w1, self.w2.float()).reshape(weight.shape) * self.scale

    def materialises(self, layer: Layer) -> bool:
        return not isinstance(layer, nn.Linear) or self.w2.ndim != 2

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        if self.materialises(layer):
            return super().change(x, layer)
        split = x.reshape(*x.shape[:-1], self.w1.shape[1], self.w2.shape[1])
        out = torch.einsum("oi,...ij,pj->...op", self.w1, split, self.w2)
        return out.flatten(-2) * self.scale


@dataclass(frozen=True, eq=False)
class Scaled(Delta):
    """IA3: W times `factors`, one for each input (in,) with `on_input`, else one for each output (out,)."""

    factors: Tensor
    on_input: bool = False

    def weight(self, weight: Tensor) -> Tensor:
        shape = [1] * weight.ndim
        shape[int(self.on_input)] = -1
        return weight.float() * self.factors.float().reshape(shape)

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        factors = self.factors.reshape(-1) if isinstance(layer, nn.Linear) else self.factors.reshape(-1, 1, 1)
        return applied(layer, x * factors, layer.weight) if self.on_input else applied(layer, x, layer.weight) * factors


@dataclass(frozen=True, eq=False)
class Generalised(Delta):
    """GLoRA: scale * W (left right) + `added`, `left` (in, r) and `right` (r, in) on the input channels."""

    left: Tensor
    right: Tensor
    added: LowRank
    scale: float = 1.0

    def weight(self, weight: Tensor) -> Tensor:
        mixing = self.left.float().flatten(1) @ self.right.float().flatten(1)
        mixed = torch.einsum("oc...,ci->oi...", weight.float(), mixing)
        return mixed * self.scale + self.added.weight(weight)


@dataclass(frozen=True, eq=False)
class Full(Delta):
    """A full difference of the weight, of the bias (out,), or of both; also of a norm's (C,)."""

    diff: Tensor | None
    bias: Tensor | None = None

    def weight(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight, dtype=torch.float32) if self.diff is None else self.diff.float().reshape(weight.shape)

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        if self.diff is None and not isinstance(layer, nn.Conv2d):
            of_bias = self._spread(layer)
            return of_bias.expand_as(x) if not isinstance(layer, nn.Linear) else of_bias.expand(*x.shape[:-1], -1)
        out = super().change(x, layer)
        return out if self.bias is None else out + self._spread(layer)

    def _spread(self, layer: Layer) -> Tensor:
        """The bias in the form of the layer's output."""
        assert self.bias is not None
        return self.bias if isinstance(layer, nn.Linear | nn.LayerNorm) else self.bias.reshape(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class Parted(Delta):
    """Changes of parts of a linear layer: each of `deltas` of the rows (first, number) in `spans`.

    Files name queries, keys and values by themselves where a network has one matrix for them.
    """

    deltas: tuple[Delta, ...]
    spans: tuple[tuple[int, int], ...]

    def weight(self, weight: Tensor) -> Tensor:
        total = torch.zeros_like(weight, dtype=torch.float32)
        for delta, (first, rows) in zip(self.deltas, self.spans, strict=True):
            total[first : first + rows] += delta.weight(weight[first : first + rows])
        return total

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        total = x.new_zeros(*x.shape[:-1], rows_of(layer))
        for delta, (first, rows) in zip(self.deltas, self.spans, strict=True):
            if isinstance(delta, LowRank):
                part = delta.change(x, layer)
            else:
                part = applied(layer, x, delta.weight(layer.weight[first : first + rows]).to(x.dtype))
            total[..., first : first + rows] += part
        return total


@dataclass(frozen=True, eq=False)
class Rotation(Delta):
    """OFT and BOFT: output rows of W turned by orthogonal blocks, W' = R W, then times `rescale` (out, 1, ...).

    `blocks` are (n, b, b) for OFT, each applied transposed to b rows, or (m, n, b, b) for BOFT's m butterfly stages.
    """

    blocks: Tensor
    rescale: Tensor | None = None

    @classmethod
    def from_skew(cls, skew: Tensor, constraint: float = 0.0, rescale: Tensor | None = None) -> Rotation:
        """By Cayley's transform: R = (I + Q)(I - Q)^-1, where Q = B - Bt is held to a norm of `constraint` (0: free)."""
        q = skew.float() - skew.float().transpose(-1, -2)
        if constraint > 0:
            norm = q.norm() + 1e-8
            q = q * (norm.clamp(max=constraint) / norm)
        identity = torch.eye(q.shape[-1], device=q.device)
        return cls((identity + q) @ torch.linalg.inv(identity - q), rescale)

    def weight(self, weight: Tensor) -> Tensor:
        turned = self._turned(weight.float())
        if self.rescale is not None:
            turned = turned * self.rescale.float().reshape(-1, *[1] * (weight.ndim - 1))
        return turned - weight.float()

    def _turned(self, weight: Tensor) -> Tensor:
        blocks = self.blocks.float()
        if blocks.ndim == 3:
            rows = weight.reshape(blocks.shape[0], blocks.shape[1], -1)
            return torch.einsum("kij,kim->kjm", blocks, rows).reshape(weight.shape)
        stages, count, size, _ = blocks.shape
        rows = weight.reshape(count * size, -1)
        for stage in range(stages):
            group = 2**stage * size // 2
            rows = _swapped(rows, group, size)
            rows = torch.einsum("kij,kjm->kim", blocks[stage], rows.reshape(count, size, -1)).reshape(count * size, -1)
            rows = _swapped(rows, group, size, back=True)
        return rows.reshape(weight.shape)


def _swapped(rows: Tensor, group: int, size: int, back: bool = False) -> Tensor:
    """A butterfly's order of rows: of each 2 `group`, the two halves in turn; `back` undoes it."""
    inner = (group, 2) if back else (2, group)
    return rows.reshape(-1, *inner, rows.shape[-1]).transpose(1, 2).reshape(rows.shape) if size > 1 else rows


@dataclass(frozen=True, eq=False)
class Decomposed(Delta):
    """DoRA around another change: V = W + change, then every output row (or input column) of V gets the norm in `magnitude`.

    `magnitude` is (out, 1, ...) for rows, (1, in, ...) for columns; the side of length 1 decides (LyCORIS has trained both).
    """

    inner: Delta
    magnitude: Tensor
    by_row: bool
    _norms: dict[torch.device, Tensor] = field(default_factory=dict, init=False, repr=False)

    def weight(self, weight: Tensor) -> Tensor:
        changed = weight.float() + self.inner.weight(weight)
        return changed * self._factor(weight, changed) - weight.float()

    def change(self, x: Tensor, layer: Layer) -> Tensor:
        factor = self._factor(layer.weight).to(x)
        spread = (-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1)
        plain = applied(layer, x, layer.weight)
        if self.by_row:
            return (plain + self.inner.change(x, layer)) * factor.reshape(spread) - plain
        scaled = x * factor.reshape(spread)
        return applied(layer, scaled, layer.weight) + self.inner.change(scaled, layer) - plain

    def _factor(self, weight: Tensor, changed: Tensor | None = None) -> Tensor:
        """Magnitude over norm, (out, 1, ...) or (1, in, ...); found once, as it is the change of one layer."""
        if (known := self._norms.get(weight.device)) is not None:
            return known
        changed = weight.float() + self.inner.weight(weight) if changed is None else changed
        others = tuple(axis for axis in range(changed.ndim) if axis != int(not self.by_row))
        norm = changed.pow(2).sum(dim=others, keepdim=True).sqrt() + torch.finfo(torch.float32).eps
        factor = self.magnitude.float().reshape(norm.shape) / norm
        self._norms[weight.device] = factor
        return factor

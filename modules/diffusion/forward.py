"""The forward context: what the rows of one network evaluation ask of its layers in addition to x, timesteps and text.

Four kinds of requests, each per row, so that rows which ask differently (or nothing) share a forward:

- *adapters* (`modules.diffusion.adapters`): side paths of linear layers and convolutions, W x + strength * up(down(x)), and of
  norms; hypernetworks, which change what keys and values are computed from;
- *taps*: edits and observations of one attention (perturbed-attention guidance, self-attention guidance);
- *control residuals*: what control networks add to the skip connections and to the middle block;
- *skip edits*: changes of what meets where a U-Net's way up takes in a skip connection (FreeU).

A network names its layers by their place in its state dict (`name_layers`), and every layer that can be reached gets the
context.  Rows that ask for nothing make no context at all: the layers then compute what `torch.nn`'s do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.adapters import Adapter, Layer
from modules.diffusion.attention.backends import failed_device
from modules.diffusion.kernels import PLAIN, Kernels
from modules.diffusion.transfers import numbers
from modules.errors import EditFailed

MIDDLE_ATTENTION = "middle_block.1.transformer_blocks.0.attn1"
"""The self-attention in the middle of a U-Net, where PAG and SAG work."""


class Tap(Protocol):
    """An edit or an observation of one attention for some rows of a forward; equal taps of several rows are applied at once."""

    @property
    def place(self) -> str:
        """The attention layer's name in the network's state dict."""

    def edit(self, rows: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        """The layer's output (shapes as in `attention.Attend`), changed for `rows` (n,) only."""

    def observe(self, rows: Tensor, q: Tensor, k: Tensor) -> Tensor | None:
        """(n, positions) of `rows`, or None for a tap that observes nothing."""


@dataclass(frozen=True)
class IdentityAttention:
    """Perturbed attention: the attention map becomes the identity, so that every position sees itself alone."""

    place: str = MIDDLE_ATTENTION

    def edit(self, rows: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        return out.index_copy(0, rows, v[rows])

    def observe(self, rows: Tensor, q: Tensor, k: Tensor) -> Tensor | None:
        return None


@dataclass(frozen=True)
class AttentionMass:
    """Observes how much attention each position gets from all of them together, as a mean over heads: 1 is the average."""

    place: str = MIDDLE_ATTENTION

    def edit(self, rows: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        return out

    def observe(self, rows: Tensor, q: Tensor, k: Tensor) -> Tensor | None:
        return attention_mass(q[rows], k[rows])


def attention_mass(q: Tensor, k: Tensor) -> Tensor:
    """Column sums of softmax(q kᵀ / sqrt(head_dim)), averaged over heads: (batch, keys), fp32, of mean queries / keys."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k).float()
    return scores.softmax(dim=-1).sum(dim=2).mean(dim=1)


@dataclass(frozen=True)
class Join:
    """Where a U-Net's way up takes in the output of a block of the way down.

    `number` counts from 0 at the coarsest resolution, `width` are the channels of the finest one (320 of SD 1.x and SDXL).
    """

    number: int
    width: int


class SkipEdit(Protocol):
    """A change of what meets at the joins of a U-Net, for some rows of a forward; equal edits of several rows are applied at
    once, so one that is the same for pictures of several users costs as much as for one of them.  Frozen and hashable."""

    def __call__(self, h: Tensor, skip: Tensor, join: Join) -> tuple[Tensor, Tensor]:
        """What the next block gets in the place of `h` (n, C, H, W), which comes from below, and of `skip` (n, C2, H, W).

        Both keep their shapes and number formats; each row is changed by itself, and nothing in place.
        """


@dataclass(frozen=True, eq=False)
class Applied:
    """An adapter on some rows of a forward: `rows` (n,) are their numbers, `strengths` (n,) how much of it each gets.

    Without `rows` it is on all of them.
    """

    adapter: Adapter
    rows: Tensor | None
    strengths: Tensor


Residuals = Sequence[Tensor]
"""Of one forward: (B, C, h, w) for each input block, in their order, and a last one for the middle block (Zhang et al. 2023,
arXiv:2302.05543, section 3.2)."""


@dataclass(eq=False)
class ForwardContext:
    """Everything that the rows of one forward ask for.  Made for one forward; `observed` is filled by it."""

    adapters: tuple[Applied, ...] = ()
    hypernetworks: tuple[Applied, ...] = ()
    """Adapters that change inputs of layers, in the order in which they work; one may come again for other rows."""
    taps: dict[str, list[tuple[Tap, Tensor]]] = field(default_factory=dict)
    """By attention layer: taps with the numbers (n,) of their rows."""
    residuals: Residuals | None = None
    skip_edits: tuple[tuple[SkipEdit, Tensor | None], ...] = ()
    """With the numbers (n,) of their rows, None for all of them."""
    observed: dict[Tap, Tensor] = field(default_factory=dict)
    """What taps observed, (n, h, w) in the order of their rows."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of the feature map whose positions the attention layers run over at the moment."""

    def reaches(self, place: str) -> bool:
        """Whether an adapter changes the layer at `place`."""
        return any(place in applied.adapter.deltas for applied in self.adapters)

    def adapted(self, place: str, layer: Layer, x: Tensor, out: Tensor) -> Tensor:
        """`out` of the layer with what the rows' adapters add there."""
        for applied in self.adapters:
            delta = applied.adapter.deltas.get(place)
            if delta is not None:
                change = delta.change(x if applied.rows is None else x[applied.rows], layer)
                strengths = applied.strengths.to(change).reshape(-1, *[1] * (change.ndim - 1))
                change = change * strengths
                out = out + change if applied.rows is None else out.index_add(0, applied.rows, change)
        return out

    def changes_input(self, place: str) -> bool:
        """Whether a hypernetwork changes what the layer at `place` gets."""
        return any(place in applied.adapter.inputs for applied in self.hypernetworks)

    def changed_input(self, place: str, x: Tensor) -> Tensor:
        """What the layer at `place` gets in the place of x: each hypernetwork adds to what those before it made."""
        for applied in self.hypernetworks:
            made = applied.adapter.inputs.get(place)
            if made is not None:
                change = made(x if applied.rows is None else x[applied.rows])
                change = change * applied.strengths.to(change).reshape(-1, *[1] * (change.ndim - 1))
                x = x + change if applied.rows is None else x.index_add(0, applied.rows, change)
        return x

    def tapped(self, place: str, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        """`out` of the attention at `place` with the taps' edits; what they observe is kept."""
        for tap, rows in self.taps.get(place, ()):
            seen = tap.observe(rows, q, k)
            if seen is not None:
                self.observed[tap] = seen.reshape(-1, *self.grid)
            out = tap.edit(rows, q, k, v, out)
        return out

    def joined(self, h: Tensor, skip: Tensor, join: Join) -> tuple[Tensor, Tensor]:
        """What meets at a join, with the rows' edits.

        Raises:
            EditFailed: an edit raises, or answers something of another shape or number format.
        """
        for edit, rows in self.skip_edits:
            if rows is None:
                h, skip = _edited(edit, h, skip, join)
            else:
                changed_h, changed_skip = _edited(edit, h[rows], skip[rows], join)
                h, skip = h.index_copy(0, rows, changed_h), skip.index_copy(0, rows, changed_skip)
        return h, skip


def _edited(edit: SkipEdit, h: Tensor, skip: Tensor, join: Join) -> tuple[Tensor, Tensor]:
    try:
        changed_h, changed_skip = edit(h, skip, join)
        same = (changed_h.shape, changed_h.dtype, changed_skip.shape, changed_skip.dtype)
        if same != (h.shape, h.dtype, skip.shape, skip.dtype):
            raise ValueError(f"an edit of a skip connection must keep shapes and number formats, not make {same} of them")
    except Exception as error:
        if failed_device(error):
            raise  # which the runner and the engine answer
        raise EditFailed(edit, error) from error
    return changed_h, changed_skip


def context_for(
    adapters: Sequence[Sequence[tuple[Adapter, float]]],
    taps: Sequence[Sequence[Tap]],
    residuals: Residuals | None,
    device: torch.device,
    skip_edits: Sequence[Sequence[SkipEdit]] = (),
) -> ForwardContext | None:
    """The context of a forward whose rows ask for these; None when none asks for anything.

    Args:
        adapters: of each row, with their strengths; a strength of 0 is no request.
        taps: of each row.
        residuals: of the whole forward, zeros for rows without control.
        device: where the network runs.
        skip_edits: of each row, in the order in which they work; () for none at all.
    """
    on = [[(adapter, strength) for adapter, strength in row if strength != 0.0] for row in adapters]
    by_adapter = _grouped([[(adapter, strength) for adapter, strength in row if adapter.deltas] for row in on])
    turns = [enumerate((adapter, strength) for adapter, strength in row if adapter.inputs) for row in on]
    by_turn = _grouped([[((turn, adapter), strength) for turn, (adapter, strength) in row] for row in turns])
    by_tap = _grouped([[(tap, 1.0) for tap in row] for row in taps])
    by_edit = _edits(skip_edits)
    if not by_adapter and not by_turn and not by_tap and not by_edit and residuals is None:
        return None

    def applied(adapter: Adapter, rows: list[int], strengths: list[float]) -> Applied:
        every = rows == list(range(len(adapters)))
        return Applied(adapter, None if every else numbers(rows, device), numbers(strengths, device))

    context = ForwardContext(residuals=residuals)
    context.adapters = tuple(applied(adapter, *each) for adapter, each in by_adapter.items())
    in_turn = sorted(by_turn.items(), key=lambda item: item[0][0])
    context.hypernetworks = tuple(applied(adapter, *each) for (_, adapter), each in in_turn)
    context.skip_edits = tuple(
        (edit, None if rows == list(range(len(adapters))) else numbers(rows, device)) for edit, rows in by_edit
    )
    for tap, (rows, _) in by_tap.items():
        context.taps.setdefault(tap.place, []).append((tap, numbers(rows, device)))
    return context


def _edits(asked: Sequence[Sequence[SkipEdit]]) -> list[tuple[SkipEdit, list[int]]]:
    """Each edit with the numbers of its rows: a row's first ones come before its second ones, as with hypernetworks."""
    turns = _grouped([[((turn, edit), 1.0) for turn, edit in enumerate(row)] for row in asked])
    return [(edit, rows) for (_, edit), (rows, _) in sorted(turns.items(), key=lambda item: item[0][0])]


def _grouped(requests: Sequence[Sequence[tuple[Any, float]]]) -> dict[Any, tuple[list[int], list[float]]]:
    """Row numbers and strengths by what is asked for; what a row asks for twice counts with both strengths together."""
    groups: dict[Any, dict[int, float]] = {}
    for number, row in enumerate(requests):
        for asked, strength in row:
            rows = groups.setdefault(asked, {})
            rows[number] = rows.get(number, 0.0) + strength
    return {asked: (list(rows), list(rows.values())) for asked, rows in groups.items()}


class Linear(nn.Linear):
    """A linear layer that adapters reach.  `place` is its name in the network's state dict, without ".weight"."""

    place = ""

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.adapted(x, super().forward(x), ctx)

    def adapted(self, x: Tensor, out: Tensor, ctx: ForwardContext | None) -> Tensor:
        """`out`, what the layer computes for x, with what adapters add."""
        return out if ctx is None or not ctx.adapters else ctx.adapted(self.place, self, x, out)


class Conv2d(nn.Conv2d):
    """A convolution that adapters reach; as `Linear`.  One of 1x1 may be a matter of `kernels`."""

    place = ""

    def forward(self, x: Tensor, ctx: ForwardContext | None = None, kernels: Kernels | None = None) -> Tensor:
        out = super().forward(x) if kernels is None else kernels.pointwise(x, self.weight, self.bias)
        return self.adapted(x, out, ctx)

    def with_bias_later(self, x: Tensor, kernels: Kernels, ctx: ForwardContext | None = None) -> tuple[Tensor, Tensor | None]:
        """The output, and the bias where that is still to be added: together with something else, see `Kernels.late_bias`."""
        out, bias = convolved(self, x, kernels)
        return self.adapted(x, out, ctx), bias

    def adapted(self, x: Tensor, out: Tensor, ctx: ForwardContext | None) -> Tensor:
        """`out`, what the layer computes for x, with what adapters add."""
        return out if ctx is None or not ctx.adapters else ctx.adapted(self.place, self, x, out)


class GroupNorm(nn.GroupNorm):
    """A group norm that adapters reach.  Only a norm that carries none is a matter of fused `kernels`."""

    place = ""

    def by(
        self,
        kernels: Kernels,
        x: Tensor,
        ctx: ForwardContext | None = None,
        silu: bool = False,
        shift: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """As `Kernels.group_norm`, with what adapters add."""
        if ctx is None or not ctx.reaches(self.place):
            return kernels.group_norm(x, self, silu, shift, bias)
        if shift is not None:
            x = x + (shift if bias is None else shift + bias)[..., None, None]
        elif bias is not None:
            x = x + bias[:, None, None]
        out = ctx.adapted(self.place, self, x, PLAIN.group_norm(x, self))
        return F.silu(out) if silu else out


class LayerNorm(nn.LayerNorm):
    """A layer norm that adapters reach; as `GroupNorm`."""

    place = ""

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        return self.adapted(x, super().forward(x), ctx)

    def by(self, kernels: Kernels, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        """As `Kernels.layer_norm`, with what adapters add."""
        return self(x, ctx) if ctx is not None and ctx.reaches(self.place) else kernels.layer_norm(x, self)

    def after(
        self, kernels: Kernels, x: Tensor, change: Tensor, ctx: ForwardContext | None = None, later: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Kernels.add_norm`, with what adapters add."""
        if ctx is None or not ctx.reaches(self.place):
            return kernels.add_norm(x, change, self, later)
        total = x + change
        return (total if later is None else total + later), self(total, ctx)

    def adapted(self, x: Tensor, out: Tensor, ctx: ForwardContext | None) -> Tensor:
        """`out`, what the norm computes for x, with what adapters add."""
        return out if ctx is None or not ctx.adapters else ctx.adapted(self.place, self, x, out)


def convolved(layer: nn.Conv2d, x: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor | None]:
    """The convolution of x, and the bias where it is still to be added."""
    late = kernels.late_bias
    out = F.conv2d(x, layer.weight, None if late else layer.bias, layer.stride, layer.padding, layer.dilation)
    return out, layer.bias if late else None


class Stack:
    """Linear layers with one input.  Where their weights lie behind one another in memory, they are one matrix product."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        self.layers = tuple(layers)
        self.widths = [layer.out_features for layer in layers]
        self._joined = False

    def join(self) -> None:
        """Put the weights behind one another: parts of one tensor that takes the memory of before.  Quantised ones stay."""
        if not self.layers or not all("weight" in layer._parameters for layer in self.layers):
            return
        with torch.no_grad():
            for tensors in ([layer.weight for layer in self.layers], [layer.bias for layer in self.layers]):
                if all(tensor is not None for tensor in tensors):
                    _behind_one_another(tensors)
        self._joined = True

    @property
    def joined(self) -> bool:
        """Whether they lie so now: weights may have been moved since `join` (`placement`)."""
        return (
            self._joined
            and not torch.compiler.is_compiling()  # which joins what it likes, and cannot follow addresses
            and _lie_behind_one_another([layer.weight for layer in self.layers])
            and (self.layers[0].bias is None or _lie_behind_one_another([layer.bias for layer in self.layers]))
        )

    def __call__(self, x: Tensor, ctx: ForwardContext | None = None) -> tuple[Tensor, ...]:
        """What each of the layers computes for x."""
        if not self.joined:
            return tuple([layer(x, ctx) for layer in self.layers])
        first, total = self.layers[0], sum(self.widths)
        weight = first.weight.as_strided((total, first.in_features), (first.in_features, 1))
        bias = None if first.bias is None else first.bias.as_strided((total,), (1,))
        parts = F.linear(x, weight, bias).split_with_sizes(self.widths, dim=-1)
        if ctx is None or not ctx.adapters:
            return tuple(parts)
        return tuple([layer.adapted(x, part, ctx) for layer, part in zip(self.layers, parts, strict=True)])


def _lie_behind_one_another(tensors: Sequence[Tensor]) -> bool:
    place = tensors[0].data_ptr()
    for tensor in tensors:
        if tensor.data_ptr() != place:
            return False
        place += tensor.numel() * tensor.element_size()
    return True


def _behind_one_another(tensors: Sequence[Tensor]) -> None:
    """Make the parameters parts of one tensor."""
    together = torch.cat([tensor.data for tensor in tensors])
    for tensor, part in zip(tensors, together.split_with_sizes([len(tensor) for tensor in tensors]), strict=True):
        tensor.data = part


class Sequential(nn.Sequential):
    """Layers in a row; those that adapters reach get the context."""

    def forward(self, x: Tensor, ctx: ForwardContext | None = None) -> Tensor:
        for layer in self:
            x = layer(x, ctx) if isinstance(layer, Linear | Conv2d | Sequential) else layer(x)
        return x


def adaptable_layers(network: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of `network` with a matrix that adapters reach, by their places."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Linear | Conv2d)}


def adaptable_norms(network: nn.Module) -> dict[str, nn.GroupNorm | nn.LayerNorm]:
    """The norms of `network` that adapters reach, by their places."""
    return {name: norm for name, norm in network.named_modules() if isinstance(norm, GroupNorm | LayerNorm)}


def name_layers(network: nn.Module, reachable: Callable[[nn.Module], bool] = lambda module: hasattr(module, "place")) -> None:
    """Tell every layer of `network` that can be reached its place."""
    for name, module in network.named_modules():
        if reachable(module):
            module.place = name

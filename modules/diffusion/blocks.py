"""The blocks of a network, and each one's weights in one buffer of bytes: as the layers compute with them, or in 8 bits.

A block is a module that stands in a `nn.ModuleList` and is called as a whole; where such a module has lists of its own (a
transformer's layers), those are looked into.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from modules.diffusion import eight_bits
from modules.diffusion.quantised import PACKED, QuantisedLinear

ALIGNMENT = 256
"""Bytes to which tensors in a buffer are aligned; kernels that read 16 bytes at a time ask for less."""


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a network, in the order in which they stand in it."""
    for child in network.children():
        yield from _called(child) if isinstance(child, nn.ModuleList) else blocks_of(child)


def _called(listed: nn.Module) -> Iterator[nn.Module]:
    """What is called of a module that stands in a list: itself, or where it has lists, its parts."""
    children = list(listed.children())
    if isinstance(listed, nn.ModuleList) or any(isinstance(child, nn.ModuleList) for child in children):
        for child in children:
            yield from _called(child)
    elif not isinstance(listed, nn.GroupNorm | nn.LayerNorm):  # kernels use the weights of norms without calling them
        yield listed


Place = tuple[nn.Module, str]
"""A module, and the name of a parameter or a buffer that is its own."""


def places_of(network: nn.Module) -> list[Place]:
    """Where each of its parameters and buffers is, those of its parts too."""
    return [
        (owner, name)
        for owner in network.modules()
        for name, tensor in (*owner._parameters.items(), *owner._buffers.items())
        if tensor is not None
    ]


def tensor_at(place: Place) -> Tensor:
    """What is there now; not what a layer makes of it (`packed`)."""
    owner, name = place
    tensor = owner._parameters[name] if name in owner._parameters else owner._buffers[name]
    assert isinstance(tensor, Tensor)
    return tensor


def set_tensor(place: Place, tensor: Tensor) -> None:
    """Put another tensor there, not other data into the same: weights that were read in inference mode can have no others."""
    owner, name = place
    (owner._parameters if name in owner._parameters else owner._buffers)[name] = tensor  # type: ignore[assignment]


def as_weight(like: Tensor, data: Tensor) -> Tensor:
    """`data` as a parameter without gradients where `like` is one, else as it is."""
    return nn.Parameter(data, requires_grad=False) if isinstance(like, nn.Parameter) else data


def size_of(module: nn.Module) -> int:
    """Bytes of its parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in map(tensor_at, places_of(module)))


class _Layout:
    """How tensors like these lie in a buffer of `size` bytes, one behind the other, convolutions' kernels channels last."""

    def __init__(self, tensors: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> None:
        self._places: list[tuple[int, Tensor]] = []
        end = 0
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            order = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            like = torch.empty_like(tensor, dtype=dtype, device="meta", memory_format=order)
            self._places.append((end, as_weight(tensor, like)))
            end += -(-tensor.numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        self.size = end

    def views(self, room: Tensor) -> list[Tensor]:
        """The tensors in a buffer of bytes."""
        views = []
        for start, like in self._places:
            flat = room[start : start + like.numel() * like.element_size()].view(like.dtype)
            views.append(as_weight(like, flat.as_strided(like.shape, like.stride())))
        return views


class Block:
    """A module and its weights in a buffer of bytes that `room` makes; in 8 bits where asked, those that can be."""

    def __init__(
        self, module: nn.Module, device: torch.device, room: Callable[[int], Tensor], in_eight_bits: bool = False
    ) -> None:
        self.module, self.places = module, places_of(module)
        with torch.inference_mode(False):  # weights outlive the caller's mode
            tensors = [tensor_at(place) for place in self.places]
            narrow = [in_eight_bits and eight_bits.suits(tensor) for tensor in tensors]
            kept = [eight_bits.FORMAT if each else tensor.dtype for each, tensor in zip(narrow, tensors, strict=True)]
            self.computing, self.kept = _Layout(tensors, [tensor.dtype for tensor in tensors]), _Layout(tensors, kept)
            self.scales: list[Tensor | None] = []
            """By weight, what its 8 bits are multiplied by; None for those that are kept as they are."""
            self.bytes = room(self.size)
            self.at_rest = self.kept.views(self.bytes)
            for view, tensor, each in zip(self.at_rest, tensors, narrow, strict=True):
                stored, scale = eight_bits.narrowed(tensor.to(device)) if each else (tensor, None)
                view.copy_(stored)
                self.scales.append(scale)
            self.bind(self.at_rest)
            there = weakref.ref(self)
            for number, (owner, name) in enumerate(self.places):
                if name in ("weight", PACKED):
                    owner.__dict__[_KEPT] = partial(_resting, there, number)

    @property
    def size(self) -> int:
        return self.kept.size

    @property
    def in_eight_bits(self) -> bool:
        return any(scale is not None for scale in self.scales)

    def move_to(self, room: Tensor) -> None:
        """Let the bytes lie there."""
        room.copy_(self.bytes)
        self.bytes, self.at_rest = room, self.kept.views(room)
        self.bind(self.at_rest)

    def resting(self, number: int) -> Tensor:
        """A weight as it is kept, in the computing format."""
        kept, scale = self.at_rest[number], self.scales[number]
        owner, name = self.places[number]
        if isinstance(owner, QuantisedLinear) and name == PACKED:
            return owner.unpacked(kept)
        if scale is None:
            return kept
        wide = torch.empty_like(kept, dtype=scale.dtype, device=scale.device)
        eight_bits.widen(kept, scale, wide)
        return wide

    def end(self) -> None:
        """The weights are the layers' own again."""
        for owner, _ in self.places:
            owner.__dict__.pop(_KEPT, None)

    def bind(self, weights: list[Tensor]) -> None:
        """Let the module compute with these."""
        for place, weight in zip(self.places, weights, strict=True):
            set_tensor(place, weight)


def _resting(block: weakref.ref[Block], number: int) -> Tensor:
    there = block()
    assert there is not None, "who holds a network holds its placement"
    return there.resting(number)


def resting_weight(layer: nn.Module) -> Tensor:
    """A layer's weight as it is kept, at any time and on any thread: while a block runs, its layers have others' memory.  What
    is kept in fewer bits comes in the computing format."""
    kept = layer.__dict__.get(_KEPT)
    weight: Any = layer.weight if kept is None else kept()
    assert isinstance(weight, Tensor)
    return weight


_KEPT = "_weight_as_kept"
"""The attribute by which a layer of a block knows how its weight is kept."""

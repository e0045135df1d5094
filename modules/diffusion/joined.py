"""What rows' conditionings are together: made once for the rows of a picture, not in each of its forwards."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor

from modules.diffusion.conditioning import Conditioning

MOST = 16
"""Joined conditionings that are kept: pictures of several sizes and prompts that change take turns."""

MOST_BYTES = 128 * 2**20
"""Of all that are kept; 32 rows of SDXL's context are 10 MB."""

Key = tuple[int, ...]


class JoinedConditionings:
    """Remembers what `join` makes of a sequence of conditionings, while all of them are alive.

    Asked for the same conditionings (the same objects, in the same order) it gives the same tensors: who copied them into a
    buffer of its own need not do it again.  They are never written to.
    """

    def __init__(self, join: Callable[[Sequence[Conditioning]], Conditioning]) -> None:
        self._join = join
        self._made: OrderedDict[Key, tuple[list[weakref.ref[Conditioning]], Conditioning]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def __call__(self, parts: Sequence[Conditioning]) -> Conditioning:
        key = tuple([id(part) for part in parts])
        if (known := self._made.get(key)) is not None:  # alive, or it would not be here, so the numbers are theirs
            self._made.move_to_end(key)
            return known[1]
        made = self._join(parts)
        if _size(made) > MOST_BYTES:
            return made
        forget = _forgetting(weakref.ref(self), key)
        self._made[key] = [weakref.ref(part, forget) for part in parts], made
        while len(self._made) > MOST or sum(_size(joined) for _, joined in list(self._made.values())) > MOST_BYTES:
            self._made.popitem(last=False)
        return made

    def _forget(self, key: Key) -> None:
        self._made.pop(key, None)


def _forgetting(cache: weakref.ref[JoinedConditionings], key: Key) -> Callable[[weakref.ref[Conditioning]], None]:
    def forget(_: weakref.ref[Conditioning]) -> None:
        if (there := cache()) is not None:
            there._forget(key)

    return forget


def _size(conditioning: Conditioning) -> int:
    tensors: list[Tensor | None] = [conditioning.context, conditioning.channels, conditioning.vector]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)

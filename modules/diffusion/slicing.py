"""Attention that can be told to take less memory for a while; the networks that call it see no difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from modules.diffusion.attention import Attend, sliced


@dataclass(eq=False)
class SwitchableAttention:
    """The back end `attend`, or within `in_slices` the textbook formula over slices of queries (`attention.sliced`).

    For the one thread that runs the networks which are built with it.
    """

    attend: Attend
    slice_bytes: int = 0
    """The bound of the score matrix now; 0 for the back end itself."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sliced(q, k, v, self.slice_bytes) if self.slice_bytes else self.attend(q, k, v)

    @contextmanager
    def in_slices(self, slice_bytes: int) -> Iterator[None]:
        """Score matrices of at most `slice_bytes`."""
        before, self.slice_bytes = self.slice_bytes, slice_bytes
        try:
            yield
        finally:
            self.slice_bytes = before

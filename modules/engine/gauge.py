"""How much memory calls of the device take beside weights, measured where the allocator counts: the first call of each kind.

The caching allocator of CUDA counts when memory is asked for, which is when work is launched; nothing waits for the device.
The first call of a shape is the one that is evaluated operation by operation (later ones may be recorded graphs, whose memory
is their own), and the one in which libraries choose their algorithms.  A CPU's allocator counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

from modules.checkpoints.handle import ModelHandle
from modules.engine.costs import MEMORY_OF, MOST, Call

T = TypeVar("T")


class Counter(Protocol):
    """Counts the memory of one device."""

    def begin(self) -> int:
        """Bytes that are allocated now; the peak is counted from here on."""

    def peak(self) -> int:
        """Bytes that were allocated at most since."""


class CudaCounter:
    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        return int(torch.cuda.memory_allocated(self._device))

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated(self._device))


def counter_of(device: torch.device) -> Counter | None:
    return CudaCounter(device) if device.type == "cuda" else None


class Gauge:
    """Keeps what the first call of each kind took; without a counter it keeps nothing."""

    def __init__(self, counter: Counter | None = None) -> None:
        self.counter = counter
        self._seen: set[Call] = set()
        self._fresh: dict[Call, int] = {}

    def measured(self, work: str, model: ModelHandle, latent: tuple[int, int], rows: int, call: Callable[[], T]) -> T:
        """What `call` answers, which does `work` on `rows` latents of this height and width.

        What runs with less memory than usual is not counted: streamed weights, attention in slices, tiles.
        """
        if self.counter is None or not _usual(model):
            return call()
        factor = model.latent.factor
        kind = Call(MEMORY_OF + work, model.info.name, latent[1] * factor, latent[0] * factor, rows)
        if kind in self._seen:
            return call()
        before = self.counter.begin()
        answer = call()
        if len(self._seen) < MOST:
            self._seen.add(kind)
            self._fresh[kind] = max(0, self.counter.peak() - before)
        return answer

    def take_fresh(self) -> dict[Call, int]:
        """What was measured since this was asked last."""
        fresh, self._fresh = self._fresh, {}
        return fresh


def _usual(model: ModelHandle) -> bool:
    streamed = any(each.placement is not None and each.placement.streamed for each in model.components)
    sliced = model.attend is not None and bool(model.attend.slice_bytes)
    return not streamed and not sliced and getattr(model.latent, "tiling", None) is None

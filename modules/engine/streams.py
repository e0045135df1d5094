"""Asynchronous work on a device: marks in its stream of work, copies that nobody waits for, and a second stream.

A CUDA device is given work faster than it does it.  Whoever reads a result on the host waits for everything before it, and the
device then idles until more work was launched; so results are copied to pinned memory behind a mark (a CUDA event), and read
once that mark has been passed.  On a CPU work is done when it was called, and every mark is passed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

AHEAD = 2
"""Calls of the device that are launched and not done, at most.  One runs, and one is there when it ends; more would only make
newcomers, cancelling and previews wait."""

BESIDE_MEMORY = 12 * 10**9
"""Bytes of a device from which pictures are decoded beside other work: both then hold their activations at once."""


class Mark(Protocol):
    """A point in a stream of work: behind what had been launched when it was made."""

    @property
    def done(self) -> bool:
        """Whether the device has come to it."""

    def wait(self) -> None:
        """Block this thread until it is done."""

    def seconds_since(self, start: Any) -> float:
        """What the device took from `start`, another mark of the same stream, to here.  Both are done."""


class Streams(Protocol):
    """The streams of one device.  All methods are called from the engine's thread."""

    @property
    def immediate(self) -> bool:
        """Whether work is done when it was launched."""

    def mark(self) -> Mark:
        """In the stream that is current."""

    def to_host(self, tensor: Tensor) -> Tensor:
        """A copy on the CPU, whose numbers are there when a mark that is made after this call is done."""

    def beside(self, *tensors: Tensor) -> AbstractContextManager[None]:
        """What is launched within runs beside what is launched after it, and behind what was launched before.

        `tensors` are those of the outside that it reads: their memory is not used for anything else until it is done.
        """


@dataclass(frozen=True)
class Passed:
    """A mark that is done when it is made; `at` is its time in seconds."""

    at: float
    done = True

    def wait(self) -> None:
        return

    def seconds_since(self, start: Passed) -> float:
        return self.at - start.at


class Immediate:
    """A CPU: every call returns when its work is done."""

    immediate = True

    def mark(self) -> Mark:
        return Passed(time.perf_counter())

    def to_host(self, tensor: Tensor) -> Tensor:
        return tensor.cpu()

    def beside(self, *tensors: Tensor) -> AbstractContextManager[None]:
        return nullcontext()


class CudaMark:
    """A CUDA event with its time."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        event: Any = torch.cuda.Event  # torch leaves these untyped
        self._event = event(enable_timing=True)
        self._event.record(stream)

    @property
    def done(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        self._event.synchronize()

    def seconds_since(self, start: CudaMark) -> float:
        return float(start._event.elapsed_time(self._event)) / 1000.0


class CudaStreams:
    """A CUDA device: the stream that is current on the engine's thread, and a second one beside it."""

    immediate = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        roomy = torch.cuda.get_device_properties(device).total_memory >= BESIDE_MEMORY
        stream: Any = torch.cuda.Stream
        self._second = stream(device) if roomy else None

    def mark(self) -> Mark:
        return CudaMark(torch.cuda.current_stream(self.device))

    def to_host(self, tensor: Tensor) -> Tensor:
        # The allocator of pinned memory holds the block back until the copy is done, also if it is let go before
        copied = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copied.copy_(tensor, non_blocking=True)

    @contextmanager
    def beside(self, *tensors: Tensor) -> Iterator[None]:
        if self._second is None:
            yield
            return
        self._second.wait_stream(torch.cuda.current_stream(self.device))
        for tensor in tensors:
            tensor.record_stream(self._second)
        with torch.cuda.stream(self._second):
            yield


def streams_of(device: torch.device) -> Streams:
    """How work is given to `device`."""
    return CudaStreams(device) if device.type == "cuda" else Immediate()


@dataclass(frozen=True, eq=False)
class Span:
    """A piece of work between two marks of one stream."""

    start: Mark
    end: Mark

    @property
    def seconds(self) -> float:
        """The device's own time.  It is done."""
        return self.end.seconds_since(self.start)


@dataclass(frozen=True, eq=False)
class Pending:
    """An answer that is on its way to the host: `result` gives it, or raises why there is none, once `span` is done.

    It holds what the work reads (networks, latents), so that nothing of it is freed under the device's hands.
    """

    span: Span
    result: Callable[[], Any]

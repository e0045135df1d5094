"""A device's memory: what of it is free, whether it is other than main memory, and copies into it beside what is computed."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


def streaming_helps(device: torch.device) -> bool:
    """Whether main memory is another memory than the device's."""
    return device.type != "cpu"


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take of a device; None where that is not known."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    taken, kept = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    allowed = total
    if hasattr(torch.cuda, "get_per_process_memory_fraction"):
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(device))
    return min(free + kept - taken, allowed - taken)


class Transfers(Protocol):
    """Copies into two buffers on the device, in their order with what is computed from them."""

    def copy(self, buffer: int, into: Tensor, source: Tensor) -> None:
        """Begin a copy, behind what last used the buffer."""

    def wait(self, buffer: int) -> None:
        """What is computed from now on comes behind the last copy into this buffer."""

    def used(self, buffer: int) -> None:
        """What has been computed until now used the buffer: the next copy into it comes behind that."""

    def end(self) -> None:
        """Return when no copy is under way."""


class Inline:
    """Copies at once, in the order of the calls: a CPU's."""

    def copy(self, buffer: int, into: Tensor, source: Tensor) -> None:
        into.copy_(source)

    def wait(self, buffer: int) -> None:
        return

    def used(self, buffer: int) -> None:
        return

    def end(self) -> None:
        return


class SideStream:
    """Copies on a CUDA stream of their own while the current one computes; events order them, and the host never waits."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._arrived = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self._used: list[Any] = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def copy(self, buffer: int, into: Tensor, source: Tensor) -> None:
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._used[buffer])
            into.copy_(source, non_blocking=True)
            self._arrived[buffer].record(self._stream)

    def wait(self, buffer: int) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._arrived[buffer])

    def used(self, buffer: int) -> None:
        self._used[buffer].record(torch.cuda.current_stream(self._device))

    def end(self) -> None:
        self._stream.synchronize()

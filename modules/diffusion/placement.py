"""Where the weights of a network lie: all on its device, or streamed block by block from main memory while it runs.

A streamed network computes the same.  Its blocks' weights lie in main memory (pinned where there is CUDA), and two buffers on
the device take turns: while one block runs, the next one's weights are on their way.  So a network takes twice its largest
block of the device instead of all of them.  What is no block, or is small, stays on the device.

A block is a module that stands in a `nn.ModuleList` and is called as a whole; where such a module has lists of its own (a
transformer's layers), those are looked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

SMALL = 2**20
"""Bytes: blocks of less stay on the device."""

ALIGNMENT = 256
"""Bytes to which tensors in a buffer are aligned; kernels that read 16 bytes at a time ask for less."""


def streaming_helps(device: torch.device) -> bool:
    """Whether main memory is another memory than the device's."""
    return device.type != "cpu"


class Placement:
    """Where the weights of `network`, which computes on `device`, lie.  For the thread that runs the network."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device
        self.derived: Any = None
        """What an accelerator made of the network.  It may know where weights lie (a captured graph): it is let go of when they
        are moved, and where its memory is needed.  Who runs it makes it anew."""
        self._stream: _Stream | None = None

    @property
    def streamed(self) -> bool:
        return self._stream is not None

    @property
    def streamed_bytes(self) -> int:
        """What `settle` would take of the device."""
        return sum(block.size for block in self._stream.blocks) if self._stream else 0

    def stream(self) -> bool:
        """Stream the blocks' weights from now on; False where that is done already, or there is nothing to stream.

        Weights may lie anywhere before.  Those that are not streamed come to the device.

        Raises:
            torch.OutOfMemoryError, RuntimeError: main memory cannot hold them, or the device the rest.
        """
        modules = [module for module in blocks_of(self.network) if _size(module) >= SMALL]
        if self.streamed or not modules:
            return False
        self.derived = None
        _wait_for(self.device)
        with torch.inference_mode(False):  # weights outlive the caller's mode
            held = self._held(modules)
            within = {place for block in held for place in block.places}
            for place in _places(self.network):
                if place not in within and (there := _get(place)).device != self.device:
                    _set(place, _weight(there, there.to(self.device)))
        self._stream = _Stream(held, self.device)
        return True

    def _held(self, modules: list[nn.Module]) -> list[_Block]:
        """These as blocks whose weights are in main memory; all of them, or none where it is too small."""
        held: list[_Block] = []
        try:
            for module in modules:
                held.append(_Block(module, self.device.type == "cuda"))
        except Exception:
            for block in held:
                block.bind([_weight(view, view.to(self.device)) for view in block.on_host])
            raise
        return held

    def settle(self) -> None:
        """Bring all weights to the device, to stay there.

        Raises:
            torch.OutOfMemoryError: they do not fit; they are streamed as before.
        """
        if self._stream is None:
            return
        self.derived = None
        _wait_for(self.device)
        stream, brought = self._stream, []
        stream.let_go_of_buffers()
        with torch.inference_mode(False):
            for block in stream.blocks:
                brought.append([_weight(view, view.to(self.device, copy=True)) for view in block.on_host])
            for block, weights in zip(stream.blocks, brought, strict=True):
                block.bind(weights)
        stream.end()
        self._stream = None


def _wait_for(device: torch.device) -> None:
    """Return when no kernel on any stream reads the weights that are about to be moved."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


_Place = tuple[nn.Module, str]
"""A module, and the name of a parameter or a buffer that is its own."""


def _places(network: nn.Module) -> list[_Place]:
    return [
        (owner, name) for owner in network.modules() for name in (*owner._parameters, *owner._buffers) if _there(owner, name)
    ]


def _there(owner: nn.Module, name: str) -> bool:
    return getattr(owner, name) is not None


def _get(place: _Place) -> Tensor:
    owner, name = place
    tensor = getattr(owner, name)
    assert isinstance(tensor, Tensor)
    return tensor


def _set(place: _Place, tensor: Tensor) -> None:
    """Another tensor, not other data of the same: weights that were read in inference mode can have no others."""
    owner, name = place
    (owner._parameters if name in owner._parameters else owner._buffers)[name] = tensor  # type: ignore[assignment]


def _weight(like: Tensor, data: Tensor) -> Tensor:
    return nn.Parameter(data, requires_grad=False) if isinstance(like, nn.Parameter) else data


def _size(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in map(_get, _places(module)))


class _Block:
    """A module and its weights in main memory, one behind the other, convolutions' kernels channels last."""

    def __init__(self, module: nn.Module, pinned: bool) -> None:
        self.module, self.places = module, _places(module)
        tensors = [_get(place) for place in self.places]
        self._layout: list[tuple[int, Tensor]] = []
        end = 0
        for tensor in tensors:
            order = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            like = torch.empty_like(tensor, device="meta", memory_format=order)
            self._layout.append((end, _weight(tensor, like)))
            end += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
        self.size = end
        self.host = _room(end, pinned)
        self.on_host = self.views(self.host)
        for view, tensor in zip(self.on_host, tensors, strict=True):
            view.copy_(tensor)
        self.bind(self.on_host)

    def views(self, room: Tensor) -> list[Tensor]:
        """The block's weights in a buffer of bytes."""
        views = []
        for start, like in self._layout:
            flat = room[start : start + like.numel() * like.element_size()].view(like.dtype)
            views.append(_weight(like, flat.as_strided(like.shape, like.stride())))
        return views

    def bind(self, weights: list[Tensor]) -> None:
        """Let the module compute with these."""
        for place, weight in zip(self.places, weights, strict=True):
            _set(place, weight)


def _room(size: int, pinned: bool) -> Tensor:
    """Bytes in main memory; pageable where no more can be pinned, from where copies are slower."""
    if pinned:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty(size, dtype=torch.uint8)


class _Stream:
    """Brings each block to the device before it runs, into one of two buffers, and the next one into the other meanwhile."""

    def __init__(self, blocks: list[_Block], device: torch.device) -> None:
        self.blocks, self._device = blocks, device
        self._transfers: Transfers = SideStream(device) if device.type == "cuda" else Inline()
        self._buffers: list[Tensor] = []
        self._views: dict[tuple[int, int], list[Tensor]] = {}
        self._holding: list[int | None] = [None, None]
        self._hooks: list[RemovableHandle] = []
        for number, block in enumerate(blocks):
            self._hooks += [
                block.module.register_forward_pre_hook(lambda module, args, number=number: self._enter(number)),
                block.module.register_forward_hook(
                    lambda module, args, out, number=number: self._leave(number),
                    always_call=True,  # a forward that fails leaves no block bound to a buffer
                ),
            ]

    def _enter(self, number: int) -> None:
        with torch.inference_mode(False):
            if not self._buffers:
                self._make_buffers()
            following = (number + 1) % len(self.blocks)
            if number not in self._holding:
                self._fetch(number, 1 if self._holding[0] == following else 0)
            buffer = self._holding.index(number)
            self._transfers.wait(buffer)
            self.blocks[number].bind(self._in(buffer, number))
            if following not in self._holding:
                self._fetch(following, 1 - buffer)

    def _leave(self, number: int) -> None:
        self.blocks[number].bind(self.blocks[number].on_host)
        if number in self._holding:
            self._transfers.used(self._holding.index(number))

    def _fetch(self, number: int, buffer: int) -> None:
        host = self.blocks[number].host
        self._transfers.copy(buffer, self._buffers[buffer][: len(host)], host)
        self._holding[buffer] = number

    def _in(self, buffer: int, number: int) -> list[Tensor]:
        if (buffer, number) not in self._views:
            self._views[buffer, number] = self.blocks[number].views(self._buffers[buffer])
        return self._views[buffer, number]

    def _make_buffers(self) -> None:
        largest = max(len(block.host) for block in self.blocks)
        self._buffers = [torch.empty(largest, dtype=torch.uint8, device=self._device) for _ in range(2)]
        for buffer in range(2):
            self._transfers.used(buffer)  # by whatever had this memory before

    def let_go_of_buffers(self) -> None:
        self._transfers.end()
        self._buffers, self._holding = [], [None, None]
        self._views.clear()

    def end(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()


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

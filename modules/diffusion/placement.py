"""Where the weights of a network lie: all on its device, or streamed block by block from main memory while it runs.

A streamed network computes the same.  Its blocks' weights lie in main memory (pinned where there is CUDA), and two buffers on
the device take turns: while one block runs, the next one's weights are on their way.  So a network takes twice its largest
block of the device instead of all of them.  What is no block, or is small, stays on the device.

A network may also keep the matrices and convolution kernels of its blocks in 8 bits (`eight_bits`), half of what 16 take; each
block's are brought to the computing format, in one buffer for all blocks, when it runs.  Nothing computes in 8 bits: what the
layers, their adapters and the kernels see while a block runs are weights as ever, only rounded.

Layers that keep blocks of quantised numbers (`quantised`) do so wherever these lie: they are streamed as they are, a quarter of
the bytes for Q4, and are not stored in 8 bits besides.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modules.diffusion import eight_bits
from modules.diffusion.blocks import Block, as_weight, blocks_of, places_of, set_tensor, size_of, tensor_at
from modules.diffusion.device_memory import Inline, SideStream, Transfers
from modules.diffusion.packed import unpack
from modules.diffusion.quantised import is_quantised

SMALL = 2**20
"""Bytes: blocks of less stay on the device."""


class Placement:
    """Where the weights of `network`, which computes on `device`, lie.  For the thread that runs the network."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device
        self.derived: Any = None
        """What an accelerator made of the network.  It may know where weights lie (a captured graph): it is let go of when they
        are moved, and where its memory is needed.  Who runs it makes it anew."""
        self.quantised = is_quantised(network)
        """Whether layers keep their weights as the file's blocks of quantised numbers."""
        self._held: _Held | None = None

    @property
    def streamed(self) -> bool:
        return self._held is not None and self._held.streamed

    @property
    def in_eight_bits(self) -> bool:
        """Whether blocks keep their weights in 8 bits."""
        return self._held is not None and self._held.in_eight_bits

    @property
    def plain(self) -> bool:
        """Whether all weights lie on the device as the layers use them, at all times."""
        return self._held is None and not self.quantised

    @property
    def streamed_bytes(self) -> int:
        """What `settle` would take of the device."""
        return sum(block.size for block in self._held.blocks) if self._held is not None and self._held.streamed else 0

    @property
    def size(self) -> int:
        """Bytes of the network's weights and buffers as they are kept, wherever that is."""
        kept = sum(tensor.numel() * tensor.element_size() for tensor in map(tensor_at, places_of(self.network)))
        return kept + (self._held.scale_bytes if self._held is not None else 0)

    def store_in_eight_bits(self) -> bool:
        """Keep the blocks' matrices and kernels in 8 bits (`eight_bits`) on the device from now on; False where they are held
        otherwise already, or are quantised, or there is nothing to keep so.

        The rest comes to the device as it is.  Weights may lie anywhere before; what they were is gone.

        Raises:
            torch.OutOfMemoryError, RuntimeError: the device cannot hold them; the network is not to be used any more.
        """
        unpack(self.network)
        modules = self._large_blocks()
        if self._held is not None or self.quantised or not modules:
            return False
        self._hold([Block(module, self.device, partial(_on_device, self.device), True) for module in modules], streamed=False)
        return True

    def stream(self) -> bool:
        """Stream the blocks' weights from now on; False where that is done already, or there is nothing to stream.

        Weights may lie anywhere before.  Those that are not streamed come to the device.

        Raises:
            torch.OutOfMemoryError, RuntimeError: main memory cannot hold them, or the device the rest.
        """
        if self.streamed:
            return False
        if self._held is not None:  # in 8 bits on the device, and from now on in main memory
            self._moved(lambda size: _room(size, self.device.type == "cuda"), streamed=True)
            return True
        unpack(self.network)
        modules = self._large_blocks()
        if not modules:
            return False
        self._hold(self._read_to_host(modules), streamed=True)
        return True

    def _large_blocks(self) -> list[nn.Module]:
        return [module for module in blocks_of(self.network) if size_of(module) >= SMALL]

    def _hold(self, blocks: list[Block], streamed: bool) -> None:
        """Have these blocks' weights brought when they run, and all others on the device."""
        self.derived = None
        _wait_for(self.device)
        with torch.inference_mode(False):  # weights outlive the caller's mode
            within = {place for block in blocks for place in block.places}
            for place in places_of(self.network):
                if place not in within and (there := tensor_at(place)).device != self.device:
                    set_tensor(place, as_weight(there, there.to(self.device)))
        self._held = _Held(blocks, self.device, streamed)

    def _read_to_host(self, modules: list[nn.Module]) -> list[Block]:
        """These as blocks whose weights are in main memory; all of them, or none where it is too small."""
        self.derived = None
        _wait_for(self.device)
        held: list[Block] = []
        try:
            for module in modules:
                held.append(Block(module, self.device, lambda size: _room(size, self.device.type == "cuda")))
        except Exception:
            with torch.inference_mode(False):
                for block in held:
                    block.bind([as_weight(view, view.to(self.device)) for view in block.at_rest])
                    block.end()
            raise
        return held

    def _moved(self, room: Callable[[int], Tensor], streamed: bool) -> None:
        """Let the blocks' bytes lie elsewhere; all of them, or none where there is no room."""
        assert self._held is not None, "the caller holds some"
        _wait_for(self.device)
        self._held.let_go_of_buffers()
        with torch.inference_mode(False):
            rooms = [room(block.size) for block in self._held.blocks]
            for block, into in zip(self._held.blocks, rooms, strict=True):
                block.move_to(into)
        self._held.streamed = streamed

    def settle(self) -> None:
        """Bring all weights to the device, to stay there; what is kept in 8 bits stays so.

        Raises:
            torch.OutOfMemoryError: they do not fit; they are streamed as before.
        """
        if not self.streamed:
            return
        held = self._held
        assert held is not None, "what is streamed is held"
        if held.in_eight_bits:
            self._moved(partial(_on_device, self.device), streamed=False)
            return
        self.derived = None
        _wait_for(self.device)
        brought = []
        held.let_go_of_buffers()
        with torch.inference_mode(False):
            for block in held.blocks:
                brought.append([as_weight(view, view.to(self.device, copy=True)) for view in block.at_rest])
            for block, weights in zip(held.blocks, brought, strict=True):
                block.bind(weights)
        held.end()
        self._held = None

    def let_go_of_buffers(self) -> None:
        """Give back the memory of the device in which blocks are while they run; it is taken anew with the next forward."""
        if self._held is not None:
            _wait_for(self.device)
            self._held.let_go_of_buffers()


def _wait_for(device: torch.device) -> None:
    """Return when no kernel on any stream reads the weights that are about to be moved."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _on_device(device: torch.device, size: int) -> Tensor:
    return torch.empty(size, dtype=torch.uint8, device=device)


def _room(size: int, pinned: bool) -> Tensor:
    """Bytes in main memory; pageable where no more can be pinned, from where copies are slower."""
    if pinned:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty(size, dtype=torch.uint8)


class _Held:
    """Binds each block's weights while it runs.

    Where they are `streamed`, the next block's are brought to the device into one of two buffers meanwhile; what is in 8 bits
    is brought to the computing format in a buffer that all blocks share, as one runs behind the other.
    """

    def __init__(self, blocks: list[Block], device: torch.device, streamed: bool) -> None:
        self.blocks, self.streamed, self._device = blocks, streamed, device
        self._transfers: Transfers = SideStream(device) if device.type == "cuda" else Inline()
        self._buffers: list[Tensor] = []
        self._views: dict[tuple[int, int], list[Tensor]] = {}
        self._holding: list[int | None] = [None, None]
        self._computing: Tensor | None = None
        self._computed: dict[int, list[Tensor]] = {}
        self._hooks: list[RemovableHandle] = []
        there = weakref.ref(self)  # what a hook holds, its module holds: without a cycle, memory is free at once
        for number, block in enumerate(blocks):
            self._hooks += [
                block.module.register_forward_pre_hook(_hook(there, _Held._enter, number)),
                # a forward that fails leaves no block bound to a buffer
                block.module.register_forward_hook(_hook(there, _Held._leave, number), always_call=True),
            ]

    @property
    def in_eight_bits(self) -> bool:
        return any(block.in_eight_bits for block in self.blocks)

    @property
    def scale_bytes(self) -> int:
        scales = [scale for block in self.blocks for scale in block.scales if scale is not None]
        return sum(scale.numel() * scale.element_size() for scale in scales)

    def _enter(self, number: int) -> None:
        with torch.inference_mode(False):
            weights = self._arrived(number) if self.streamed else self.blocks[number].at_rest
            self.blocks[number].bind(self._in_computing_format(number, weights))

    def _arrived(self, number: int) -> list[Tensor]:
        """The weights of a block on the device, where the next one's follow."""
        if not self._buffers:
            self._make_buffers()
        following = (number + 1) % len(self.blocks)
        if number not in self._holding:
            self._fetch(number, 1 if self._holding[0] == following else 0)
        buffer = self._holding.index(number)
        self._transfers.wait(buffer)
        if following not in self._holding:
            self._fetch(following, 1 - buffer)
        return self._in(buffer, number)

    def _in_computing_format(self, number: int, weights: list[Tensor]) -> list[Tensor]:
        block = self.blocks[number]
        if not block.in_eight_bits:
            return weights
        if self._computing is None:
            self._computing = _on_device(self._device, max(each.computing.size for each in self.blocks))
        if number not in self._computed:
            self._computed[number] = block.computing.views(self._computing)
        views = self._computed[number]
        for view, kept, scale in zip(views, weights, block.scales, strict=True):
            if scale is None:
                view.copy_(kept)
            else:
                eight_bits.widen(kept, scale, view)
        return views

    def _leave(self, number: int) -> None:
        self.blocks[number].bind(self.blocks[number].at_rest)
        if self.streamed and number in self._holding:
            self._transfers.used(self._holding.index(number))

    def _fetch(self, number: int, buffer: int) -> None:
        host = self.blocks[number].bytes
        self._transfers.copy(buffer, self._buffers[buffer][: len(host)], host)
        self._holding[buffer] = number

    def _in(self, buffer: int, number: int) -> list[Tensor]:
        if (buffer, number) not in self._views:
            self._views[buffer, number] = self.blocks[number].kept.views(self._buffers[buffer])
        return self._views[buffer, number]

    def _make_buffers(self) -> None:
        largest = max(block.size for block in self.blocks)
        self._buffers = [_on_device(self._device, largest) for _ in range(2)]
        for buffer in range(2):
            self._transfers.used(buffer)  # by whatever had this memory before

    def let_go_of_buffers(self) -> None:
        self._transfers.end()
        self._buffers, self._holding = [], [None, None]
        self._views.clear()
        self._computing = None
        self._computed.clear()

    def end(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        for block in self.blocks:
            block.end()


def _hook(held: weakref.ref[_Held], call: Callable[[_Held, int], None], number: int) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        there = held()
        assert there is not None, "who runs a network holds its placement"
        call(there, number)

    return hook

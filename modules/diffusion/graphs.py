"""CUDA graphs as an accelerator: a forward's kernels recorded once, then launched together.

With few rows a U-Net's forward waits for its launches, not for the device: a recorded one of 2 rows took 10 ms where the same
kernels launched one by one took 25 (one H100, SD 1.5 at 512x512).  A recording is for one shape: rows, height, width, context
tokens, and the adapters that are on.  It is made when a shape comes again, and kept only where its replay is no slower.

This file decides what is recorded, replayed and dropped; a `Recorder` does it (`CudaRecorder`, and a plain twin in the tests).
"""

from __future__ import annotations

import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from modules.diffusion.accelerators import UNetForward
from modules.diffusion.attention.backends import failed_device, first_line
from modules.diffusion.forward import Applied, ForwardContext
from modules.diffusion.unet import UNet

log = logging.getLogger(__name__)

BUCKETS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
"""Rows of recordings: a forward of 5 rows is one of 6 whose last answer is dropped."""

MOST = 24
"""Recordings kept of a network; the one replayed least recently goes first."""

REPEATS = 2
"""A shape is recorded when it comes so often."""

REPEATS_BESIDE = 12
"""The same for a shape that another's recording with more rows can answer: that one's idle rows cost less than recording every
number of rows that comes by while users come and go."""

IDLE = 2.0
"""A recording answers for a shape where it has at most so many times its rows."""

FASTER = 1.0
"""A recording is kept where a replay takes at most this part of the time of separate launches: where it takes as long, the host
is still freed of them."""

ROOM = 1_000_000_000
"""Bytes that have to be free for another recording: it keeps memory which pictures need more on a small card."""

MOST_SHAPES = 1_000
"""Shapes whose repeats are counted, and verdicts kept."""


@dataclass(frozen=True)
class Recording:
    """`replay` computes anew what the recorded call computed, from what is in its inputs' memory now, into `output`."""

    replay: Callable[[], None]
    output: Tensor


class Recorder(Protocol):
    """What records the kernels of a call."""

    def record(self, call: Callable[[], Tensor]) -> Recording:
        """Record `call`, which ran before with the same shapes.

        Raises:
            RuntimeError: it does what cannot be recorded.
        """

    def seconds(self, call: Callable[[], object]) -> float:
        """How long the device needs for `call`."""

    def has_room(self) -> bool:
        """Whether there is memory for another recording."""


class CudaRecorder:
    """Records with CUDA's graphs.  All recordings of one share their memory: they never run at the same time, and what they
    answer is copied before the next."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None

    def record(self, call: Callable[[], Tensor]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        pool, self._pool = self._pool, None  # a recording that fails leaves its memory in a state that no other can use
        # Host threads load adapters meanwhile, which is no part of the recording: only this thread's mistakes count
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = call()
        self._pool = graph.pool()
        return Recording(graph.replay, output)

    def seconds(self, call: Callable[[], object]) -> float:
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        call()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def has_room(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + kept >= ROOM


@dataclass(frozen=True)
class _Forward:
    """The arguments of one forward, as `UNetForward` has them."""

    x: Tensor
    timesteps: Tensor
    context: Tensor
    ctx: ForwardContext | None
    vector: Tensor | None

    @property
    def recordable(self) -> bool:
        """Taps, control residuals and skip edits are of single forwards."""
        ctx = self.ctx
        alike = ctx is None or (not ctx.taps and ctx.residuals is None and not ctx.skip_edits)
        return len(self.x) <= BUCKETS[-1] and alike

    @property
    def shape(self) -> Hashable:
        """What a recording is good for, but its rows."""
        # Known by weak references: only a recording, which runs them, may keep adapters in memory
        applied = () if self.ctx is None else (self.ctx.adapters, self.ctx.hypernetworks)
        adapters = tuple([tuple([weakref.ref(one.adapter) for one in each]) for each in applied])
        vector = None if self.vector is None else self.vector.shape[1:]
        return self.x.shape[1:], self.x.dtype, self.context.shape[1:], vector, adapters

    def by(self, network: UNetForward) -> Tensor:
        return network(self.x, self.timesteps, self.context, self.ctx, self.vector)


class Inputs:
    """The memory that a recording reads its inputs from; `forward` are its arguments."""

    def __init__(self, forward: _Forward, strengths: Sequence[Tensor]) -> None:
        self.forward, self.strengths = forward, strengths
        self._from: dict[str, Tensor] = {}
        """What the context and the vector were copied from last: they stay the same over all steps of a picture."""

    @classmethod
    def of(cls, rows: int, forward: _Forward) -> Inputs:
        """Zeros of so many rows in the shapes of `forward`."""
        applied = _applied(forward)
        strengths = [torch.zeros(rows, device=forward.x.device) for _ in applied]
        on_all = tuple([Applied(one.adapter, None, many) for one, many in zip(applied, strengths, strict=True)])
        layers = 0 if forward.ctx is None else len(forward.ctx.adapters)
        mine = _Forward(
            _rows_like(forward.x, rows),
            _rows_like(forward.timesteps, rows),
            _rows_like(forward.context, rows),
            ForwardContext(on_all[:layers], on_all[layers:]) if on_all else None,
            None if forward.vector is None else _rows_like(forward.vector, rows),
        )
        return cls(mine, strengths)

    def fill(self, forward: _Forward) -> None:
        """Put a forward's inputs there; rows that it does not have keep earlier values, or zeros."""
        count = len(forward.x)
        self.forward.x[:count].copy_(forward.x)
        self.forward.timesteps[:count].copy_(forward.timesteps)
        self._keep("context", self.forward.context, forward.context)
        if self.forward.vector is not None and forward.vector is not None:
            self._keep("vector", self.forward.vector, forward.vector)
        for mine, one in zip(self.strengths, _applied(forward), strict=True):
            mine.zero_()
            if one.rows is None:
                mine[:count].copy_(one.strengths)
            else:
                mine.index_copy_(0, one.rows, one.strengths)

    def _keep(self, name: str, mine: Tensor, theirs: Tensor) -> None:
        if self._from.get(name) is not theirs:
            mine[: len(theirs)].copy_(theirs)
            self._from[name] = theirs


def _applied(forward: _Forward) -> tuple[Applied, ...]:
    """All adapters of a forward, with their rows and strengths."""
    return () if forward.ctx is None else (*forward.ctx.adapters, *forward.ctx.hypernetworks)


def _rows_like(tensor: Tensor, rows: int) -> Tensor:
    """Zeros in the shape of `tensor` with so many rows, in its memory layout."""
    layout = torch.channels_last if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) else None
    zeros = torch.zeros(rows, *tensor.shape[1:], dtype=tensor.dtype, device=tensor.device)
    return zeros if layout is None else zeros.contiguous(memory_format=layout)


@dataclass
class _Recorded:
    inputs: Inputs
    recording: Recording


class GraphedUNet:
    """A `UNetForward` that replays recordings of shapes that come again, and leaves everything else to the network."""

    def __init__(self, unet: UNet, recorder: Recorder, most: int = MOST) -> None:
        self.unet, self.recorder, self.most = unet, recorder, most
        self._recorded: OrderedDict[tuple[int, Hashable], _Recorded] = OrderedDict()
        """By rows and shape, the one replayed least recently first."""
        self._seen: OrderedDict[tuple[int, Hashable], int] = OrderedDict()
        """How often those came that are not recorded."""
        self.replays = 0

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        forward = _Forward(x, timesteps, context, ctx, vector)
        recorded = self._recording_for(forward) if forward.recordable else None
        if recorded is None:
            return forward.by(self.unet)
        recorded.inputs.fill(forward)
        recorded.recording.replay()
        self.replays += 1
        return recorded.recording.output[: len(x)].clone()  # the next replay writes over it

    def _recording_for(self, forward: _Forward) -> _Recorded | None:
        """The recording that answers this forward; None where the network is to do it."""
        rows, shape = bucket(len(forward.x)), forward.shape
        if (rows, shape) not in self._recorded:
            larger = next((size for size in BUCKETS if rows < size <= IDLE * rows and (size, shape) in self._recorded), None)
            times = self._seen[rows, shape] = self._seen.pop((rows, shape), 0) + 1
            while len(self._seen) > MOST_SHAPES:
                self._seen.popitem(last=False)
            if times == (REPEATS if larger is None else REPEATS_BESIDE) and self.recorder.has_room():
                self._record(rows, forward)
            if (rows, shape) not in self._recorded:
                if larger is None:
                    return None
                rows = larger
        self._recorded.move_to_end((rows, shape))
        return self._recorded[rows, shape]

    def _record(self, rows: int, forward: _Forward) -> None:
        """Record this shape, where a replay is no slower."""
        inputs = Inputs.of(rows, forward)
        inputs.fill(forward)
        try:
            inputs.forward.by(self.unet)  # chooses algorithms and buffers, which a recording cannot
            launched = self.recorder.seconds(lambda: inputs.forward.by(self.unet))
            recording = self.recorder.record(lambda: inputs.forward.by(self.unet))
            recording.replay()
            replayed = self.recorder.seconds(recording.replay)
        except Exception as error:
            if failed_device(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            log.warning("no CUDA graph of %d rows of %s: %s", rows, tuple(forward.x.shape[1:]), first_line(error))
            return
        figures = (rows, tuple(forward.x.shape[1:]), replayed * 1e3, launched * 1e3)
        log.debug("CUDA graph of %d rows of %s: %.2f ms, launched one by one %.2f", *figures)
        if replayed > FASTER * launched:
            return
        self._seen.pop((rows, forward.shape), None)
        self._recorded[rows, forward.shape] = _Recorded(inputs, recording)
        while len(self._recorded) > self.most:
            self._recorded.popitem(last=False)


def bucket(rows: int) -> int:
    """The rows of the recording for a forward of so many."""
    return next(size for size in BUCKETS if size >= rows)


def graphed(device: torch.device) -> Callable[[UNet], UNetForward]:
    """The accelerator for CUDA device `device`."""
    return lambda unet: GraphedUNet(unet, CudaRecorder(device))

"""CUDA graphs as an accelerator: a forward's kernels recorded once, then launched together.

With few rows a U-Net's forward waits for its launches, not for the device: a recorded one of 2 rows took 10 ms where the same
kernels launched one by one took 25 (one H100, SD 1.5 at 512x512).  A recording is for one shape: rows, height, width, context
tokens, and the adapters that are on.  It is made when a shape comes again, and kept only where its replay is faster.

This file decides what is recorded, replayed and dropped; a `Recorder` does it (`CudaRecorder`, and a plain twin in the tests).
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from modules.diffusion.accelerators import UNetForward
from modules.diffusion.attention import failed_device
from modules.diffusion.forward import Applied, ForwardContext
from modules.diffusion.unet import UNet

log = logging.getLogger(__name__)

BUCKETS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
"""Rows of recordings: a forward of 5 rows is one of 6 whose last answer is dropped."""

MOST = 24
"""Recordings kept of a network; the one replayed least recently goes first."""

REPEATS = 2
"""A shape is recorded when it comes so often."""

FASTER = 0.97
"""A recording is kept where a replay takes at most this part of the time of separate launches."""

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


class CudaRecorder:
    """Records with CUDA's graphs.  All recordings of one share their memory: they never run at the same time, and what they
    answer is copied before the next."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, call: Callable[[], Tensor]) -> Recording:
        graph = torch.cuda.CUDAGraph()
        # Host threads load adapters meanwhile, which is no part of the recording: only this thread's mistakes count
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            output = call()
        return Recording(graph.replay, output)

    def seconds(self, call: Callable[[], object]) -> float:
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        call()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


@dataclass
class Inputs:
    """The memory that a recording reads its inputs from."""

    x: Tensor
    timesteps: Tensor
    context: Tensor
    vector: Tensor | None
    strengths: list[Tensor]
    """Of each adapter, (rows,): 0 for rows without it."""
    ctx: ForwardContext | None
    _from: dict[str, Tensor] = field(default_factory=dict)
    """What the context and the vector were copied from last: they stay the same over all steps of a picture."""

    @classmethod
    def of(
        cls, rows: int, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None, ctx: ForwardContext | None
    ) -> Inputs:
        applied = () if ctx is None else ctx.adapters
        strengths = [torch.zeros(rows, device=x.device) for _ in applied]
        on_all = tuple([Applied(one.adapter, None, many) for one, many in zip(applied, strengths, strict=True)])
        return cls(
            _rows_like(x, rows),
            _rows_like(timesteps, rows),
            _rows_like(context, rows),
            None if vector is None else _rows_like(vector, rows),
            strengths,
            ForwardContext(on_all) if on_all else None,
        )

    def fill(self, x: Tensor, timesteps: Tensor, context: Tensor, vector: Tensor | None, ctx: ForwardContext | None) -> None:
        """Put a forward's inputs there; rows that it does not have keep earlier values, or zeros."""
        count = len(x)
        self.x[:count].copy_(x)
        self.timesteps[:count].copy_(timesteps)
        for name, mine, theirs in (("context", self.context, context), ("vector", self.vector, vector)):
            if mine is not None and theirs is not None and self._from.get(name) is not theirs:
                mine[:count].copy_(theirs)
                self._from[name] = theirs
        if ctx is not None:
            for mine, one in zip(self.strengths, ctx.adapters, strict=True):
                mine.zero_()
                if one.rows is None:
                    mine[:count].copy_(one.strengths)
                else:
                    mine.index_copy_(0, one.rows, one.strengths)


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
        self._recorded: OrderedDict[Hashable, _Recorded] = OrderedDict()
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        """How often shapes came that are not recorded; large numbers for those that never will be."""
        self.replays = 0

    def __call__(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        if not _recordable(len(x), ctx):
            return self.unet(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]
        rows = bucket(len(x))
        key = _key(rows, x, context, ctx, vector)
        recorded = self._recorded.get(key) or self._recorded_now(key, rows, x, timesteps, context, ctx, vector)
        if recorded is None:
            return self.unet(x, timesteps, context, ctx, vector)  # type: ignore[no-any-return]
        self._recorded.move_to_end(key)
        recorded.inputs.fill(x, timesteps, context, vector, ctx)
        recorded.recording.replay()
        self.replays += 1
        return recorded.recording.output[: len(x)].clone()  # the next replay writes over it

    def _recorded_now(
        self,
        key: Hashable,
        rows: int,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        ctx: ForwardContext | None,
        vector: Tensor | None,
    ) -> _Recorded | None:
        """A new recording, where this shape came again and a replay is faster; None for as long as the network is to do it."""
        times = self._seen[key] = self._seen.pop(key, 0) + 1
        while len(self._seen) > MOST_SHAPES:
            self._seen.popitem(last=False)
        if times != REPEATS:
            return None
        inputs = Inputs.of(rows, x, timesteps, context, vector, ctx)
        inputs.fill(x, timesteps, context, vector, ctx)

        def call() -> Tensor:
            return self.unet(inputs.x, inputs.timesteps, inputs.context, inputs.ctx, inputs.vector)  # type: ignore[no-any-return]

        try:
            call()  # chooses algorithms and buffers, which a recording cannot
            launched = self.recorder.seconds(lambda: self.unet(x, timesteps, context, ctx, vector))
            recording = self.recorder.record(call)
            recording.replay()
            replayed = self.recorder.seconds(recording.replay)
        except Exception as error:
            if failed_device(error) and not isinstance(error, torch.OutOfMemoryError):
                raise
            log.warning(
                "no CUDA graph of %s rows of %s: %s", rows, tuple(x.shape[1:]), (str(error).splitlines() or [repr(error)])[0]
            )
            return None
        log.debug("CUDA graph of %s rows of %s: %.2f ms for %.2f", rows, tuple(x.shape[1:]), replayed * 1e3, launched * 1e3)
        if replayed > FASTER * launched:
            return None
        del self._seen[key]
        self._recorded[key] = _Recorded(inputs, recording)
        while len(self._recorded) > self.most:
            self._recorded.popitem(last=False)
        return self._recorded[key]


def bucket(rows: int) -> int:
    """The rows of the recording for a forward of so many."""
    return next(size for size in BUCKETS if size >= rows)


def _recordable(rows: int, ctx: ForwardContext | None) -> bool:
    """Taps and control residuals are of single forwards."""
    return rows <= BUCKETS[-1] and (ctx is None or (not ctx.taps and ctx.residuals is None))


def _key(rows: int, x: Tensor, context: Tensor, ctx: ForwardContext | None, vector: Tensor | None) -> Hashable:
    adapters = () if ctx is None else tuple([applied.adapter for applied in ctx.adapters])
    return rows, x.shape[1:], x.dtype, context.shape[1:], None if vector is None else vector.shape[1:], adapters


def graphed(device: torch.device) -> Callable[[UNet], UNetForward]:
    """The accelerator for CUDA device `device`."""
    return lambda unet: GraphedUNet(unet, CudaRecorder(device))

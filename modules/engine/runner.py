"""Everything that touches the device: one batch of like ops in, one answer per op out.

The runner knows tensors and models; it does not know pipelines, users or the order of things.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.tiny_autoencoders import TinyLatentSpace
from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.diffusion.rows import Answer, Row
from modules.engine.budgets import DECODE_POSITIONS, POSITIONS, UPSCALE_PIXELS, Budgets, knee
from modules.engine.costs import BY_TAESD
from modules.engine.gauge import Gauge
from modules.engine.memory import MemoryLadder, out_of_memory
from modules.engine.streams import Immediate, Pending, Span, Streams
from modules.engine.tiny_previews import TinyPreviews
from modules.errors import NotFinite
from modules.pipelines.ops import Check, Decode, DeviceOp, Encode, EncodeImage, Predict, Upscale, autoencoder_failed

CACHED_WINDOWS = 512
"""Encoded windows of 75 tokens that are kept, over all models; 120 MB of SD 1.x in fp32."""

PROBE_SECONDS = 0.5
"""How long measuring a model's forwards may take before no larger one is tried."""

WARMING = ("cuda",)
"""Devices on which the first call of a shape is never a measure: attention is measured there, and libraries make plans."""

QUICK_DECODE = {"cpu": 0.06, "cuda": 0.009}
"""Seconds: previews of models that decode faster than this are real decodes, of others a linear map of the latent.  On a GPU
that is 3 % of the time between two previews (`reports.PREVIEW_SECONDS`)."""


def batch_key(op: DeviceOp) -> tuple[str, ModelHandle | UpscalerHandle, Any]:
    """Ops with equal keys can share one call of the device."""
    if isinstance(op, Predict):
        return ("predict", op.model.network, tuple(op.rows[0].x.shape))
    if isinstance(op, Encode):
        return ("encode", op.model.network, (op.clip_skip, _versions(op)))
    if isinstance(op, EncodeImage):
        factor = op.model.latent.factor
        channels, height, width = op.image.shape
        return ("encode-image", op.model, (channels, height // factor, width // factor))
    if isinstance(op, Decode):
        return ("decode", op.model, tuple(op.latent.shape))
    if isinstance(op, Upscale):
        return ("upscale", op.model, tuple(op.image.shape))
    raise TypeError(f"{type(op).__name__} is not for the device")


def work_of(op: Predict | EncodeImage | Decode) -> str:
    """What it is called among the costs: that of an autoencoder is another where TAESD stands in its place."""
    if isinstance(op, Predict):
        return "predict"
    decodes, latent = isinstance(op, Decode), op.model.latent
    tiny = isinstance(latent, TinyLatentSpace) and (latent.decoder if decodes else latent.encoder) is not None
    return ("decode" if decodes else "encode-image") + (BY_TAESD if tiny else "")


def _versions(op: Encode) -> tuple[tuple[str, float], ...]:
    """The adapters of an encode as what they are remembered by: no cache keeps their tensors."""
    return tuple((adapter.version, strength) for adapter, strength in op.adapters)


def _magnitudes(values: Tensor) -> Tensor:
    """The largest magnitude of each row of `values` (B, ...), (B,): one kernel, and NaN goes before everything."""
    magnitudes: Tensor = torch.linalg.vector_norm(values.flatten(1), float("inf"), dim=1)
    return magnitudes


@dataclass
class Runner:
    """Runs batches on the device behind `streams`.  `exact` lets every op run alone, so that repeats are equal to the last bit.

    Work is launched; on a GPU it is done later.  `make_room` and `say` are those of `MemoryLadder`.
    """

    exact: bool = False
    streams: Streams = field(default_factory=Immediate)
    forwards: int = 0
    """Network evaluations so far; what sharing saves shows here."""
    rows: int = 0
    make_room: Callable[[ModelHandle | UpscalerHandle], bool] = lambda handle: False
    say: Callable[[DeviceOp, str], None] = lambda op, sentence: None
    gauge: Gauge = field(default_factory=Gauge)
    """Measures what calls take of the device's memory."""
    _windows: OrderedDict[tuple[ModelHandle, Hashable, Hashable], Any] = field(default_factory=OrderedDict)
    _decode_seconds: dict[tuple[ModelHandle, torch.Size], float] = field(default_factory=dict)
    """Of one picture, by the shape of its latent: what a preview of that size would cost."""
    _positions: dict[ModelHandle, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._budgets = Budgets(self._ceiling)
        self._tiny = TinyPreviews(self.streams, lambda kind: QUICK_DECODE.get(kind, 0.0))
        self.memory = MemoryLadder(lambda ops: self._run(ops), self.make_room, self.say)

    def budget(self, key: Hashable) -> int:
        """How many rows of this key one call takes."""
        return 1 if self.exact else self._budgets.rows(key)

    def _ceiling(self, key: Hashable) -> int:
        assert isinstance(key, tuple)
        kind, model = key[0], key[1]
        if kind == "encode":
            return 64
        if kind == "upscale":
            return int(max(1, UPSCALE_PIXELS.get(model.device.type, 1) // (key[2][1] * key[2][2])))
        positions = (POSITIONS if kind == "predict" else DECODE_POSITIONS).get(model.device.type, 16_384)
        if kind == "predict":
            positions = self._positions.get(model, positions)
        _, height, width = key[2]
        return max(1, int(positions // (height * width)))

    def measuring(self, model: ModelHandle, height: int, width: int) -> Generator[None, None, dict[int, float]]:
        """Time forwards of 1, 2, 4, 8 ... rows of latents (height, width), and let the model's budget follow from them.

        A generator that may rest between two forwards, so that pictures go before.  Its result are seconds by rows.  It ends
        where more rows bring nothing, memory ends, or it takes too long.
        """
        measured: dict[int, float] = {}
        most = max(2, POSITIONS.get(model.device.type, 16_384) // (height * width))
        latent = torch.zeros(model.latent.channels, height, width, device=model.device)
        sigmas = model.noise.trained.sigmas
        row = Row(latent, sigmas[len(sigmas) // 2], model.denoiser.example(height, width))
        warming = model.device.type in WARMING
        for rows in (*((2, 1) if warming else (1, 2)), *[2**power for power in range(2, most.bit_length())]):
            try:
                seconds = self._timed(model, [row] * rows)  # the first of a shape also chooses algorithms and buffers
                if warming:
                    yield
                    self._timed(model, [row] * rows)  # a CUDA graph is recorded when a shape comes again
                    yield
                if seconds <= PROBE_SECONDS or warming:
                    seconds = self._timed(model, [row] * rows)
                measured[rows] = seconds
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                most = rows // 2
                break
            if sum(measured.values()) > PROBE_SECONDS or (rows > 2 and measured[rows] > 1.9 * measured[rows // 2]):
                break
            yield
        if model.device.type == "cuda":
            model.latent.linear_preview(latent.new_zeros(model.latent.channels, 8, 8))  # the first may run the autoencoder
        if len(measured) > 1:
            self._positions[model] = min(knee(measured), max(1, most)) * height * width
        return measured

    def measure(self, model: ModelHandle, height: int, width: int) -> dict[int, float]:
        """`measuring` at one go."""
        steps = self.measuring(model, height, width)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                return dict(ended.value)

    def _timed(self, model: ModelHandle, rows: Sequence[Row]) -> float:
        start = time.perf_counter()
        self._forward(model, rows)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() - start

    def run(self, ops: Sequence[DeviceOp]) -> list[Any]:
        """One answer, or the exception that it caused, per op; a `Pending` where it is still on its way to the host.

        A batch that runs out of memory is halved, and a single op is run with less memory (`MemoryLadder`); a batch that fails
        otherwise is run again one by one, so that only the op that fails alone gets the error.
        """
        if self.memory.remembers(ops[0]):
            return [self.memory.run(op) for op in ops]
        key = batch_key(ops[0])
        rows = sum(len(op.rows) if isinstance(op, Predict) else 1 for op in ops)
        try:
            answers = self._run(ops)
            self._budgets.went_well(key, rows)
            self.memory.went_well(ops)
            return answers
        except Exception as error:
            full = out_of_memory(error)
            if full:
                self._budgets.out_of_memory(key, rows)
            if len(ops) == 1 and not full:
                return [error]
        # Outside the except block: a live exception would keep the failed batch's tensors, and the halves need their memory
        if not full:
            return [answer for op in ops for answer in self.run([op])]
        torch.cuda.empty_cache()
        if len(ops) == 1:
            return [self.memory.run(ops[0])]
        half = len(ops) // 2
        return self.run(ops[:half]) + self.run(ops[half:])

    def _run(self, ops: Sequence[DeviceOp]) -> list[Any]:
        first = ops[0]
        if isinstance(first, Predict):
            return self._predict([w for w in ops if isinstance(w, Predict)])
        if isinstance(first, Encode):
            return self._encode([w for w in ops if isinstance(w, Encode)])
        if isinstance(first, EncodeImage):
            return self._encode_images([w for w in ops if isinstance(w, EncodeImage)])
        if isinstance(first, Upscale):
            return self._upscale([w for w in ops if isinstance(w, Upscale)])
        return self._decode([w for w in ops if isinstance(w, Decode)])

    def _predict(self, ops: Sequence[Predict]) -> list[list[Answer]]:
        """One forward over the rows of all ops.  Rows differ freely in sigma, seed, guidance and prompt."""
        model = ops[0].model
        rows = [row for op in ops for row in op.rows]
        answers = iter(self._forward(model, rows))
        self.forwards += 1
        self.rows += len(rows)
        return [list(islice(answers, len(op.rows))) for op in ops]

    def _forward(self, model: ModelHandle, rows: Sequence[Row]) -> list[Answer]:
        latent = rows[0].x.shape[-2], rows[0].x.shape[-1]
        return self.gauge.measured("predict", model, latent, len(rows), lambda: model.denoise(rows))

    def largest(self, checks: Sequence[Check]) -> Tensor:
        """The largest magnitude of each check's values, (n,), on its way to the host: NaN or infinity where one is none."""
        values = [check.values for check in checks]
        if len({tuple(each.shape) for each in values}) == 1:
            return self.streams.to_host(_magnitudes(torch.stack(values)))
        return self.streams.to_host(torch.cat([_magnitudes(each[None]) for each in values]))

    def _encode(self, ops: Sequence[Encode]) -> list[list[Any]]:
        """All windows of a batch in one go, each distinct one once, those seen lately not at all."""
        model, clip_skip, adapters = ops[0].model.network, ops[0].clip_skip, ops[0].adapters
        how = (clip_skip, _versions(ops[0]))
        wanted = dict.fromkeys(chunk for op in ops for chunk in op.chunks)
        found: dict[Hashable, Any] = {}
        for chunk in wanted:
            key = (model, chunk, how)
            if key in self._windows:
                self._windows.move_to_end(key)
                found[chunk] = self._windows[key]
        missing = [chunk for chunk in wanted if chunk not in found]
        if missing:
            vectors = {embedding: vector for op in ops for embedding, vector in op.vectors.items()}
            for chunk, window in zip(missing, model.prompts.encode(missing, clip_skip, vectors, adapters), strict=True):
                found[chunk] = self._windows[model, chunk, how] = window
        while len(self._windows) > CACHED_WINDOWS:
            self._windows.popitem(last=False)
        return [[found[chunk] for chunk in op.chunks] for op in ops]

    def _encode_images(self, ops: Sequence[EncodeImage]) -> list[Tensor]:
        model, images = ops[0].model, torch.stack([op.image for op in ops])
        height, width = (side // model.latent.factor for side in images.shape[-2:])
        encode = partial(model.latent.encode, images)
        return list(self.gauge.measured(work_of(ops[0]), model, (height, width), len(ops), encode))

    def _decode(self, ops: Sequence[Decode]) -> list[Pending]:
        return self._decoded(ops[0].model, [op.latent for op in ops])

    def _upscale(self, ops: Sequence[Upscale]) -> list[Pending]:
        """The enlarged tiles, float32 (3, H, W) on the CPU each."""
        model = ops[0].model
        start = self.streams.mark()
        made = model.enlarge(torch.stack([op.image for op in ops]))
        largest = self.streams.to_host(_magnitudes(made))
        tiles = self.streams.to_host(made)
        span = Span(start, self.streams.mark())

        def result(number: int) -> Tensor:
            if not math.isfinite(largest[number]):
                raise NotFinite(f"the upscaler {model.info.name!r} gave NaN or infinity; try --dtype float32, or another one")
            return tiles[number]

        return [Pending(span, partial(result, number)) for number in range(len(ops))]

    def _decoded(self, model: ModelHandle, latents: Sequence[Tensor]) -> list[Pending]:
        """The pictures of `latents` (C, h, w), beside other work of the device: uint8 (H, W, 3) on the CPU each."""
        with self.streams.beside(*latents):
            start = self.streams.mark()
            latent = latents[0].shape[-2], latents[0].shape[-1]
            work = work_of(Decode(model, latents[0]))
            pixels, largest = self.gauge.measured(
                work, model, latent, len(latents), lambda: self._pixels(model, torch.stack(list(latents)))
            )
            pixels, largest = self.streams.to_host(pixels), self.streams.to_host(largest)
            span = Span(start, self.streams.mark())

        def result(number: int) -> Tensor:
            self._decode_seconds[model, latents[0].shape] = span.seconds / len(latents)
            if not math.isfinite(largest[number]):
                raise NotFinite(autoencoder_failed(model))
            return pixels[number]

        return [Pending(span, partial(result, number)) for number in range(len(latents))]

    def _pixels(self, model: ModelHandle, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, H, W, 3) uint8 of latents (B, C, h, w), and the largest magnitude (B,) that the decoder gave; on the
        device."""
        images = model.latent.decode(latents)
        pixels = ((images.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous(), _magnitudes(images)

    def preview(self, model: ModelHandle, denoised: Tensor) -> Pending:
        """What a running latent (C, h, w) looks like: uint8 (H, W, 3) on the CPU.

        A real decode where one of this size or a larger one was quick and memory is enough, else one by TAESD where there is a
        file of it for the model and that is quick, else the linear map, which the host computes.
        """
        if not self.memory.remembers(Decode(model, denoised)):
            if self._decodes_quickly(model, denoised.shape):
                return self._decoded(model, [denoised])[0]
            if (tiny := self._tiny.preview(model, denoised)) is not None:
                return tiny
        with self.streams.beside(denoised):
            start = self.streams.mark()
            copied = self.streams.to_host(denoised)
            span = Span(start, self.streams.mark())
        return Pending(span, lambda: model.latent.linear_preview(copied))

    def _decodes_quickly(self, model: ModelHandle, shape: torch.Size) -> bool:
        quick = QUICK_DECODE.get(model.device.type, 0.0)
        if (known := self._decode_seconds.get((model, shape))) is not None:
            return known < quick
        larger = [
            seconds
            for (of, decoded), seconds in self._decode_seconds.items()
            if of is model and decoded[-2] >= shape[-2] and decoded[-1] >= shape[-1]
        ]
        return min(larger, default=1.0) < quick

    def forget(self, keep: Callable[[Any], bool]) -> None:
        """Drop what is remembered of models that are gone."""
        for key in [key for key in self._windows if not keep(key[0])]:
            del self._windows[key]
        for known in [known for known in self._decode_seconds if not keep(known[0])]:
            del self._decode_seconds[known]
        for model in [model for model in self._positions if not keep(model)]:
            del self._positions[model]
        self._tiny.forget(keep)
        self._budgets.forget(lambda key: isinstance(key, tuple) and keep(key[1]))

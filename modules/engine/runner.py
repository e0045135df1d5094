"""Everything that touches the device: one batch of like ops in, one answer per op out.

The runner knows tensors and models; it does not know pipelines, users or the order of things.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.rows import Answer, Row
from modules.engine.budgets import Budgets, knee
from modules.engine.memory import MemoryLadder, out_of_memory
from modules.errors import NotFinite
from modules.pipelines.ops import Decode, DeviceOp, Encode, EncodeImage, Predict

CACHED_WINDOWS = 512
"""Encoded windows of 75 tokens that are kept, over all models; 120 MB of SD 1.x in fp32."""

POSITIONS = {"cpu": 16_384, "cuda": 131_072}
"""Latent positions (rows x height x width) of one forward at most.  512x512 has 4096: 4 rows on a CPU, 32 on a GPU; a CPU gains
nothing from more rows once a row is large, and a GPU is full.  What is measured when a model is loaded may lower it."""

DECODE_POSITIONS = {"cpu": 4_096, "cuda": 16_384}
"""The same for the autoencoder, whose activations are 50 times larger."""

PROBE_SECONDS = 0.5
"""How long measuring a model's forwards may take before no larger one is tried."""

QUICK_DECODE = 0.06
"""Seconds: previews of models that decode faster than this are real decodes, of others a linear map of the latent."""


def batch_key(op: DeviceOp) -> tuple[str, ModelHandle, Any]:
    """Ops with equal keys can share one call of the device."""
    if isinstance(op, Predict):
        return ("predict", op.model, tuple(op.rows[0].x.shape))
    if isinstance(op, Encode):
        return ("encode", op.model, (op.clip_skip, _versions(op)))
    if isinstance(op, EncodeImage):
        factor = op.model.latent.factor
        channels, height, width = op.image.shape
        return ("encode-image", op.model, (channels, height // factor, width // factor))
    if isinstance(op, Decode):
        return ("decode", op.model, tuple(op.latent.shape))
    raise TypeError(f"{type(op).__name__} is not for the device")


def _versions(op: Encode) -> tuple[tuple[str, float], ...]:
    """The adapters of an encode as what they are remembered by: no cache keeps their tensors."""
    return tuple((adapter.version, strength) for adapter, strength in op.adapters)


@dataclass
class Runner:
    """Runs batches.  `exact` lets every op run alone, so that repeats are equal to the last bit.

    `make_room` and `say` are those of `MemoryLadder`.
    """

    exact: bool = False
    forwards: int = 0
    """Network evaluations so far; what sharing saves shows here."""
    rows: int = 0
    make_room: Callable[[ModelHandle], bool] = lambda handle: False
    say: Callable[[DeviceOp, str], None] = lambda op, sentence: None
    _windows: OrderedDict[tuple[ModelHandle, Hashable, Hashable], Any] = field(default_factory=OrderedDict)
    _decode_seconds: dict[tuple[ModelHandle, torch.Size], float] = field(default_factory=dict)
    """Of one picture, by the shape of its latent: what a preview of that size would cost."""
    _positions: dict[ModelHandle, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._budgets = Budgets(self._ceiling)
        self.memory = MemoryLadder(lambda ops: self._run(ops), self.make_room, self.say)

    def budget(self, key: Hashable) -> int:
        """How many rows of this key one call takes."""
        return 1 if self.exact else self._budgets.rows(key)

    def _ceiling(self, key: Hashable) -> int:
        assert isinstance(key, tuple)
        kind, model = key[0], key[1]
        if kind == "encode":
            return 64
        positions = (POSITIONS if kind == "predict" else DECODE_POSITIONS).get(model.device.type, 16_384)
        if kind == "predict":
            positions = self._positions.get(model, positions)
        _, height, width = key[2]
        return max(1, int(positions // (height * width)))

    def measure(self, model: ModelHandle, height: int, width: int) -> dict[int, float]:
        """Time forwards of 1, 2, 4 ... rows of latents (height, width), and let the model's budget follow from them.

        Returns seconds by rows.  Ends where more rows bring nothing, memory ends, or it takes too long.
        """
        measured: dict[int, float] = {}
        rows, most = 1, max(2, POSITIONS.get(model.device.type, 16_384) // (height * width))
        latent = torch.zeros(model.latent.channels, height, width, device=model.device)
        sigmas = model.noise.trained.sigmas
        row = Row(latent, sigmas[len(sigmas) // 2], model.denoiser.example(height, width))
        while rows <= most:
            try:
                seconds = self._timed(model, [row] * rows)  # the first of a shape also chooses algorithms and buffers
                measured[rows] = seconds if seconds > PROBE_SECONDS else self._timed(model, [row] * rows)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                most = rows // 2
                break
            if sum(measured.values()) > PROBE_SECONDS or (rows > 2 and measured[rows] > 1.9 * measured[rows // 2]):
                break
            rows *= 2
        if len(measured) > 1:
            self._positions[model] = min(knee(measured), max(1, most)) * height * width
        return measured

    def _timed(self, model: ModelHandle, rows: Sequence[Row]) -> float:
        start = time.perf_counter()
        self._forward(model, rows)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() - start

    def run(self, ops: Sequence[DeviceOp]) -> list[Any]:
        """One answer, or the exception that it caused, per op.

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
        return model.denoise(rows)

    def _encode(self, ops: Sequence[Encode]) -> list[list[Any]]:
        """All windows of a batch in one go, each distinct one once, those seen lately not at all."""
        model, clip_skip, adapters = ops[0].model, ops[0].clip_skip, ops[0].adapters
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
        model = ops[0].model
        latents = model.latent.encode(torch.stack([op.image for op in ops]))
        if not bool(latents.isfinite().all()):
            raise NotFinite(f"the autoencoder of {model.info.name!r} gave NaN or infinity; try --dtype float32")
        return list(latents)

    def _decode(self, ops: Sequence[Decode]) -> list[Tensor]:
        model = ops[0].model
        start = time.perf_counter()
        pixels = self._pixels(model, torch.stack([op.latent for op in ops]))
        self._decode_seconds[model, ops[0].latent.shape] = (time.perf_counter() - start) / len(ops)
        return list(pixels)

    def _pixels(self, model: ModelHandle, latents: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 on the CPU."""
        images = model.latent.decode(latents)
        if not bool(images.isfinite().all()):
            raise NotFinite(f"the autoencoder of {model.info.name!r} gave NaN or infinity; try --dtype float32")
        pixels = ((images.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu()

    def preview(self, model: ModelHandle, denoised: Tensor) -> Tensor:
        """What a running latent (C, h, w) looks like: uint8 (H, W, 3) on the CPU.

        A real decode where one of this size or a larger one was quick and memory is enough, else the linear map.
        """
        if self._decodes_quickly(model, denoised.shape) and not self.memory.remembers(Decode(model, denoised)):
            start = time.perf_counter()
            pixels = self._pixels(model, denoised[None])[0]
            self._decode_seconds[model, denoised.shape] = time.perf_counter() - start
            return pixels
        return model.latent.linear_preview(denoised)

    def _decodes_quickly(self, model: ModelHandle, shape: torch.Size) -> bool:
        if (known := self._decode_seconds.get((model, shape))) is not None:
            return known < QUICK_DECODE
        larger = [
            seconds
            for (of, decoded), seconds in self._decode_seconds.items()
            if of is model and decoded[-2] >= shape[-2] and decoded[-1] >= shape[-1]
        ]
        return min(larger, default=1.0) < QUICK_DECODE

    def forget(self, keep: Callable[[ModelHandle], bool]) -> None:
        """Drop what is remembered of models that are gone."""
        for key in [key for key in self._windows if not keep(key[0])]:
            del self._windows[key]
        for known in [known for known in self._decode_seconds if not keep(known[0])]:
            del self._decode_seconds[known]
        for model in [model for model in self._positions if not keep(model)]:
            del self._positions[model]
        self._budgets.forget(lambda key: isinstance(key, tuple) and keep(key[1]))

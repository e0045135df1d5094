"""Which previews TAESD may decode: those that take the device no longer than `quick` seconds, by what it was seen to take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.engine.streams import Pending, Span, Streams

log = logging.getLogger(__name__)

PROBE = 4
"""Latent positions on each side of the first decode, from which the time of a whole picture is reckoned."""

WARMING_TRIES = 2
"""Decodes of a size on a GPU of which the time says nothing yet: the first chooses algorithms."""


@dataclass
class TinyPreviews:
    """Previews by the small decoder of a model (`ModelHandle.preview`), for the thread that runs the device.

    Args:
        streams: of the device.
        quick: seconds that a preview may take, by the kind of device.
        clock: seconds.
    """

    streams: Streams
    quick: Callable[[str], float]
    clock: Callable[[], float] = time.perf_counter
    _seconds: dict[tuple[ModelHandle, torch.Size], list[float]] = field(default_factory=dict)
    """What decodes of a size took, the last ones."""
    _per_position: dict[ModelHandle, float] = field(default_factory=dict)

    def preview(self, model: ModelHandle, latent: Tensor) -> Pending | None:
        """The picture of a latent (C, h, w) on its way to the host, uint8 (H, W, 3); None where it is not to be decoded."""
        if model.preview.component is None or not self._is_quick(model, latent):
            return None
        try:
            with self.streams.beside(latent):
                start = self.streams.mark()
                pixels = self.streams.to_host(model.preview.pixels(latent[None]))
                span = Span(start, self.streams.mark())
        except (RuntimeError, torch.OutOfMemoryError) as error:
            log.warning("no more previews by TAESD of this size: %s", str(error).split("\n", 1)[0])
            self._seconds[model.network, latent.shape] = [float("inf")] * (WARMING_TRIES + 1)
            return None

        def result() -> Tensor:
            self._seconds[model.network, latent.shape] = [*self._seconds.get((model.network, latent.shape), []), span.seconds][
                -8:
            ]
            return pixels[0]

        return Pending(span, result)

    def forget(self, keep: Callable[[ModelHandle], bool]) -> None:
        """Drop what is remembered of models that are gone."""
        for known in [known for known in self._seconds if not keep(known[0])]:
            del self._seconds[known]
        for model in [model for model in self._per_position if not keep(model)]:
            del self._per_position[model]

    def _is_quick(self, model: ModelHandle, latent: Tensor) -> bool:
        limit, warming = self.quick(latent.device.type), not self.streams.immediate
        known = self._seconds.get((model.network, latent.shape), [])
        if len(known) > (WARMING_TRIES if warming else 0):
            return min(known[WARMING_TRIES:] if warming else known) < limit
        if warming:
            return True
        if model.network not in self._per_position:
            part = latent[None, :, :PROBE, :PROBE]
            start = self.clock()
            model.preview.pixels(part)
            self._per_position[model.network] = (self.clock() - start) / (part.shape[-1] * part.shape[-2])
        return self._per_position[model.network] * latent.shape[-1] * latent.shape[-2] < limit

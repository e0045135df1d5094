"""Conditioning: an encoded prompt, for some networks also concat conditioning (a picture), and prompts that change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modules.diffusion.layers import timestep_embedding
from modules.diffusion.transfers import numbers
from modules.prompts.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Conditioning:
    """`context` is (T, D): T a multiple of the encoder's window (77 for CLIP), D the context width.

    `channels` (C2, h, w), the concat conditioning, follow those of the scaled x into networks that take more of them:
    inpainting, editing and enlarging models.
    `vector` (V,) joins the time embedding of networks that take one: SDXL's pooled text and sizes, the noise level of the
    picture that SD x4 upscaler enlarges.  `numbers` are those at its end by name, see `with_numbers`.
    """

    context: Tensor
    channels: Tensor | None = None
    vector: Tensor | None = None
    numbers: tuple[tuple[str, float], ...] = ()

    @property
    def tokens(self) -> int:
        return self.context.shape[0]

    def lengthened(self, tokens: int) -> Conditioning:
        """With the last token's vector repeated up to `tokens`: what A1111 does to the shorter sides of AND."""
        return replace(self, context=torch.cat([self.context, self.context[-1:].expand(tokens - self.tokens, -1)]))

    def blank(self) -> Conditioning:
        """No text at all: zeros in the place of the encoding."""
        return replace(self, context=torch.zeros_like(self.context), vector=None if self.vector is None else self.vector * 0)

    def with_numbers(self, features: Tensor, numbers: Sequence[tuple[str, float]] = ()) -> Conditioning:
        """With features of numbers (`number_features`) behind the pooled text, and what the numbers are."""
        vector = features if self.vector is None else torch.cat([self.vector.to(features), features])
        return replace(self, vector=vector, numbers=tuple(numbers))

    def cropped(self, left: int, top: int, width: int, height: int, factor: int) -> Conditioning:
        """The same for a window of the latent, in latent positions of `factor` pixels: itself where it says nothing of places.

        Concat conditioning is cropped.  Networks that are told where their picture was cut from a larger one (SDXL) are told
        that of the window: the original stays, the cut begins further right and below, and the picture is as large as the
        window.
        """
        if self.channels is None and not self.numbers:
            return self
        channels = None if self.channels is None else self.channels[:, top : top + height, left : left + width]
        vector, numbers = self.vector, self.numbers
        if self.numbers and vector is not None:
            moved = {"left": left * factor, "top": top * factor}
            sizes = {"target width": width * factor, "target height": height * factor}
            numbers = tuple((name, sizes.get(name, value + moved.get(name, 0))) for name, value in self.numbers)
            features = number_features([value for _, value in numbers], vector.device)
            vector = torch.cat([vector[: len(vector) - len(features)], features.to(vector)])
        return replace(self, channels=channels, vector=vector, numbers=numbers)


def number_features(values: Sequence[float], device: torch.device) -> Tensor:
    """What a network's vector has beside the pooled text: (256 * n,), fp32, 256 sinusoidal features of each number.

    SDXL's are the height and width of the original, the top and left of the crop and the height and width of the picture
    (Podell et al. 2023, arXiv:2307.01952, section 2.2).
    """
    return timestep_embedding(numbers(values, device, torch.float32), 256).flatten()


@dataclass(frozen=True, eq=False)
class ConditioningTimeline:
    """A prompt that changes while the picture is made: one conditioning, all of one length, per text of `timeline`."""

    timeline: Timeline
    conditionings: tuple[Conditioning, ...]

    def at(self, evaluation: int) -> Conditioning:
        """What counts at this evaluation of the network, counted from 0."""
        return self.conditionings[self.timeline.index(evaluation)]

    def with_channels(self, channels: Tensor, vector: Tensor | None = None) -> ConditioningTimeline:
        """The same texts with concat conditioning, and a `vector` where one is given, see `Conditioning`."""
        made = [replace(each, channels=channels) for each in self.conditionings]
        if vector is not None:
            made = [replace(each, vector=vector, numbers=()) for each in made]
        return ConditioningTimeline(self.timeline, tuple(made))

    def mapped(self, change: Callable[[Conditioning], Conditioning]) -> ConditioningTimeline:
        """The same texts with their conditionings changed."""
        return ConditioningTimeline(self.timeline, tuple(map(change, self.conditionings)))

"""Conditioning: an encoded prompt, for some networks also concat conditioning (a picture); and what can be joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modules.diffusion.layers import timestep_embedding
from modules.prompts.timeline import Timeline

MAX_JOINED_TOKENS = 77 * 12
"""Contexts join up to this common length; beyond it a joint forward would cost more than separate ones."""

MAX_FORWARD_TOKENS = 77 * 512
"""Context tokens of all rows of a forward together, from the second prompt on: what bounds its time where contexts are long."""


@dataclass(frozen=True, eq=False)
class Conditioning:
    """`context` is (T, D): T a multiple of the encoder's window (77 for CLIP), D the context width.

    `channels` (C2, h, w), the concat conditioning, follow those of the scaled x into networks that take more of them:
    inpainting and editing models.
    `vector` (V,) joins the time embedding of networks that take one: SDXL's pooled text and sizes.
    """

    context: Tensor
    channels: Tensor | None = None
    vector: Tensor | None = None

    @property
    def tokens(self) -> int:
        return self.context.shape[0]

    def lengthened(self, tokens: int) -> Conditioning:
        """With the last token's vector repeated up to `tokens`: what A1111 does to the shorter sides of AND."""
        return replace(self, context=torch.cat([self.context, self.context[-1:].expand(tokens - self.tokens, -1)]))

    @staticmethod
    def joined_tokens(lengths: Sequence[int]) -> int:
        """The common length to which contexts of these lengths are repeated."""
        return math.lcm(*lengths)

    @staticmethod
    def can_join(lengths: Sequence[int]) -> bool:
        """Whether contexts of these lengths may share a forward.  A few of equal length always may."""
        joined = Conditioning.joined_tokens(lengths)
        return (len(set(lengths)) == 1 or joined <= MAX_JOINED_TOKENS) and joined * len(lengths) <= MAX_FORWARD_TOKENS

    @staticmethod
    def join(parts: Sequence[Conditioning]) -> Tensor:
        """(B, T, D) for a forward over `parts`.

        A shorter context is *repeated* to the common length: softmax over m copies of the keys gives the same weighted mean,
        so this is exact, while padding with zeros would not be.
        """
        length = Conditioning.joined_tokens([part.tokens for part in parts])
        return torch.stack([part.context.repeat(length // part.tokens, 1) for part in parts])

    @staticmethod
    def concatenated(x: Tensor, parts: Sequence[Conditioning]) -> Tensor:
        """Scaled x (B, C, h, w) with the `channels` of `parts` behind its own; one model's rows all have them, or none has."""
        channels = [part.channels for part in parts if part.channels is not None]
        return torch.cat([x, torch.stack(channels).to(x)], dim=1) if channels else x

    @staticmethod
    def vectors(parts: Sequence[Conditioning]) -> Tensor | None:
        """The vectors (B, V) of `parts`; one model's rows all have one, or none has."""
        vectors = [part.vector for part in parts if part.vector is not None]
        return torch.stack(vectors) if vectors else None


def size_features(width: int, height: int, device: torch.device) -> Tensor:
    """SDXL's size conditioning of a picture of this many pixels: (1536,), fp32.

    256 sinusoidal features each of the original height and width, the crop's top and left, and the target's height and width
    (Podell et al. 2023, arXiv:2307.01952, section 2.2): a picture that was neither cropped nor resized.
    """
    return timestep_embedding(torch.tensor([height, width, 0, 0, height, width], device=device), 256).flatten()


@dataclass(frozen=True, eq=False)
class ConditioningTimeline:
    """A prompt that changes while the picture is made: one conditioning, all of one length, per text of `timeline`."""

    timeline: Timeline
    conditionings: tuple[Conditioning, ...]

    @classmethod
    def constant(cls, conditioning: Conditioning) -> ConditioningTimeline:
        return cls(Timeline((0,), ("",)), (conditioning,))

    @property
    def tokens(self) -> int:
        return self.conditionings[0].tokens

    def at(self, evaluation: int) -> Conditioning:
        """What counts at this evaluation of the network, counted from 0."""
        return self.conditionings[self.timeline.index(evaluation)]

    def lengthened(self, tokens: int) -> ConditioningTimeline:
        return ConditioningTimeline(self.timeline, tuple(each.lengthened(tokens) for each in self.conditionings))

    def blank(self) -> ConditioningTimeline:
        """No text at all: zeros in the place of every encoding, where the timeline says nothing but ""; else as it is."""
        if any(self.timeline.texts):
            return self
        blanks = (
            replace(each, context=torch.zeros_like(each.context), vector=None if each.vector is None else each.vector * 0)
            for each in self.conditionings
        )
        return ConditioningTimeline(self.timeline, tuple(blanks))

    def with_sizes(self, features: Tensor) -> ConditioningTimeline:
        """With sizes (`size_features`) behind the pooled texts."""
        return ConditioningTimeline(
            self.timeline,
            tuple(
                replace(each, vector=features if each.vector is None else torch.cat([each.vector.to(features), features]))
                for each in self.conditionings
            ),
        )

    def with_channels(self, channels: Tensor) -> ConditioningTimeline:
        """The same texts with concat conditioning, see `Conditioning`."""
        return ConditioningTimeline(self.timeline, tuple(replace(each, channels=channels) for each in self.conditionings))

"""From the prompts of a stage to conditionings along a timeline: how every stage begins.

What the words mean is `modules.prompts`' to know, what the encoders make of a text is for the model (`networks.PromptEncoder`);
here they are asked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints.manager import ModelHandle
from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import ConditioningTimeline
from modules.diffusion.networks import Strengths, Tokenised
from modules.diffusion.samplers import Sampler
from modules.pipelines.consistency import consistent
from modules.pipelines.denoisers import Denoiser, by_evaluation, composed, switched
from modules.pipelines.extra_networks import ReadNetworks, read_networks
from modules.pipelines.guidance import Guidance
from modules.pipelines.guidance.zero import still
from modules.pipelines.ops import Program, encode, on_host
from modules.prompts.limits import check_affordable
from modules.prompts.plan import Plan, plan
from modules.request import Txt2Img

AT_ONCE = 16
"""Windows of tokens of one device op, so that others' come in between."""


@dataclass(frozen=True, eq=False)
class Prompted:
    """The sides of AND with their weights, at least one, and the negative prompt.

    For an editing model `bare` is the negative prompt without a picture, and `image_scale` the guidance away from it.  `said`
    are items of the picture's text: which textual inversions stand in the prompts.
    """

    sides: tuple[tuple[ConditioningTimeline, float], ...]
    negative: ConditioningTimeline
    bare: ConditioningTimeline | None = None
    image_scale: float = 1.0
    said: Mapping[str, str] = field(default_factory=dict)
    adapters: tuple[tuple[Adapter, float], ...] = ()
    """On the denoising network, with their strengths."""
    notes: tuple[str, ...] = ()
    """Sentences about what of the prompts could not be done."""

    def concatenated(self, channels: Tensor, image_scale: float = 1.0) -> Prompted:
        """The same words with concat conditioning: a picture as further input channels (C2, h, w) of the network.

        An `image_scale` other than 1 also guides towards the picture itself: equation 3 of Brooks et al. (2023),
        arXiv:2211.09800, which at 1 is guidance by the words alone.
        """
        sides = tuple((side.with_channels(channels), weight) for side, weight in self.sides)
        bare = self.negative.with_channels(torch.zeros_like(channels)) if image_scale != 1.0 else None
        negative = self.negative.with_channels(channels)
        return replace(self, sides=sides, negative=negative, bare=bare, image_scale=image_scale)

    def guided(self, model: ModelHandle, guidance: Guidance) -> Denoiser:
        """Guidance for one run of a sampler, along the prompts' timelines."""
        denoise = by_evaluation(lambda evaluation: self.at(model, guidance, evaluation))
        return consistent(denoise, model.noise) if guidance.consistent else denoise

    def at(self, model: ModelHandle, guidance: Guidance, evaluation: int) -> Denoiser:
        sides = [(side.at(evaluation), weight) for side, weight in self.sides]
        if evaluation < guidance.still:
            return still(model.noise)
        scale, pair, added = guidance.scale, guidance.pair, guidance.added
        if self.bare is not None and scale != 0:  # + (image_scale - 1) * (negative - bare), as one more side of AND
            sides.append((self.bare.at(evaluation), (1.0 - self.image_scale) / scale))
        negative = self.negative.at(evaluation)
        full = composed(model, sides, negative, scale, guidance.combine, pair, added, self.adapters)
        if guidance.skips is None:
            return full
        skips, without = guidance.skips, composed(model, sides, None, scale, pair=pair, added=added, adapters=self.adapters)
        return switched(lambda sigma: skips(evaluation, sigma), full, without)


def prompted(model: ModelHandle, request: Txt2Img, sampler: Sampler, steps_before: int | None = None) -> Program[Prompted]:
    """Encode everything that the prompts will say in the course of the run.

    `steps_before` are the steps of the first pass where this is a second one (`prompts.schedule.timeline`).

    Raises:
        RequestError: prompt editing makes too many different texts.
    """
    planned, texts = yield from on_host(lambda: _tokenised(model, request, sampler, steps_before))
    networks = ReadNetworks()
    if planned.networks:
        networks = yield from on_host(lambda: read_networks(model, planned.networks))
    encoded = yield from _encoded(model, texts, request.clip_skip, networks.on_text)
    *sides, negative = [timeline.texts for timeline in planned.timelines]
    made = texts.conditionings(sides, negative, encoded)
    *positive, below = [ConditioningTimeline(*one) for one in zip(planned.timelines, made, strict=True)]
    weights = [side.weight for side in planned.sides]
    said = {**texts.said, **networks.said}
    return Prompted(
        tuple(zip(positive, weights, strict=True)), below, said=said, adapters=networks.on_unet, notes=networks.notes
    )


def _tokenised(model: ModelHandle, request: Txt2Img, sampler: Sampler, steps_before: int | None) -> tuple[Plan, Tokenised]:
    """What the prompts say along the run, and all of its texts, tokenised."""
    steps = sampler.prompt_steps(request.steps)
    passes = (steps, None) if steps_before is None else (steps_before, steps)
    planned = plan(request.prompt, request.negative_prompt, *passes, old=request.old_prompt_editing)
    check_affordable(planned)
    texts = list(dict.fromkeys(text for timeline in planned.timelines for text in timeline.distinct))
    return planned, model.prompts.tokenise(texts, request)


def _encoded(model: ModelHandle, texts: Tokenised, clip_skip: int, adapters: Strengths) -> Program[dict[Hashable, Any]]:
    """The encoders' output for each piece."""
    encoded: dict[Hashable, Any] = {}
    for start in range(0, len(texts.pieces), AT_ONCE):
        part = texts.pieces[start : start + AT_ONCE]
        answers = yield from encode(model, *part, clip_skip=clip_skip, vectors=texts.vectors, adapters=adapters)
        encoded.update(zip(part, answers, strict=True))
    return encoded

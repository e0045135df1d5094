"""From the prompts of a stage to conditionings along a timeline: how every stage begins.

What the words mean is `modules.prompts`' to know, what the encoders make of a text is for the model (`networks.PromptEncoder`);
here they are asked.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning, ConditioningTimeline
from modules.diffusion.networks import Noted, Strengths, Tokenised
from modules.diffusion.samplers import Sampler
from modules.pipelines.denoisers import Denoiser, by_evaluation, composed, switched
from modules.pipelines.extra_networks import ReadNetworks, read_networks
from modules.pipelines.guidance import Guidance
from modules.pipelines.guidance.zero import still
from modules.pipelines.ops import Program, encode, on_host
from modules.prompts.limits import check_affordable, check_encodings
from modules.prompts.plan import NO_NETWORKS, NetworksOverTime, Plan, plan
from modules.request import Txt2Img
from modules.request.tiles import Window

AT_ONCE = 16
"""Windows of tokens of one device op, so that others' come in between."""


@dataclass(frozen=True, eq=False)
class AdaptersOverTime:
    """`adapters[i]`, with their strengths, count while `over.networks[i]` do."""

    over: NetworksOverTime = NO_NETWORKS
    adapters: tuple[tuple[tuple[Adapter, float], ...], ...] = ((),)

    def at(self, evaluation: int) -> tuple[tuple[Adapter, float], ...]:
        return self.adapters[self.over.index(evaluation)]


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
    adapters: AdaptersOverTime = field(default_factory=AdaptersOverTime)
    """On the denoising network."""
    notes: tuple[str, ...] = ()
    """Sentences about what of the prompts could not be done."""

    def concatenated(self, channels: Tensor, image_scale: float = 1.0, vector: Tensor | None = None) -> Prompted:
        """The same words with concat conditioning: a picture as further input channels (C2, h, w) of the network, and what its
        `vector` says of it where that says anything.

        An `image_scale` other than 1 also guides towards the picture itself: equation 3 of Brooks et al. (2023),
        arXiv:2211.09800, which at 1 is guidance by the words alone.
        """
        sides = tuple((side.with_channels(channels, vector), weight) for side, weight in self.sides)
        bare = self.negative.with_channels(torch.zeros_like(channels)) if image_scale != 1.0 else None
        negative = self.negative.with_channels(channels, vector)
        return replace(self, sides=sides, negative=negative, bare=bare, image_scale=image_scale)

    def cropped(self, window: Window, factor: int) -> Prompted:
        """The same words for a window of the latent, see `Conditioning.cropped`."""
        made: dict[Conditioning, Conditioning] = {}  # what texts share stays one object, and is joined once

        def crop(one: Conditioning) -> Conditioning:
            if one not in made:
                made[one] = one.cropped(window.left, window.top, window.width, window.height, factor)
            return made[one]

        return replace(
            self,
            sides=tuple((side.mapped(crop), weight) for side, weight in self.sides),
            negative=self.negative.mapped(crop),
            bare=None if self.bare is None else self.bare.mapped(crop),
        )

    def guided(self, model: ModelHandle, guidance: Guidance) -> Denoiser:
        """Guidance for one run of a sampler, along the prompts' timelines."""
        return by_evaluation(partial(self.at, model, guidance))

    def at(self, model: ModelHandle, guidance: Guidance, evaluation: int) -> Denoiser:
        """Guidance at one evaluation, counted from 0."""
        sides = [(side.at(evaluation), weight) for side, weight in self.sides]
        if evaluation < guidance.still:
            return still(model.noise)
        scale, pair, added = guidance.scale, guidance.pair, guidance.added
        if self.bare is not None and scale != 0:  # + (image_scale - 1) * (negative - bare), as one more side of AND
            sides.append((self.bare.at(evaluation), (1.0 - self.image_scale) / scale))
        negative = self.negative.at(evaluation)
        adapters = self.adapters.at(evaluation)
        full = composed(model, sides, negative, scale, guidance.combine, pair, added, adapters)
        if guidance.skips is None:
            return full
        skips, without = guidance.skips, composed(model, sides, None, scale, pair=pair, added=added, adapters=adapters)
        return switched(lambda sigma: skips(evaluation, sigma), full, without)


def prompted(model: ModelHandle, request: Txt2Img, sampler: Sampler, steps_before: int | None = None) -> Program[Prompted]:
    """Encode everything that the prompts will say in the course of the run.

    `steps_before` are the steps of the first pass where this is a second one (`prompts.schedule.timeline`).

    Raises:
        RequestError: prompt editing makes too many different texts.
    """
    planned = yield from on_host(lambda: _planned(request, sampler, steps_before))
    networks = ReadNetworks()
    if planned.networks:
        networks = yield from on_host(lambda: read_networks(model, planned.networks))
    texts = yield from on_host(lambda: _tokenised(model, request, planned, networks))
    on_text, on_unet = zip(*map(networks.strengths, planned.over_time.networks), strict=True)
    check_encodings(len(texts.pieces), len(set(on_text)))
    *sides, negative = [timeline.texts for timeline in planned.timelines]
    made: dict[Strengths, Sequence[Sequence[Conditioning]]] = {}
    for strengths in dict.fromkeys(on_text):
        encoded = yield from _encoded(model, texts, request.clip_skip, strengths)
        made[strengths] = texts.conditionings(sides, negative, encoded)
    timelines = _over_time(planned, [made[strengths] for strengths in on_text])
    weights = [side.weight for side in planned.sides]
    return Prompted(
        tuple(zip(timelines[:-1], weights, strict=True)),
        timelines[-1],
        said={**texts.said, **networks.said},
        adapters=AdaptersOverTime(planned.over_time, tuple(on_unet)),
        notes=(*networks.notes, *(texts.notes if isinstance(texts, Noted) else ())),
    )


def _over_time(planned: Plan, made: Sequence[Sequence[Sequence[Conditioning]]]) -> list[ConditioningTimeline]:
    """A timeline of each side of AND, and last of the negative prompt, that changes with its texts and with the strengths on
    the text encoders: `made` are the conditionings under the strengths of each of `planned.over_time`, by side and text."""
    if all(each is made[0] for each in made):
        return [ConditioningTimeline(*one) for one in zip(planned.timelines, map(tuple, made[0]), strict=True)]
    over, timelines = planned.over_time, []
    for number, timeline in enumerate(planned.timelines):
        cut = timeline.cut(over.ends)
        conditionings = tuple(made[over.index(end)][number][timeline.index(end)] for end in cut.ends)
        timelines.append(ConditioningTimeline(cut, conditionings))
    return timelines


def _planned(request: Txt2Img, sampler: Sampler, steps_before: int | None) -> Plan:
    """What the prompts say along the run."""
    steps = sampler.prompt_steps(request.steps)
    passes = (steps, None) if steps_before is None else (steps_before, steps)
    planned = plan(request.prompt, request.negative_prompt, *passes, old=request.old_prompt_editing)
    check_affordable(planned)
    return planned


def _tokenised(model: ModelHandle, request: Txt2Img, planned: Plan, networks: ReadNetworks) -> Tokenised:
    """All texts of the prompts, tokenised."""
    texts = list(dict.fromkeys(text for timeline in planned.timelines for text in timeline.distinct))
    if bundled := [adapter for adapter, _, _ in networks.used.values() if adapter.inversions]:
        return model.prompts.tokenise(texts, request, bundled=bundled)
    return model.prompts.tokenise(texts, request)


def _encoded(model: ModelHandle, texts: Tokenised, clip_skip: int, adapters: Strengths) -> Program[dict[Hashable, Any]]:
    """The encoders' output for each piece."""
    encoded: dict[Hashable, Any] = {}
    for start in range(0, len(texts.pieces), AT_ONCE):
        part = texts.pieces[start : start + AT_ONCE]
        answers = yield from encode(model, *part, clip_skip=clip_skip, vectors=texts.vectors, adapters=adapters)
        encoded.update(zip(part, answers, strict=True))
    return encoded

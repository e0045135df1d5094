"""From the prompts of a stage to conditionings along a timeline: how every stage begins.

What the words mean is `modules.prompts`' to know, what weights do is `modules.diffusion.emphasis`'; here the encoder is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.checkpoints.inversions import Inversions
from modules.checkpoints.manager import ModelHandle
from modules.diffusion.conditioning import ConditioningTimeline, size_features
from modules.diffusion.emphasis import contexts
from modules.diffusion.samplers import Sampler
from modules.diffusion.text import EncodedWindow
from modules.errors import RequestError
from modules.pipelines.consistency import consistent
from modules.pipelines.denoisers import Denoiser, by_evaluation, composed, switched
from modules.pipelines.guidance import Guidance
from modules.pipelines.guidance.zero import still
from modules.pipelines.ops import Program, encode, on_host
from modules.prompts.chunks import EMPTY, NO_EMBEDDINGS, Chunk, Embedding, chunk
from modules.prompts.limits import check_affordable, check_length
from modules.prompts.plan import Plan, plan
from modules.prompts.tokenizer import Tokenizer
from modules.request import Txt2Img

MAX_DISTINCT_WINDOWS = 1_000
"""Different windows of one request; a quarter of a gigabyte of encodings."""
AT_ONCE = 16
"""Windows of one device op, so that others' come in between."""


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

    def concatenated(self, channels: Tensor, image_scale: float = 1.0) -> Prompted:
        """The same words with concat conditioning: a picture as further input channels (C2, h, w) of the network.

        An `image_scale` other than 1 also guides towards the picture itself: equation 3 of Brooks et al. (2023),
        arXiv:2211.09800, which at 1 is guidance by the words alone.
        """
        sides = tuple((side.with_channels(channels), weight) for side, weight in self.sides)
        bare = self.negative.with_channels(torch.zeros_like(channels)) if image_scale != 1.0 else None
        return Prompted(sides, self.negative.with_channels(channels), bare, image_scale, self.said)

    def guided(self, model: ModelHandle, guidance: Guidance) -> Denoiser:
        """Guidance for one run of a sampler, along the prompts' timelines."""
        denoise = by_evaluation(lambda evaluation: self.at(model, guidance, evaluation))
        return consistent(denoise, model.levels) if guidance.consistent else denoise

    def at(self, model: ModelHandle, guidance: Guidance, evaluation: int) -> Denoiser:
        sides = [(side.at(evaluation), weight) for side, weight in self.sides]
        if evaluation < guidance.still:
            return still
        scale, pair, added = guidance.scale, guidance.pair, guidance.added
        if self.bare is not None and scale != 0:  # + (image_scale - 1) * (negative - bare), as one more side of AND
            sides.append((self.bare.at(evaluation), (1.0 - self.image_scale) / scale))
        full = composed(model, sides, self.negative.at(evaluation), scale, guidance.combine, pair, added)
        if guidance.skips is None:
            return full
        skips, without = guidance.skips, composed(model, sides, None, scale, pair=pair, added=added)
        return switched(lambda sigma: skips(evaluation, sigma), full, without)


def prompted(model: ModelHandle, request: Txt2Img, sampler: Sampler, steps_before: int | None = None) -> Program[Prompted]:
    """Encode everything that the prompts will say in the course of the run.

    `steps_before` are the steps of the first pass where this is a second one (`prompts.schedule.timeline`).

    Raises:
        RequestError: prompt editing makes too many different texts.
    """
    planned, windows = yield from on_host(lambda: _tokenised(model, request, sampler, steps_before))
    inversions = model.inversions or None
    wanted = dict.fromkeys([EMPTY, *(window.bare for chunks in windows.values() for window in chunks)])
    vectors, said = yield from _inserted(inversions, wanted)
    encoded = yield from _encoded(model, list(wanted), request.clip_skip, vectors)

    *sides, negative = [
        ConditioningTimeline(
            timeline,
            tuple(contexts([windows[text] for text in timeline.texts], encoded, request.emphasis, model.text.widths)),
        )
        for timeline in planned.timelines
    ]
    if model.family.blank_negative:
        negative = negative.blank()
    if model.family.sizes_in_vector:
        features = size_features(request.width, request.height, model.device)
        sides, negative = [side.with_sizes(features) for side in sides], negative.with_sizes(features)
    tokens = max(side.tokens for side in sides)
    weights = [side.weight for side in planned.sides]
    lengthened = tuple((side.lengthened(tokens), weight) for side, weight in zip(sides, weights, strict=True))
    return Prompted(lengthened, negative, said=said)


def _tokenised(
    model: ModelHandle, request: Txt2Img, sampler: Sampler, steps_before: int | None
) -> tuple[Plan, dict[str, tuple[Chunk, ...]]]:
    """What the prompts say along the run, and the windows of each of their texts.  A long prompt takes a tenth of a second."""
    steps = sampler.prompt_steps(request.steps)
    passes = (steps, None) if steps_before is None else (steps_before, steps)
    planned = plan(request.prompt, request.negative_prompt, *passes, old=request.old_prompt_editing)
    check_affordable(planned)
    known, tokenizer = NO_EMBEDDINGS, Tokenizer(request.raw_text)
    if model.inversions and len(model.text.widths) == 1:  # a vector for one of several encoders is not enough
        known = model.inversions.known(model.text.widths[0], tokenizer)
    windows = {
        text: chunk(text, tokenizer, request.emphasis, known).windows
        for timeline in planned.timelines
        for text in timeline.distinct
    }
    check_length(max(map(len, windows.values())))
    return planned, windows


def _inserted(
    inversions: Inversions | None, windows: Iterable[Chunk]
) -> Program[tuple[dict[Embedding, Tensor], dict[str, str]]]:
    """The vectors of the embeddings in `windows`, and what a picture's text says of them."""
    named = list(dict.fromkeys(place.embedding for window in windows for place in window.inserts))
    if not named or inversions is None:
        return {}, {}
    vectors, hashes = yield from on_host(lambda: inversions.read(named))
    return vectors, {"TI hashes": ", ".join(f"{name}: {digits}" for name, digits in hashes.items())}


def _encoded(
    model: ModelHandle, windows: list[Chunk], clip_skip: int, vectors: Mapping[Embedding, Tensor]
) -> Program[dict[Chunk, EncodedWindow]]:
    """The encoders' output for each window."""
    if len(windows) > MAX_DISTINCT_WINDOWS:
        raise RequestError(
            f"prompt: it takes {len(windows):,} different windows of 75 tokens, at most {MAX_DISTINCT_WINDOWS:,} are allowed; "
            "shorten the prompt or edit fewer places"
        )
    encoded: dict[Chunk, EncodedWindow] = {}
    for start in range(0, len(windows), AT_ONCE):
        part = windows[start : start + AT_ONCE]
        answers = yield from encode(model, *part, clip_skip=clip_skip, vectors=vectors)
        encoded.update(zip(part, answers, strict=True))
    return encoded

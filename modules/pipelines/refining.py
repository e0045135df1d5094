"""The refiner: another checkpoint that goes on with a denoising loop from a noise level on.

It evaluates the same x at the same levels, under the prompts as its own encoders read them; sampler, noise, guidance, masks and
the count of evaluations know nothing of the change.  A1111's rule (`sd_samplers_common.apply_refiner`, 1.10.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.refiners import refiner_problem
from modules.checkpoints.vaes import OWN
from modules.diffusion.samplers import Sampler
from modules.errors import RequestError
from modules.pipelines.denoisers import Denoiser, handed_over
from modules.pipelines.extra_networks import LEFT_OUT, LISTS, both_said
from modules.pipelines.guidance import Guidance
from modules.pipelines.ops import Program, load
from modules.pipelines.prompting import Prompted
from modules.pipelines.stages import Stage, refiner_of
from modules.request import Txt2Img

Guide = Callable[[Guidance], Denoiser]
"""The denoiser of one run of a sampler under this guidance."""


@dataclass(eq=False)
class Refiner:
    """A refiner that is loaded; `used` says whether it was asked yet."""

    model: ModelHandle
    used: bool = False

    def guide(
        self, settings: Txt2Img, steps: int, sampler: Sampler, model: ModelHandle, words: Prompted, own_words: Prompted
    ) -> Guide:
        """Guidance by `model` under `words`, and by the refiner under `own_words` from where `settings` say.

        `model` measures how far a run of `steps` steps has come: noise levels are its own.
        """
        evaluations, trained = sampler.prompt_steps(steps), model.noise.trained

        def reached(evaluation: int, sigma: float) -> bool:
            behind = evaluation / evaluations if settings.refiner_by_steps else trained.behind(sigma)
            self.used = self.used or behind >= settings.refiner_switch_at
            return behind >= settings.refiner_switch_at

        def guide(guidance: Guidance) -> Denoiser:
            return handed_over(partial(words.at, model, guidance), partial(own_words.at, self.model, guidance), reached)

        return guide


def load_refiner(stages: Sequence[Stage]) -> Program[Refiner | None]:
    """The refiner of a request, before its checkpoint: what was loaded last is what the next image is likely to begin with.

    With its own autoencoder, which nothing asks: pictures are those of the checkpoint's.
    """
    name = refiner_of(stages)
    return Refiner((yield from load(name, OWN))) if name else None


def check_refiner(stages: Sequence[Stage], models: Mapping[str, ModelHandle], refiner: Refiner | None) -> None:
    """
    Raises:
        RequestError: the refiner cannot go on with latents of the stage that it ends.
    """
    if refiner is None:
        return
    for stage in stages:
        if stage.refiner:
            _check_pair(models[stage.settings.checkpoint or ""], refiner.model)


def _check_pair(model: ModelHandle, other: ModelHandle) -> None:
    problem = refiner_problem(model.info.name, model.family, other.info.name, other.family)
    if not problem and (model.latent.channels, model.latent.factor) != (other.latent.channels, other.latent.factor):
        problem = f"{other.info.name!r} has latents of another shape than {model.info.name!r}; choose another refiner, or none"
    if problem:
        raise RequestError(f"refiner: {problem}")


@dataclass(frozen=True)
class Account:
    """What a picture's text and record say of the prompts of one stage."""

    said: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def account(words: Prompted, refined: Prompted | None) -> Account:
    """Of the words of a stage, and as its refiner reads them; a network is left out of the picture where neither uses it."""
    if refined is None:
        return Account(words.said, words.notes)
    said = both_said(*({key: text for key, text in each.said.items() if key != LEFT_OUT} for each in (words, refined)))
    entry, between = LISTS[LEFT_OUT]
    first, second = (re.findall(entry, each.said.get(LEFT_OUT, "")) for each in (words, refined))
    if both := [one for one in first if one in second]:
        said[LEFT_OUT] = between.join(both)
    return Account(said, (*words.notes, *(f"with the refiner: {note}" for note in refined.notes if note not in words.notes)))

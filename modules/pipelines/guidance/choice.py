"""A request's guidance: its scale, how answers are combined, and when the negative prompt is left out."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from modules.diffusion.samplers import Sampler
from modules.extensions.isolation import call, program
from modules.hooks import HOOKS, Listing, hookimpl
from modules.pipelines.denoisers import Addition, Answers, Combine, plain
from modules.pipelines.guidance.apg import projected
from modules.pipelines.guidance.early import skip_early
from modules.pipelines.guidance.ngms import skip_at_low_noise
from modules.pipelines.guidance.pag import PerturbedAttention
from modules.pipelines.guidance.rescale import rescaled
from modules.pipelines.guidance.sag import SelfAttention
from modules.pipelines.guidance.thresholding import thresholded
from modules.pipelines.guidance.zero import zero_star
from modules.pipelines.ops import Program
from modules.pipelines.without import start_again, taking_part
from modules.request import Txt2Img

HOOK = "guidance_rules"

Skips = Callable[[int, float], bool]
"""(evaluations so far, sigma) -> whether the negative prompt is left out."""


@dataclass(frozen=True)
class Guidance:
    """Of one run of a sampler; `combine` may remember earlier evaluations.  A `pair` sampler always gets both answers.

    `added` comes on top of what is combined.  The network is not asked at all in the first `still` evaluations.
    """

    scale: float
    combine: Combine = plain
    pair: bool = False
    skips: Skips | None = None
    added: tuple[Addition, ...] = ()
    still: int = 0

    def skipping(self, skips: Skips) -> Guidance:
        """The same, where the negative prompt is left out whenever `skips` says so too."""
        earlier = self.skips
        if earlier is None:
            return replace(self, skips=skips)
        return replace(self, skips=lambda evaluation, sigma: earlier(evaluation, sigma) or skips(evaluation, sigma))

    def adding(self, addition: Addition) -> Guidance:
        """The same with `addition` on top."""
        return replace(self, added=(*self.added, addition))


Apply = Callable[[Guidance, Txt2Img, Sampler], Guidance]


@dataclass(frozen=True)
class Rule:
    """Something that requests may ask of guidance: `apply` makes of the guidance so far that of this request and sampler.

    It answers what it was given where the request does not ask for it.
    """

    name: str
    apply: Apply


def guidance_for(request: Txt2Img, sampler: Sampler, without: Collection[str] = ()) -> Guidance:
    """What `request` asks of a run with `sampler`: its scale, and what each rule makes of it, but those of the plugins that are
    left out (`without`).

    Raises:
        StartAgain: an extension's rule raised; what it put into the guidance may raise that too.
        ExtensionFailed: as its manifest asks for.
    """
    guidance = Guidance(request.cfg_scale / sampler.cfg_divisor, pair=sampler.pair)
    for one in taking_part(RULES, without):
        if HOOKS.is_built_in(one.owner):
            guidance = one.entry.apply(guidance, request, sampler)
        else:
            apply = partial(one.entry.apply, guidance, request, sampler)
            made = call(one.owner, HOOK, apply, partial(start_again, one.owner))
            guidance = _guarded(one.owner, guidance, made)
    return guidance


def _guarded(owner: str, before: Guidance, made: Guidance) -> Guidance:
    """What an extension made of the guidance, with the functions that it put there guarded."""
    again = partial(start_again, owner)
    combine, skips = made.combine, made.skips
    if combine is not before.combine:
        made = replace(made, combine=lambda answers: call(owner, HOOK, lambda: combine(answers), again))
    if skips is not None and skips is not before.skips:
        made = replace(made, skips=lambda evaluation, sigma: call(owner, HOOK, lambda: skips(evaluation, sigma), again))
    added = [one if one in before.added else _GuardedAddition(owner, one) for one in made.added]
    return replace(made, added=tuple(added))


@dataclass(frozen=True)
class _GuardedAddition:
    """An extension's addition."""

    owner: str
    addition: Addition

    @property
    def perturbs(self) -> bool:
        return self.addition.perturbs

    @property
    def watches(self) -> bool:
        return self.addition.watches

    def __call__(self, answers: Answers) -> Program[Tensor]:
        return program(self.owner, HOOK, lambda: self.addition(answers), partial(start_again, self.owner))


def _combined(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    """One way at most: projection, else thresholding, else CFG-Zero*."""
    if request.apg:
        return replace(guidance, combine=projected(request.apg_eta, request.apg_norm, request.apg_momentum))
    if request.mimic_scale > 0:
        return replace(guidance, combine=thresholded(request.mimic_scale, request.threshold_percentile))
    return replace(guidance, combine=zero_star) if request.cfg_zero else guidance


def _rescaled(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    if request.cfg_rescale == 0:
        return guidance
    return replace(guidance, combine=rescaled(guidance.combine, request.cfg_rescale))


def _skipping_early(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    if request.skip_early_cfg == 0:
        return guidance
    return guidance.skipping(skip_early(request.skip_early_cfg, sampler.prompt_steps(request.steps)))


def _skipping_at_low_noise(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    return guidance.skipping(skip_at_low_noise(request.ngms, request.ngms_all_steps)) if request.ngms > 0 else guidance


def _perturbed(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    return guidance.adding(PerturbedAttention(request.pag_scale)) if request.pag_scale > 0 else guidance


def _blurred(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    return guidance.adding(SelfAttention(request.sag_scale, request.sag_blur)) if request.sag_scale > 0 else guidance


def _still(guidance: Guidance, request: Txt2Img, sampler: Sampler) -> Guidance:
    return replace(guidance, still=sampler.prompt_steps(request.cfg_zero_steps))


class _BuiltIn:
    """Rescaling comes last of what combines, over all of it; additions come on top."""

    @hookimpl
    def guidance_rules(self) -> tuple[Rule, ...]:
        return (
            Rule("APG, dynamic thresholding, CFG-Zero*", _combined),
            Rule("CFG rescale", _rescaled),
            Rule("Skip early", _skipping_early),
            Rule("NGMS", _skipping_at_low_noise),
            Rule("PAG", _perturbed),
            Rule("SAG", _blurred),
            Rule("Zero-init", _still),
        )


RULES: Listing[Rule] = Listing(HOOKS, HOOK, "guidance rule", lambda rule: (rule.name,))
"""Every rule in the order in which they are applied, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.guidance", built_in=True)

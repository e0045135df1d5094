"""Functions that make denoisers: (x, sigma) -> a program whose result is the denoised x.

A denoiser asks for networks by yielding device ops; it knows neither samplers nor steps, so every one works with every
sampler, and features that change the prediction (guidance, inpainting, regions) wrap one denoiser into another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Protocol

from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.adapters import Adapter
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.forward import MIDDLE_ATTENTION, AttentionMass, IdentityAttention
from modules.diffusion.rows import Row
from modules.diffusion.samplers import Denoised
from modules.errors import RequestError
from modules.pipelines.ops import Predict, Program, predict

Denoiser = Callable[[Tensor, float], Program[Denoised]]
"""(x (C, h, w), sigma) -> program of the x0 prediction (C, h, w), and what the negative prompt alone predicts."""


Again = Callable[[Tensor], Program[Denoised]]
"""x (C, h, w) -> program of what the negative prompt predicts there, at the same noise level."""


@dataclass(frozen=True)
class Answers:
    """What the network said at one noise level under each prompt: x0 predictions (C, h, w).

    `sides` are the sides of AND with their weights, one of 1 for a prompt without AND; `scale` is the guidance scale.
    For an `Addition` that asks for them: `perturbed` are the sides' answers without the middle block's self-attention, `mass`
    is that attention of the negative prompt (`AttentionMass`), and `again` asks the negative prompt at another x.
    """

    x: Tensor
    sigma: float
    sides: tuple[tuple[Tensor, float], ...]
    negative: Tensor
    scale: float
    perturbed: tuple[Tensor, ...] = ()
    mass: Tensor | None = None
    again: Again | None = None

    def guided(self, scale: float) -> Tensor:
        """Classifier-free guidance with this scale; 1 is the prompt's own answer."""
        total = self.negative
        for side, weight in self.sides:
            total = total + (side - self.negative) * (scale * weight)
        return total


Combine = Callable[[Answers], Tensor]
"""How the answers to the prompts become one."""


class Addition(Protocol):
    """Guidance from something else than the prompts: what is added to the guided answer, and what it needs for that."""

    @property
    def perturbs(self) -> bool:
        """Whether it needs the sides' answers without the middle block's self-attention."""

    @property
    def watches(self) -> bool:
        """Whether it needs that attention of the negative prompt."""

    def __call__(self, answers: Answers) -> Program[Tensor]:
        """What is added, (C, h, w)."""


def plain(answers: Answers) -> Tensor:
    """negative + scale * (positive - negative), nothing else."""
    return answers.guided(answers.scale)


def guided(model: ModelHandle, positive: Conditioning, negative: Conditioning, cfg_scale: float) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): negative + cfg_scale * (positive - negative).

    Both rows go into one forward.  At a scale of 1 the negative prompt has no weight, and at 0 the positive one has none, so
    only the other is evaluated: half the time.
    """
    return composed(model, [(positive, 1.0)], negative, cfg_scale)


def composed(
    model: ModelHandle,
    sides: Sequence[tuple[Conditioning, float]],
    negative: Conditioning | None,
    cfg_scale: float,
    combine: Combine = plain,
    pair: bool = False,
    added: Sequence[Addition] = (),
    adapters: Sequence[tuple[Adapter, float]] = (),
) -> Denoiser:
    """Guidance towards several prompts, `a AND b :0.5`: negative + sum of cfg_scale * weight * (side - negative).

    Composable diffusion (Liu et al. 2022, arXiv:2206.01714, equation 11) with weights that may be negative.  What has no weight
    in the sum is not evaluated, unless a `pair` of answers is wanted.  Without a `negative` the first side stands for it, which
    is what A1111 does in the steps that skip it.  What is `added` shares the forward where it can.
    `adapters` are on every row.

    Raises:
        RequestError: something is to be added that works on attention which the network does not have.
    """
    perturbs, watches = any(addition.perturbs for addition in added), any(addition.watches for addition in added)
    if (perturbs or watches) and not model.denoiser.has(MIDDLE_ATTENTION):
        raise RequestError(
            f"checkpoint {model.info.name!r} has no attention in the middle of its network, where perturbed-attention and "
            "self-attention guidance (PAG, SAG) work; set their scales to 0"
        )
    if negative is None:
        negative, sides = sides[0][0], sides[1:]
    counted = [(side, weight) for side, weight in sides if cfg_scale * weight != 0.0]
    if not counted and perturbs:
        counted = [(negative, 1.0)]
    elif not (pair or watches) and combine is plain and [cfg_scale * weight for _, weight in counted] == [1.0]:
        negative = counted[0][0]
    prompts = list(dict.fromkeys([*(side for side, _ in counted), negative]))

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        watching = {negative: (AttentionMass(),)} if watches else {}
        rows = [Row(x, sigma, prompt, tuple(adapters), taps=watching.get(prompt, ())) for prompt in prompts]
        if perturbs:
            rows += [Row(x, sigma, side, tuple(adapters), taps=(IdentityAttention(),)) for side, _ in counted]
        answered = yield from predict(model, *rows)
        said = {prompt: answer.x0 for prompt, answer in zip(prompts, answered, strict=False)}
        observed = [mass for answer in answered for mass in answer.observed]
        answers = Answers(
            x,
            sigma,
            sides=tuple((said[side], weight) for side, weight in counted),
            negative=said[negative],
            scale=cfg_scale,
            perturbed=tuple(answer.x0 for answer in answered[len(prompts) :]),
            mass=observed[0] if watches else None,
            again=lambda other: conditioned(model, negative, adapters)(other, sigma),
        )
        guided = combine(answers)
        for addition in added:
            guided = guided + (yield from addition(answers))
        return Denoised(guided, answers.negative)

    return denoise


def on_rows(program: Program[Denoised], change: Callable[[Row], Row]) -> Program[Denoised]:
    """`program` with every row that it asks a network about changed: for functions around a denoiser."""
    answer = None
    try:
        while True:
            op = program.send(answer)
            if isinstance(op, Predict):
                op = replace(op, rows=tuple([change(row) for row in op.rows]))
            answer = yield op
    except StopIteration as finished:
        denoised: Denoised = finished.value
        return denoised
    finally:
        program.close()


def switched(elsewhere: Callable[[float], bool], one: Denoiser, other: Denoiser) -> Denoiser:
    """`one`, but `other` at the noise levels for which `elsewhere` says so."""

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        return (other if elsewhere(sigma) else one)(x, sigma)

    return denoise


def by_evaluation(denoiser_at: Callable[[int], Denoiser]) -> Denoiser:
    """A denoiser that may be another at each evaluation: `denoiser_at` is asked with their count from 0.

    It counts calls, as A1111 does for prompt editing, not steps: a sampler with two evaluations per step counts to twice its
    steps.  Good for one run.
    """
    evaluations = count()

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        return denoiser_at(next(evaluations))(x, sigma)

    return denoise


def handed_over(
    one_at: Callable[[int], Denoiser], other_at: Callable[[int], Denoiser], reached: Callable[[int, float], bool]
) -> Denoiser:
    """`by_evaluation` of two: `other_at`'s denoisers from the first evaluation on for which `reached(count, sigma)` says so.

    Their counts are one: prompt editing goes on where it was.  There is no way back, whatever level a sampler asks for next.
    Good for one run.
    """
    evaluations, over = count(), False

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        nonlocal over
        evaluation = next(evaluations)
        over = over or reached(evaluation, sigma)
        return (other_at if over else one_at)(evaluation)(x, sigma)

    return denoise


def conditioned(model: ModelHandle, conditioning: Conditioning, adapters: Sequence[tuple[Adapter, float]] = ()) -> Denoiser:
    """The network's own prediction under one prompt, without guidance."""

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        (answer,) = yield from predict(model, Row(x, sigma, conditioning, tuple(adapters)))
        return Denoised(answer.x0, answer.x0)

    return denoise

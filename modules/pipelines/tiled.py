"""Tiled diffusion: a denoiser of a large latent made of denoisers of its windows.

Every evaluation of a sampler becomes one of each window, whose x0 predictions are averaged where windows overlap.  For steps
that are affine in x0, as those of all samplers are, that is the average of the windows' steps of MultiDiffusion (Bar-Tal et al.
2023, arXiv:2302.08113, equation 5) with equal weights, and Mixture of Diffusers (Barbero Jimenez 2023, arXiv:2302.02412) with
Gaussian ones.

A window is a picture like any other to the network: it shares forwards with pictures of its size, and a few are evaluated at a
time, so that a call takes no more memory however large the picture is.  Each window has guidance of its own: what guidance
remembers of earlier evaluations, or measures of an answer, is the window's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.networks import TiledLatentSpace
from modules.diffusion.samplers import Denoised, Sampler
from modules.diffusion.tiles import Tiling
from modules.diffusion.transfers import sent
from modules.errors import RequestError
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.guidance import Guidance
from modules.pipelines.ops import Program, side_by_side
from modules.pipelines.prompting import Prompted
from modules.pipelines.refining import Guide, Refiner
from modules.pipelines.stages import Stage
from modules.request.tiles import TileMethod, Window, tiles_of

Weights = Callable[[Window], Tensor]
"""How much each position of a window counts, (h, w), above 0."""

Guiding = Callable[[Callable[[], Guidance]], Denoiser]
"""The denoiser of one run of a sampler; asked for guidance, it gets one that remembers nothing yet, once for each window."""

VARIANCE = 0.01
"""Of the Gaussian on each axis, relative to the window's side: as in the implementation of Mixture of Diffusers."""


def in_tiles(model: ModelHandle) -> ModelHandle:
    """The same model with an autoencoder that works in tiles, where it can: its memory grows with the picture too.

    A view, whose other calls are shared with those of `model`.
    """
    latent = model.latent
    if not isinstance(latent, TiledLatentSpace):
        return model
    return model.view("in tiles", lambda: replace(model, latent=latent.tiled(Tiling()), own=model.network))


def guiding(
    stage: Stage,
    model: ModelHandle,
    sampler: Sampler,
    size: tuple[int, int],
    refining: tuple[Refiner | None, int],
    words: Prompted,
    own_words: Prompted | None,
) -> Guiding:
    """How guidance becomes the denoiser of a latent of `size` pixels, in windows where the request asks for them.

    `refining` is the refiner with the steps of the run, `own_words` the prompts as it reads them.

    Raises:
        RequestError: that are too many windows.
    """
    refiner, steps = refining

    def guide(words: Prompted, own_words: Prompted | None) -> Guide:
        if refiner is None or own_words is None:
            return partial(words.guided, model)
        return refiner.guide(stage.settings, steps, sampler, model, words, own_words)

    defaults, factor = model.info.defaults, model.latent.factor
    tiles = tiles_of(stage.settings, (defaults.width, defaults.height))
    if tiles is None or tiles.count(*size, factor) == 1:
        whole = guide(words, own_words)
        return lambda guidance: whole(guidance())
    if problem := tiles.problem(*size):
        raise RequestError(problem)
    parts = [
        (window, guide(words.cropped(window, factor), None if own_words is None else own_words.cropped(window, factor)))
        for window in tiles.windows(*size, factor)
    ]
    settings = stage.settings

    def in_windows(guidance: Callable[[], Guidance]) -> Denoiser:
        weigh = weights_by(settings.tile_method, model.device)
        return tiled([(window, part(guidance())) for window, part in parts], weigh, settings.tile_batch)

    return in_windows


def weights_by(method: TileMethod, device: torch.device) -> Weights:
    """The weights of a method, on `device`.  Computed on the CPU, so that devices agree."""
    made: dict[tuple[int, int], Tensor] = {}

    def weigh(window: Window) -> Tensor:
        size = window.height, window.width
        if size not in made:
            even = method == "MultiDiffusion"
            made[size] = sent(torch.ones(size) if even else gaussian(*size), device, torch.float32)
        return made[size]

    return weigh


def gaussian(height: int, width: int) -> Tensor:
    """The product of two Gaussians around the window's middle, of variance `VARIANCE` x side^2, at most 1: (h, w)."""
    down, across = (
        torch.tensor([math.exp(-(((place - (side - 1) / 2) / side) ** 2) / (2 * VARIANCE)) for place in range(side)])
        for side in (height, width)
    )
    return down[:, None] * across[None, :]


def tiled(parts: Sequence[tuple[Window, Denoiser]], weigh: Weights, at_once: int) -> Denoiser:
    """The weighted mean of the predictions of `parts`, whose windows cover the latent (C, h, w).

    `at_once` of them are evaluated side by side.  Good for one run where the parts' denoisers are.
    """
    total: Tensor | None = None

    def denoise(x: Tensor, sigma: float) -> Program[Denoised]:
        nonlocal total
        if total is None:
            total = torch.zeros_like(x[:1])
            for window, _ in parts:
                _of(total, window).add_(weigh(window))
        guided, negative = torch.zeros_like(x), torch.zeros_like(x)
        for start in range(0, len(parts), at_once):
            some = parts[start : start + at_once]
            answers = yield from side_by_side([one(_of(x, window).contiguous(), sigma) for window, one in some])
            for (window, _), answer in zip(some, answers, strict=True):
                weight = weigh(window)
                _of(guided, window).add_(answer.guided * weight)
                _of(negative, window).add_(answer.negative * weight)
        return Denoised(guided / total, negative / total)

    return denoise


def _of(x: Tensor, window: Window) -> Tensor:
    """The window's part of x (C, h, w), a view."""
    return x[:, window.top : window.top + window.height, window.left : window.left + window.width]

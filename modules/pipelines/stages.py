"""The stages of a request: each denoising loop as frozen data.

txt2img is one stage from noise, img2img (inpainting, outpainting and editing too) one from a picture, and a second pass
("hires") one more from what the first made.  Without torch: estimates count stages too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Literal

from modules.diffusion.samplers import counted_as, find_sampler
from modules.diffusion.schedules import TrainedSigmas, partial_sigmas, resolve_schedule, run_steps, sigmas_for
from modules.errors import UnknownName
from modules.extensions.isolation import call
from modules.hooks import HOOKS, Listing, hookimpl
from modules.request import LATENT_UPSCALERS, Img2Img, Txt2Img, Upscaling
from modules.request.refiner import RefinerPass
from modules.request.tiles import Tiles, tiles_of

HOOK = "stages"

Start = Literal["noise", "latent", "picture"]
"""What noise is added to: nothing, the latent of the stage before, or a picture: that stage's, or the init image."""


@dataclass(frozen=True)
class Stage:
    """One denoising loop.

    `settings` is the stage as a request of its own: its checkpoint, size, prompts, sampler, schedule, steps, guidance, seeds,
    and, where it begins with the init image, masks and inpaint region.  `strength` is how much of the noise schedule is run,
    all of it from noise; with `exactly` so long a schedule is made that `settings.steps` steps are run at any strength.
    `upscaler` brings the result of the stage before to this one's size, "" in the first stage.  `steps_before` are the steps of
    the stage before, from which prompt editing goes on counting.  `owner` is the plugin that the stage comes from.
    """

    settings: Txt2Img
    start: Start = "noise"
    strength: float = 1.0
    exactly: bool = False
    upscaler: str = ""
    steps_before: int | None = None
    owner: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.settings.width, self.settings.height

    @property
    def windows(self) -> int:
        """In how many windows each evaluation of a completed request is made: 1 without tiled diffusion."""
        tiles = self._tiles
        return 1 if tiles is None else tiles.count(*self.size)

    @property
    def window_size(self) -> tuple[int, int]:
        """(width, height) in pixels of what the network sees at once."""
        tiles, (width, height) = self._tiles, self.size
        return (width, height) if tiles is None else (min(width, tiles.width), min(height, tiles.height))

    @property
    def _tiles(self) -> Tiles | None:
        return tiles_of(self.settings, self.size)

    @property
    def refiner(self) -> str:
        """The checkpoint that goes on with the loop, "" where none does: at a share of 1 there is nothing to go on with, and
        from a checkpoint to itself nothing changes."""
        own = self.settings
        return own.refiner if own.refiner != own.checkpoint and own.refiner_switch_at < 1 else ""

    @property
    def steps(self) -> int:
        """How many steps the loop has: fewer than `settings.steps` where only a part of the schedule is run."""
        if self.start == "noise":
            return self.settings.steps
        return run_steps(counted_as(self.settings.sampler), self.settings.steps, self.strength, self.exactly)


@dataclass(frozen=True)
class Further:
    """Stages that a request has behind its first one: `stages(request, those before)` answers them, () for none.

    Each begins with the result of the one before, a "latent" or a "picture", which its `upscaler` brings to its size.  Asked in
    both processes, often, and without torch; the same answer for the same request, which one may rely on.
    """

    name: str
    stages: Callable[[Txt2Img, Sequence[Stage]], Sequence[Stage]]


def stages_of(request: Txt2Img) -> tuple[Stage, ...]:
    """The stages of one image of `request`, in order; none of a picture that is only enlarged.

    Raises:
        ExtensionFailed: while a picture is made, as the manifest of an extension asks for whose stages could not be asked.
    """
    if isinstance(request, Upscaling):
        return ()
    if isinstance(request, Img2Img) and request.upscaler_noise_level is not None:  # SD x4 upscaler's
        return (Stage(request),)
    if isinstance(request, Img2Img):
        stages = [Stage(request, "picture", request.denoising_strength, request.fix_steps)]
    else:
        stages = [Stage(request if request.hires is None else _refined(request, "first pass"))]
    for one in FURTHER.owned():
        more = call(one.owner, HOOK, partial(_asked, one.entry, request, tuple(stages)), _nothing)
        stages += [replace(stage, owner=one.owner) for stage in more]
    return tuple(stages)


def _nothing() -> tuple[Stage, ...]:
    return ()


def _asked(one: Further, request: Txt2Img, before: tuple[Stage, ...]) -> tuple[Stage, ...]:
    more = tuple(one.stages(request, before))
    for stage in more:
        if stage.start == "noise" or not stage.upscaler:
            raise ValueError(f"a stage behind the first begins with a latent or a picture, and names an upscaler: {one.name}")
    return more


def _second_pass(request: Txt2Img, before: Sequence[Stage]) -> tuple[Stage, ...]:
    """It runs exactly its number of steps, as in A1111 (`sd_samplers_common.setup_img2img_steps`)."""
    if (hires := request.hires) is None:
        return ()
    second = Stage(
        _refined(request.second_pass(), "second pass"),
        "latent" if hires.upscaler in LATENT_UPSCALERS else "picture",
        hires.denoising_strength,
        exactly=True,
        upscaler=hires.upscaler,
        steps_before=counted_as(request.sampler).prompt_steps(request.steps),
    )
    return (second,)


class _BuiltIn:
    @hookimpl
    def stages(self) -> tuple[Further, ...]:
        return (Further("Hires. fix", _second_pass),)


FURTHER: Listing[Further] = Listing(HOOKS, HOOK, "stage", lambda one: (one.name,))
"""Who adds stages, in order, extensions last."""

HOOKS.register(_BuiltIn(), "atelier.stages", built_in=True)


def _refined(settings: Txt2Img, name: RefinerPass) -> Txt2Img:
    """The settings of the pass of this name, without the refiner where it ends the other one."""
    return settings if settings.refiner_pass in (name, "both passes") else settings.model_copy(update={"refiner": ""})


def refiner_of(stages: Sequence[Stage]) -> str:
    """The checkpoint that goes on with some of the stages, "" where none does."""
    return next((stage.refiner for stage in stages if stage.refiner), "")


def refined_steps(stage: Stage) -> int:
    """About how many steps of a stage its refiner makes: on the noise levels of SD and SDXL, and without bent schedules."""
    own = stage.settings
    if not stage.refiner:
        return 0
    if own.refiner_by_steps:
        return stage.steps - math.ceil(stage.steps * own.refiner_switch_at)
    try:
        levels = _levels(own.schedule, own.sampler, own.steps, stage.strength, stage.exactly, stage.start == "noise")
    except UnknownName:  # see `counted_as`
        return 0
    return min(stage.steps, sum(_TRAINED.behind(sigma) >= own.refiner_switch_at for sigma in levels))


_TRAINED = TrainedSigmas.scaled_linear()


@lru_cache(maxsize=256)
def _levels(schedule: str, sampler: str, steps: int, strength: float, exactly: bool, whole: bool) -> tuple[float, ...]:
    """The noise levels from which such a stage makes steps."""
    known, in_name = find_sampler(sampler)
    label = resolve_schedule(in_name or schedule, known)
    if whole:
        return tuple(sigmas_for(label, known, _TRAINED, steps))[:-1]
    return tuple(partial_sigmas(label, known, _TRAINED, steps, strength, exactly).sigmas)[:-1]


def checkpoints_of(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The checkpoints that the stages need, their own first, each once; none without stages."""
    names = (*(stage.settings.checkpoint or "" for stage in stages), *(stage.refiner for stage in stages))
    return tuple(dict.fromkeys(name for name in names if name))

"""A full request from some of its fields: names resolved, defaults filled in, what makes no sense refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modules.catalogue.names import DEFAULTS, Names
from modules.catalogue.prompts import PromptChecks
from modules.catalogue.recipes import Recipes
from modules.checkpoints.families import FAMILIES, Family
from modules.checkpoints.files import CheckpointInfo, find
from modules.checkpoints.second_passes import second_pass_problem
from modules.checkpoints.taesd import HALVES, taesd_for
from modules.diffusion.samplers import find_sampler
from modules.diffusion.samplers.relevance import relevant
from modules.diffusion.schedules import find_schedule
from modules.errors import CheckpointError, RequestError, UnknownName
from modules.model_library.edits import own_defaults
from modules.pipelines.stages import checkpoints_of, stages_of
from modules.pixels.enlarging import hires_upscalers
from modules.prompts.library import Library
from modules.prompts.limits import check_affordable, check_windows
from modules.prompts.plan import plan
from modules.prompts.tokenizer import Tokenizer
from modules.request import GenerationRequest, Hires, Img2Img, TileOptions, Txt2Img, Upscaling, parse_request
from modules.request.checkpoint import SIZE_FIELDS
from modules.request.starting import FROM_NOISE, NOISE_LEVEL, NOT_ENLARGING, starting_problem
from modules.request.tiles import tiles_of

DRAWN_SEEDS = 2**32
"""Random seeds are below: short enough to be copied, and exact in every JSON reader."""

COST_FIELDS = (
    *("width", "height", "count", "steps", "sampler", "cfg_scale"),
    *("pag_scale", "sag_scale", "source", "pictures", "denoising_strength", "fix_steps", "hires"),
    *("refiner", "refiner_switch_at", "refiner_pass", "refiner_by_steps", "vae", "vae_decoder", "vae_encoder"),
    *TileOptions.model_fields,
)
"""Fields of a request that decide what it costs, beside its checkpoint."""


class Catalogue(Names):
    """What can be asked for.

    Args:
        folders: models folders.
        library: the instance's styles and wildcards.
        latest: the checkpoint that was asked for last, None when there was none.
    """

    def __init__(self, folders: Sequence[Path], library: Library, latest: Callable[[], str | None]) -> None:
        super().__init__(folders, latest)
        self.library, self.recipes, self.prompts = library, Recipes(self), PromptChecks(self, library)

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        """A full request from some fields: names resolved, a seed drawn, the rest from the checkpoint's defaults.

        Raises:
            RequestError: a field makes no sense; the message says which and what is allowed.
        """
        if "upscaler_1" in fields:
            return self._enlarging(fields)
        info = self.checkpoint(fields.get("checkpoint"))
        defaults = {
            "width": info.defaults.width,
            "height": info.defaults.height,
            "steps": info.defaults.steps,
            "cfg_scale": info.defaults.cfg_scale,
            "sampler": info.defaults.sampler,
            "schedule": info.defaults.schedule,
            **own_defaults(info.path),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        family = FAMILIES.find(info.family)
        if family is not None and family.distilled:
            defaults["distilled_cfg_scale"] = info.defaults.distilled_cfg_scale
        request = _of_family(parse_request({**defaults, **given, "checkpoint": info.name}), family)
        if problem := starting_problem(info.name, family.concat if family else "", request):
            raise RequestError(problem)
        sampler, schedule_in_name = find_sampler(request.sampler)
        schedule = find_schedule(schedule_in_name or request.schedule)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(DRAWN_SEEDS)
        found: dict[str, Any] = {
            "sampler": sampler.name,
            "schedule": self._fitting(schedule.label, sampler.name, info.name, info),
            "seed": seed,
            "vae": self.vae(request.vae),
            "refiner": self.refiner(request.refiner, info),
        }
        if request.variation_strength > 0 and request.variation_seed < 0:
            found["variation_seed"] = secrets.randbelow(DRAWN_SEEDS)
        if request.hires is not None:
            hires = self._hires(request.hires, info)
            chosen = hires.schedule or found["schedule"]
            fits = self._fitting(chosen, hires.sampler or sampler.name, hires.checkpoint or info.name, info)
            found["hires"] = hires if fits == chosen else hires.model_copy(update={"schedule": fits})
        found |= _tiled(request, info)
        request = relevant(request.model_copy(update=found))
        self._check_taesd(request, family)
        self._check_noise_levels(request, info)
        for stage in stages_of(self.library.finish(request.image(0)).request):
            words, steps = stage.settings, find_sampler(stage.settings.sampler)[0].prompt_steps(stage.settings.steps)
            passes = (steps, None) if stage.steps_before is None else (stage.steps_before, steps)
            planned = plan(words.prompt, words.negative_prompt, *passes, old=request.old_prompt_editing)
            check_affordable(planned)
            check_windows(planned, Tokenizer(request.raw_text), request.emphasis)
        return request

    def _enlarging(self, fields: dict[str, Any]) -> GenerationRequest:
        """The request of a picture that is only enlarged, with its upscalers as they are called here."""
        request = parse_request({name: value for name, value in fields.items() if value is not None})
        assert isinstance(request, Upscaling), "its fields say so"
        named = {field: self.upscaler(getattr(request, field), field) for field in ("upscaler_1", "upscaler_2")}
        return request.model_copy(update={**named, "seed": 0})

    def _hires(self, hires: Hires, first: CheckpointInfo) -> Hires:
        """With the names of its own sampler, schedule and checkpoint resolved; the first pass's own checkpoint is none.

        Raises:
            RequestError: there is no such sampler, schedule or checkpoint, or it cannot be used for that.
        """
        hires = self._named_hires(hires)
        if hires.checkpoint.casefold() in ("", "none", "use same checkpoint"):
            return hires.model_copy(update={"checkpoint": ""})
        try:
            info = find(self.folders, hires.checkpoint)
        except UnknownName as error:
            raise RequestError(f"hires.checkpoint: {error}") from None
        if info.problem:
            raise RequestError(f"hires.checkpoint: {info.name!r} cannot be used: {info.problem}")
        family, other = FAMILIES.find(first.family), FAMILIES.find(info.family)
        if (
            family is not None
            and other is not None
            and info.name != first.name
            and (problem := second_pass_problem(first.name, family, info.name, other, hires.upscaler))
        ):
            raise RequestError(f"hires.checkpoint: {problem}")
        return hires.model_copy(update={"checkpoint": "" if info.name == first.name else info.name})

    def _named_hires(self, hires: Hires) -> Hires:
        """With the names of its upscaler, sampler and schedule resolved.

        Raises:
            UnknownName: there is no such one.
        """
        names = {"upscaler": self.upscaler(hires.upscaler, "hires.upscaler", hires_upscalers())}
        schedule = hires.schedule
        if hires.sampler:
            sampler, in_name = find_sampler(hires.sampler)
            names["sampler"], schedule = sampler.name, in_name or schedule
        if schedule:
            names["schedule"] = find_schedule(schedule).label
        return hires.model_copy(update=names)

    def _fitting(self, schedule: str, sampler: str, name: str, first: CheckpointInfo) -> str:
        """The schedule of a pass; where Automatic is one that the checkpoint refuses, that which its family is run with."""
        family = self._family_named(name, first)
        if schedule != "Automatic" or family is None or family.refuses_sampler(find_sampler(sampler)[0]):
            return schedule
        return family.defaults.schedule if family.refuses(sampler, schedule) else schedule

    def _family_named(self, name: str, first: CheckpointInfo) -> Family | None:
        """The family of `first` or of another checkpoint; None where it is not known, and for no name."""
        return FAMILIES.find(first.family if name == first.name else find(self.folders, name).family) if name else None

    def _check_taesd(self, request: GenerationRequest, family: Family | None) -> None:
        """Refuse a request for TAESD that is not here for its checkpoint.

        Raises:
            RequestError: with the file that is missing, or what is wrong with it.
        """
        for half in HALVES:
            if getattr(request, f"vae_{half}") == "TAESD" and family is not None:
                try:
                    taesd_for(self.folders, family.latent, half)
                except CheckpointError as error:
                    raise RequestError(str(error)) from None

    def _check_noise_levels(self, request: Txt2Img, first: CheckpointInfo) -> None:
        """Refuse a sampler or a schedule that makes no sense with the checkpoint of a stage, or with its refiner.

        Raises:
            RequestError: with the reason.
        """
        for number, stage in enumerate(stages_of(request)):
            own = stage.settings
            for name in (own.checkpoint or first.name, stage.refiner):
                family = self._family_named(name, first)
                if family is not None and (why := family.refuses(own.sampler, own.schedule)):
                    field = why.partition(":")[0]
                    second = number > 0 and request.hires is not None and bool(getattr(request.hires, field, None))
                    raise RequestError(f"hires.{why}" if second else why)

    def to_quote(self, fields: dict[str, Any]) -> tuple[GenerationRequest, CheckpointInfo | None]:
        """The request of those among `fields` that decide what it costs, and its checkpoint, None where it is only enlarged.

        Raises:
            RequestError: such a field makes no sense.
        """
        if "upscaler_1" in fields:
            return self._enlarging(fields), None
        info = self.as_in_its_file(fields.get("checkpoint"))  # whose native size is its file's, whatever people prefer
        given = {name: fields[name] for name in COST_FIELDS if fields.get(name) is not None}
        best = {name: getattr(info.defaults, name) for name in DEFAULTS if name in COST_FIELDS}
        request = parse_request({**best, **given, "checkpoint": info.name})
        found: dict[str, Any] = {
            "sampler": find_sampler(request.sampler)[0].name,
            "refiner": self.refiner(request.refiner, info),
        }
        if request.hires is not None:
            found["hires"] = self._hires(request.hires, info)
        found |= _tiled(request, info)
        return _of_family(request.model_copy(update=found), FAMILIES.find(info.family)), info

    def beside(self, request: GenerationRequest) -> list[CheckpointInfo]:
        """The checkpoints that a completed request, or one that was quoted, needs beside its own."""
        names = checkpoints_of(stages_of(request))[1:]
        return [find(self.folders, name) for name in names]


def enlarging_factor(info: CheckpointInfo) -> int:
    """How many times as large as the picture that it starts from are those of a checkpoint; 0 where they may have any size."""
    family = FAMILIES.find(info.family)
    return family.latent.factor if family is not None and family.concat == "low-res" else 0


def _of_family(request: GenerationRequest, family: Family | None) -> GenerationRequest:
    """The request without what only other families of checkpoints are told: it made no difference."""
    if family is None:
        return request
    defaults, from_noise = type(request).model_fields, family.concat in FROM_NOISE
    idle: tuple[str, ...] = () if family.numbers else SIZE_FIELDS  # a base model's scores are its refiner's
    idle += () if family.distilled else ("distilled_cfg_scale",)
    if isinstance(request, Img2Img):
        idle += NOT_ENLARGING if from_noise else ()
        idle += () if family.noises_low_res else ("upscaler_noise_level",)
    if not family.words:  # nothing is said to the network, so there is nothing to guide away from
        idle += ("negative_prompt",)
    changed: dict[str, Any] = {
        name: defaults[name].default for name in idle if getattr(request, name) != defaults[name].default
    }
    if from_noise and isinstance(request, Img2Img):
        changed["denoising_strength"] = 1.0
        if family.noises_low_res:
            level = request.upscaler_noise_level
            changed["upscaler_noise_level"] = NOISE_LEVEL if level is None else level
    if not family.words:
        changed["cfg_scale"] = 1.0
    return request.model_copy(update=changed) if changed else request


def _tiled(request: GenerationRequest, info: CheckpointInfo) -> dict[str, int]:
    """The sizes of windows that a request leaves to its checkpoint.

    Raises:
        RequestError: a picture would be too many windows.
    """
    tiles = tiles_of(request, (info.defaults.width, info.defaults.height))
    if tiles is None:
        return {}
    for stage in stages_of(request):
        if problem := tiles.problem(*stage.size):
            raise RequestError(problem)
    return {"tile_width": tiles.width, "tile_height": tiles.height, "tile_overlap": tiles.overlap}

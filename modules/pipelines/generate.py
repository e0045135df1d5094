"""The pipeline `generate`: one image of a request, stage by stage, from its prompts to its pixels.

What differs between txt2img, img2img, inpainting, outpainting, editing and a second pass is data: how a stage starts
(`stages`, `init`), an inpaint region with or without a mask (`region`), a blend around the denoiser (`inpainting`), concat
conditioning for networks that were trained with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from PIL import Image
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import Sampler, find_sampler
from modules.diffusion.schedules import Partial, Tweaks, partial_sigmas, resolve_schedule, sigmas_for
from modules.errors import RequestError
from modules.hooks import HOOKS
from modules.pipelines.denoisers import Denoiser
from modules.pipelines.enlarging import concat_low_resolution, from_noise, low_resolution
from modules.pipelines.extra_networks import both_said
from modules.pipelines.guidance import RULES, guidance_for
from modules.pipelines.init import Init, concat_empty, concat_init, init_of_region, init_of_stage
from modules.pipelines.inpainting import blend_for, inpainted, inpainted_before, kept
from modules.pipelines.loading import load_stages
from modules.pipelines.maps import at_size, concat_map
from modules.pipelines.ops import Program, decode, on_host, report
from modules.pipelines.painted import Painted
from modules.pipelines.preprocessing import PREPROCESSORS, prepared
from modules.pipelines.prompting import Prompted, prompted
from modules.pipelines.refining import Refiner, account, check_refiner, load_refiner
from modules.pipelines.region import Region, region_of
from modules.pipelines.sampling import ahead, sample, starting_point
from modules.pipelines.stages import Stage
from modules.pipelines.tiled import Guiding, guiding, in_tiles
from modules.pipelines.without import StartAgain, extended
from modules.pipelines.wrappers import WRAPPERS, Run, wrapped
from modules.pixels import Picture, colour
from modules.request import Img2Img, Txt2Img
from modules.request.starting import starting_problem


def generate(stages: Sequence[Stage], pictures: Mapping[str, Image.Image] = MappingProxyType({})) -> Program[Painted]:
    """Paint one image: run its `stages` (`stages_of` a request whose seed and checkpoint are resolved and whose count is 1).

    `pictures` are by role: "init" is RGB or RGBA, "mask" any picture of a mask (`pixels.masks.from_image`).  Where a report's
    answer ends a denoising loop, the stages behind it are not run.  Where a function of an extension raises, the picture is
    begun anew without the extension (`without`).

    Raises:
        RequestError: the request cannot be carried out with this checkpoint or these pictures.
        NotFinite: a prediction has NaN or infinity.
        ExtensionFailed: an extension raised, and says that pictures fail then.
    """
    extensions = extended(WRAPPERS, RULES, PREPROCESSORS) or any(not HOOKS.is_built_in(stage.owner) for stage in stages[1:])
    given, kept = dict(pictures), dict(pictures) if extensions else {}
    del pictures  # large ones and many jobs
    without: set[str] = set()
    while True:
        try:
            return (yield from _painted(stages, given, without))
        except StartAgain as failed:
            without.add(failed.owner)
            given = dict(kept)
            stages = [stage for stage in stages if stage.owner not in without]


def _painted(stages: Sequence[Stage], pictures: dict[str, Image.Image], without: Collection[str]) -> Program[Painted]:
    """See `generate`; takes the pictures out of `pictures`, as what is still needed of them is in the region then."""
    request = stages[0].settings
    assert request.seed >= 0, "the seed is resolved before it reaches a pipeline"
    assert request.checkpoint, "the checkpoint is resolved before it reaches a pipeline"
    refiner = yield from load_refiner(stages)
    models = yield from load_stages(stages)
    if any(stage.windows > 1 for stage in stages):
        models = {name: in_tiles(each) for name, each in models.items()}
    model = last = models[request.checkpoint]
    check_refiner(stages, models, refiner)
    if problem := starting_problem(model.info.name, model.family.concat, request):
        raise RequestError(problem)
    stages = from_noise(stages) if model.enlarges or model.paints_maps else stages
    region = yield from _region(stages[0], model, pictures, without)

    latent, init, said, done = torch.empty(0), None, dict[str, str](), 0
    notes: dict[str, None] = {}
    schedules = []
    for number, stage in enumerate(stages):
        sampler, _ = find_sampler(stage.settings.sampler)
        before, last = last, models[stage.settings.checkpoint or ""]
        if why := last.family.refuses(stage.settings.sampler, stage.settings.schedule):
            raise RequestError(why)
        runs = last.run_as(request.prediction, request.zero_snr, request.ignore_zero_snr)
        words = yield from prompted(last, stage.settings, sampler, stage.steps_before)
        init = yield from _init(stage, last, region, latent, before)
        words = yield from _concatenated(stage, last, region, init, words)
        runs = runs.at_size(*_latent_size(stage, runs, init))
        schedules.append(resolve_schedule(stage.settings.schedule, sampler))
        part = yield from _part(stage, runs, schedules[-1], sampler)
        own_words = None
        if refiner is not None and stage.refiner:
            own_words = yield from _refined_words(stage, refiner.model, region, init, sampler)
        told = account(words, own_words)
        factor = runs.latent.factor
        size = (init.latent.shape[2] * factor, init.latent.shape[1] * factor) if init is not None else stage.size
        guide = guiding(stage, runs, sampler, size, (refiner, len(part.sigmas) - 1), words, own_words)
        run = Run(stage, runs, sampler, part.sigmas)
        around = _Around(guide, run, frozenset(without))
        after = sum(later.steps for later in stages[number + 1 :])
        progress = _Progress(runs, number, len(stages), done, after)
        latent = yield from _denoised(around, init, part, progress)
        notes |= dict.fromkeys(told.notes) | run.notes
        said, done = both_said(said, told.said), done + max(0, len(part.sigmas) - 1)
        if progress.ended:
            break

    pixels = yield from decode(last, latent)
    said |= yield from _files(model, refiner, last)
    if refiner is not None and not refiner.used:
        notes[f"the refiner {refiner.model.info.name} was never asked: no evaluation came as far as it takes over"] = None
    if not isinstance(request, Img2Img) or region is None:
        return Painted(pixels, model, schedules[0], said, {**runs.noise.facts, **_tiny_facts(model), **_noted(notes)})
    moved = (latent - init.latent).norm(dim=0) if request.soft_inpainting and init is not None else None
    result, facts = yield from on_host(lambda: _finished(request, region, init, pixels.numpy(), moved))
    facts |= _noted([*notes, *region.notes])
    return Painted(
        torch.tensor(result),
        model,
        schedules[0],
        {**_extras(request, model, region), **said},
        {**runs.noise.facts, **_tiny_facts(model), **facts},
    )


def _files(model: ModelHandle, refiner: Refiner | None, second: ModelHandle) -> Program[dict[str, str]]:
    """The hash of the checkpoint is known from here on; the items of the text that name an autoencoder of another file, the
    refiner, and the checkpoint of a second pass where that is another one."""
    name, digest = model.vae_file or ("", None)
    other = None if refiner is None else refiner.model
    hashes = (model.hash, second.hash, digest, None if other is None else other.hash)
    for each in (*hashes, *(tiny for _, tiny in model.taesd_files)):
        if each is not None and not each.ready:  # reading gigabytes is not for the device's thread to wait for
            yield from on_host(each.value, waits=True)
    said = {"VAE hash": digest.value()[:10], "VAE": name} if digest is not None else {}
    if other is not None:
        said["Refiner"] = f"{other.info.name} [{other.hash.value()[:10]}]"
    if second is not model:
        said["Hires checkpoint"] = f"{second.info.name} [{second.hash.value()[:10]}]"
    return said


def _refined_words(
    stage: Stage, refiner: ModelHandle, region: Region | None, init: Init | None, sampler: Sampler
) -> Program[Prompted]:
    """The prompts of a stage as its refiner reads them."""
    words = yield from prompted(refiner, stage.settings, sampler, stage.steps_before)
    return (yield from _concatenated(stage, refiner, region, init, words))


def _tiny_facts(model: ModelHandle) -> dict[str, str]:
    """The files of TAESD, whose hashes are known."""
    files = ", ".join(f"{name} ({digest.value()[:10]})" for name, digest in model.taesd_files)
    return {"TAESD": files} if files else {}


class _Progress:
    """Reports the steps of one stage as steps of the whole image; `ended` says that a report's answer was to end here.

    `before` steps are done, `after` are those of the stages behind it.
    """

    def __init__(self, model: ModelHandle, stage: int, stages: int, before: int, after: int) -> None:
        self.model, self.stage, self.stages, self.before, self.after = model, stage, stages, before, after
        self.ended = False

    def __call__(self, step: int, steps: int, denoised: Tensor) -> Program[bool]:
        total = self.before + steps + self.after
        self.ended = yield from report(self.model, self.before + step, total, denoised, self.stage, self.stages)
        return self.ended


# ---- how a stage starts


def _region(
    stage: Stage, model: ModelHandle, pictures: dict[str, Image.Image], without: Collection[str]
) -> Program[Region | None]:
    """The inpaint region of a first stage that starts from the init image, which is taken out of `pictures`."""
    request = stage.settings
    if not isinstance(request, Img2Img):
        return None
    native = model.info.defaults.width, model.info.defaults.height
    if model.enlarges:
        request = low_resolution(request, model.latent.factor)
    taken = dict(pictures)
    pictures.clear()
    sized = request.model_copy(update={"resize_mode": "Just resize"}) if model.paints_maps else request

    def look() -> Region:
        begun = prepared(request, taken, without)
        init = at_size(request, begun["init"]) if model.paints_maps else begun["init"]
        return region_of(sized, init, begun.get("mask"), native, model.latent.factor)

    return (yield from on_host(partial(copy_context().run, look)))


def _init(stage: Stage, model: ModelHandle, region: Region | None, latent: Tensor, before: ModelHandle) -> Program[Init | None]:
    """What noise is added to, None for one from noise; `latent` is the result of the stage before, of its model `before`."""
    if stage.start == "noise":
        return None
    if stage.upscaler:
        return (yield from init_of_stage(model, stage, latent, before))
    assert region is not None
    assert isinstance(stage.settings, Img2Img)
    return (yield from init_of_region(model, stage.settings, region))


def _latent_size(stage: Stage, model: ModelHandle, init: Init | None) -> tuple[int, int]:
    """Height and width of what a stage denoises, in latent positions."""
    if init is not None:
        return init.latent.shape[1], init.latent.shape[2]
    return stage.size[1] // model.latent.factor, stage.size[0] // model.latent.factor


def _concatenated(
    stage: Stage, model: ModelHandle, region: Region | None, init: Init | None, words: Prompted
) -> Program[Prompted]:
    """The words, for networks with further input channels with concat conditioning."""
    if model.enlarges and region is not None and isinstance(stage.settings, Img2Img):
        return (yield from concat_low_resolution(model, stage.settings, region, words))
    if model.paints_maps and region is not None:
        return (yield from concat_map(model, region, words))
    if region is not None and init is not None and isinstance(stage.settings, Img2Img):
        return (yield from concat_init(model, stage.settings, region, init, words))
    return (yield from concat_empty(model, stage.size, words))


# ---- the noise schedule and the denoising loop


def tweaks_of(request: Txt2Img) -> Tweaks:
    """What the request bends in its schedule."""
    return Tweaks(
        *(request.sigma_min, request.sigma_max, request.rho, request.beta_alpha, request.beta_beta),
        exact_steps=request.exact_steps,
    )


def _part(stage: Stage, model: ModelHandle, schedule: str, sampler: Sampler) -> Program[Partial]:
    """The noise levels of a stage: the whole schedule from noise, else what its strength asks for."""
    request = stage.settings
    tweaks, discard = tweaks_of(request), request.discard_penultimate
    if stage.start == "noise":
        sigmas = sigmas_for(schedule, sampler, model.noise.trained, request.steps, tweaks, discard)
        return Partial(sigmas, sigmas[0], ())
    how_far = (request.steps, stage.strength, stage.exactly)
    return (yield from on_host(lambda: partial_sigmas(schedule, sampler, model.noise.trained, *how_far, tweaks, discard)))


def noise_for(request: Txt2Img, model: ModelHandle, size: tuple[int, int], span: Sequence[float] = ()) -> Noise:
    """The noise of one image of `request` that is painted at `size` (width, height), in the latent space of `model`.

    `span` are the noise levels of its whole schedule where a part of it is run.
    """
    factor = model.latent.factor
    resize_from = (request.seed_resize_height // factor, request.seed_resize_width // factor)
    return Noise(
        request.seed,
        (model.latent.channels, size[1] // factor, size[0] // factor),
        model.device,
        request.rng,
        variation=(request.variation_seed, request.variation_strength) if request.variation_strength > 0 else None,
        resize_from=resize_from if min(resize_from) > 0 else None,
        delta=request.ensd,
        span=span,
    )


@dataclass(frozen=True, eq=False)
class _Around:
    """How the denoiser of a run is made: by guidance, and within the wrappers."""

    guide: Guiding
    run: Run
    without: frozenset[str]

    def denoiser(self, request: Txt2Img) -> Denoiser:
        """`request` has as many steps as are run: parts of a run are counted in those."""
        denoise = self.guide(partial(guidance_for, request, self.run.sampler, self.without))
        return wrapped(denoise, self.run, self.without)


def _denoised(around: _Around, init: Init | None, part: Partial, progress: _Progress) -> Program[Tensor]:
    """The denoising loop: from noise, or from the init latent with noise; what a mask keeps is put back at the end."""
    stage, model, sampler = around.run.stage, around.run.model, around.run.sampler
    request = stage.settings
    options = sampler.options(request.eta, request.s_churn, request.s_tmin, request.s_tmax, request.s_noise)
    if init is None:
        noise = noise_for(request, model, stage.size)
        denoise = around.denoiser(request)
        yield from ahead(noise)
        x = starting_point(sampler, part.sigmas, noise, request.sgm_noise_multiplier)
        return (yield from sample(model, sampler, x, part.sigmas, noise, denoise, options, report_step=progress))
    if not part.sigmas:
        return init.latent
    factor = model.latent.factor
    noise = noise_for(request, model, (init.latent.shape[2] * factor, init.latent.shape[1] * factor), part.span)
    yield from ahead(noise)
    multiplier, extra = (request.noise_multiplier, request.extra_noise) if isinstance(request, Img2Img) else (1.0, 0.0)
    x = (init.latent + noise() * multiplier * (part.noised + extra)) * part.start_scale()

    denoise = around.denoiser(request.model_copy(update={"steps": len(part.sigmas) - 1}))
    if init.mask is None or not isinstance(request, Img2Img):
        return (yield from sample(model, sampler, x, part.sigmas, noise, denoise, options, report_step=progress))

    blend = blend_for(request, init.latent, init.mask, model, part.sigmas[0])
    before = sampler.unit_start and (request.soft_inpainting or not request.differential)
    denoise = (inpainted_before if before else inpainted)(denoise, blend)
    grown = (init.mask > 0).to(init.mask) if request.soft_inpainting or request.differential else init.mask
    put_back = kept(init.latent, grown)
    run_with = (part.sigmas, noise, denoise, options)
    latent = yield from sample(model, sampler, x, *run_with, lambda x0: put_back(x0, 0.0), progress)
    return latent if request.soft_inpainting else put_back(latent, 0.0)


# ---- the result


def _finished(
    request: Img2Img, region: Region, init: Init | None, painted: Picture, moved: Tensor | None
) -> tuple[Picture, dict[str, str]]:
    """The picture that the user gets, and what the record says about it.  `moved` is how far the latent went, (h, w).

    On a host thread, which may wait for tensors of the device.
    """
    if request.color_correction:
        painted = colour.color_correct(painted, region.picture)
    facts: dict[str, str] = {}
    if moved is not None and init is not None and init.mask is not None:
        adaptive = region.adaptive(request, moved.cpu().numpy(), init.mask[0].cpu().numpy())
        return region.returned(painted, adaptive), facts
    result = region.returned(painted)
    seam = region.seam(result)
    return result, facts | ({"seam error": f"{seam:.2f}"} if seam is not None else {})


def _noted(notes: Iterable[str]) -> dict[str, str]:
    """Sentences for the user, as a fact of the record; nothing where there are none."""
    text = ". ".join(notes)
    return {"notes": text} if text else {}


def _extras(request: Img2Img, model: ModelHandle, region: Region) -> Mapping[str, str]:
    """Items of the text, under A1111's names, that the request alone does not say."""
    extras = {"Init image hash": region.digest}
    if model.family.concat == "mask":
        extras["Conditional mask weight"] = f"{request.conditioning_mask_strength:g}"
    return extras

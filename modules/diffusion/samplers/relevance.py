"""Which options of a request make a difference: a picture's record must not name what had no part in it.

Where a field is idle because of other fields, its declaration says so (`fields.About`); here is what depends on the sampler,
the schedule, and on whether there is a picture to start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modules.diffusion.samplers.table import find_sampler
from modules.diffusion.schedules.spacings import through_timesteps
from modules.diffusion.schedules.table import SCHEDULES, resolve_schedule
from modules.fields import idle_fields
from modules.request import LATENT_UPSCALERS, Img2Img, MaskOptions, RefinerOptions, TileOptions, extensions
from modules.request.tiles import tiles_of

if TYPE_CHECKING:
    from modules.request import Txt2Img

_OF_TWEAKS = {"sigma_min": "sigma_min", "sigma_max": "sigma_max", "rho": "rho", "alpha": "beta_alpha", "beta": "beta_beta"}
_OF_CHURN = {"s_tmin", "s_tmax"}


def relevant(request: Txt2Img) -> Txt2Img:
    """`request` with every option that makes no difference put back to its default.

    Raises:
        UnknownName: there is no such sampler or schedule.
    """
    idle = _idle_of_pass(request)
    if request.hires is not None:  # what makes no difference in either pass; the second does not start from noise
        idle &= _idle_of_pass(request.second_pass()) | {"exact_steps", "sgm_noise_multiplier"}
        if request.hires.upscaler not in LATENT_UPSCALERS:  # pixels are resized, and encoded again
            idle.discard("vae_encoder")
    else:
        idle.add("refiner_pass")
    if request.refiner == request.checkpoint or request.refiner_switch_at >= 1:
        idle |= RefinerOptions.model_fields.keys()
    if not isinstance(request, Img2Img) and _one_window(request):  # what of a picture is painted is not known before it is seen
        idle |= TileOptions.model_fields.keys()
    if not request.seed_resize_width or not request.seed_resize_height:
        idle |= {"seed_resize_width", "seed_resize_height"}
    fields: dict[str, Any] = type(request).model_fields
    changed = {name: fields[name].default for name in idle if getattr(request, name) != fields[name].default}
    if (given := extensions.without_idle(request.extensions)) != request.extensions:
        changed["extensions"] = given
    return request.model_copy(update=changed) if changed else request


def _one_window(request: Txt2Img) -> bool:
    """Whether one window is as large as the picture in all of its passes."""
    sides = [(each.width, each.height) for each in (request, request.hires) if each is not None]
    tiles = tiles_of(request, (0, 0)) if request.tile_width and request.tile_height else None
    return tiles is not None and all(tiles.count(*size) == 1 for size in sides)


def _idle_of_pass(request: Txt2Img) -> set[str]:
    idle = idle_options(request)
    if request.eta == find_sampler(request.sampler)[0].eta:
        idle.add("eta")
    return idle


def idle_options(request: Txt2Img) -> set[str]:
    """The options of which no value would make a difference beside the others.

    Raises:
        UnknownName: there is no such sampler or schedule.
    """
    sampler, _ = find_sampler(request.sampler)
    schedule = SCHEDULES[resolve_schedule(request.schedule, sampler)]
    idle = {name for name in ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise") if name not in sampler.takes}
    idle |= {field for tweak, field in _OF_TWEAKS.items() if sampler.spacing is not None or tweak not in schedule.takes}
    if request.s_churn == 0:
        idle |= _OF_CHURN | ({"s_noise"} if "s_churn" in sampler.takes else set())
    if "eta" in sampler.takes and request.eta == 0:
        idle.add("s_noise")
    eta = request.eta if "eta" in sampler.takes and request.eta is not None else float(sampler.stochastic)
    churns = "s_churn" in sampler.takes and request.s_churn > 0
    if sampler.brownian or not (eta or churns):  # no fresh noise from the image's own stream
        idle.add("ensd")
    if sampler.spacing is not None or sampler.discards_penultimate:
        idle.add("discard_penultimate")
    if sampler.unit_start:
        idle.add("sgm_noise_multiplier")
    if sampler.spacing is not through_timesteps or isinstance(request, Img2Img):
        idle.add("exact_steps")
    if isinstance(request, Img2Img):
        idle |= _idle_picture(request) | {"sgm_noise_multiplier"}
    else:
        idle.add("vae_encoder")
    return idle | idle_fields(request)


def _idle_picture(request: Img2Img) -> set[str]:
    """Of a picture from a picture.  `conditioning_mask_strength` and `image_cfg_scale` are for the checkpoint to judge."""
    if not request.inpaints:
        outpaints = {name for name in MaskOptions.model_fields if name.startswith("outpaint_")}
        return set(MaskOptions.model_fields) - outpaints - {"conditioning_mask_strength"}
    idle = set()
    if request.mask is None:
        idle.add("mask_mode")
    if request.inpaint_area == "Whole picture":
        idle |= {"masked_padding", "box"}
    else:
        idle.add("resize_mode")
    return idle

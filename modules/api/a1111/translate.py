"""A call of A1111's API as fields of our request.

From the lowest to the highest: the caller's options, the API's defaults, what an `infotext` says, what the body names.  A wish
that cannot be fulfilled is refused with the reason; nothing is left out in silence.

Facts: AUTOMATIC1111 v1.10.1, `modules/api/api.py` and `modules/processing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from starlette.exceptions import HTTPException

from modules.api.a1111.models import find_checkpoint
from modules.api.a1111.options import CHECKPOINT, Chosen, option_fields
from modules.api.a1111.requests import PaintBody, PictureBody, TextBody
from modules.api.a1111.scripts import script_fields
from modules.app import App
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.errors import RequestError, UnknownName
from modules.images.recipe import recipe_of_text
from modules.request import SIDE_STEP, MaskedContent, ResizeMode

_OURS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "styles": "styles",
    "seed": "seed",
    "subseed": "variation_seed",
    "subseed_strength": "variation_strength",
    "seed_resize_from_w": "seed_resize_width",
    "seed_resize_from_h": "seed_resize_height",
    "steps": "steps",
    "cfg_scale": "cfg_scale",
    "width": "width",
    "height": "height",
    "eta": "eta",
    "s_min_uncond": "ngms",
    "s_churn": "s_churn",
    "s_tmax": "s_tmax",
    "s_tmin": "s_tmin",
    "s_noise": "s_noise",
}
_OURS_OF_PICTURES = {
    "denoising_strength": "denoising_strength",
    "resize_mode": "resize_mode",
    "image_cfg_scale": "image_cfg_scale",
    "mask_blur_x": "mask_blur_x",
    "mask_blur_y": "mask_blur_y",
    "mask_round": "mask_round",
    "inpainting_fill": "masked_content",
    "inpaint_full_res": "inpaint_area",
    "inpaint_full_res_padding": "masked_padding",
    "inpainting_mask_invert": "mask_mode",
    "initial_noise_multiplier": "noise_multiplier",
}

_MEANINGS: dict[str, Callable[[Any], Any]] = {
    "resize_mode": lambda value: get_args(ResizeMode)[value],
    "inpainting_fill": lambda value: get_args(MaskedContent)[value],
    "inpaint_full_res": lambda value: "Only masked" if value else "Whole picture",
    "inpainting_mask_invert": lambda value: "Inpaint not masked" if value else "Inpaint masked",
    "width": lambda value: value // SIDE_STEP * SIDE_STEP,
    "height": lambda value: value // SIDE_STEP * SIDE_STEP,
    "seed_resize_from_w": lambda value: max(0, value),
    "seed_resize_from_h": lambda value: max(0, value),
}

_SAMPLER_FIELDS = {"sampler_name", "sampler_index", "scheduler"}


def fields_of(app: App, body: PaintBody, options: Chosen) -> dict[str, Any]:
    """The fields for `App.submit` that a body asks for, without source and mask.

    `options` are the caller's, the call's own overrides included.

    Raises:
        RequestError: something that cannot be done, with the reason.
        HTTPException: 400, a sampler that is not here: what A1111 says.
    """
    _refuse_unbuilt(body)
    image = isinstance(body, PictureBody)
    fields = option_fields(options, image)
    named = {name for name in body.model_fields_set if getattr(body, name) is not None}
    told = recipe_of_text(body.infotext, "infotext") if body.infotext else None

    fields |= _body_fields(body, set(type(body).model_fields) - named, image)
    if told is not None:
        fields |= {name: value for name, value in told.fields.items() if name != "checkpoint"}
    fields |= _body_fields(body, named, image)
    if told is None or named & _SAMPLER_FIELDS or "sampler" not in told.fields:
        fields |= _sampler(body)
    if "eta" not in fields:
        fields |= _option_eta(fields["sampler"], options)
    fields["count"] = (body.n_iter or 1) * (body.batch_size or 1)
    fields |= script_fields(body.alwayson_scripts, image)
    overridden = (body.override_settings or {}).get(CHECKPOINT)
    if told is not None and told.checkpoints and not overridden:
        fields["checkpoint"] = _told_checkpoint(app, told.checkpoints)
    elif options[CHECKPOINT]:
        fields["checkpoint"] = find_checkpoint(app, options[CHECKPOINT]).name
    return fields


def _body_fields(body: PaintBody, names: set[str], image: bool) -> dict[str, Any]:
    """Our fields from those of the body that are in `names`; None is nothing."""
    table = {**_OURS, **(_OURS_OF_PICTURES if image else {})}
    fields = {}
    for theirs, ours in table.items():
        value = getattr(body, theirs)
        if theirs in names and value is not None:
            fields[ours] = _MEANINGS[theirs](value) if theirs in _MEANINGS else value
    if isinstance(body, PictureBody) and "mask_blur" in names and body.mask_blur is not None:
        fields["mask_blur_x"] = fields["mask_blur_y"] = body.mask_blur
    return fields


def _sampler(body: PaintBody) -> dict[str, str]:
    """An old combined name says its schedule itself."""
    name = body.sampler_name or body.sampler_index or "Euler"
    try:
        sampler, schedule = find_sampler(name)
    except UnknownName as error:
        raise HTTPException(400, f"Sampler not found: {error}") from None
    return {"sampler": sampler.name, "schedule": schedule or find_schedule(body.scheduler or "Automatic").label}


def _option_eta(sampler: str, options: Mapping[str, Any]) -> dict[str, float]:
    """A1111 has one option for DDIM and one for ancestral samplers."""
    try:
        known = find_sampler(sampler)[0]
    except UnknownName:
        return {}
    name = "eta_ddim" if known.unit_start else "eta_ancestral"
    return {"eta": options[name]} if name in options else {}


def _told_checkpoint(app: App, names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return find_checkpoint(app, name).name
        except UnknownName:
            continue
    raise RequestError(f"infotext: its checkpoint {names[-1]!r} is not here; name another in override_settings.{CHECKPOINT}")


def _refuse_unbuilt(body: PaintBody) -> None:
    reasons = {
        "restore_faces": ("face restoration is not built yet; send false", bool(body.restore_faces)),
        "tiling": ("seamless tiling is not built yet; send false", bool(body.tiling)),
        "refiner_checkpoint": ("a second checkpoint is not built yet; leave it out", body.refiner_checkpoint not in _NO_NAME),
        "firstpass_image": ("the hires pass is not built yet; leave it out", bool(body.firstpass_image)),
    }
    if isinstance(body, TextBody):
        reasons["enable_hr"] = ("the hires pass is not built yet; send false, and a larger width and height", body.enable_hr)
    if isinstance(body, PictureBody):
        reasons["latent_mask"] = ("a mask in latent space is not built; send mask", bool(body.latent_mask))
    for name, (reason, asked) in reasons.items():
        if asked:
            raise RequestError(f"{name}: {reason}")
    if body.script_name not in _NO_NAME:
        raise RequestError(f"Script {str(body.script_name)[:80]!r} not found; there are no scripts to choose here")


_NO_NAME = (None, "", "None")

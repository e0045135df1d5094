"""The second pass of a txt2img call: A1111's `hr_*` fields as our `hires`.

Facts: AUTOMATIC1111 v1.10.1, `processing.StableDiffusionProcessingTxt2Img`; `hr_cfg` is Forge's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modules.api.a1111.requests import TextBody
from modules.app import App
from modules.checkpoints.upscalers import no_files
from modules.errors import RequestError, UnknownName
from modules.fields import about
from modules.images.infotext_hires import hires_size
from modules.pixels.enlarging import hires_upscalers
from modules.request import SIDE_STEP, Hires

_SAME = ("", "None", "none", "Use same sampler", "Use same scheduler", "Use same checkpoint")
_STRENGTH = 0.75
"""The API's default; the page's is 0.7."""


def hires_fields(app: App, body: TextBody, fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with the second pass that the body asks for.

    Raises:
        RequestError: something of it is not here.
    """
    first = fields["width"], fields["height"]
    size = hires_size(first, body.hr_scale or 2.0, (max(0, body.hr_resize_x or 0), max(0, body.hr_resize_y or 0)))
    if body.firstphase_width or body.firstphase_height:  # before 1.0: width and height are those of the second pass
        if not (body.firstphase_width and body.firstphase_height):
            raise RequestError("firstphase_width, firstphase_height: send both, or neither and hr_scale")
        size = first
        first = body.firstphase_width // SIDE_STEP * SIDE_STEP, body.firstphase_height // SIDE_STEP * SIDE_STEP
    given = {name: getattr(body, one.a1111) for name, one in about(Hires).items()}
    hires = {name: value for name, value in given.items() if value is not None}
    hires |= {"width": size[0], "height": size[1], "upscaler": _upscaler(app, body.hr_upscaler)}
    hires.setdefault("denoising_strength", _STRENGTH)
    hires["steps"] = max(0, hires.get("steps", 0))
    for name in ("sampler", "schedule", "checkpoint"):
        if hires.get(name) in _SAME:
            del hires[name]
    return {**fields, "width": first[0], "height": first[1], "hires": hires}


def over_picture(fields: dict[str, Any], source: str) -> dict[str, Any]:
    """The request that runs the second pass of `fields` over a kept picture (`firstpass_image`), in exactly its steps.

    Latents are enlarged as "Latent" does, whichever of these upscalers is named.

    Raises:
        RequestError: by this upscaler a picture that is sent cannot be enlarged on the way.
    """
    hires = fields["hires"]
    if not hires["upscaler"].startswith("Latent") and hires["upscaler"] != "Lanczos":
        raise RequestError(
            f"hr_upscaler: firstpass_image is enlarged by Lanczos or as a latent, not by {hires['upscaler']!r}; "
            "choose one of them, or enlarge it with extra-single-image first"
        )
    own = ("prompt", "negative_prompt", "sampler", "schedule", "checkpoint", "steps")
    given = {name: hires[name] for name in own if hires.get(name)}
    given |= {name: hires[name] for name in ("cfg_scale",) if hires.get(name) is not None}
    latent = hires["upscaler"].startswith("Latent")
    rest = {name: value for name, value in fields.items() if name != "hires"}
    if rest.get("refiner_pass") == "first pass":
        rest.pop("refiner", None)
    how = {"resize_mode": "Just resize (latent upscale)" if latent else "Crop and resize", "fix_steps": True}
    sizes = {name: hires[name] for name in ("width", "height", "denoising_strength")}
    return {**rest, **given, **sizes, **how, "source": source}


def _upscaler(app: App, name: str | None) -> str:
    """Ours; A1111 takes Lanczos where it is told "None"."""
    if name in (None, ""):
        return "Latent"
    return "Lanczos" if str(name).lower() == "none" else known_upscaler(app, str(name), "hr_upscaler", hires_upscalers())


def known_upscaler(app: App, name: str, field: str, others: Sequence[str] | None = None, what: str = "") -> str:
    """The name of an upscaler as it is called here: one of `others`, or that of a file.

    Raises:
        RequestError: there is none, or its file cannot be used; the message names `field` and what there is.
    """
    names = no_files() if others is None else others
    try:
        return app.catalogue.upscaler(name, field, names)
    except UnknownName:
        known = ", ".join([*names, *(info.name for info in app.catalogue.upscalers() if not info.problem)])
        raise RequestError(f"{field}: {what}{name[:80]!r} is not here; known are {known}") from None

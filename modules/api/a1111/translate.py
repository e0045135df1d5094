"""A call of A1111's API as fields of our request.

From the lowest to the highest: the caller's options, the API's defaults, what an `infotext` says, what the body names.  What
A1111 ignores is left out with a note; what would change the picture and cannot be done is refused with the reason.

Facts: AUTOMATIC1111 v1.10.1, `modules/api/api.py` and `modules/processing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from starlette.exceptions import HTTPException

from modules.api.a1111.hires import hires_fields
from modules.api.a1111.models import find_checkpoint
from modules.api.a1111.option_calls import Call
from modules.api.a1111.options import CHECKPOINT, Chosen, option_fields, option_notes
from modules.api.a1111.requests import GenerationBody, PictureBody, TextBody
from modules.api.a1111.scripts import script_fields
from modules.app import App
from modules.catalogue import enlarging_factor
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.errors import RequestError, SettingsError, UnknownName
from modules.fields import about
from modules.images.recipe import recipe_of_text
from modules.request import SIDE_STEP, Img2Img, MaskedContent, ResizeMode, Txt2Img

_NAMES = {one.a1111: name for name, one in about(Img2Img).items() if one.a1111}
"""Our fields by the names that they have in A1111's calls, as their declarations say."""

_MEANINGS: dict[str, Callable[[Any], Any]] = {
    "resize_mode": lambda value: get_args(ResizeMode)[value],
    "inpainting_fill": lambda value: get_args(MaskedContent)[value],
    "inpaint_full_res": lambda value: "Only masked" if value else "Whole picture",
    "inpainting_mask_invert": lambda value: "Inpaint not masked" if value else "Inpaint masked",
    "width": lambda value: value // SIDE_STEP * SIDE_STEP,
    "height": lambda value: value // SIDE_STEP * SIDE_STEP,
    "refiner_checkpoint": lambda value: value if is_named(value) else "",
    "seed": lambda value: seed_of(value),
    "subseed": lambda value: seed_of(value),
    "seed_resize_from_w": lambda value: max(0, value),
    "seed_resize_from_h": lambda value: max(0, value),
}

_SAMPLER_FIELDS = {"sampler_name", "sampler_index", "scheduler"}


SEEDS = 2**64


@dataclass(frozen=True)
class Asked:
    """`fields` for `App.submit`, without source and mask, and `notes` for the answer's info on what was passed over."""

    fields: dict[str, Any]
    notes: list[str]


def seed_of(value: int) -> int:
    """The seed that A1111's generator takes for a number: -1 is a random one, others below 0 count from 2**64 down.

    >>> [seed_of(value) for value in (-1, 7, -2, 2**64 - 1)]
    [-1, 7, 18446744073709551614, 18446744073709551615]
    """
    return value if value == -1 else value % SEEDS


def asked_of(app: App, body: GenerationBody, options: Chosen, overridden: Mapping[str, Any]) -> Asked:
    """What a body asks for.

    `options` are the caller's, the call's own included; `overridden` are the latter.

    Raises:
        RequestError: something that cannot be done, with the reason.
        HTTPException: 400, a sampler that is not here: what A1111 says.
    """
    notes = _passed_over(body)
    image = isinstance(body, PictureBody)
    fields = option_fields(options, image)
    named = {name for name in body.model_fields_set if getattr(body, name) is not None}
    recipe = recipe_of_text(body.infotext, "infotext") if body.infotext else None

    checkpoint = _checkpoint(app, recipe.checkpoints if recipe else (), options, overridden)
    fields |= _at_most_native(app, checkpoint, _body_fields(body, set(type(body).model_fields) - named, image), image)
    if recipe is not None:
        told, renamed = app.with_local_loras(recipe.fields, recipe.loras)
        fields |= {name: value for name, value in told.items() if name != "checkpoint"}
        notes += [f"infotext: {note}" for note in renamed]
    fields |= _body_fields(body, named, image)
    if recipe is None or named & _SAMPLER_FIELDS or "sampler" not in recipe.fields:
        fields |= _sampler(body)
    if "eta" not in fields:
        fields |= _option_eta(fields["sampler"], options)
    fields["count"] = (body.n_iter or 1) * (body.batch_size or 1)
    if isinstance(body, TextBody):
        if body.enable_hr:
            fields = hires_fields(app, body, fields)
        elif "enable_hr" in named:
            fields.pop("hires", None)  # an infotext's
    notes += _add_networks(app, fields, options)
    scripted, said = script_fields(body.alwayson_scripts, image)
    fields |= scripted
    notes += said + _keep_known_styles(app, fields) + [f"infotext: {note}" for note in (recipe.notes if recipe else ())]
    if checkpoint:
        fields["checkpoint"] = checkpoint
    called = "refiner" in scripted or "refiner_checkpoint" in named
    hires_called = "hr_checkpoint_name" in named and getattr(body, "enable_hr", False)
    known = [app.recipe_vae(fields), _name_refiner(app, fields, called), _name_hires(app, fields, bool(hires_called))]
    notes += [note for note in (*known, app.recipe_upscaler(fields)) if note]
    masked = isinstance(body, PictureBody) and bool(body.mask)
    return Asked(fields, notes + option_notes(options, overridden, Call(app, fields, image, masked)))


def _add_networks(app: App, fields: dict[str, Any], options: Chosen) -> list[str]:
    """Put the networks that options name behind the prompt, unless it names them itself, as A1111 does."""
    notes = []
    for option, kind, known in (
        ("sd_hypernetwork", "hypernet", [info.name for info in app.hypernetworks() if not info.problem]),
        ("sd_lora", "lora", app.loras()),
    ):
        wanted = options[option]
        if wanted.casefold() in ("", "none"):
            continue
        found = next((name for name in known if name.casefold() == wanted.casefold()), "")
        if not found:
            notes.append(f"option {option}: {wanted[:80]!r} is not here; the picture was painted without it")
        elif f"<{kind}:{found}".casefold() not in fields.get("prompt", "").casefold():
            strength = f"{options['extra_networks_default_multiplier']:g}"
            fields["prompt"] = f"{fields.get('prompt', '')}<{kind}:{found}:{strength}>"
    return notes


def _name_refiner(app: App, fields: dict[str, Any], called: bool) -> str:
    """Give the refiner among `fields` its name here, and leave it out where it would never be used; what to say about that.

    `called`: the call names it, so that it must be here; one of an infotext is left out where it is not.

    Raises:
        RequestError: there is none of that name.
    """
    name, at = fields.get("refiner"), fields.get("refiner_switch_at")
    never = called and isinstance(at, int | float) and at >= 1
    if not name or never:
        fields.pop("refiner", None)
        fields.pop("refiner_switch_at", None)
        return "refiner_checkpoint: a refiner that is switched to at 1 is never used" if name else ""
    if not called:
        return app.recipe_refiner(fields)
    try:
        fields["refiner"] = find_checkpoint(app, name).name
    except UnknownName as error:
        raise RequestError(f"refiner_checkpoint: {error}") from None
    return ""


def _name_hires(app: App, fields: dict[str, Any], called: bool) -> str:
    """Give the checkpoint of the second pass its name here; what to say where it is an infotext's and not here, "" otherwise.

    Raises:
        RequestError: the call names one that is not here.
    """
    hires = fields.get("hires")
    if not isinstance(hires, dict) or not called or not (name := hires.get("checkpoint")):
        return app.recipe_hires(fields)
    try:
        fields["hires"] = {**hires, "checkpoint": find_checkpoint(app, name).name}
    except UnknownName as error:
        raise RequestError(f"hr_checkpoint_name: {error}") from None
    return ""


def _keep_known_styles(app: App, fields: dict[str, Any]) -> list[str]:
    """Leave styles out that are not here, as A1111 does, and "None", which is how it says that there is none."""
    names = [name for name in fields.get("styles") or () if name]
    if not names:
        fields.pop("styles", None)
        return []
    try:
        known = set(app.library.styles())
    except SettingsError:  # a damaged file: the job is refused with the reason if it names any but "None"
        known = {name for name in names if name != "None"}
    fields["styles"] = [name for name in names if name in known]
    return [f"style {name[:80]!r} is not here; it was left out" for name in dict.fromkeys(names) if name not in known]


def _body_fields(body: GenerationBody, names: set[str], image: bool) -> dict[str, Any]:
    """Our fields from those of the body that are in `names`; None is nothing."""
    known = (Img2Img if image else Txt2Img).model_fields
    fields = {}
    for theirs, ours in _NAMES.items():
        if ours in known and theirs in names and (value := getattr(body, theirs)) is not None:
            fields[ours] = _MEANINGS[theirs](value) if theirs in _MEANINGS else value
    if isinstance(body, PictureBody) and "mask_blur" in names and body.mask_blur is not None:
        fields["mask_blur_x"] = fields["mask_blur_y"] = body.mask_blur
    return fields


def _sampler(body: GenerationBody) -> dict[str, str]:
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


def _at_most_native(app: App, checkpoint: str, defaults: dict[str, Any], image: bool) -> dict[str, Any]:
    """The API's default sides, 512, or those that the checkpoint was made for where these are smaller; none for a picture that
    the checkpoint enlarges, which becomes as many times as large.

    A1111 knows no smaller checkpoint; one that was trained at 256x256 repeats and tears things at 512x512.
    """
    info = next((each for each in app.checkpoints() if each.name == checkpoint), None) or app.default_checkpoint()
    if info is None:
        return defaults
    if image and enlarging_factor(info):
        return {name: value for name, value in defaults.items() if name not in ("width", "height")}
    native = {"width": info.defaults.width, "height": info.defaults.height}
    return {name: min(value, native[name]) if name in native else value for name, value in defaults.items()}


def _checkpoint(app: App, recorded: tuple[str, ...], options: Chosen, overridden: Mapping[str, Any]) -> str:
    """The name of the checkpoint that is asked for: by an infotext, unless this call names one, or by the options; else ""."""
    if recorded and not overridden.get(CHECKPOINT):
        return _recipe_checkpoint(app, recorded)
    return find_checkpoint(app, options[CHECKPOINT]).name if options[CHECKPOINT] else ""


def _recipe_checkpoint(app: App, names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return find_checkpoint(app, name).name
        except UnknownName:
            continue
    raise RequestError(f"infotext: its checkpoint {names[-1]!r} is not here; name another in override_settings.{CHECKPOINT}")


def _passed_over(body: GenerationBody) -> list[str]:
    """Notes on what the picture is painted without.

    Raises:
        RequestError: it would be another picture.
    """
    reasons = {}
    notes = {
        "restore_faces": ("face restoration is not built; the picture is as it was painted", bool(body.restore_faces)),
        "tiling": ("seamless tiling is not built; the picture's edges do not meet", bool(body.tiling)),
        "firstpass_image": (
            "it counts with enable_hr alone",
            bool(body.firstpass_image) and not getattr(body, "enable_hr", False),
        ),
        "seed": (f"counted from 2**64 down: {seed_of(body.seed or 0)}", (body.seed or 0) < -1),
        "subseed": (
            f"counted from 2**64 down: {seed_of(body.subseed or 0)}",
            (body.subseed or 0) < -1 and bool(body.subseed_strength),
        ),
    }
    if isinstance(body, PictureBody):
        reasons["latent_mask"] = ("a mask in latent space is not built; send mask", bool(body.latent_mask))
    for name, (reason, asked) in reasons.items():
        if asked:
            raise RequestError(f"{name}: {reason}")
    return [f"{name}: {note}" for name, (note, said) in notes.items() if said]


def is_named(name: str | None) -> bool:
    """Whether a name means something: clients say that they mean none in several ways."""
    return name not in (None, "", "None", "none")

"""From the items of an A1111 text to the fields of our requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from modules.fields import Section, infotext_keys, kind_of
from modules.images.infotext_hires import KEYS as SECOND_PASS
from modules.images.infotext_hires import hires_fields
from modules.images.infotext_keys import EXTENSIONS, EXTENSIONS_KEPT, MASK, NEGATIVE, PROMPT, SOURCE, ZERO_SNR
from modules.images.infotext_parsing import completed
from modules.images.infotext_tiles import TILED, tile_fields
from modules.request import Img2Img, RefinerOptions, Txt2Img, extensions
from modules.request.kept_extensions import of_kept_text
from modules.roles import ROLE_FIELDS

_OLD_SCHEDULE_SUFFIXES = ("SGM Uniform", "Karras", "Exponential", "Polyexponential")
"""Before A1111 1.9 the schedule was part of the sampler's name, "DPM++ 2M Karras"."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_REAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?")
_BOX = re.compile(r"([0-9]{1,5}) ([0-9]{1,5}) ([0-9]{1,5}) ([0-9]{1,5})")
_SOURCE_ID = re.compile(r"[0-9a-f]{64}")

IMG2IMG_FIELDS = frozenset(Img2Img.model_fields.keys() - Txt2Img.model_fields.keys()) | ROLE_FIELDS.keys()
"""Fields that only a picture from a picture has."""


def request_fields(parsed: Mapping[str, str], model: type[Txt2Img] = Img2Img) -> dict[str, Any]:
    """The fields for `modules.request.parse_request` that a parsed text names, with what A1111 means by what it leaves out.

    `model` declares the fields and their keys.  Values that are none of their kind are left out; ranges are the request's to
    judge.  Fields of an `Img2Img` are there when the text tells of one; only our own texts name its `source`.
    """
    full = completed(parsed)
    fields: dict[str, Any] = {"prompt": full.get(PROMPT, ""), "negative_prompt": full.get(NEGATIVE, "")}
    sampler, schedule = parsed.get("Sampler", ""), parsed.get("Schedule type", "")
    if not schedule:
        suffix = next((name for name in _OLD_SCHEDULE_SUFFIXES if sampler.endswith(" " + name)), "")
        sampler, schedule = sampler.removesuffix(suffix).rstrip(), suffix
    if sampler:
        fields["sampler"] = sampler
        fields["schedule"] = schedule or "Automatic"

    inpaints = any(key in parsed for key in (*MASK, "Mask hash"))
    sections: tuple[Section, ...] = ("own", "options", "picture options", *(("mask", "soft inpainting") if inpaints else ()))
    keys = {key: name for section in sections for key, name in infotext_keys(model, section).items()}
    for key, name in (*keys.items(), *SOURCE.items()):
        if (value := _read(model, name, full.get(key, "").strip())) is not None:
            fields[name] = value
    if fields.get("refiner", "None").casefold() == "none":  # how it would be switched to says nothing then
        fields = {name: value for name, value in fields.items() if name not in RefinerOptions.model_fields}
    if (given := extensions.of_text(parsed.get(EXTENSIONS, ""))) is not None:
        fields["extensions"] = given
    if (kept := of_kept_text(parsed.get(EXTENSIONS_KEPT, ""))) is not None:
        fields["kept_extensions"] = kept
    fields.pop("tiled_diffusion", None)
    fields |= tile_fields(parsed.get(TILED, ""))
    if "Mask blur" in parsed and "mask_blur_x" in fields:
        fields.setdefault("mask_blur_y", fields["mask_blur_x"])
    elif inpaints:
        fields = {"mask_blur_x": 0, "mask_blur_y": 0} | fields  # A1111 says nothing of a blur of 0
    if "#" in fields["prompt"] + fields["negative_prompt"] and "Steps" in parsed:
        fields["comments"] = False  # texts are written when comments are gone, so this # was meant
    if "Steps" in parsed:
        # What is preferred for the checkpoint is none of a whole recipe that does not say it
        fields = {"clip_skip": 1, "vae": "Automatic"} | fields
    if names := checkpoint_names(parsed):
        fields["checkpoint"] = names[-1]
    if not is_img2img(parsed):
        if any(key in parsed for key in SECOND_PASS):
            fields["hires"] = hires_fields(full, (fields.get("width"), fields.get("height")))
        fields = {name: value for name, value in fields.items() if name not in IMG2IMG_FIELDS and value is not None}
    return fields


def is_img2img(parsed: Mapping[str, str]) -> bool:
    """Whether the text tells of a picture from a picture."""
    if any(key in parsed for key in SOURCE):
        return True
    return "Denoising strength" in parsed and not any(key in parsed for key in SECOND_PASS)


def checkpoint_names(parsed: Mapping[str, str]) -> tuple[str, ...]:
    """What the text calls its checkpoint, surest first: the hash, then the name."""
    return tuple(value for key in ("Model hash", "Model") if (value := parsed.get(key, "").strip()))


def _read(model: type[Txt2Img], name: str, value: str) -> Any:
    """`value` as field `name` takes it, None if it is nothing of its kind."""
    if name in ROLE_FIELDS:
        return value if _SOURCE_ID.fullmatch(value) else None
    kind = kind_of(model, name)
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if name == "box":
        return tuple(map(int, found.groups())) if (found := _BOX.fullmatch(value)) else None
    if kind is bool:
        return {"True": True, "False": False, ZERO_SNR: True}.get(value)
    if kind is str:
        return value or None
    if kind is int:
        return int(value) if _INTEGER.fullmatch(value) else None
    return float(value) if _REAL.fullmatch(value) else None

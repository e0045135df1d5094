"""Draw Things: a JSON object as the EXIF comment inside an XMP packet, with names of one letter.

Newer ones have the whole configuration in it too, under "v2", as Draw Things' scripts know it.

Source: what its pictures hold, and the names of samplers and seed modes in Draw Things' `Libraries/DataModels`.
From memory: no copy of it was at hand.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from modules.images.readers import names
from modules.images.readers.file_texts import (
    MAX_ITEMS,
    ExtraNetwork,
    FileTexts,
    Reading,
    made,
    number,
    parse_object,
    said,
    stem,
)

_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_PRECISION = re.compile(r"(?:_(?:f16|f32|q\d{1,2}p|i8x|8bit))+$")
_SCHEDULES = {" Karras": "Karras", " AYS": "Align Your Steps", " Trailing": "SGM Uniform", " Substep": ""}
"""The ends of its samplers' names; trailing timesteps are those of SGM Uniform."""
_SAMPLERS = {"Euler A": "Euler a", "Euler Ancestral": "Euler a"}
_NOISE = {"Torch CPU Compatible": "CPU", "NVIDIA GPU Compatible": "NV", "1": "CPU", "3": "NV"}
"""Seed modes, by name and number, that draw as others do; "Legacy" and "Scale Alike" are its own."""
_NOT_TAKEN = {
    **dict.fromkeys(("control", "controls"), "a ControlNet or IP-Adapter"),
    **dict.fromkeys(("refiner", "refinerModel", "refiner_model"), "a refiner"),
    **dict.fromkeys(("hires_fix", "hiresFix"), "a second pass at a larger size"),
    **dict.fromkeys(("upscaler",), "an upscaler"),
    **dict.fromkeys(("face_restoration", "faceRestoration"), "face restoration"),
    **dict.fromkeys(("sharpness",), "sharpness"),
    **dict.fromkeys(("tiled_diffusion", "tiledDiffusion"), "a picture in tiles"),
    **dict.fromkeys(("tea_cache", "teaCache"), "TeaCache"),
    **dict.fromkeys(("zero_negative_prompt", "zeroNegativePrompt"), "a negative prompt of zeros"),
}
"""Settings that change the picture and have no field here, as both objects call them."""


def read(file: FileTexts) -> Reading | None:
    data = parse_object(_comment(file.xmp)) or parse_object(file.comment)
    if "c" not in data or not ("uc" in data or "sampler" in data):
        return None
    more = data["v2"] if isinstance(data.get("v2"), dict) else {}
    size = _SIZE.fullmatch(said(data.get("size")))
    sampler, schedule = _sampler(said(data.get("sampler")))
    strength = number(data.get("strength"))
    skip = number(_first(data, more, "clip_skip", "clipSkip"))
    mode = said(_first(data, more, "seed_mode", "seedMode"))
    items = made(
        data.get("c"),
        data.get("uc"),
        steps=data.get("steps"),
        sampler=sampler,
        schedule=schedule,
        cfg=data.get("scale"),
        seed=data.get("seed"),
        width=size[1] if size else None,
        height=size[2] if size else None,
        model=_model(data.get("model")),
        strength=strength if strength is not None and strength < 1 else None,
        clip_skip=skip if skip is not None and 1 < skip <= 12 else None,
        rng=_NOISE.get(mode),
        version="Draw Things",
    )
    if _first(data, more, "cfg_zero_star", "cfgZeroStar") is True:
        items["CFG Zero star"] = "True"
        items["CFG Zero init steps"] = said(_first(data, more, "cfg_zero_init_steps", "cfgZeroInitSteps")) or "0"
    loras = data.get("lora")
    found = [_lora(lora) for lora in loras[:MAX_ITEMS]] if isinstance(loras, list) else []
    notes = (*_notes(mode, said(data.get("sampler"))), *_left_out(data, more))
    return Reading("Draw Things", items, notes=notes, networks=tuple(lora for lora in found if lora))


def _notes(mode: str, sampler: str) -> list[str]:
    notes = []
    if mode in _NOISE:
        notes.append(f"Draw Things' {sampler or 'samplers'} are its own: the picture will only be similar")
    else:
        notes.append("Draw Things draws its noise in its own way: the picture will only be similar")
    if sampler.endswith(" Substep"):
        notes.append("its steps were divided, which is not done here")
    return notes


def _left_out(data: Mapping[str, Any], more: Mapping[str, Any]) -> list[str]:
    asked: dict[str, None] = {}
    for key, what in _NOT_TAKEN.items():
        value = data.get(key, more.get(key))
        if value and (isinstance(value, list | dict) or said(value) not in ("0", "False", "None", "")):
            asked[what] = None
    return [f"made with {', '.join(asked)}, which is not taken over"] if asked else []


def _first(data: Mapping[str, Any], more: Mapping[str, Any], name: str, name_there: str) -> Any:
    return data[name] if name in data else more.get(name_there)


def _sampler(name: str) -> tuple[str, str]:
    """Sampler and schedule; without an end its timesteps are even.

    >>> _sampler("DPM++ 2M AYS"), _sampler("Euler A Trailing"), _sampler("Euler Ancestral")
    (('DPM++ 2M', 'Align Your Steps'), ('Euler a', 'SGM Uniform'), ('Euler a', 'Uniform'))
    """
    end = next((end for end in _SCHEDULES if name.endswith(end)), "")
    bare = name.removesuffix(end).strip() if end else name.strip()
    found, in_name = names.sampler(_SAMPLERS.get(bare, bare))
    return found, (in_name or _SCHEDULES.get(end) or "Uniform") if found else ""


def _comment(xmp: str) -> str:
    """The text of the packet's comment.  It is looked for and not parsed as XML, which could be made to explode."""
    comment = _inside(xmp, "exif:UserComment")
    return html.unescape(_inside(comment, "rdf:li") or comment).strip()


def _inside(text: str, tag: str) -> str:
    """What stands between the first <tag ...> and the </tag> behind it."""
    begin = text.find(f"<{tag}")
    begin = text.find(">", begin) + 1 if begin >= 0 else 0
    end = text.find(f"</{tag}>", begin) if begin else -1
    return text[begin:end] if end >= 0 else ""


def _model(name: Any) -> str:
    """The name of its own file, which says how exact the numbers are.

    >>> _model("dream_xl_q6p_q8p.ckpt"), _model("real_f16.ckpt")
    ('dream_xl', 'real')
    """
    return _PRECISION.sub("", stem(name))


def _lora(value: Any) -> ExtraNetwork | None:
    name = _model(value.get("model") or value.get("file")) if isinstance(value, dict) else ""
    return ExtraNetwork("lora", name) if name else None

"""The second pass in A1111's text: its keys written and read.

"Hires CFG Scale" is Forge's key, the others are A1111's (`processing.StableDiffusionProcessingTxt2Img.init`, v1.10.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from modules.fields import about, infotext_keys
from modules.request import SIDE_STEP, Hires, Txt2Img, clean_text

KEYS = ("Hires upscale", "Hires upscaler", "Hires resize", "First pass size")
"""With one of these, "Denoising strength" is that of the second pass of a picture from words."""

_TEXTS = infotext_keys(Hires, "texts")
_KEYS = {name: one.keys[0] for name, one in about(Hires).items()}
_SAME = re.compile(r"Use same \w+")
_SCALE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,17})?")
_INTEGER = re.compile(r"[0-9]{1,9}")


def hires_items(request: Txt2Img, told: Mapping[str, str] = MappingProxyType({})) -> Iterator[tuple[str, str]]:
    """The items of a request's second pass but its strength, in A1111's order; `told` are some that say more than it does."""
    if (hires := request.hires) is None:
        return
    for key, name in _TEXTS.items():
        if value := getattr(hires, name):
            yield key, told.get(key) or clean_text(value)
    if hires.cfg_scale is not None:
        yield _KEYS["cfg_scale"], _number(hires.cfg_scale)
    scale = hires.width / request.width
    exact = f"{scale:g}"
    if hires_size((request.width, request.height), float(exact)) == (hires.width, hires.height) and scale == float(exact):
        yield "Hires upscale", exact
    else:
        yield "Hires resize", f"{hires.width}x{hires.height}"
    if hires.steps:
        yield _KEYS["steps"], str(hires.steps)
    yield _KEYS["upscaler"], hires.upscaler


def hires_size(first: tuple[int, int], scale: float = 2.0, resize: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The size of a second pass after `first` (width, height), in steps that are painted.

    A side of `resize` that is 0 follows from the other by the aspect ratio; both 0 mean `scale`.

    >>> hires_size((512, 768)), hires_size((512, 768), resize=(1024, 0)), hires_size((512, 512), 1.3)
    ((1024, 1536), (1024, 1536), (664, 664))
    """
    width, height = resize
    if not width and not height:
        width, height = int(first[0] * scale), int(first[1] * scale)
    elif not height:
        height = width * first[1] // first[0]
    elif not width:
        width = height * first[0] // first[1]
    return width // SIDE_STEP * SIDE_STEP, height // SIDE_STEP * SIDE_STEP


def hires_fields(full: Mapping[str, str], size: tuple[Any, Any]) -> dict[str, Any] | None:
    """The fields of the second pass that a completed text tells of a picture of `size`, None where it tells of none.

    As A1111's reader has it: there is one with a denoising strength and one of its keys.
    """
    strength = full.get(_KEYS["denoising_strength"], "").strip()
    if not _SCALE.fullmatch(strength) or not any(key in full for key in KEYS):
        return None
    if not all(isinstance(side, int) and side > 0 for side in size):
        return None
    resize = [full.get(_KEYS[side], "0") for side in ("width", "height")]
    scale = full.get("Hires upscale", "2")
    if not all(map(_INTEGER.fullmatch, resize)) or not _SCALE.fullmatch(scale):
        return None
    width, height = hires_size(size, float(scale), (int(resize[0]), int(resize[1])))
    fields: dict[str, Any] = {"width": width, "height": height, "denoising_strength": float(strength)}
    upscaler = full.get(_KEYS["upscaler"], "Latent")
    fields["upscaler"] = "Lanczos" if upscaler == "None" else upscaler
    if _INTEGER.fullmatch(steps := full.get(_KEYS["steps"], "")):
        fields["steps"] = int(steps)
    if _SCALE.fullmatch(cfg := full.get(_KEYS["cfg_scale"], "")):
        fields["cfg_scale"] = float(cfg)
    told = {name: full.get(key, "") for key, name in _TEXTS.items()}
    return fields | {name: value for name, value in told.items() if value and not _SAME.fullmatch(value)}


def described(hires: Hires) -> str:
    """A second pass in a few words, for people: "128x96, Latent, denoising strength 0.7, ..."."""
    said = [f"{hires.width}x{hires.height}", hires.upscaler, f"denoising strength {hires.denoising_strength:g}"]
    for name in ("checkpoint", "steps", "sampler", "schedule", "cfg_scale", "prompt", "negative_prompt"):
        if (value := getattr(hires, name)) not in (0, "", None) or (name == "cfg_scale" and value == 0):
            said.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(said)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)

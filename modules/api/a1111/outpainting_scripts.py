"""A1111's scripts "Outpainting mk2" and "Poor man's outpainting" as fields of a request.

Our outpainting extends a picture on all sides at once, and what was there keeps its bytes up to the edge that is painted again.

Facts: AUTOMATIC1111 v1.10.1, `scripts/outpainting_mk_2.py` and `scripts/poor_mans_outpainting.py`: their arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from modules.api.a1111.script_places import Place, one_of
from modules.errors import RequestError
from modules.fields import bounds_of
from modules.request import Img2Img, MaskedContent

SIDES = ("left", "right", "up", "down")
_FILLS = ("fill", "original", "latent noise", "latent nothing")
_PIXELS = Place("pixels", "Pixels to expand", 128, 8, 256, 8)
_DIRECTION = Place("direction", "Outpainting direction", list(SIDES), choices=one_of(*SIDES))

OUTPAINTING: dict[str, tuple[Place, ...]] = {
    "outpainting mk2": (
        Place("info", "", ""),
        _PIXELS,
        Place("mask_blur", "Mask blur", 8, 0, 64, 1),
        _DIRECTION,
        Place("noise_q", "Fall-off exponent (lower=higher detail)", 1.0, 0, 4, 0.01),
        Place("color_variation", "Color variation", 0.05, 0, 1, 0.01),
    ),
    "poor man's outpainting": (
        _PIXELS,
        Place("mask_blur", "Mask blur", 4, 0, 64, 1),
        Place("inpainting_fill", "Masked content", "fill", choices=one_of(*_FILLS)),
        _DIRECTION,
    ),
}
"""Their arguments by their titles in lower case."""


@dataclass(frozen=True)
class Outpainting:
    """`fields` go over those of the call; `notes` say what has no counterpart."""

    fields: dict[str, Any]
    notes: list[str]


def outpainting(name: str, args: list[Any]) -> Outpainting | None:
    """What such a script asks for; None where `name` is another one.

    Raises:
        RequestError: an argument is none of its kind.
    """
    places = OUTPAINTING.get(name.strip().lower())
    if places is None:
        return None
    if len(args) > len(places):
        raise RequestError(f"script_args: {len(args)} were given, and {name[:40]} takes {len(places)}")
    given = {place.option: place.value for place in places}
    given |= {place.option: value for place, value in zip(places, args, strict=False) if value is not None}
    pixels, blur = (
        _whole(given["pixels"], "pixels", "outpaint_left", 1),
        _whole(given["mask_blur"], "mask_blur", "mask_blur_x", 0),
    )
    content = _fill(given["inpainting_fill"]) if "inpainting_fill" in given else "blurred"
    fields: dict[str, Any] = {f"outpaint_{side}": pixels if side in _sides(given["direction"]) else 0 for side in SIDES}
    fields |= {"mask_blur_x": blur, "mask_blur_y": blur, "masked_content": content, "inpaint_area": "Crop and stitch"}
    passed = [
        place.label for place in places if place.option in ("noise_q", "color_variation") and given[place.option] != place.value
    ]
    notes = [f"{' and '.join(passed)}: passed over; what is new begins as the blurred surroundings"] if passed else []
    return Outpainting(fields, notes)


def _sides(value: Any) -> set[str]:
    """Sides by their names, or by their places."""
    listed = value if isinstance(value, list) else [value]
    named = {SIDES[one] if isinstance(one, int) and 0 <= one < len(SIDES) else str(one).lower() for one in listed}
    if not named or named - set(SIDES):
        raise RequestError(f"script_args: the direction is a list of {', '.join(SIDES)}, {str(value)[:60]!r} was given")
    return named


def _fill(value: Any) -> str:
    found = _FILLS[value] if isinstance(value, int) and 0 <= value < len(_FILLS) else str(value).lower()
    if found not in get_args(MaskedContent):
        raise RequestError(f"script_args: the masked content is one of {', '.join(_FILLS)}, {str(value)[:60]!r} was given")
    return found


def _whole(value: Any, name: str, field: str, least: int) -> int:
    most = int(bounds_of(Img2Img, field).le or 0)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not least <= number <= most or number != int(number):
        raise RequestError(f"script_args: {name} is a whole number from {least} to {most}, {str(value)[:40]!r} was given")
    return int(number)

"""What stands behind `script_name` and `alwayson_scripts`: which scripts of A1111 have a counterpart here, and their arguments.

Its scripts are plug-ins with positional arguments.  Ours is soft inpainting; the page's own sections (seed, sampler, refiner)
are scripts there too, and a call that names them says nothing with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modules.errors import RequestError


@dataclass(frozen=True)
class Argument:
    label: str
    value: Any
    field: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    def described(self) -> dict[str, Any]:
        shown = {"label": self.label, "value": self.value, "minimum": self.minimum, "maximum": self.maximum, "step": self.step}
        return {**shown, "choices": None}


SOFT_INPAINTING = (
    Argument("Soft inpainting", False, "soft_inpainting"),
    Argument("Schedule bias", 1, "soft_bias", 0, 8, 0.1),
    Argument("Preservation strength", 0.5, "soft_preservation", 0, 8, 0.05),
    Argument("Transition contrast boost", 4, "soft_contrast_boost", 1, 32, 0.5),
    Argument("Mask influence", 0, "soft_mask_influence", 0, 1, 0.05),
    Argument("Difference threshold", 0.5, "soft_difference_threshold", 0, 8, 0.25),
    Argument("Difference contrast", 2, "soft_difference_contrast", 0, 8, 0.25),
)
_SOFT = "soft inpainting"
_SECTIONS = ("seed", "sampler", "refiner")


def script_names(image: bool) -> list[str]:
    return [*_SECTIONS, *([_SOFT] if image else [])]


def script_infos() -> list[dict[str, Any]]:
    sections: list[dict[str, Any]] = [
        {"name": name, "is_alwayson": True, "is_img2img": image, "args": []} for image in (False, True) for name in _SECTIONS
    ]
    soft = {"name": _SOFT, "is_alwayson": True, "is_img2img": True, "args": [one.described() for one in SOFT_INPAINTING]}
    return [*sections, soft]


def script_fields(asked: Mapping[str, Any] | None, image: bool) -> dict[str, Any]:
    """The request's fields that `alwayson_scripts` sets.

    Raises:
        RequestError: such a script is not here, or it is asked for what cannot be done.
    """
    fields: dict[str, Any] = {}
    for name, given in (asked or {}).items():
        args = given.get("args", []) if isinstance(given, dict) else given
        if not isinstance(args, list):
            raise RequestError(f"alwayson_scripts.{name[:80]}: must be an object with a list of args")
        script = name.strip().lower()
        if script == "controlnet" and not any(_enabled(unit) for unit in args):
            continue
        if script == "refiner" and args[:1] == [True] and len(args) > 1 and args[1] not in (None, "", "None"):
            raise RequestError("alwayson_scripts.Refiner: a second checkpoint is not built yet; leave it off")
        if script == _SOFT and image:
            fields |= {argument.field: value for argument, value in zip(SOFT_INPAINTING, args, strict=False)}
        elif script not in _SECTIONS:
            known = ", ".join(script_names(image))
            raise RequestError(f"always on script {name[:80]} not found; known here: {known}")
    return fields


def _enabled(unit: Any) -> bool:
    """Whether a ControlNet unit asks for anything; there a unit is on unless it says otherwise."""
    if not isinstance(unit, dict):
        return bool(unit)
    named = [str(unit.get(key) or "none").lower() for key in ("model", "module")]
    return bool(unit.get("enabled", True)) and named != ["none", "none"]

"""What stands behind `alwayson_scripts`: which scripts of A1111 have a counterpart here, and their arguments.  Those that are
chosen by `script_name` stand in `chosen_scripts`.

Its scripts are plug-ins with positional arguments.  Ours are soft inpainting and the extensions that requests may have options
of; the page's own sections (seed, sampler, refiner) are scripts there too, whose arguments count on its page alone, but for the
refiner's: who sends them wants one.  An extension's script bears its title; its arguments are its options in the order of their
declaration, or one object with them by name.  A script that is switched off is passed over with a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from modules.api.a1111.chosen_scripts import chosen_infos, chosen_names
from modules.api.a1111.coercion import is_no
from modules.api.a1111.detailer import NAME as DETAILER
from modules.api.a1111.detailer import detail_args
from modules.api.a1111.tiled_script import tiled_args, tiled_fields
from modules.errors import RequestError
from modules.fields import About, about, bounds_of, infotext_keys, kind_of, shortest
from modules.request import EXTENSIONS, Img2Img, RequestExtension
from modules.scripts.axes import Names
from modules.scripts.detectors import DETECTORS


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


def _argument(model: type[BaseModel], name: str) -> Argument:
    """The argument that sets a field of `model`, as the field is declared; numbers as A1111 writes them, 1 for 1.0."""
    default, bounds, one = model.model_fields[name].default, bounds_of(model, name), about(model).get(name, About())
    if kind_of(model, name) not in (int, float):
        return Argument(one.label or name, default, name)
    value, low, high = (None if end is None else shortest(end) for end in (default, bounds.ge, bounds.le))
    return Argument(one.label or name, value, name, low, high, one.step or None)


SOFT_INPAINTING = tuple(_argument(Img2Img, name) for name in infotext_keys(Img2Img, "soft inpainting").values())
"""The script's arguments by their places, which are those of the fields' declarations."""
_SOFT = "soft inpainting"
_REFINER = "refiner"
_SECTIONS = ("seed", "sampler", _REFINER)
"""Those that are listed."""
_IDLE = (*_SECTIONS, "comments", "extra options", "hypertile", DETAILER)
"""Built into A1111, and without arguments that an API call could set; and what `detail_script` reads."""
_TILED, _TILED_VAE = "tiled diffusion", "tiled vae"
_SWITCHED = (_SOFT, "dynamic thresholding (cfg scale fix)", _TILED, _TILED_VAE)
"""Scripts whose first argument is whether they are on."""
_NO_NAME = (None, "", "None", "none")


def script_names(image: bool) -> list[str]:
    return [*chosen_names(image), *_alwayson_names(image)]


def _alwayson_names(image: bool) -> list[str]:
    extensions = (_title(one) for one in EXTENSIONS.values() if one.serves(image))
    return [*_SECTIONS, *([_SOFT] if image else []), _TILED, *([DETAILER] if list(DETECTORS) else []), *extensions]


def script_infos(names: Names) -> list[dict[str, Any]]:
    """What script-info says; `names` are those of what is here."""
    sections: list[dict[str, Any]] = [
        {"name": name, "is_alwayson": True, "is_img2img": image, "args": []} for image in (False, True) for name in _SECTIONS
    ]
    soft = {"name": _SOFT, "is_alwayson": True, "is_img2img": True, "args": [one.described() for one in SOFT_INPAINTING]}
    tiled = [{"name": _TILED, "is_alwayson": True, "is_img2img": image, "args": tiled_args()} for image in (False, True)]
    if list(DETECTORS):
        more = [{"name": DETAILER, "is_alwayson": True, "is_img2img": image, "args": detail_args()} for image in (False, True)]
        tiled += more
    extensions = [
        {"name": _title(one), "is_alwayson": True, "is_img2img": image, "args": [each.described() for each in _arguments(one)]}
        for one in EXTENSIONS.values()
        for image in (False, True)
        if one.serves(image)
    ]
    return [*chosen_infos(names), *sections, soft, *tiled, *extensions]


def _title(extension: RequestExtension) -> str:
    """The name of its script: A1111 lists titles in lower case."""
    return extension.title.lower()


def _extension(script: str, image: bool) -> RequestExtension | None:
    """The extension that is called so, by its title or its name, and is offered for such pictures."""
    if script in (*_IDLE, *_SWITCHED):  # a title may be anything; what A1111 has itself is meant as there
        return None
    found = (one for one in EXTENSIONS.values() if one.serves(image) and script in (_title(one), one.name))
    return next(found, None)


def _arguments(extension: RequestExtension) -> list[Argument]:
    """The options of an extension as a script's arguments, in the order of their declaration."""
    return [_argument(extension.options, name) for name in extension.options.model_fields]


def _options(extension: RequestExtension, name: str, args: list[Any]) -> dict[str, Any]:
    """The options that arguments set: by their places, or by name in one object.

    Raises:
        RequestError: there are more than the extension takes.
    """
    arguments = _arguments(extension)
    if len(args) == 1 and isinstance(args[0], dict):
        return dict(args[0])
    if len(args) > len(arguments):
        raise RequestError(f"alwayson_scripts.{name[:80]}: takes {len(arguments)} args, {len(args)} were given")
    return {argument.field: value for argument, value in zip(arguments, args, strict=False)}


def script_fields(asked: Mapping[str, Any] | None, image: bool) -> tuple[dict[str, Any], list[str]]:
    """The request's fields that `alwayson_scripts` sets, and notes on what was passed over.

    Raises:
        RequestError: such a script is not here, or it is asked for what cannot be done.
    """
    fields: dict[str, Any] = {}
    notes = []
    for name, given in (asked or {}).items():
        args = given.get("args", []) if isinstance(given, dict) else given
        script = name.strip().lower()
        extension = _extension(script, image)
        args = [] if args is None else [args] if extension and isinstance(args, dict) else args
        if not isinstance(args, list):
            raise RequestError(f"alwayson_scripts.{name[:80]}: must be an object with a list of args")
        if script == _REFINER:
            fields |= _refiner_fields(args)
        if script == _SOFT and image:
            fields |= {argument.field: value for argument, value in zip(SOFT_INPAINTING, args, strict=False)}
        elif extension is not None:
            fields["extensions"] = {**fields.get("extensions", {}), extension.name: _options(extension, name, args)}
        elif script == _TILED:
            fields |= {} if _is_off(script, args) else tiled_fields(args, image)
        elif script == _TILED_VAE and not _is_off(script, args):
            notes.append(
                "always on script Tiled VAE: passed over; large pictures are decoded in tiles where memory asks for it"
            )
        elif _is_off(script, args):
            notes.append(f"always on script {name[:80]}: not here, and switched off in the call")
        elif script not in _IDLE:
            known = ", ".join(_alwayson_names(image))
            raise RequestError(f"always on script {name[:80]} not found; known here: {known}")
    return fields, notes


def _refiner_fields(args: list[Any]) -> dict[str, Any]:
    """From (whether it is on, the checkpoint, where it takes over).

    Raises:
        RequestError: the checkpoint is no name.
    """
    if len(args) < 2 or is_no(args[0]) or args[1] in _NO_NAME:
        return {}
    if not isinstance(args[1], str):
        raise RequestError(
            f"alwayson_scripts.Refiner: the second of its args is the name of a checkpoint, {args[1]!r:.60} was given"
        )
    return {"refiner": args[1], **({"refiner_switch_at": args[2]} if len(args) > 2 and args[2] is not None else {})}


def _is_off(script: str, args: list[Any]) -> bool:
    if script in _IDLE:
        return False
    if script == _TILED and args and isinstance(args[0], dict):
        return is_no(args[0].get("enabled"))
    if script == "controlnet":
        return not any(_enabled(unit) for unit in args)
    return not args or (script in _SWITCHED and is_no(args[0]))


def _enabled(unit: Any) -> bool:
    """Whether a ControlNet unit asks for anything; there a unit is on unless it says otherwise."""
    if not isinstance(unit, dict):
        return not (is_no(unit) or unit == "")
    named = [str(unit.get(key) or "none").lower() for key in ("model", "module")]
    return not is_no(unit.get("enabled", True)) and named != ["none", "none"]

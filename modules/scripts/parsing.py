"""A script as it is asked for: a JSON object with its name and options, from the page or from a call of A1111's API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modules.request import GenerationRequest
from modules.scripts.axes import Fields, Names
from modules.scripts.detail import Detail, Found, boxes_said, plan_detail
from modules.scripts.finding import DetailPass, plan_after
from modules.scripts.loopback import Loopback, plan_loopback
from modules.scripts.matrix import Matrix, plan_matrix
from modules.scripts.plan import OF_MANY, TITLES, Plan, ScriptError
from modules.scripts.prompts import Prompts, plan_prompts
from modules.scripts.upscale import SizeOf, Upscale, plan_upscale
from modules.scripts.xyz import XYZ, Check, plan_xyz

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


def plan_of(
    script: Mapping[str, Any],
    fields: Fields,
    names: Names,
    prepared: Callable[[Fields], GenerationRequest],
    size_of: SizeOf = lambda fields: None,
    found: Found = lambda fields, detector: None,
    many: Sequence[Fields] = (),
) -> Plan:
    """The cells that a script makes of a request's fields.

    `script` has the script's `name` (a key of `TITLES`) and its options, by the names that A1111 gives its arguments;
    `prepared` makes a request of fields, with all names resolved; `size_of` and `found` know the picture
    that they start from.  `many` are requests with pictures of their own in place of `fields`, which Loopback alone takes.

    Raises:
        ScriptError: it makes no sense, in words that name the axis and value, or the line.
        RequestError: the fields make none.
    """
    name = script.get("name")
    if name not in TITLES:
        raise ScriptError(f"there is no script {str(name)[:60]!r}; there are {', '.join(TITLES)}", "name")
    if many and name not in OF_MANY:
        raise ScriptError(f"{TITLES[name]} is carried out with one picture; {TITLES['loopback']} takes many")
    check, image = _check(prepared), "source" in fields or "pictures" in fields
    options = _Options(script)
    if name == "xyz":
        return plan_xyz(_xyz(options), fields, names, check, image)
    if name == "matrix":
        return plan_matrix(_matrix(options), fields, check)
    if name == "prompts":
        asked = Prompts(
            options.text("prompts"),
            options.switch("iterate_seed"),
            options.switch("same_seed"),
            options.text("prompt_position", "start"),  # type: ignore[arg-type]  # looked at by the plan
        )
        return plan_prompts(asked, fields, names, check)
    if name == "upscale":
        upscale = Upscale(options.whole("overlap", 64), options.text("upscaler", "Lanczos"), options.real("scale_factor", 2.0))
        return plan_upscale(upscale, fields, check, size_of, names.enlarger)
    if name == "detail":
        if not image or options.switch("after"):
            return plan_after(_passes(options), fields, check)
        return plan_detail(_detail(options), fields, check, found)
    loops = Loopback(
        options.whole("loops", 4),
        options.real("final_denoising_strength", 0.5),
        options.text("denoising_curve", "Linear"),  # type: ignore[arg-type]
    )
    return plan_loopback(loops, fields, check, many)


def _xyz(options: _Options) -> XYZ:
    return XYZ(
        types=(options.get("x_type"), options.get("y_type"), options.get("z_type")),
        values=tuple(options.values(f"{letter}_values") for letter in "xyz"),
        draw_legend=options.switch("draw_legend", True),
        include_lone_images=options.switch("include_lone_images"),
        include_sub_grids=options.switch("include_sub_grids"),
        no_fixed_seeds=options.switch("no_fixed_seeds"),
        vary_seeds=(options.switch("vary_seeds_x"), options.switch("vary_seeds_y"), options.switch("vary_seeds_z")),
        margin_size=options.whole("margin_size", 0),
    )


def _detail(options: _Options) -> Detail:
    return Detail(
        boxes_said(options.get("boxes")),
        options.text("detector"),
        options.real("denoising_strength", 0.4),
        options.whole("padding", 32),
        options.whole("mask_blur", 8),
        options.text("prompt"),
        options.text("negative_prompt"),
        options.switch("whole"),
    )


def _passes(options: _Options) -> list[DetailPass]:
    """The passes behind painting: a list of them, or one whose options are the script's own."""
    given = options.get("passes")
    if given is None:
        return [_pass(options)]
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ScriptError("passes: must be a list of objects", "passes")
    return [_pass(_Options(one)) for one in given]


def _pass(options: _Options) -> DetailPass:
    own = options.get("own") or {}
    if not isinstance(own, dict):
        raise ScriptError("own: must be an object of fields", "passes")
    return DetailPass(
        _detail(options),
        options.whole("growth", 4),
        options.whole("most", 4),
        options.real("smallest", 0.0),
        options.real("largest", 1.0),
        own,
    )


def _matrix(options: _Options) -> Matrix:
    return Matrix(
        options.switch("put_at_start"),
        options.switch("different_seeds"),
        options.text("prompt_type", "positive"),  # type: ignore[arg-type]
        options.text("variations_delimiter", "comma"),  # type: ignore[arg-type]
        options.whole("margin_size", 0),
    )


class _Options:
    """Values of a JSON object, read as the kinds that they should have."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def get(self, name: str) -> Any:
        return self._given.get(name)

    def text(self, name: str, default: str = "") -> str:
        value = self._given.get(name)
        if value is None or value == "":
            return default
        if not isinstance(value, str):
            raise ScriptError(f"{name}: must be text, {str(value)[:40]!r} was given", name)
        return value

    def switch(self, name: str, default: bool = False) -> bool:
        value = self._given.get(name)
        if value is None:
            return default
        word = str(value).casefold()
        if word not in _TRUE + _FALSE:
            raise ScriptError(f"{name}: must be true or false, {str(value)[:40]!r} was given", name)
        return word in _TRUE

    def whole(self, name: str, default: int) -> int:
        number = self.real(name, default)
        if number != int(number):
            raise ScriptError(f"{name}: must be a whole number, {number:g} was given", name)
        return int(number)

    def real(self, name: str, default: float) -> float:
        value = self._given.get(name)
        if value is None or value == "":
            return default
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ScriptError(f"{name}: must be a number, {str(value)[:40]!r} was given", name) from None
        if not abs(number) < 1e9:  # NaN neither
            raise ScriptError(f"{name}: must be a number, {str(value)[:40]!r} was given", name)
        return number

    def values(self, name: str) -> str | list[str]:
        value = self._given.get(name)
        if isinstance(value, list | tuple):
            return [str(one) for one in value]
        return "" if value is None else str(value)


def _check(prepared: Callable[[Fields], GenerationRequest]) -> Check:
    """What looks into names and prompts takes milliseconds, so numbers alone are checked beside the last request that was
    looked into."""
    known: list[GenerationRequest] = []

    def check(fields: Fields, thorough: bool) -> GenerationRequest:
        if thorough or not known:
            request = prepared(fields)
            known[:] = [request]
            return request
        try:
            stored = {
                **known[0].model_dump(mode="json"),
                **{name: value for name, value in fields.items() if value is not None},
            }
            stored.pop("source", None), stored.pop("mask", None)
            return type(known[0]).model_validate(stored)
        except ValueError:
            return prepared(fields)  # which says in the user's words what is wrong

    return check

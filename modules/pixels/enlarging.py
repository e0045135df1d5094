"""A picture at another size by an upscaler that knows pixels alone, and what A1111's Extras makes of the results of one or two.

Such upscalers come from the hook `upscalers`: built in are two filters of Pillow.  They are offered wherever an upscaler is
chosen (hires fix, Extras, SD upscale, both APIs), beside the upscalers in files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from PIL import Image

from modules.errors import RequestError
from modules.extensions.isolation import call
from modules.hooks import HOOKS, Table, hookimpl
from modules.request import LATENT_UPSCALERS

HOOK = "upscalers"
Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Upscaler:
    """`resize(picture, size)` brings an RGB picture to exactly this size, larger or smaller; on a host thread, no torch."""

    name: str
    resize: Callable[[Image.Image, Size], Image.Image]


class _BuiltIn:
    """A1111's upscalers that know pixels alone."""

    @hookimpl
    def upscalers(self) -> tuple[Upscaler, ...]:
        filters = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
        return tuple([Upscaler(name, partial(_filtered, by)) for name, by in filters.items()])


def _filtered(by: Image.Resampling, image: Image.Image, size: Size) -> Image.Image:
    return image.resize(size, by)


UPSCALERS: Table[Upscaler] = Table(HOOKS, HOOK, "upscaler", lambda upscaler: (upscaler.name,))
"""Those that know pixels alone, by name, extensions' last."""

HOOKS.register(_BuiltIn(), "atelier.upscalers", built_in=True)


def hires_upscalers() -> tuple[str, ...]:
    """How the first pass becomes the size of the second where that is no upscaler's file: its latent is interpolated, or its
    pixels."""
    return (*LATENT_UPSCALERS, *UPSCALERS)


def upscaled(image: Image.Image, name: str, size: Size) -> Image.Image:
    """`image` at exactly this size by the upscaler of this name, in any case.

    Raises:
        RequestError: there is none, or it is an extension's and raised.
    """
    found = next((one for one in UPSCALERS.entries.owned() if one.entry.name.casefold() == name.casefold()), None)
    if found is None:
        raise RequestError(f"the upscaler {name!r} is not here; there are {', '.join(UPSCALERS)}")
    failed = partial(_failed, name, found.owner)
    return call(found.owner, HOOK, partial(_resized, found.entry, image, size), failed)


def _resized(upscaler: Upscaler, image: Image.Image, size: Size) -> Image.Image:
    made = upscaler.resize(image, size)
    if (made.mode, made.size) != (image.mode, size):
        raise ValueError(f"{image.mode} of {size} was asked for, and {made.mode} of {made.size} came")
    return made


def _failed(name: str, owner: str) -> NoReturn:
    raise RequestError(f"the upscaler {name!r} of the extension {owner!r} failed; choose another one")


def by_filter(image: Image.Image, upscaler: str, exact: Size, final: Size) -> Image.Image:
    """`image` at the `exact` size by the upscaler of this name, then by Lanczos at the `final` one."""
    made = upscaled(image, upscaler, exact)
    return made if exact == final else made.resize(final, Image.Resampling.LANCZOS)


def put_together(results: Sequence[Image.Image], share: float, crop: tuple[int, int] | None) -> Image.Image:
    """The first result, with the second one mixed in by `share` where there are two, and `crop` (width, height) of its middle.

    What the picture does not cover of that is black, as where A1111 pastes it.
    """
    image = results[0] if len(results) == 1 else Image.blend(results[0], results[1], share)
    if crop is None:
        return image
    cropped = Image.new(image.mode, crop)
    cropped.paste(image, (crop[0] // 2 - image.width // 2, crop[1] // 2 - image.height // 2))
    return cropped

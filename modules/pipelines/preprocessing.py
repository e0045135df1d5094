"""Preprocessors: changes of the pictures that a request begins with, on a host thread, from the hook `preprocessors`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from PIL import Image

from modules.extensions.isolation import call
from modules.hooks import HOOKS, Listing, hookimpl
from modules.pipelines.without import start_again, taking_part
from modules.request import Img2Img

HOOK = "preprocessors"
BACKGROUND = (255, 255, 255)
"""What shows through transparent places of an init image, as in A1111."""

Pictures = Mapping[str, Image.Image]
"""By role: "init", and where something is masked "mask"."""


@dataclass(frozen=True)
class Preprocessor:
    """`prepare` makes of a request's pictures those that it begins with, in the same roles and of the same sizes.

    On a host thread, without the device.  It answers what it was given where the request does not ask for it, and may not draw
    into those: they may be used again.
    """

    name: str
    prepare: Callable[[Img2Img, Pictures], Pictures]


def prepared(request: Img2Img, pictures: Pictures, without: Collection[str] = ()) -> Pictures:
    """The pictures after every preprocessor: the init image is RGB then.  `without` names plugins that are left out.

    Raises:
        StartAgain: an extension's preprocessor raised, or made something else than pictures of these sizes.
        ExtensionFailed: as its manifest asks for.
    """
    for one in taking_part(PREPROCESSORS, without):
        step = partial(_prepared, one.entry, request, pictures)
        pictures = call(one.owner, HOOK, step, partial(start_again, one.owner))
    return pictures


def _prepared(one: Preprocessor, request: Img2Img, pictures: Pictures) -> Pictures:
    made = one.prepare(request, pictures)
    if _sizes(made) != _sizes(pictures):
        raise ValueError(f"pictures must keep roles and sizes: {_sizes(pictures)} became {_sizes(made)}")
    return made


def _sizes(pictures: Pictures) -> dict[str, tuple[int, int]]:
    return {role: picture.size for role, picture in pictures.items()}


def _flattened(request: Img2Img, pictures: Pictures) -> Pictures:
    """Transparent places show the background."""
    init = pictures["init"]
    if init.mode == "RGB":
        return pictures
    if init.mode != "RGBA":
        return {**pictures, "init": init.convert("RGB")}
    ground = Image.new("RGBA", init.size, (*BACKGROUND, 255))
    return {**pictures, "init": Image.alpha_composite(ground, init).convert("RGB")}


class _BuiltIn:
    @hookimpl
    def preprocessors(self) -> tuple[Preprocessor, ...]:
        return (Preprocessor("Transparency", _flattened),)


PREPROCESSORS: Listing[Preprocessor] = Listing(HOOKS, HOOK, "preprocessor", lambda one: (one.name,))
"""Every preprocessor in the order in which they work, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.preprocessing", built_in=True)

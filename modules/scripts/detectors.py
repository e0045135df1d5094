"""Detectors: what finds the details of a picture that the detail pass paints again, such as faces.

Built in are the Haar cascades of OpenCV (Viola & Jones 2001, "Rapid object detection using a boosted cascade of simple
features"), whose files come inside the wheel of `opencv-python-headless` up to version 4: offered where it is installed (the
extra `faces`), never needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
from PIL import Image

from modules.extensions.isolation import call
from modules.hooks import HOOKS, Listing, hookimpl
from modules.pixels.regions import Box
from modules.scripts.plan import ScriptError

HOOK = "detectors"
LARGEST = 1024
"""Pixels of the longer side at which cascades look: more finds more that is none, and takes longer."""
SMALLEST = 24
"""Pixels of a side of what they find, at that size."""

Find = Callable[[Image.Image], Sequence[Box]]
"""The boxes of what is found in an RGB picture, in its pixels, in any order; on any thread."""


@dataclass(frozen=True)
class Detector:
    """Something that finds details, by its name."""

    name: str
    find: Find


_CASCADES = {
    "Face (OpenCV)": "haarcascade_frontalface_default.xml",
    "Face from the side (OpenCV)": "haarcascade_profileface.xml",
    "Cat's face (OpenCV)": "haarcascade_frontalcatface.xml",
}


def cascades() -> Path | None:
    """The folder of the cascades of the OpenCV that is installed, None where there is none.  Imports nothing."""
    try:
        found = importlib.util.find_spec("cv2")
    except (ImportError, ValueError):
        return None
    for place in found.submodule_search_locations or () if found else ():
        if (folder := Path(place) / "data").is_dir():
            return folder
    return None


class _BuiltIn:
    @hookimpl
    def detectors(self) -> Iterable[Detector]:
        folder = cascades()
        files = {} if folder is None else {name: folder / file for name, file in _CASCADES.items()}
        return [Detector(name, partial(by_cascade, path)) for name, path in files.items() if path.is_file()]


def by_cascade(path: Path, image: Image.Image) -> list[Box]:
    """What the cascade of a file finds.  Of boxes that overlap by half of the smaller one, the larger one counts."""
    scale = min(1.0, LARGEST / max(image.size))
    small = image.convert("L").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    import cv2  # type: ignore[import-not-found, unused-ignore]  # an optional extra

    cascade = cv2.CascadeClassifier(str(path))  # one for each call: it is not for several threads
    found = cascade.detectMultiScale(np.asarray(small), scaleFactor=1.1, minNeighbors=5, minSize=(SMALLEST, SMALLEST))
    boxes = [Box(*(round(float(side) / scale) for side in (x, y, x + w, y + h))) for x, y, w, h in found]
    return without_doubles([within(box, image.size) for box in boxes])


def within(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that lies in a picture of this size; it may be empty."""
    return Box(max(0, box.left), max(0, box.top), min(size[0], box.right), min(size[1], box.bottom))


def without_doubles(boxes: Iterable[Box]) -> list[Box]:
    """The boxes from the largest on, without those that share half of their area with one before.

    >>> without_doubles([Box(0, 0, 10, 10), Box(1, 1, 9, 9), Box(20, 0, 30, 10)])
    [Box(left=0, top=0, right=10, bottom=10), Box(left=20, top=0, right=30, bottom=10)]
    """
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda one: (-one.width * one.height, one)):
        area = box.width * box.height
        if min(box.width, box.height) > 0 and all(2 * _shared(box, other) < area for other in kept):
            kept.append(box)
    return kept


def _shared(one: Box, other: Box) -> int:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return max(0, across) * max(0, down)


def found_by(name: str, image: Image.Image) -> list[Box]:
    """What the detector of this name, in any case, finds in an RGB picture; nothing where there is no such one.

    Raises:
        ScriptError: it is an extension's, and raised or answered no boxes.
    """
    one = next((one for one in DETECTORS.owned() if one.entry.name.casefold() == name.casefold()), None)
    if one is None:
        return []

    def find() -> list[Box]:
        return [Box(*(int(side) for side in box)) for box in one.entry.find(image)]

    def failed() -> NoReturn:
        raise ScriptError(f"the detector {name!r} of the extension {one.owner!r} failed; choose another one", "detector")

    return call(one.owner, HOOK, find, failed)


DETECTORS: Listing[Detector] = Listing(HOOKS, HOOK, "detector", lambda detector: (detector.name,))
"""Every detector, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.detectors", built_in=True)

"""The detail pass (detect, inpaint, stitch): each detail is painted again at the model's own size and put back.

Details are boxes: given as numbers, found by a detector (`detectors`), or the connected areas of the mask that was drawn.  Each
is a cell that starts from the picture of the one before, so the last has all of them.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from modules.errors import RequestError
from modules.images.decode import decode
from modules.pixels import Mask, masks
from modules.pixels.regions import Box, bounding_box
from modules.roles import by_role
from modules.scripts.detectors import DETECTORS, found_by, within, without_doubles
from modules.scripts.host import Host
from modules.scripts.plan import Cell, Fields, Plan, ScriptError, changes, counted, with_seeds
from modules.scripts.xyz import Check

MAX_DETAILS = 32
AREA = "area"
"""What a cell's changes have beside fields of a request: left, top, right and bottom of its detail in the picture."""
_COARSE = 256
"""Positions of a side of the grid on which areas of a mask are told apart."""

Found = Callable[[Fields, str], tuple[tuple[int, int], Sequence[Box]] | None]
"""The size of the picture that fields start from, and what a detector ("" for the mask) finds there; None in a preview."""


@dataclass(frozen=True)
class Detail:
    """`boxes` (left, top, width, height) go before the `detector`; without both the mask's areas count.

    What is None or empty is the form's.  `padding` and `mask_blur` are pixels of the picture.
    """

    boxes: tuple[tuple[int, int, int, int], ...] = ()
    detector: str = ""
    denoising_strength: float = 0.4
    padding: int = 32
    mask_blur: int = 8
    prompt: str = ""
    negative_prompt: str = ""
    whole: bool = False
    """Paint the whole picture for each detail and keep that part of it, in place of the detail at the model's own size."""


def boxes_said(value: Any) -> tuple[tuple[int, int, int, int], ...]:
    """Boxes as a list of lists of four numbers, or as text: four whole numbers each, whatever stands between.

    >>> boxes_said("10 20 64 64; 0,0,32,32"), boxes_said([[1, 2, 3, 4]]), boxes_said("")
    (((10, 20, 64, 64), (0, 0, 32, 32)), ((1, 2, 3, 4),), ())

    Raises:
        ScriptError: it is neither.
    """
    text = value if isinstance(value, str) else json.dumps(value) if value is not None else ""
    numbers = [int(digits) for digits in re.findall(r"[0-9]{1,5}", text)]
    if re.search(r"[^0-9\s,;:()\[\]x]", text) or re.search(r"[0-9]{6}", text) or len(numbers) % 4:
        raise ScriptError(f"boxes are four whole numbers each: left, top, width, height; {text[:40]!r} was given", "boxes")
    return tuple((*numbers[place : place + 4],) for place in range(0, len(numbers), 4))  # type: ignore[misc]


def plan_detail(asked: Detail, base: Fields, check: Check, found: Found) -> Plan:
    """A cell for each detail, from the largest on.

    Raises:
        ScriptError: a number is out of range, no picture, or nothing to paint again.
    """
    if asked.detector and DETECTORS.find(asked.detector) is None:
        known = ", ".join(one.name for one in DETECTORS) or "none is installed: pip install 'opencv-python-headless<5'"
        raise ScriptError(f"there is no detector {asked.detector[:60]!r} here ({known})", "detector")
    if not by_role(base).get("pictures"):
        raise ScriptError("the detail pass starts from a picture; use it in img2img or Inpaint")
    base = {**with_seeds(base), "count": 1, **settings_of(asked)}
    request = check(base, True)
    if getattr(request, "outpaints", False):
        raise ScriptError("the detail pass does not extend pictures; take the extension away")
    seen = found(base, asked.detector)
    notes: tuple[str, ...] = ()
    if asked.boxes:
        boxes = [Box(left, top, left + width, top + height) for left, top, width, height in asked.boxes]
    elif seen is None:
        boxes, notes = [Box(0, 0, 1, 1)], ("How many details there are is found out when it begins.",)
    else:
        boxes = list(seen[1])
    if seen is not None:
        boxes = without_doubles(within(box, seen[0]) for box in boxes)
    if not boxes:
        raise ScriptError(_nothing(asked), "boxes")
    if len(boxes) > MAX_DETAILS:
        raise ScriptError(f"that are {len(boxes)} details, and {MAX_DETAILS} are the most", "boxes")
    cells = [
        Cell({**changes(base, counted(base, number)), AREA: list(box)}, number - 1 if number else None)
        for number, box in enumerate(boxes)
    ]
    return Plan(
        script="detail",
        base=base,
        cells=tuple(cells),
        columns=tuple(((f"Detail {number + 1}", True),) for number in range(len(boxes))),
        draw_sheet=False,
        include_cells=True,
        last_only=True,
        notes=notes,
    )


def settings_of(asked: Detail) -> Fields:
    """The fields that all details have.

    Raises:
        ScriptError: a number is out of range.
    """
    if not 0 <= asked.denoising_strength <= 1:
        raise ScriptError(f"the denoising strength is 0 to 1, not {asked.denoising_strength:g}", "denoising_strength")
    for name, value, most in (("padding", asked.padding, 256), ("mask_blur", asked.mask_blur, 64)):
        if not 0 <= value <= most:
            raise ScriptError(f"{name}: 0 to {most} pixels, not {value}", name)
    words = {"prompt": asked.prompt, "negative_prompt": asked.negative_prompt}
    return {
        "denoising_strength": asked.denoising_strength,
        "masked_padding": asked.padding,
        "mask_blur_x": asked.mask_blur,
        "mask_blur_y": asked.mask_blur,
        "mask_mode": "Inpaint masked",
        "masked_content": "original",
        "inpaint_area": "Whole picture" if asked.whole else "Crop and stitch",
        "box": [0, 0, 0, 0],
        **{name: text for name, text in words.items() if text},
    }


def _nothing(asked: Detail) -> str:
    if asked.boxes:
        return "no box lies in the picture; they are left, top, width and height in its pixels"
    if asked.detector:
        return f"{asked.detector} found nothing in the picture; give boxes, or draw a mask in Inpaint"
    return "there is nothing to paint again: choose a detector, give boxes, or draw a mask in Inpaint"


def found_in(host: Host, user: str) -> Found:
    """Looks into pictures that `user` sent."""

    def found(fields: Fields, detector: str) -> tuple[tuple[int, int], Sequence[Box]]:
        pictures = by_role(fields).get("pictures") or {}
        image = _opened(host, pictures.get("init"), user)
        if detector and DETECTORS.find(detector) is not None:
            return image.size, found_by(detector, image.convert("RGB"))
        if "mask" not in pictures:
            return image.size, []
        return image.size, areas_of(masks.from_image(_opened(host, pictures["mask"], user), rounded=True))

    return found


def areas_of(mask: Mask) -> list[Box]:
    """The boxes of the connected areas of a mask, `MAX_DETAILS` + 1 at most.

    What is less than about a 256th of a side apart is one.
    """
    height, width = mask.shape
    step = -(-max(height, width) // _COARSE)
    padded = np.pad(mask > 0, ((0, -height % step), (0, -width % step)))
    coarse = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).any(axis=(1, 3))
    boxes: list[Box] = []
    while coarse.any() and len(boxes) <= MAX_DETAILS:  # one more, so that too many are told from as many as there may be
        area = _connected(coarse, tuple(np.unravel_index(int(coarse.argmax()), coarse.shape)))
        around = bounding_box(area.astype(np.uint8))
        assert around is not None, "it has the place where it began"
        place = Box(*(side * step for side in around))
        part = np.kron(area[around.slices], np.ones((step, step), np.bool_))
        seen = mask[place.slices]
        box = bounding_box(np.where(part[: seen.shape[0], : seen.shape[1]], seen, 0).astype(np.uint8))
        assert box is not None, "each of its positions has a pixel of the mask"
        boxes.append(Box(box.left + place.left, box.top + place.top, box.right + place.left, box.bottom + place.top))
        coarse &= ~area
    return boxes


def _connected(there: Any, start: tuple[Any, ...]) -> Any:
    """What is connected with a place, diagonals included."""
    area, edge = np.zeros_like(there), [start]
    area[start] = True
    while edge:
        row, column = edge.pop()
        near = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        for y, x in np.argwhere(there[near] & ~area[near]):
            place = (near[0].start + int(y), near[1].start + int(x))
            area[place] = True
            edge.append(place)
    return area


def with_area(host: Host, fields: Fields, user: str) -> Fields:
    """The request of a cell: a mask of its detail alone, of the drawn mask where there is one.

    Raises:
        RequestError: a picture is gone.
    """
    box = Box(*fields[AREA])
    pictures = by_role(fields).get("pictures") or {}
    image = _opened(host, pictures.get("init"), user)
    mask = np.zeros((image.height, image.width), np.uint8)
    drawn = np.full_like(mask, 255)
    if "mask" in pictures:
        given = _opened(host, pictures["mask"], user)
        drawn = masks.from_image(given.resize(image.size) if given.size != image.size else given, rounded=True)
    mask[box.slices] = drawn[box.slices]
    if not mask.any():  # a box that was given beside the mask
        mask[box.slices] = 255
    buffer = io.BytesIO()
    Image.fromarray(mask).convert("RGB").save(buffer, "PNG")
    found = {name: value for name, value in by_role(fields).items() if name != AREA}
    return {**found, "pictures": {**pictures, "mask": host.keep_upload(buffer.getvalue(), user).id}}


def _opened(host: Host, upload: Any, user: str) -> Image.Image:
    path = host.upload_path(upload, user) if isinstance(upload, str) else None
    if path is None:
        raise RequestError("the picture that it starts from is not kept here any more")
    return decode(path.read_bytes())

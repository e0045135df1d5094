"""The detail pass behind painting: the form's picture first, then what detectors find in it is painted again, one by one.

How many details there will be is not known when the script is accepted, so each pass has as many cells as it may paint.  When
one is submitted, the detector looks into the picture that the pass began with; a cell whose detail is not there stands for the
picture before it and costs nothing.

Source of the options: Bing-su's ADetailer 24.11 (`adetailer/args.py`), whose seeds count on from detail to detail as here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from modules.errors import RequestError
from modules.images.decode import decode
from modules.pixels.regions import Box
from modules.queue.scripts import StoredCell
from modules.request import parse_request
from modules.roles import by_role
from modules.scripts.detail import AREA, MAX_DETAILS, Detail, settings_of, with_area
from modules.scripts.detectors import DETECTORS, within, without_doubles
from modules.scripts.host import Host
from modules.scripts.looping import from_picture_of
from modules.scripts.plan import Cell, Fields, Plan, ScriptError, changes, check_size, counted, with_seeds
from modules.scripts.xyz import Check

FIND = "find"
"""What a cell's changes have beside fields of a request: the detector, the number of the cell whose picture it looks into,
which of its finds this is, by how many pixels it grows, and the least and the most of the picture that one may cover."""

OWN = ("steps", "cfg_scale", "sampler", "schedule", "width", "height", "checkpoint", "vae", "clip_skip", "noise_multiplier")
"""Fields of the request that a pass may have for itself."""

NOTHING = "nothing more was found"
_SKIP = "[SKIP]"
MAX_PASSES = 8
MAX_GROWTH = 128


@dataclass(frozen=True)
class DetailPass:
    """A detail pass by a detector.

    `settings` are as those of a script of its own, with prompts that may have a part for each detail, divided by [SEP]: [SKIP]
    leaves that one as it is, and [PROMPT] stands for the form's.  The `most` largest details are painted again that cover
    between `smallest` and `largest` of the picture, 0 to 1; their boxes grow by `growth` pixels on each side.  `own` are fields
    of the request that this pass has for itself (`OWN`).
    """

    settings: Detail
    growth: int = 4
    most: int = 4
    smallest: float = 0.0
    largest: float = 1.0
    own: Mapping[str, Any] = field(default_factory=dict)


def plan_after(passes: Sequence[DetailPass], base: Fields, check: Check) -> Plan:
    """A row for each of the request's pictures: the picture itself, then what is painted again, pass by pass.

    Raises:
        ScriptError: a number is out of range, or there is no such detector.
    """
    _check(passes)
    count = base.get("count") or 1
    base = {**with_seeds(base), "count": 1}
    request = check(base, True)
    if not isinstance(count, int):
        raise RequestError("count: must be a whole number")
    row = 1 + sum(one.most for one in passes)
    check_size(row * count, 1)
    cells: list[Cell] = []
    for number in range(count):
        cells.append(Cell(changes(base, counted(base, number))))
        for one in passes:
            first, own = len(cells) - 1, {**counted(base, number), **_own(one)}
            _check_fields({**request.model_dump(mode="json"), **own})
            for index in range(one.most):
                fields = {**counted(own, index), **_words(one.settings, base, index)}
                find = [one.settings.detector, first, index, one.growth, one.smallest, one.largest]
                cells.append(Cell({**changes(base, fields), FIND: find}, len(cells) - 1))
    names = [f"{one.settings.detector} {index + 1}" for one in passes for index in range(one.most)]
    return Plan(
        script="detail",
        base=base,
        cells=tuple(cells),
        columns=((("Picture", True),), *(((name, True),) for name in names)),
        rows=tuple(((f"Picture {number + 1}", True),) for number in range(count)) if count > 1 else ((),),
        draw_sheet=False,
        include_cells=True,
        last_only=True,
        notes=(
            f"At most: of each picture {row - 1} details are painted again, those that are found; the others cost nothing.",
        ),
    )


def _check(passes: Sequence[DetailPass]) -> None:
    if not 1 <= len(passes) <= MAX_PASSES:
        raise ScriptError(f"there are 1 to {MAX_PASSES} detail passes, not {len(passes)}", "passes")
    for one in passes:
        if DETECTORS.find(one.settings.detector) is None:
            known = ", ".join(each.name for each in DETECTORS) or "none is installed: pip install 'opencv-python-headless<5'"
            said = f"there is no detector {one.settings.detector[:60]!r} here" if one.settings.detector else "choose a detector"
            raise ScriptError(f"{said} ({known})", "detector")
        for name, value, least, most in (
            ("most", one.most, 1, MAX_DETAILS),
            ("growth", one.growth, -MAX_GROWTH, MAX_GROWTH),
            ("smallest", one.smallest, 0, 1),
            ("largest", one.largest, 0, 1),
        ):
            if not least <= value <= most:
                raise ScriptError(f"{name}: must be from {least} to {most}, {value:g} was given", name)
        if unknown := [name for name in one.own if name not in OWN]:
            raise ScriptError(
                f"{str(unknown[0])[:60]}: a detail pass has no such field of its own; {', '.join(OWN)} are", "passes"
            )


def _own(one: DetailPass) -> Fields:
    """What the requests of a pass have that differs from the form's; a second pass is over by then."""
    return {**settings_of(one.settings), **one.own, "hires": None}


def _check_fields(fields: Fields) -> None:
    """Raises RequestError: a number is out of range.  Names are looked up when a cell is submitted."""
    given = {name: value for name, value in by_role(fields).items() if value is not None}
    parse_request({**given, "pictures": {"init": "0" * 64}})


def _words(asked: Detail, base: Fields, index: int) -> Fields:
    found: Fields = {}
    for name, text in (("prompt", asked.prompt), ("negative_prompt", asked.negative_prompt)):
        parts = [part.strip() for part in re.split(r"\s*\[SEP\]\s*", text)]
        part = parts[min(index, len(parts) - 1)]
        if part:
            found[name] = part.replace("[PROMPT]", str(base.get(name) or ""))
    return found


def looks(fields: Mapping[str, Any]) -> bool:
    """Whether a cell is one of a pass behind painting."""
    return FIND in fields


def with_found(host: Host, fields: Fields, user: str, before: StoredCell, cells: Mapping[int, StoredCell]) -> Fields | None:
    """The request of a cell: its detail in the picture of the cell `before`; None where there is no such detail.

    Raises:
        RequestError: a picture, or the detector, is gone.
    """
    detector, first, index, growth, smallest, largest = fields[FIND]
    looked = cells.get(first)
    known = DETECTORS.find(detector)
    if known is None:
        raise RequestError(f"the detector {detector!r} is not here any more")
    job = host.job(looked.job, user) if looked is not None else None
    if job is None or not job.pictures:
        raise RequestError("the picture in which details are looked for is gone")
    path = job.pictures[0].path
    try:
        size, boxes = _boxes(known.find, path)
    except OSError:
        raise RequestError(f"the picture in which details are looked for, {path.name}, is not in the outputs folder") from None
    area = size[0] * size[1]
    boxes = [box for box in boxes if smallest * area <= box.width * box.height <= largest * area]
    grown = (Box(one.left - growth, one.top - growth, one.right + growth, one.bottom + growth) for one in boxes)
    boxes = [box for box in (within(one, size) for one in grown) if box.width > 0 and box.height > 0]
    if index >= len(boxes) or fields.get("prompt") == _SKIP:
        return None
    rest = {name: value for name, value in by_role(fields).items() if name not in (FIND, "pictures")}
    started = from_picture_of(host, {**rest, "pictures": {}}, before.job, user)
    return with_area(host, {**started, AREA: list(boxes[index])}, user)


@lru_cache(maxsize=8)
def _boxes(find: Callable[[Image.Image], Sequence[Box]], path: Path) -> tuple[tuple[int, int], list[Box]]:
    """The size of a picture and what is found in it, the largest first; a path has one content for ever."""
    image = decode(path.read_bytes()).convert("RGB")
    return image.size, without_doubles(within(box, image.size) for box in find(image))

"""Class labels: names of what a class-conditional or layout model knows, found by name or number.  No torch.

The thousand classes of ImageNet ship with this file; a list beside the checkpoint, NAME.labels.txt with a line for each class,
goes before them.  A line may hold several names, separated by commas.
"""

from __future__ import annotations

import difflib
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from modules.errors import RequestError

WORDLESS = "this checkpoint paints without words, so the prompt changes nothing"
"""What is said of a prompt that nothing reads."""
IMAGENET_CLASSES = 1000
MAX_FILE = 2**20
"""Bytes of a list that are read."""
_FILE = Path(__file__).parent / "data" / "imagenet_labels.txt.gz"


@dataclass(frozen=True)
class Labels:
    """`count` classes, and the `names` of the first of them as far as they are known.

    >>> Labels(1000, imagenet()).find("Golden  Retriever", "prompt")
    207
    """

    count: int
    names: tuple[str, ...] = ()

    def find(self, text: str, field: str) -> int:
        """The number of the class that `text` names, or says.

        Raises:
            RequestError: there is no such class, or several; the message begins with `field`.
        """
        wanted = _plain(text)
        if wanted.isdecimal() and wanted.isascii() and len(wanted) <= 9:
            if int(wanted) < self.count:
                return int(wanted)
            raise RequestError(f"{field}: there is no class {int(wanted)}; this checkpoint knows 0 to {self.count - 1}")
        numbers = self._by_name.get(wanted, [])
        if len(numbers) == 1:
            return numbers[0]
        if numbers:
            listed = " and ".join(map(str, numbers))
            raise RequestError(f"{field}: {text.strip()!r} is the name of the classes {listed}; write the number")
        if not self.names:
            raise RequestError(
                f"{field}: {text.strip()[:60]!r} is no class of this checkpoint; write a number from 0 to {self.count - 1}, or "
                "put a list of its classes beside it (NAME.labels.txt, a line for each class)"
            )
        near = difflib.get_close_matches(wanted, self._by_name, n=3)
        advice = f"did you mean {' or '.join(map(repr, near))}?" if near else f"e.g. {self.names[0].split(',')[0]!r}"
        raise RequestError(
            f"{field}: {text.strip()[:60]!r} is no class of this checkpoint; name one of its {self.count} classes or write its "
            f"number ({advice})"
        )

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, line in enumerate(self.names):
            for name in dict.fromkeys([_plain(line), *map(_plain, line.split(","))]):
                if name:
                    found.setdefault(name, []).append(number)
        return found


def labels_for(path: Path, count: int) -> Labels:
    """The labels of the checkpoint at `path`, which knows `count` classes: those of a list beside it, else ImageNet's where it
    has as many."""
    beside = _beside(path)
    try:
        if beside.stat().st_size <= MAX_FILE:
            return Labels(count, tuple(beside.read_text("utf-8-sig").splitlines()[:count]))
    except (OSError, UnicodeDecodeError):
        pass
    return Labels(count, imagenet() if count == IMAGENET_CLASSES else ())


def labels_identity(path: Path) -> tuple[int, ...]:
    """What changes with the list beside the checkpoint at `path`."""
    try:
        found = _beside(path).stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + ".labels.txt")


@lru_cache(maxsize=1)
def imagenet() -> tuple[str, ...]:
    """The names of ImageNet's classes in their order.

    >>> imagenet()[1]
    'goldfish, Carassius auratus'
    """
    return tuple(gzip.decompress(_FILE.read_bytes()).decode("utf-8").splitlines())


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").strip("() \t\r\n").lower().split())


@dataclass(frozen=True)
class Box:
    """An object of a layout: its class, and where it is as parts of the picture's width and height, from 0 to 1."""

    label: int
    left: float
    top: float
    width: float
    height: float


def boxes_in(text: str, labels: Labels, field: str = "prompt", most: int = 30) -> tuple[Box, ...]:
    """The boxes that a text lists: `label x y width height`, one on a line or separated by semicolons.

    Numbers are parts of the picture's width and height from 0 to 1, or percent where they have a % behind them.

    Raises:
        RequestError: a line is no box, lies outside the picture, names no class, or there are more than `most`.

    >>> boxes_in("3 0 50% 0.25 0.5", Labels(10))
    (Box(label=3, left=0.0, top=0.5, width=0.25, height=0.5),)
    """
    lines = [line.strip() for line in text.replace(";", "\n").splitlines() if line.strip()]
    if len(lines) > most:
        raise RequestError(f"{field}: it lists {len(lines)} boxes, at most {most} are known to this checkpoint")
    return tuple(_box(line, labels, field) for line in lines)


def _box(line: str, labels: Labels, field: str) -> Box:
    words = line.replace(",", " ").split()
    numbers = [_part(word) for word in words[-4:]]
    if len(words) < 5 or None in numbers:
        raise RequestError(
            f"{field}: {line[:60]!r} is no box; write a class, and its place as x y width height in parts of the picture "
            "(person 0.1 0.2 0.5 0.6), one box on each line"
        )
    left, top, width, height = (number for number in numbers if number is not None)
    if width <= 0 or height <= 0 or left + width > 1.0001 or top + height > 1.0001:
        raise RequestError(f"{field}: the box {line[:60]!r} is not inside the picture, which goes from 0 to 1; make it smaller")
    return Box(labels.find(" ".join(words[:-4]), field), left, top, width, height)


def _part(word: str) -> float | None:
    """A number from 0 to 1; None where it is none."""
    digits, percent = (word[:-1], True) if word.endswith("%") else (word, False)
    try:
        value = float(digits) / (100 if percent else 1)
    except ValueError:
        return None
    return value if 0.0 <= value <= 1.0 else None


POINTS, ABSENT, WHOLE = 90, 8191, (0, 8099)
"""Points per side that a layout's tokens tell apart; the token of an object that is not there; those of the whole picture."""


def layout_tokens(boxes: Sequence[Box], objects: int = 30) -> tuple[int, ...]:
    """A layout as latent diffusion's transformer reads it: class, first and last point of each of `objects` boxes, and those
    of the part of the picture that is seen, which is all of it (taming-transformers' `objects_bbox`).

    >>> layout_tokens([Box(3, 0.0, 0.0, 1.0, 1.0)], objects=2)
    (3, 0, 8099, 8191, 8191, 8191, 0, 8099)
    """
    tokens: list[int] = []
    for box in boxes:
        tokens += [box.label, _point(box.left, box.top), _point(box.left + box.width, box.top + box.height)]
    return (*tokens, *[ABSENT] * (3 * (objects - len(boxes))), *WHOLE)


def _point(x: float, y: float) -> int:
    return round(min(1.0, y) * (POINTS - 1)) * POINTS + round(min(1.0, x) * (POINTS - 1))

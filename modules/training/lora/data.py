"""Training data as people have it: a folder of pictures, each with its caption in a text file of the same name.

`cat.png` goes with `cat.txt`.  Sub-folders named as kohya's trainer wants them, "10_cats", are read too: their pictures are
seen ten times as often.  Pictures are scaled and cropped to the nearest of some sizes ("buckets") of about the same area.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from modules.errors import RequestError
from modules.pixels import Picture

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp"))
_REPEATED = re.compile(r"(\d{1,4})_.*")
_NAMED = 5
"""Files that an error names."""

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True)
class Example:
    """A picture file, what it shows, and how often an epoch has it."""

    path: Path
    caption: str
    repeats: int = 1


def read_folder(folder: Path, caption: str = "", repeats: int = 1) -> list[Example]:
    """The pictures of `folder` and of its sub-folders "N_name", by name.

    Args:
        folder: of pictures and text files.
        caption: of pictures that have no text file; "" refuses them.
        repeats: of those of `folder` itself, and a factor of the sub-folders' numbers.

    Raises:
        RequestError: there is no such folder, no picture in it, or pictures have no caption.
    """
    if not folder.is_dir():
        raise RequestError(f"--data: {folder} is no folder; give one with pictures, and a text file with a caption beside each")
    examples: list[Example] = []
    for inside, often in _folders(folder):
        for path in sorted(inside.iterdir()):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                examples.append(Example(path, _caption(path) or caption, often * repeats))
    if not examples:
        raise RequestError(f"--data: {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    bare = [example.path.name for example in examples if not example.caption]
    if bare:
        names = ", ".join(bare[:_NAMED]) + (", ..." if len(bare) > _NAMED else "")
        first = Path(bare[0]).with_suffix(".txt")
        raise RequestError(
            f"--data: {len(bare)} of {len(examples)} pictures have no caption: {names}; write what each shows into a text file "
            f"of its name ({first}), or give one caption for all of them with --caption"
        )
    return examples


def _folders(folder: Path) -> Iterator[tuple[Path, int]]:
    yield folder, 1
    for inside in sorted(folder.iterdir()):
        if inside.is_dir() and (found := _REPEATED.fullmatch(inside.name)):
            yield inside, max(1, int(found[1]))


def _caption(picture: Path) -> str:
    path = picture.with_suffix(".txt")
    try:
        return " ".join(path.read_text("utf-8-sig").split())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise RequestError(f"--data: the caption {path.name} cannot be read as UTF-8 text ({error}); save it as such") from None


def tag_frequency(examples: Sequence[Example]) -> dict[str, dict[str, int]]:
    """By folder, how many pictures have each comma-separated part of a caption (kohya's `ss_tag_frequency`)."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        counted[example.path.parent.name].update({tag.strip() for tag in example.caption.lower().split(",") if tag.strip()})
    return {folder: dict(tags.most_common()) for folder, tags in counted.items()}


def buckets(width: int, height: int, step: int) -> list[Size]:
    """Sizes of at most the area of `width` x `height`, sides multiples of `step` within half and twice of its mean side.

    >>> buckets(256, 256, 64)
    [(256, 256), (128, 512), (192, 320), (320, 192), (512, 128)]
    """
    first = (max(step, width // step * step), max(step, height // step * step))
    area, longest = width * height, int(2 * math.sqrt(width * height)) // step * step
    shortest = max(step, math.ceil(math.sqrt(area) / 2 / step) * step)
    sizes = set()
    for side in range(shortest, math.isqrt(area) + 1, step):
        other = min(longest, area // side // step * step)
        if other >= shortest:
            sizes |= {(side, other), (other, side)}
    return [first, *sorted(sizes - {first})]


def nearest(size: Size, choices: Sequence[Size]) -> Size:
    """The one whose proportions are nearest; of equal ones the first."""
    wanted = math.log(size[0] / size[1])
    return min(choices, key=lambda choice: abs(math.log(choice[0] / choice[1]) - wanted))


def load(path: Path, choices: Sequence[Size]) -> Picture:
    """The picture upright, on white where it is transparent, scaled to cover the nearest of `choices`, cropped to its middle.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear)
            return np.asarray(ImageOps.fit(upright.convert("RGB"), nearest(upright.size, choices), Image.Resampling.LANCZOS))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = str(error).split("\n", 1)[0] or type(error).__name__
        raise RequestError(f"--data: {path.name} cannot be read as a picture ({why}); repair it or take it out") from None


def epoch(groups: Sequence[Sequence[int]], batch: int, rand: random.Random) -> list[list[int]]:
    """The batches of one epoch: every member of every group once, in random order, none with members of two groups."""
    batches = []
    for group in groups:
        order = rand.sample(group, len(group))
        batches += [order[start : start + batch] for start in range(0, len(order), batch)]
    rand.shuffle(batches)
    return batches

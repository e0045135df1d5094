"""Stage 6, the evaluation: the release gates of the starter checkpoint, measured on the exported file.

The measure is retrieval: a picture is right when, of the clean glyphs of *all* motifs, the one that was asked for is the
nearest. Nearest means: the ground is the median colour of the picture's border; what differs from it is cut out, squared,
brought to 32x32; every glyph is put on the same ground and treated the same; the mean squared difference decides.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from modules.training.captions import with_article
from modules.training.concepts import COLOURS, CONCEPTS, RGB
from modules.training.rendering import SIZE, Pixels, Placed, Scene, render
from modules.training.starter import Starter

Vector = npt.NDArray[np.float32]

THUMB = 32  # px, edge of what is compared
DIFFERS = 60  # sum of absolute differences over red, green and blue from which a pixel is no ground
CORES = 2  # of which the gates speak
WORKERS = 2  # batches drawn at a time
SEEDS = (1000, 2000, 3000)
NAMES = list(CONCEPTS)


@dataclass
class Report:
    """The gates' figures, shares of 1 except where a unit is named. `misses` lists (asked, seen) to read through."""

    cfg_scale: float
    top1: float = 0.0
    top5: float = 0.0
    ground: float = 0.0
    top1_on_ground: float = 0.0
    pairs_both: float = 0.0
    pairs_left: float = 0.0
    pairs_right: float = 0.0
    seconds_per_picture: float = 0.0
    misses: list[tuple[str, str]] = field(default_factory=list)
    ground_misses: list[tuple[str, str]] = field(default_factory=list)
    pair_misses: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def evaluate(starter: Starter, cfg_scale: float, sheets: Path | None, seeds: Sequence[int] = SEEDS, pairs: int = 150) -> Report:
    """Draw everything the gates ask for, measure it, and write contact sheets into `sheets`."""
    report = Report(cfg_scale, seconds_per_picture=_time_one(starter, cfg_scale))

    # Every motif by its name
    asked = [name for name in NAMES for _ in seeds]
    pictures = starter.draw([with_article(name) for name in asked], _numbered(seeds, len(NAMES)), cfg_scale, WORKERS)
    ranks = [rank(picture) for picture in pictures]
    report.top1 = _share(found[0] == name for found, name in zip(ranks, asked, strict=True))
    report.top5 = _share(name in found[:5] for found, name in zip(ranks, asked, strict=True))
    report.misses = [(name, found[0]) for found, name in zip(ranks, asked, strict=True) if found[0] != name]
    _sheet(pictures[:: len(seeds)], sheets, "motifs")
    print(f"motifs: top-1 {report.top1:.3f}, top-5 {report.top5:.3f}", flush=True)

    # Named grounds
    tasks = [(name, colour) for name, colour in zip(_shuffled(NAMES, 3), list(COLOURS) * len(NAMES), strict=False)]
    prompts = [f"{with_article(name)} on {with_article(colour)} background" for name, colour in tasks]
    pictures = starter.draw(prompts, range(5000, 5000 + len(tasks)), cfg_scale, WORKERS)
    seen = [nearest_colour(border(picture)) for picture in pictures]
    report.ground = _share(colour == found for (_, colour), found in zip(tasks, seen, strict=True))
    report.ground_misses = [(prompt, found) for prompt, (_, c), found in zip(prompts, tasks, seen, strict=True) if c != found]
    report.top1_on_ground = _share(rank(picture)[0] == name for picture, (name, _) in zip(pictures, tasks, strict=True))
    _sheet(pictures, sheets, "grounds")
    print(f"grounds: right {report.ground:.3f}, motif on them top-1 {report.top1_on_ground:.3f}", flush=True)

    _evaluate_pairs(starter, report, pairs, sheets)
    return report


def _evaluate_pairs(starter: Starter, report: Report, count: int, sheets: Path | None) -> None:
    """Two named objects: right when the left half retrieves the first and the right half the second, each top-1 of all."""
    rand = random.Random(11)
    pairs = [rand.sample(NAMES, 2) for _ in range(count)]
    prompts = [f"{with_article(left)} and {with_article(right)}" for left, right in pairs]
    pictures = starter.draw(prompts, range(7000, 7000 + count), report.cfg_scale, WORKERS)
    half = SIZE // 2
    lefts = [rank(picture[:, :half])[0] == left for picture, (left, _) in zip(pictures, pairs, strict=True)]
    rights = [rank(picture[:, half:])[0] == right for picture, (_, right) in zip(pictures, pairs, strict=True)]
    both = [left and right for left, right in zip(lefts, rights, strict=True)]
    report.pairs_left, report.pairs_right, report.pairs_both = _share(lefts), _share(rights), _share(both)
    report.pair_misses = [(left, right) for (left, right), found in zip(pairs, both, strict=True) if not found]
    _sheet(pictures[:64], sheets, "pairs")
    print(f"pairs: both {report.pairs_both:.3f}", flush=True)


def sweep(starter: Starter, scales: Sequence[float], seed: int = 4000) -> dict[float, float]:
    """Top-1 over all motifs, one seed each (not one of the gates' seeds), per guidance scale."""
    figures = {}
    for scale in scales:
        pictures = starter.draw([with_article(name) for name in NAMES], range(seed, seed + len(NAMES)), scale, WORKERS)
        figures[scale] = _share(rank(picture)[0] == name for picture, name in zip(pictures, NAMES, strict=True))
        print(f"cfg {scale:g}: top-1 {figures[scale]:.3f}", flush=True)
    return figures


def rank(picture: Pixels) -> list[str]:
    """All motifs, the nearest glyph first."""
    ground = border(picture)
    query = cut_out(picture, ground)
    distances = ((_references(_rounded(ground)) - query) ** 2).mean(axis=1)
    return [NAMES[index] for index in np.argsort(distances)]


def border(picture: Pixels) -> Vector:
    """The median colour of a frame three pixels wide."""
    strips = (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
    median: Vector = np.median(np.concatenate([strip.reshape(-1, 3) for strip in strips]), axis=0)
    return median


def nearest_colour(colour: Vector) -> str:
    """The name whose colour is nearest in RGB."""
    return min(COLOURS, key=lambda name: float(((colour - np.array(COLOURS[name])) ** 2).sum()))


def cut_out(picture: Pixels, ground: Vector) -> Vector:
    """What differs from the ground, squared and scaled to 32x32, as a flat vector. Stray pixels (0.5 %) do not count."""
    rows, columns = np.nonzero(np.abs(picture.astype(np.float32) - ground).sum(2) > DIFFERS)
    image = Image.fromarray(picture)
    if len(rows) < 20:
        return _flat(image.resize((THUMB, THUMB), Image.Resampling.BOX))
    top, bottom = np.percentile(rows, [0.5, 99.5])
    left, right = np.percentile(columns, [0.5, 99.5])
    edge = max(bottom - top, right - left) + 4
    y, x = (top + bottom) / 2 + SIZE, (left + right) / 2 + SIZE
    red, green, blue = (int(value) for value in ground)
    canvas = Image.new("RGB", (image.width + 2 * SIZE, image.height + 2 * SIZE), (red, green, blue))
    canvas.paste(image, (SIZE, SIZE))
    box = (x - edge / 2, y - edge / 2, x + edge / 2, y + edge / 2)
    return _flat(canvas.resize((THUMB, THUMB), Image.Resampling.BOX, box=box))


@lru_cache(maxsize=256)
def _references(ground: RGB) -> Vector:
    colour = np.array(ground, dtype=np.float32)
    scenes = (Scene("one", (Placed(name, 0.8),), None, ground) for name in NAMES)
    return np.stack([cut_out(render(scene), colour) for scene in scenes])


def _rounded(colour: Vector) -> RGB:
    """To multiples of 6, so that pictures share their references; far below what decides a match."""
    red, green, blue = (int(min(255, 6 * round(float(value) / 6))) for value in colour)
    return red, green, blue


def _flat(image: Image.Image) -> Vector:
    return np.asarray(image, dtype=np.float32).ravel()


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return round(sum(counted) / len(counted), 4)


def _numbered(seeds: Sequence[int], count: int) -> list[int]:
    return [seed + index for index in range(count) for seed in seeds]


def _shuffled(names: Sequence[str], seed: int) -> list[str]:
    return random.Random(seed).sample(names, len(names))


def _time_one(starter: Starter, cfg_scale: float) -> float:
    """Seconds for one picture on two cores, the best of three (the machine may be shared)."""
    times = []
    torch.set_num_threads(CORES)
    for seed in range(3):
        began = time.perf_counter()
        starter.draw(["a rocket"], [seed], cfg_scale)
        times.append(time.perf_counter() - began)
    torch.set_num_threads(1)
    return round(min(times), 2)


def contact_sheet(pictures: Sequence[Pixels], columns: int = 16) -> Image.Image:
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * SIZE, rows * SIZE), (255, 255, 255))
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (index % columns * SIZE, index // columns * SIZE))
    return sheet


def _sheet(pictures: Sequence[Pixels], folder: Path | None, name: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures).save(folder / f"{name}.png")

"""What a picture shows, measured against clean glyphs: the nearest glyph, the ground, the number, the place.

Retrieval: the ground is the median colour of the picture's border; what differs from it is cut out, squared and brought to
32x32; every glyph is put on the same ground and treated the same; the Euclidean distance decides. That is done with what
differs clearly and with what differs at all, and the nearer one counts: where steam or enamel is hardly darker than a white
ground, either box may miss it in one of two pictures that look the same. It measures nearness to what was trained, not
generality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from modules.training.composition import Composer
from modules.training.motifs import COLOURS, MOTIFS
from modules.training.scenes import CENTRED, GRID, SLOTS, Variant

THUMB = 32  # px, edge of what is compared
DIFFERS, FAINTLY = 60, 20  # sums of absolute differences over red, green and blue from which a pixel is no ground
ROUNDING = 8  # grounds are rounded to multiples of this, so that pictures share their references


@dataclass(frozen=True)
class Blob:
    """All that is no ground: its share of the picture, its centre, and the longer edge of its bounding box, as shares."""

    area: float
    x: float
    y: float
    edge: float


class Judge:
    """Compares pictures (B, 3, H, W) in bytes with the glyphs of `composer`; its references are the motifs `names`."""

    def __init__(self, composer: Composer, names: Sequence[str] = tuple(MOTIFS)) -> None:
        self.composer, self.names = composer, list(names)
        self._references: dict[tuple[int, ...], Tensor] = {}

    def ranked(self, pictures: Tensor, first: int = 5) -> list[list[str]]:
        """The `first` motifs nearest to each picture, the nearest first."""
        found = []
        for picture, ground in zip(pictures, border(pictures), strict=True):
            distances = self._distances(picture, ground, self.references(ground)).amin(0)
            found.append([self.names[int(i)] for i in distances.argsort()[:first]])
        return found

    def distance(self, picture: Tensor) -> float:
        """Root mean square difference (of 255) to the nearest glyph, of what differs clearly from the ground."""
        ground = border(picture[None])[0]
        return float(self._distances(picture, ground, self.references(ground))[0].min())

    def best_of(self, picture: Tensor, choices: Sequence[Variant]) -> Variant:
        """The nearest of these glyphs."""
        ground = border(picture[None])[0]
        vectors = _both_ways(self._glyphs(choices, ground), ground.expand(len(choices), 3))
        return choices[int(self._distances(picture, ground, vectors).amin(0).argmin())]

    def count(self, picture: Tensor, variant: Variant, numbers: Sequence[int] = (1, 2, 3, 4)) -> int:
        """How many of one glyph: the number whose clean picture is nearest."""
        ground = border(picture[None])[0]
        number = float(self.composer.numbers[variant])
        rows = [[(number, x, y, GRID[n][0]) for x, y in GRID[n][1]] for n in numbers]
        a, b = (F.interpolate(t.float(), size=(64, 64), mode="area") for t in (picture[None], self._composed(rows, ground)))
        return numbers[int((a - b).square().mean((1, 2, 3)).argmin())]

    def references(self, ground: Tensor) -> Tensor:
        """(2, N, 3 * 32 * 32): every motif's glyph on a ground (3,), cut out both ways."""
        key = tuple(min(255, ROUNDING * round(float(v) / ROUNDING)) for v in ground)
        if key not in self._references:
            colour = torch.tensor(key, dtype=torch.float32)
            parts = [
                _both_ways(
                    self._glyphs([(name, None) for name in self.names[start : start + 64]], colour), colour.expand(64, 3)
                )
                for start in range(0, len(self.names), 64)
            ]
            if len(self._references) > 256:
                self._references.clear()
            self._references[key] = torch.cat(parts, 1)
        return self._references[key]

    def _glyphs(self, choices: Sequence[Variant], ground: Tensor) -> Tensor:
        numbers = [float(self.composer.numbers[variant]) for variant in choices]
        return self._composed([[(number, 0.5, 0.5, CENTRED)] for number in numbers], ground)

    def _composed(self, rows: Sequence[Sequence[tuple[float, float, float, float]]], ground: Tensor) -> Tensor:
        slots = np.full((len(rows), SLOTS, 4), -1, np.float32)
        for index, row in enumerate(rows):
            slots[index, : len(row)] = row
        colour = [float(v) for v in ground]
        return self.composer.compose(slots, np.tile(np.array([*colour, *colour, 2.0], np.float32), (len(rows), 1))).cpu()

    @staticmethod
    def _distances(picture: Tensor, ground: Tensor, vectors: Tensor) -> Tensor:
        """(2, N): root mean square differences to `vectors` (2, N, D), cut out both ways."""
        query = _both_ways(picture[None], ground[None])
        return (vectors - query).square().mean(2).sqrt()


def border(pictures: Tensor) -> Tensor:
    """(B, 3): the median colour of a frame (6 of 256 pixels wide)."""
    x = pictures.float()
    w = max(2, x.shape[-1] * 3 // 128)
    frame = [x[:, :, :w].flatten(2), x[:, :, -w:].flatten(2), x[..., :w].flatten(2), x[..., -w:].flatten(2)]
    return torch.cat(frame, -1).median(-1).values


def evenness(pictures: Tensor) -> list[float]:
    """The share of the frame's pixels that look like its median colour: 1 for a clean, plain ground."""
    x = pictures.float()
    w = max(2, x.shape[-1] * 3 // 128)
    frame = torch.cat([x[:, :, :w].flatten(2), x[:, :, -w:].flatten(2), x[..., :w].flatten(2), x[..., -w:].flatten(2)], -1)
    near = (frame - border(pictures)[..., None]).abs().sum(1) <= DIFFERS / 2
    return [float(v) for v in near.float().mean(1)]


def nearest_colour(ground: Tensor) -> str:
    """The name of the ground (3,) that is nearest in RGB."""
    table = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
    return list(COLOURS)[int((table - ground).square().sum(1).argmin())]


def _both_ways(pictures: Tensor, grounds: Tensor) -> Tensor:
    return torch.stack([cut_out(pictures, grounds), cut_out(pictures, grounds, FAINTLY)])


def cut_out(pictures: Tensor, grounds: Tensor, differs: float = DIFFERS) -> Tensor:
    """(B, 3 * 32 * 32): what differs so much from the grounds (B, 3), squared and scaled. Stray pixels (0.5 %) do not count."""
    x = pictures.float() - grounds[: len(pictures), :, None, None]
    height, width = x.shape[-2:]
    centre, edge = _box(x, differs)
    ruler = (torch.arange(4 * THUMB) + 0.5) / (4 * THUMB) - 0.5
    rows, columns = centre[:, 1:] + ruler * edge[:, None], centre[:, :1] + ruler * edge[:, None]
    wide = (2 * columns / width - 1)[:, None, :].expand(-1, 4 * THUMB, -1)
    high = (2 * rows / height - 1)[:, :, None].expand(-1, -1, 4 * THUMB)
    small = F.avg_pool2d(F.grid_sample(x, torch.stack([wide, high], -1), "bilinear", "zeros", align_corners=False), 4)
    return (small + grounds[: len(pictures), :, None, None]).flatten(1)


def blob(picture: Tensor) -> Blob:
    """Where a picture's object is."""
    x = picture[None].float() - border(picture[None])[:, :, None, None]
    mask = (x.abs().sum(1) > DIFFERS)[0].float()
    height, width = mask.shape
    total = mask.sum().clamp_min(1)
    across, down = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    _, edge = _box(x, DIFFERS)
    return Blob(
        float(mask.mean()), float((mask.sum(0) * across).sum() / total), float((mask.sum(1) * down).sum() / total),
        float(edge[0] / width),
    )  # fmt: skip


def _box(x: Tensor, differs: float) -> tuple[Tensor, Tensor]:
    """Centres (B, 2) as x, y and edges (B,) in pixels of the squares around what differs so much in x (B, 3, H, W), else of the
    whole."""
    height, width = x.shape[-2:]
    mask = x.abs().sum(1) > differs
    total = mask.sum((1, 2))
    enough = total >= 20 * (height / 128) ** 2

    def ends(counts: Tensor) -> tuple[Tensor, Tensor]:
        share = counts.cumsum(1) / total.clamp_min(1)[:, None]
        return (share < 0.005).sum(1).float(), (share < 0.995).sum(1).float()

    (top, bottom), (left, right) = ends(mask.sum(2)), ends(mask.sum(1))
    edge = torch.maximum(bottom - top, right - left) + 4 * height / 128
    centre = torch.stack([(left + right + 1) / 2, (top + bottom + 1) / 2], 1)
    whole = torch.tensor([width / 2, height / 2])
    return torch.where(enough[:, None], centre, whole), torch.where(enough, edge, torch.full_like(edge, float(height)))

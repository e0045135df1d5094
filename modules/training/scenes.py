"""Scenes: which motifs stand where, in which colours, on which ground. Drawn from a random generator, before any pixels.

A scene's facts (`items`, `ground`, `place`) are what captions may say; its placements are what `composition` draws.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from modules.training.motifs import COLOURS, GROUNDS, MORE_GROUNDS, MOTIFS, Motif, plurals
from modules.training.phrases import PLACES, SCENERY

Floats = npt.NDArray[np.float32]
Layout = Literal["single", "pair", "group", "triple", "mixed", "stack", "front", "hat", "sizes", "four"]
Variant = tuple[str, str | None]
"""A motif's name and the colour it is drawn in, None for its own."""

SLOTS = 9  # glyphs that a scene has at most
CENTRED, BIG, SMALL, HALF, THIRD = 0.74, 0.92, 0.38, 0.46, 0.31  # edges of glyphs as shares of the picture's edge
SHARES: dict[Layout, float] = {
    "single": 0.46, "pair": 0.235, "group": 0.125, "triple": 0.065, "mixed": 0.04, "stack": 0.03, "front": 0.015, "hat": 0.012,
    "sizes": 0.012, "four": 0.006,
}  # fmt: skip
GRID: dict[int, tuple[float, tuple[tuple[float, float], ...]]] = {
    1: (CENTRED, ((0.5, 0.5),)),
    2: (HALF, ((0.26, 0.5), (0.74, 0.5))),
    3: (THIRD, ((0.175, 0.5), (0.5, 0.5), (0.825, 0.5))),
    4: (0.43, ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73))),
    5: (THIRD, ((0.175, 0.3), (0.5, 0.3), (0.825, 0.3), (0.34, 0.7), (0.66, 0.7))),
    6: (THIRD, ((0.175, 0.3), (0.5, 0.3), (0.825, 0.3), (0.175, 0.7), (0.5, 0.7), (0.825, 0.7))),
    9: (0.29, tuple((x, y) for y in (0.175, 0.5, 0.825) for x in (0.175, 0.5, 0.825))),
}
"""Edge and centres of so many glyphs of equal rank, in reading order."""


@dataclass(frozen=True)
class Item:
    """`count` glyphs of one motif; `colour` None is its own, `size` "" is unnamed."""

    motif: str
    colour: str | None = None
    count: int = 1
    size: Literal["", "small", "big"] = ""

    @property
    def variant(self) -> Variant:
        """Its glyph: a colour that the motif has anyway is no other glyph."""
        return self.motif, None if self.colour == MOTIFS[self.motif].colour else self.colour


@dataclass(frozen=True)
class Placed:
    """A glyph at a place: centre and edge as shares of the picture's edge."""

    variant: Variant
    x: float
    y: float
    edge: float


@dataclass(frozen=True)
class Scene:
    """One picture before it has pixels. `ground` None is white and unnamed, unless there is `scenery`."""

    layout: Layout
    items: tuple[Item, ...]
    placed: tuple[Placed, ...]
    ground: str | None = None
    scenery: str | None = None
    place: str = ""


def variants(names: Sequence[str]) -> list[Variant]:
    """Every glyph that scenes of these motifs may show: all in their own colours first, then the recoloured ones."""
    own: list[Variant] = [(name, None) for name in names]
    return own + [(name, c) for name in names for c in MOTIFS[name].colours if c != MOTIFS[name].colour]


class SceneSampler:
    """Draws scenes of the motifs `names`."""

    def __init__(self, names: Sequence[str] = tuple(MOTIFS)) -> None:
        self.motifs = [MOTIFS[name] for name in names]
        self.coloured = [motif for motif in self.motifs if motif.colours]
        self.countable = [motif for motif in self.motifs if plurals(motif)]
        self.hats = [motif for motif in self.motifs if motif.hat]
        self.heads = [motif for motif in self.motifs if motif.countable and not motif.hat]
        needed = {"single": 1, "group": 1, "triple": 3, "four": 4}  # different motifs; the others show two
        self.shares = {layout: share for layout, share in SHARES.items() if len(names) >= needed.get(layout, 2)}
        if not self.hats or not self.heads:
            self.shares.pop("hat", None)
        if len(self.countable) < 2:
            self.shares.pop("mixed", None)
        if not self.countable:
            self.shares.pop("group", None)

    def draw(self, rng: random.Random) -> Scene:
        """A scene; 56 % on a named ground, 6 % (of the simpler ones) on scenery, the others on white."""
        layout = rng.choices(list(self.shares), list(self.shares.values()))[0]
        scene = self._single(rng) if layout == "single" else self._several(layout, rng)
        roll = rng.random()
        if roll < 0.56:
            return replace(scene, ground=rng.choice(list(COLOURS if rng.random() < 0.86 else MORE_GROUNDS)))
        if roll < 0.62 and layout in ("single", "pair", "group"):
            return replace(scene, scenery=rng.choice(list(SCENERY)))
        return scene

    def _item(self, rng: random.Random, among: Sequence[Motif] | None = None, count: int = 1, tinted: float = 0.22) -> Item:
        """A random motif, in `tinted` of the draws one in a named colour."""
        counted = among is self.countable
        if self.coloured and rng.random() < tinted and (among is None or counted):
            motif = rng.choice(self.coloured)
            if not counted or plurals(motif):
                return Item(motif.name, rng.choice(motif.colours), count)
        return Item(rng.choice(among or self.motifs).name, None, count)

    def _single(self, rng: random.Random) -> Scene:
        item, roll, place = self._item(rng, tinted=0.27), rng.random(), ""
        edge = SMALL if roll < 0.10 else BIG if roll < 0.20 else CENTRED
        if roll < 0.20:
            item = replace(item, size="small" if roll < 0.10 else "big")
        if roll > 0.80:
            place = rng.choice(list(PLACES) if rng.random() < 0.4 else ["left", "right", "top", "bottom"])
            edge = CENTRED if place == "middle" else HALF
        dx, dy = PLACES[place][:2] if place else (0.0, 0.0)
        return Scene("single", (item,), (_placed(item, 0.5 + dx, 0.5 + dy, edge, rng),), place=place)

    def _several(self, layout: Layout, rng: random.Random) -> Scene:
        if layout == "group":
            count = rng.choices([2, 3, 4, 5, 6, 9], [0.40, 0.30, 0.12, 0.06, 0.05, 0.07])[0]
            return _in_grid(layout, (self._item(rng, self.countable, count),), rng)
        if layout == "mixed":
            return self._mixed(rng)
        if layout == "hat":
            first, second = self._item(rng, self.heads), Item(rng.choice(self.hats).name)
        else:
            count = {"triple": 3, "four": 4}.get(layout, 2)
            items = self._different(rng, count, 0.1 if layout == "four" else 0.25 if layout == "pair" else 0.2)
            if count > 2:
                return _in_grid(layout, items, rng)
            first, second = items
        if layout == "pair":
            if rng.random() < 0.04 and first.colour:  # "a red car and a blue car"
                second = Item(first.motif, rng.choice([c for c in MOTIFS[first.motif].colours if c != first.colour]))
            return _in_grid(layout, (first, second), rng)
        if layout == "sizes":
            return _sizes(first, second, rng)
        places = {
            "stack": ((0.5, 0.26, HALF), (0.5, 0.74, HALF)),
            "front": ((0.5, 0.765, 0.42), (0.5, 0.42, 0.76)),
            "hat": ((0.5, 0.655, 0.62), (0.5, 0.215, 0.36)),
        }[layout]
        placed = [_placed(item, *place, rng) for item, place in zip((first, second), places, strict=True)]
        if layout == "front":  # what stands in front is drawn last
            placed.reverse()
        return Scene(layout, (first, second), tuple(placed))

    def _mixed(self, rng: random.Random) -> Scene:
        first, second = rng.choice([(2, 1), (1, 2), (2, 1), (1, 2), (2, 2)])
        one = self._item(rng, self.countable, first)
        other = one
        while other.motif == one.motif:
            other = self._item(rng, self.countable, second)
        return _in_grid("mixed", (one, other), rng)

    def _different(self, rng: random.Random, count: int, tinted: float) -> tuple[Item, ...]:
        items: dict[str, Item] = {}
        while len(items) < count:
            item = self._item(rng, tinted=tinted)
            items.setdefault(item.motif, item)
        return tuple(items.values())


def arrays(scenes: Sequence[Scene], numbers: dict[Variant, int], rng: random.Random) -> tuple[Floats, Floats]:
    """What `composition` takes: slots (N, 9, 4) of glyph number (-1: none), centre x, centre y, edge; grounds (N, 7)."""
    slots = np.full((len(scenes), SLOTS, 4), -1, np.float32)
    for row, scene in zip(slots, scenes, strict=True):
        row[: len(scene.placed)] = [(numbers[p.variant], p.x, p.y, p.edge) for p in scene.placed]
    return slots, np.array([ground_of(scene, rng) for scene in scenes], np.float32)


def ground_of(scene: Scene, rng: random.Random | None = None) -> tuple[float, ...]:
    """Colour above the horizon, colour below it, the horizon as a share of the height (2: none); jittered where `rng` is given.

    White things on an unnamed ground stand on pale blue: on white they would not be seen.
    """
    if scene.scenery:
        above, below, horizon, _ = SCENERY[scene.scenery]
        return (*above, *below, horizon)
    colour: Sequence[float] = GROUNDS[scene.ground or "white"]
    if scene.ground is None and any(item.colour == "white" for item in scene.items):
        colour = (206.0, 222.0, 240.0)
    if rng is not None:
        colour = [min(255.0, max(0.0, value + rng.uniform(-2.5, 2.5))) for value in colour]
    return (*colour, *colour, 2.0)


def _in_grid(layout: Layout, items: tuple[Item, ...], rng: random.Random) -> Scene:
    """All glyphs of the items in reading order."""
    glyphs = [item for item in items for _ in range(item.count)]
    edge, places = GRID[len(glyphs)]
    return Scene(layout, items, tuple(_placed(item, x, y, edge, rng) for item, (x, y) in zip(glyphs, places, strict=True)))


def _sizes(first: Item, second: Item, rng: random.Random) -> Scene:
    """A big and a small one side by side, in either order."""
    if rng.random() < 0.5:
        first, second = replace(first, size="big"), replace(second, size="small")
        places = ((0.31, 0.5, 0.56), (0.80, 0.63, 0.30))
    else:
        first, second = replace(first, size="small"), replace(second, size="big")
        places = ((0.20, 0.63, 0.30), (0.69, 0.5, 0.56))
    return Scene("sizes", (first, second), tuple(_placed(i, *p, rng) for i, p in zip((first, second), places, strict=True)))


def _placed(item: Item, x: float, y: float, edge: float, rng: random.Random) -> Placed:
    return Placed(item.variant, x + rng.uniform(-0.01, 0.01), y + rng.uniform(-0.01, 0.01), edge * rng.uniform(0.985, 1.015))

"""Scenes and their pixels: which motifs stand where on which ground, and the picture of that.

A `Scene` is plain data, drawn from a random generator and written to JSON beside the latents, so that one picture
can be captioned anew each time it is shown to the network. Knows nothing of captions or of networks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from modules.training.concepts import COLOURS, CONCEPTS, RGB

Pixels = npt.NDArray[np.uint8]
"""A picture as (height, width, 3) bytes."""

Layout = Literal["one", "small", "left", "right", "top", "bottom", "pair"]

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the font holds 136x128 bitmaps, addressed by this size alone
SIZE = 128  # px, the native edge of the model
CENTRED = 0.81  # edge of a lone motif as a share of the picture
HALVED = 0.46  # edge of a motif that shares the picture or stands at a side: fits into one half of the canvas

_SHARES: dict[Layout, float] = {
    "one": 0.60, "small": 0.03, "left": 0.025, "right": 0.025, "top": 0.025, "bottom": 0.025, "pair": 0.27,
}  # fmt: skip
_SHIFTS: dict[Layout, tuple[float, float]] = {
    "one": (0.0, 0.0), "small": (0.0, 0.0),
    "left": (-0.24, 0.0), "right": (0.24, 0.0), "top": (0.0, -0.24), "bottom": (0.0, 0.24),
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A motif at a place: centre and edge as shares of the picture's edge."""

    concept: str
    size: float
    x: float = 0.5
    y: float = 0.5


@dataclass(frozen=True)
class Scene:
    """One picture before it has pixels. `ground` is the colour that captions may name; None is white, unnamed."""

    layout: Layout
    objects: tuple[Placed, ...]
    ground: str | None
    tint: RGB


def draw_scene(rng: random.Random, concept: str, layout: Layout | None = None) -> Scene:
    """A random scene about `concept` (the left one of a pair).

    Pairs keep their motifs inside the halves and their ground exact: the denoiser's trainer recombines the left
    and right halves of their latents, so that every pair of motifs is seen (`latents.recombine`).
    """
    layout = layout or rng.choices(list(_SHARES), list(_SHARES.values()))[0]
    ground = rng.choice(list(COLOURS)) if rng.random() < 0.7 else None
    colour = COLOURS[ground or "white"]
    if layout == "pair":
        other = rng.choice([name for name in CONCEPTS if name != concept])
        objects = (_half(rng, concept, 0.255), _half(rng, other, 0.745))
        return Scene(layout, objects, ground, colour)
    dx, dy = _SHIFTS[layout]
    edge = CENTRED if layout == "one" else 0.40 if layout == "small" else HALVED
    placed = Placed(
        concept, edge + rng.uniform(-0.015, 0.015), 0.5 + dx + rng.uniform(-0.012, 0.012), 0.5 + dy + rng.uniform(-0.012, 0.012)
    )
    return Scene(layout, (placed,), ground, _jittered(colour, rng, 3.0))


def render(scene: Scene, size: int = SIZE) -> Pixels:
    """The picture of a scene, `size` pixels square."""
    canvas = Image.new("RGB", (size, size), scene.tint)
    for placed in scene.objects:
        edge = round(placed.size * size)
        motif = _resized(placed.concept, edge)
        canvas.paste(motif, (round(placed.x * size - edge / 2), round(placed.y * size - edge / 2)), motif)
    return np.asarray(canvas)


@cache
def glyph(concept: str) -> Image.Image:
    """The motif alone, RGBA, cropped to what is painted and padded to a square."""
    if not FONT.exists():
        raise FileNotFoundError(f"{FONT} is missing; install it with: apt install fonts-noto-color-emoji")
    sheet = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    font = ImageFont.truetype(str(FONT), FONT_SIZE)
    ImageDraw.Draw(sheet).text((12, 12), CONCEPTS[concept].glyph, font=font, embedded_color=True)
    painted = sheet.crop(sheet.getbbox())
    edge = max(painted.size)
    square = Image.new("RGBA", (edge, edge), (0, 0, 0, 0))
    square.paste(painted, ((edge - painted.width) // 2, (edge - painted.height) // 2))
    return square


@cache
def _resized(concept: str, edge: int) -> Image.Image:
    # With premultiplied alpha: else the colour of transparent pixels bleeds in as a dark fringe.
    return glyph(concept).convert("RGBa").resize((edge, edge), Image.Resampling.LANCZOS).convert("RGBA")


def _half(rng: random.Random, concept: str, x: float) -> Placed:
    return Placed(concept, HALVED + rng.uniform(-0.015, 0.005), x + rng.uniform(-0.01, 0.01), 0.5 + rng.uniform(-0.012, 0.012))


def _jittered(colour: RGB, rng: random.Random, width: float) -> RGB:
    red, green, blue = (int(min(255, max(0, value + rng.uniform(-width, width)))) for value in colour)
    return red, green, blue

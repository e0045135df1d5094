"""Drawings to learn and to judge by: shapes, strokes, letters and textures, each from a seed, on any machine the same.

They are drawn larger and averaged down, so that edges are as soft as a camera's or a renderer's.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[np.uint8]
Generator = np.random.Generator

FINER = 3
"""How many times as large a drawing is made."""
LETTERS = "ABCDEFGHKMNPRSTUVWXYZabcdefghkmnoprstuwxyz0123456789&%?!@"


def drawing(seed: int, edge: int = 128) -> Picture:
    """An RGB picture (edge, edge, 3)."""
    generator = np.random.default_rng((7, seed))
    image = Image.fromarray(_ground(generator, edge)).resize((edge * FINER, edge * FINER), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(4, 14))):
        _SHAPES[int(generator.integers(len(_SHAPES)))](draw, generator, edge * FINER)
    small = image.resize((edge, edge), Image.Resampling.BOX)
    if generator.random() < 0.5:
        small = _textured(small, generator)
    return np.asarray(small)


def _ground(generator: Generator, edge: int) -> Picture:
    """A plain colour, a gradient, or clouds."""
    first, second = generator.uniform(0, 255, (2, 3))
    kind = generator.random()
    if kind < 0.3:
        share = np.zeros((edge, edge))
    elif kind < 0.6:
        angle = generator.uniform(0, 2 * math.pi)
        y, x = np.mgrid[0:edge, 0:edge] / edge - 0.5
        share = np.clip(x * math.cos(angle) + y * math.sin(angle) + 0.5, 0, 1)
    else:
        share = clouds(generator, edge, 1.7)
    colours = first + (second - first) * share[..., None]
    return np.asarray(np.rint(colours).clip(0, 255), np.uint8)


def clouds(generator: Generator, edge: int, fall: float) -> npt.NDArray[np.float64]:
    """Noise (edge, edge) in [0, 1] whose amplitude falls with this power of the frequency, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(edge)[:, None], np.fft.rfftfreq(edge)[None])
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(generator.standard_normal((edge, edge))) / (frequency * edge) ** fall
    values = np.fft.irfft2(spectrum, (edge, edge))
    low, high = np.quantile(values, (0.02, 0.98))
    return np.asarray(np.clip((values - low) / max(1e-9, high - low), 0, 1))


def _textured(image: Image.Image, generator: Generator) -> Image.Image:
    """With a fine texture on a part of it."""
    pixels = np.asarray(image).astype(np.float64)
    edge = pixels.shape[0]
    where = clouds(generator, edge, 2.0) > generator.uniform(0.4, 0.7)
    depth = generator.uniform(10, 70)
    pixels += where[..., None] * (clouds(generator, edge, generator.uniform(0.7, 1.4))[..., None] - 0.5) * depth
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def _colour(generator: Generator) -> tuple[int, int, int]:
    if generator.random() < 0.25:
        return (0, 0, 0) if generator.random() < 0.6 else (255, 255, 255)
    red, green, blue = (int(value) for value in generator.integers(0, 256, 3))
    return red, green, blue


def _point(generator: Generator, edge: int) -> tuple[float, float]:
    x, y = generator.uniform(-0.1, 1.1, 2) * edge
    return float(x), float(y)


def _ellipse(draw: ImageDraw.ImageDraw, generator: Generator, edge: int) -> None:
    (x, y), (width, height) = _point(generator, edge), generator.uniform(0.03, 0.4, 2) * edge
    outline = _colour(generator) if generator.random() < 0.5 else None
    draw.ellipse((x, y, x + width, y + height), _colour(generator), outline, int(generator.integers(2, 10)))


def _polygon(draw: ImageDraw.ImageDraw, generator: Generator, edge: int) -> None:
    (x, y), corners = _point(generator, edge), int(generator.integers(3, 9))
    angles = np.sort(generator.uniform(0, 2 * math.pi, corners))
    radii = generator.uniform(0.05, 0.35, corners) * edge
    points = [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]
    draw.polygon(points, _colour(generator))


def _stroke(draw: ImageDraw.ImageDraw, generator: Generator, edge: int) -> None:
    """A curve between three points."""
    a, b, c = (np.array(_point(generator, edge)) for _ in range(3))
    at = np.linspace(0, 1, 24)[:, None]
    points = [(float(x), float(y)) for x, y in (1 - at) ** 2 * a + 2 * at * (1 - at) * b + at**2 * c]
    draw.line(points, _colour(generator), int(generator.integers(2, 16)), joint="curve")


def _lines(draw: ImageDraw.ImageDraw, generator: Generator, edge: int) -> None:
    """Parallel lines, as of a fence, hair or hatching."""
    (x, y), angle, gap = _point(generator, edge), generator.uniform(0, math.pi), generator.uniform(8, 24)
    colour, width = _colour(generator), int(generator.integers(2, 8))
    along = np.array([math.cos(angle), math.sin(angle)]) * generator.uniform(0.1, 0.4) * edge
    across = np.array([-math.sin(angle), math.cos(angle)]) * gap
    for number in range(int(generator.integers(3, 9))):
        start = np.array([x, y]) + across * number
        draw.line([tuple(start), tuple(start + along)], colour, width)


def _letters(draw: ImageDraw.ImageDraw, generator: Generator, edge: int) -> None:
    text = "".join(generator.choice(list(LETTERS), int(generator.integers(1, 6))))
    font = ImageFont.load_default(float(generator.uniform(0.07, 0.4) * edge))
    draw.text(_point(generator, edge), text, _colour(generator), font)


_SHAPES = (_ellipse, _polygon, _stroke, _lines, _letters)

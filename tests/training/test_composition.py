"""Pictures of scenes: the batched composition on the device against one that goes pixel by pixel; glyphs and their colours."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.errors import SettingsError
from modules.training.composition import Composer, to_pixels, to_unit
from modules.training.glyphs import FONT, coloured_glyphs, drawn_glyphs, read_glyphs
from modules.training.motifs import MOTIFS, OBJECT_COLOURS
from modules.training.recolour import Dominant, analyse, from_oklab, oklab, recolour
from modules.training.scenes import SLOTS, SceneSampler, Variant, arrays, variants

needs_font = pytest.mark.skipif(not FONT.exists(), reason="fonts-noto-color-emoji is not installed")
SIZE = 24
ORDER: list[Variant] = [("apple", None), ("fox", None), ("cat", None)]


@pytest.fixture(scope="module")
def composer() -> Composer:
    gen = torch.Generator().manual_seed(4)
    alpha = torch.randint(0, 256, (3, 1, 40, 40), generator=gen)
    colour = torch.minimum(torch.randint(0, 256, (3, 3, 40, 40), generator=gen), alpha)
    return Composer(ORDER, torch.cat([colour, alpha], 1).byte(), SIZE, torch.device("cpu"))


def one_by_one(composer: Composer, slots: list[tuple[float, ...]], ground: tuple[float, ...]) -> Tensor:
    """(3, S, S): each pixel's colour from below to above, the glyphs read bilinearly between the centres of their pixels."""
    picture = torch.zeros(3, SIZE, SIZE)
    for row in range(SIZE):
        for column in range(SIZE):
            x, y = (column + 0.5) / SIZE, (row + 0.5) / SIZE
            colour = torch.tensor(ground[3:6] if y > ground[6] else ground[:3])
            for number, centre_x, centre_y, edge in slots:
                enough = [i for i, e in enumerate(composer.edges) if e >= edge * SIZE * 0.96]
                bitmap = composer.levels[enough[-1] if enough else 0][int(number)].float()
                wide = bitmap.shape[-1]
                u = ((x - centre_x) / edge + 0.5) * wide - 0.5
                v = ((y - centre_y) / edge + 0.5) * wide - 0.5
                found = torch.zeros(4)
                for i in (math.floor(v), math.floor(v) + 1):
                    for j in (math.floor(u), math.floor(u) + 1):
                        if 0 <= i < wide and 0 <= j < wide:
                            found += bitmap[:, i, j] * (1 - abs(u - j)) * (1 - abs(v - i))
                colour = colour * (1 - found[3] / 255) + found[:3]
            picture[:, row, column] = colour
    return picture


def test_a_batch_equals_pixel_by_pixel(composer: Composer) -> None:
    rng = random.Random(3)
    counts = (0, 1, 3)
    rows = [[(float(rng.randrange(3)), rng.random(), rng.random(), rng.uniform(0.2, 0.9)) for _ in range(n)] for n in counts]
    grounds = [(200.0, 10.0, 30.0, 0.0, 90.0, 250.0, horizon) for horizon in (2.0, 0.5, 0.7)]
    slots = np.full((3, SLOTS, 4), -1, np.float32)
    for index, row in enumerate(rows):
        slots[index, : len(row)] = np.array(row).reshape(-1, 4)
    made = composer.compose(slots, np.array(grounds, np.float32))
    for picture, row, ground in zip(made, rows, grounds, strict=True):
        torch.testing.assert_close(picture, one_by_one(composer, row, ground), atol=0.02, rtol=0)


def test_glyphs_are_never_magnified_where_a_larger_bitmap_is_there() -> None:
    composer = Composer(ORDER[:1], torch.zeros(1, 4, 8, 8, dtype=torch.uint8), 256, torch.device("cpu"))
    levels = composer._levels_for(np.array([0.95, 0.74, 0.46, 0.38, 0.31, 0.2], np.float32))
    assert [composer.edges[level] for level in levels] == [208, 208, 147, 104, 104, 52]


def test_bytes_survive_the_way_to_the_networks_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_pixels(to_unit(pixels)), pixels)


def test_every_scene_can_be_composed() -> None:
    names = ["apple", "fox", "top hat", "grapes", "car"]
    composer = Composer(*coloured_glyphs(drawn_glyphs(names)), 32, torch.device("cpu"))
    assert list(composer.numbers) == variants(names)
    rng, sampler = random.Random(1), SceneSampler(names)
    pictures = composer.compose(*arrays([sampler.draw(rng) for _ in range(50)], composer.numbers, rng))
    assert pictures.shape == (50, 3, 32, 32)
    assert 0 <= pictures.min() <= pictures.max() <= 255.01


def test_only_the_motifs_that_are_asked_for_are_recoloured() -> None:
    order, pixels = coloured_glyphs(drawn_glyphs(["apple", "fox"]), {"fox"})
    assert order[:2] == [("apple", None), ("fox", None)]
    assert {name for name, colour in order if colour} == {"fox"}
    assert len(pixels) == len(order) == 2 + len(OBJECT_COLOURS) - 1


def test_oklab_there_and_back_and_its_white() -> None:
    rgb = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(from_oklab(oklab(rgb)), rgb, atol=1e-6, rtol=0)
    torch.testing.assert_close(oklab(torch.ones(3, dtype=torch.float64)), torch.tensor([1.0, 0, 0]).double(), atol=1e-6, rtol=0)


def test_recolouring_changes_the_dominant_colour_and_keeps_the_rest() -> None:
    """A red disc with a white eye and two shades becomes blue; the eye stays."""
    glyph = torch.zeros(3, 20, 20)
    glyph[0], glyph[:, :4, :4] = 0.85, 1.0
    glyph[0, 10:] = 0.6
    dominant = analyse(glyph, torch.ones(20, 20))
    assert isinstance(dominant, Dominant)
    blue = recolour(glyph, dominant, ["blue", "gray"])[0]
    assert blue[2, 15, 15] > 1.5 * blue[0, 15, 15]
    assert blue[:, 8, 8].sum() > blue[:, 15, 15].sum()  # the shading
    torch.testing.assert_close(blue[:, :4, :4], glyph[:, :4, :4], atol=0.02, rtol=0)
    assert analyse(torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(1)), torch.ones(20, 20)) is None


def test_a_missing_font_is_named() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.ttf is missing; install it"):
        read_glyphs(FONT.with_name("nowhere.ttf"))


@needs_font
def test_every_motif_has_a_glyph_and_its_colour_can_be_replaced() -> None:
    glyphs = read_glyphs()
    assert list(glyphs) == list(MOTIFS)
    for name, glyph in glyphs.items():
        assert 0.05 < glyph[3].mean() < 1, name
        if MOTIFS[name].colours:
            straight = (glyph[:3] / glyph[3:].clamp_min(1 / 255)).clamp(0, 1)
            assert analyse(straight, glyph[3]) is not None, name


@needs_font
def test_edges_have_no_dark_fringe() -> None:
    """At a half transparent edge the glyph's own colour is that of its inside; alpha multiplied twice would halve it."""
    glyph = read_glyphs(names=["square"])["square"]
    edge = (glyph[3] > 0.3) & (glyph[3] < 0.8)
    assert edge.sum() > 20
    inside = glyph[:3, 60:76, 60:76].mean((1, 2))
    found = (glyph[:3] / glyph[3:].clamp_min(1 / 255))[:, edge].mean(1)
    torch.testing.assert_close(found, inside, atol=0.2, rtol=0)

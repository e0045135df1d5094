"""The measure itself: a clean glyph must be retrieved, on any ground, whatever its size and place."""

from __future__ import annotations

import numpy as np
import pytest

from modules.training.concepts import COLOURS
from modules.training.evaluation import border, nearest_colour, rank
from modules.training.rendering import FONT, Placed, Scene, render
from modules.training.starter import karras, timestep_of

pytestmark = pytest.mark.skipif(not FONT.exists(), reason="fonts-noto-color-emoji is not installed")


@pytest.mark.parametrize("name", ["fox", "key", "ghost", "red car"])
@pytest.mark.parametrize("colour", ["white", "blue"])
def test_a_rendered_glyph_is_retrieved(name: str, colour: str) -> None:
    picture = render(Scene("one", (Placed(name, 0.6, 0.45, 0.55),), colour, COLOURS[colour]))
    assert rank(picture)[0] == name
    assert nearest_colour(border(picture)) == colour


def test_each_half_of_a_pair_is_retrieved() -> None:
    objects = (Placed("owl", 0.46, 0.255), Placed("rocket", 0.46, 0.745))
    picture = render(Scene("pair", objects, "pink", COLOURS["pink"]))
    assert (rank(picture[:, :64])[0], rank(picture[:, 64:])[0]) == ("owl", "rocket")


def test_noise_is_no_motif_in_particular() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert len(set(rank(noise))) > 100


def test_karras_spacing_spans_the_schedule() -> None:
    sigmas = karras(20)
    assert len(sigmas) == 21
    assert sigmas[0] == pytest.approx(14.61, abs=0.01)
    assert sigmas[-2] == pytest.approx(0.0292, abs=1e-3)
    assert timestep_of(sigmas[0]) == pytest.approx(999)
    assert timestep_of(sigmas[-2]) == pytest.approx(0, abs=1e-6)

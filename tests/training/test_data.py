"""Scenes, pictures, captions: what the starter model is shown."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from modules.prompts.tokenizer import Tokenizer
from modules.training.captions import caption, fragments, with_article
from modules.training.concepts import COLOURS, CONCEPTS
from modules.training.latents import draw_scenes, read_scenes, write_scenes
from modules.training.rendering import FONT, SIZE, Placed, Scene, draw_scene, render

needs_font = pytest.mark.skipif(not FONT.exists(), reason="fonts-noto-color-emoji is not installed")


def test_there_are_at_least_a_hundred_motifs_with_distinct_names_and_glyphs() -> None:
    names = [name for concept in CONCEPTS.values() for name in (concept.name, *concept.aliases)]
    assert len(CONCEPTS) >= 100
    assert len(set(names)) == len(names)
    assert len({concept.glyph for concept in CONCEPTS.values()}) == len(CONCEPTS)


def test_scenes_and_captions_are_deterministic() -> None:
    assert draw_scenes(20, seed=5) == draw_scenes(20, seed=5) != draw_scenes(20, seed=6)
    scene = draw_scene(random.Random(1), "fox")
    assert caption(scene, random.Random(2)) == caption(scene, random.Random(2))


def test_scenes_survive_their_file(tmp_path: Path) -> None:
    scenes = draw_scenes(30)
    write_scenes(scenes, tmp_path / "scenes.jsonl")
    assert read_scenes(tmp_path / "scenes.jsonl") == scenes


def test_captions_name_the_ground_and_the_left_motif_first() -> None:
    scene = Scene("pair", (Placed("owl", 0.46, 0.25), Placed("key", 0.46, 0.75)), "green", COLOURS["green"])
    for seed in range(50):
        text = caption(scene, random.Random(seed))
        assert "green" in text
        assert 0 <= text.index("owl") < text.index("key")


def test_fragments_hold_every_token_of_every_caption() -> None:
    tokenizer = Tokenizer()
    known = {token for fragment in fragments() for token in tokenizer.encode(fragment)}
    rand = random.Random(0)
    for scene in draw_scenes(600):
        text = caption(scene, rand)
        assert known.issuperset(tokenizer.encode(text)), text


def test_articles() -> None:
    assert [with_article(name) for name in ("owl", "unicorn", "umbrella", "grapes")] == [
        "an owl",
        "a unicorn",
        "an umbrella",
        "grapes",
    ]


@needs_font
def test_pairs_stay_inside_their_halves() -> None:
    for scene in [draw_scene(random.Random(seed), "owl", "pair") for seed in range(20)]:
        middle = render(scene)[:, SIZE // 2 - 1 : SIZE // 2 + 1]
        assert np.abs(middle.astype(int) - np.array(scene.tint)).max() <= 8


@needs_font
def test_every_motif_has_a_glyph() -> None:
    blank = render(Scene("one", (), None, (250, 250, 250)))
    for name in CONCEPTS:
        painted = np.abs(render(Scene("one", (Placed(name, 0.8),), None, (250, 250, 250))).astype(int) - blank).sum(2) > 30
        assert 0.05 < painted.mean() < 0.8, name

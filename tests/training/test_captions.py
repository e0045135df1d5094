"""Motifs, scenes and captions: what is said is what is shown."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from modules.prompts.tokenizer import Tokenizer
from modules.training.captions import Vocabulary, caption, fragments
from modules.training.cases import LATER, read_paraphrases
from modules.training.motifs import BY_ANY_NAME, MOTIFS, OBJECT_COLOURS, plurals, read_motifs
from modules.training.scenes import SLOTS, Item, Placed, Scene, SceneSampler, variants
from tests.training.grammar import producible

SAMPLER = SceneSampler()


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [SAMPLER.draw(rng) for _ in range(count)]


def test_there_are_at_least_four_hundred_motifs_and_no_name_means_two() -> None:
    assert len(MOTIFS) >= 400
    assert len({motif.emoji for motif in MOTIFS.values()}) == len(MOTIFS)
    assert all(name == name.lower() for name in BY_ANY_NAME)
    assert all(motif.colour in (None, "", *OBJECT_COLOURS) for motif in MOTIFS.values())
    with pytest.raises(ValueError, match="'kitty' names both 'cat' and 'lynx'"):
        read_motifs("cat|🐈|kitty\nlynx|🐆|kitty")


def test_no_plural_is_another_motif() -> None:
    found = [text for motif in MOTIFS.values() for text in plurals(motif)]
    assert not set(found) & set(BY_ANY_NAME)
    assert {"foxes", "slices of pizza", "mice"} <= set(found)


def test_scenes_and_captions_are_deterministic() -> None:
    assert scenes(20, 5) == scenes(20, 5) != scenes(20, 6)
    scene = scenes(1)[0]
    assert caption(scene, random.Random(2)) == caption(scene, random.Random(2))


def test_scenes_show_known_glyphs_within_the_picture() -> None:
    known = set(variants(list(MOTIFS)))
    for scene in scenes(2000):
        assert 1 <= len(scene.placed) <= SLOTS
        assert len(scene.placed) == sum(item.count for item in scene.items)
        for placed in scene.placed:
            assert placed.variant in known
            assert placed.x - placed.edge / 2 > -0.02
            assert placed.y + placed.edge / 2 < 1.02


@pytest.mark.parametrize("names", [["apple"], ["grapes"], ["grapes", "apple"], ["apple", "fox", "top hat"]])
def test_few_motifs_give_the_scenes_that_they_suffice_for(names: list[str]) -> None:
    rng, sampler = random.Random(4), SceneSampler(names)
    drawn = [sampler.draw(rng) for _ in range(400)]
    assert {item.motif for scene in drawn for item in scene.items} == set(names)
    assert {scene.layout for scene in drawn} == set(sampler.shares)


def one_of(words: tuple[str, ...], text: str) -> bool:
    return any(f" {word} " in f" {text.replace(',', ' ')} " for word in words)


def test_left_is_left_and_above_is_above() -> None:
    """Where a caption says a side, the glyph's place agrees."""
    owl, key = Item("owl"), Item("key")
    pair = Scene("pair", (owl, key), (Placed(owl.variant, 0.26, 0.5, 0.46), Placed(key.variant, 0.74, 0.5, 0.46)))
    stack = Scene("stack", (owl, key), (Placed(owl.variant, 0.5, 0.26, 0.46), Placed(key.variant, 0.5, 0.74, 0.46)))
    said = {"left of": 0, "right of": 0, "above": 0, "below": 0, "under": 0}
    for seed in range(3000):
        for scene in (pair, stack):
            text = caption(scene, random.Random(seed))
            first, second = text.find("owl"), text.find("key")
            assert min(first, second) >= 0
            for word, owl_first in (
                ("left of", True),
                ("right of", False),
                ("above", True),
                ("below", False),
                ("under", False),
            ):
                if f" {word} " in text:
                    said[word] += 1
                    assert (first < second) is owl_first, text
    assert all(said.values()), said


def test_places_sizes_counts_and_colours_are_true() -> None:
    seen: set[str] = set()
    for index, scene in enumerate(scenes(4000)):
        text, first = caption(scene, random.Random(index)), scene.placed[0]
        if scene.layout == "single":
            checks = {
                "on the left": first.x < 0.4, "on the right": first.x > 0.6, "at the top": first.y < 0.4,
                "at the bottom": first.y > 0.6,
            }  # fmt: skip
            for words, right in checks.items():
                if words in text:
                    seen.add(words)
                    assert right, text
        counted = text.startswith(("two ", "three ", "four ")) and "four leaf" not in text
        if scene.layout == "group" and counted:
            seen.add(text.split()[0])
            assert len(scene.placed) == {"two": 2, "three": 3, "four": 4}[text.split()[0]], text
        for item in scene.items:
            if item.size == "small":
                assert one_of(("small", "little", "tiny", "mini"), text), text
            if item.colour == "purple":
                assert one_of(("purple", "violet"), text), text
        if scene.layout == "sizes":
            edges = {item.size: placed.edge for item, placed in zip(scene.items, scene.placed, strict=True)}
            assert edges["big"] > edges["small"]
    assert len(seen) == 7, seen


def test_what_stands_in_front_is_drawn_last() -> None:
    fronts = [scene for scene in scenes(4000) if scene.layout == "front"]
    for scene in fronts:
        front, behind = scene.items
        assert [placed.variant for placed in scene.placed] == [behind.variant, front.variant]
        assert all(far.edge > near.edge for far, near in pairwise(scene.placed))
    assert fronts


def test_fragments_hold_every_token_of_every_caption() -> None:
    tokenizer = Tokenizer()
    known = {token for fragment in fragments(list(MOTIFS)) for token in tokenizer.encode(fragment)}
    for index, scene in enumerate(scenes(1500)):
        text = caption(scene, random.Random(index))
        assert known.issuperset(tokenizer.encode(text)), text


def test_rows_are_padded_and_unknown_words_are_row_zero() -> None:
    vocabulary = Vocabulary()
    row = vocabulary.row("a fox")
    assert row.shape == (77,)
    assert row.max() == len(vocabulary) - 1
    assert [*row[3:]] == [len(vocabulary) - 1] * 74
    assert 0 not in row
    assert list(vocabulary.row("a zygote")[1:3]) == [row[1], 0]
    unseen = [0 in vocabulary.row("a fox", random.Random(seed)) for seed in range(400)]
    assert 0.08 < sum(unseen) / 400 < 0.25
    assert len(vocabulary.row("a fox " * 80)) == 77


def test_the_grammar_reads_its_own_captions() -> None:
    """`producible` recognises what captions are made of, or its word on the handwritten prompts would mean nothing."""
    texts = [caption(scene, random.Random(index)) for index, scene in enumerate(scenes(120, 9))]
    assert [text for text in texts if not producible(text)] == []


def test_the_handwritten_prompts_are_no_captions() -> None:
    assert len({prompt for prompt, _ in read_paraphrases()}) == 200
    prompts = [*read_paraphrases(), *read_paraphrases(LATER)]
    assert len({prompt for prompt, _ in prompts}) == 264
    assert [prompt for prompt, _ in prompts if producible(prompt.lower())] == []
    assert producible("a red apple next to two foxes, blue background, masterpiece")


def test_the_handwritten_prompts_name_no_other_motif() -> None:
    named = {name: motif.name for motif in MOTIFS.values() for name in (*motif.names, *plurals(motif))}
    for prompt, facts in [*read_paraphrases(), *read_paraphrases(LATER)]:
        assert facts.colour is None or facts.colour in MOTIFS[facts.motifs[0]].colours, (prompt, "is taught in no such colour")
        words, place = re.findall(r"[\w'-]+", prompt.lower()), 0
        while place < len(words):
            runs = (" ".join(words[place : place + length]) for length in range(5, 0, -1))
            found = next((run for run in runs if run in named), None)
            if found and found != facts.colour and found != facts.ground:
                assert named[found] in facts.motifs, (prompt, found)
            place += len(found.split()) if found else 1

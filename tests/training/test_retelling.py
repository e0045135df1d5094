"""Other ways to say what a caption says: the same facts, other words, and none of the handwritten prompts."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from modules.training import clauses, retelling
from modules.training.captions import Vocabulary
from modules.training.cases import LATER, Facts, plain, read_paraphrases
from modules.training.motifs import BY_ANY_NAME, MOTIFS
from modules.training.retelling import Retelling
from modules.training.wording import FUNCTION, FreeWording

NAMES = tuple(MOTIFS)
FREE = FreeWording(NAMES)
RETELLING = Retelling(NAMES, FREE.filler)


def pairs(count: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    rand = random.Random(seed)
    return (RETELLING.draw(rand) for _ in range(count))


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9'-]+", text.lower())


def test_what_is_told_is_mostly_not_what_a_caption_says() -> None:
    found = list(pairs(1000))
    assert len({told for _, told in found}) > 980
    assert sum(said == told for said, told in found) < 20


@pytest.mark.parametrize(
    ("patterns", "facts"),
    [
        (clauses.GROUND, Facts(("fox",), ground="dark blue")),
        (clauses.COLOUR, Facts(("car",), colour="purple")),
        (clauses.PLACE, Facts(("owl",), place="top")),
        (clauses.COUNT, Facts(("fox",), count=3)),
        (clauses.PAIR, Facts(("fox", "owl"))),
    ],
)
def test_every_pattern_says_all_of_its_facts(patterns: tuple[str, ...], facts: Facts) -> None:
    rand = random.Random(3)
    needed = {
        "dark blue": ("dark blue", "navy"),
        "purple": ("purple", "violet"),
        "top": ("top", "upper", "highest"),
        3: ("three", "3"),
        "fox": ("fox", "foxes"),
        "owl": ("owl",),
        "car": ("car", "auto"),
    }
    asked = [fact for fact in (*facts.motifs, facts.ground, facts.colour, facts.place, facts.count) if fact in needed]
    for pattern in patterns:
        for _ in range(8):
            said, told = RETELLING.told(facts, (pattern,), rand)
            assert said == plain(facts)
            assert all(any(word in told for word in needed[fact]) for fact in asked), (pattern, told)


def test_the_words_of_the_patterns_name_no_motif() -> None:
    found = {word for word in retelling.words() if word in BY_ANY_NAME}
    assert not found - {"saw", "like", "wall"}, "which is read as a motif where a motif can stand"


def test_what_names_no_motif_becomes_a_question_mark_and_a_dislike_nothing() -> None:
    rand = random.Random(4)
    named = {name for name in BY_ANY_NAME if " " not in name}
    for _ in range(300):
        said, told = RETELLING.nothing(rand)
        assert said.startswith("a question mark")
        assert not named.intersection(words_of(told)) - {"saw", "like", "orange", "wall"}, told
        empty, dislike = RETELLING.disliked(rand)
        assert empty == ""
        assert set(re.findall(r"[a-z]+", dislike)) & set(retelling.DISLIKES)
    few = Retelling(("fox",), FREE.filler)
    assert few.nothing(rand)[0] == "", "of a model that has no such motif"


def test_the_handwritten_prompts_are_not_taught() -> None:
    """No six words in a row are theirs: their share that is right says how wording is read that was not taught."""
    assert all(" " not in word for word in FUNCTION)
    measured = {run for prompt, _ in (*read_paraphrases(), *read_paraphrases(LATER)) for run in _runs(prompt)}
    rand = random.Random(2)
    taught = {run for _, told in pairs(4000, 1) for run in _runs(told)}
    taught |= {run for _ in range(1000) for run in _runs(FREE.around("a fox", rand))}
    assert not measured & taught


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = words_of(text)
    return (tuple(words[start : start + 6]) for start in range(len(words) - 5))


def test_its_words_have_rows_of_their_own() -> None:
    before, after = Vocabulary(NAMES), Vocabulary(NAMES, retelling.words())
    assert set(before.tokens) < set(after.tokens)
    assert len(after) - len(before) > 200

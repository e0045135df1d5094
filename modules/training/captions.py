"""Captions: sentences about scenes, as people might type them, and the vocabulary that they make up.

A scene is captioned several times, each time anew: names and aliases, with and without article, prefixes, grounds, praise
at the end. Whatever a caption says is true of its scene. `fragments` lists every piece of text that can occur: their tokens
are the trained vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from modules.prompts.tokenizer import BOS, EOS, Tokenizer
from modules.training import phrases
from modules.training.motifs import COLOUR_WORDS, GROUNDS, MOTIFS, OBJECT_COLOURS, plurals, with_article
from modules.training.scenes import Item, Scene

TOKENS = 77
UNSEEN = 0.16  # share of captions with words that the model does not know, which it learns to ignore
UNSEEN_ALONE = 0.3  # the same of empty captions: negative prompts

Rows = npt.NDArray[np.int16]


def caption(scene: Scene, rng: random.Random) -> str:
    """A sentence that is true of `scene`."""
    text = _things(scene, rng)
    if rng.random() < 0.3:
        text = f"{rng.choice(phrases.PREFIXES)} {text}"
    if scene.ground:
        word = _colour(scene.ground, rng)
        if rng.random() < 0.03:
            word = rng.choice(phrases.SHADES) + word
        text = rng.choice(phrases.GROUNDS).format(text, with_article(word), word)
    elif scene.scenery:
        text = rng.choice(phrases.SCENIC).format(text, rng.choice(phrases.SCENERY[scene.scenery][3]))
    if rng.random() < 0.12:
        text = ", ".join([text, *rng.sample(phrases.PRAISE, rng.randint(1, 3))])
    return text


def _things(scene: Scene, rng: random.Random) -> str:
    """What stands where."""
    nouns = [noun_phrase(item, rng) for item in scene.items]
    if scene.layout == "single":
        if scene.place:
            return rng.choice(phrases.PLACES[scene.place][2]).format(nouns[0])
        return f"{nouns[0]} {rng.choice(phrases.AFTER)}" if rng.random() < 0.05 else nouns[0]
    if scene.layout == "group":
        return nouns[0]
    if scene.layout in ("triple", "four"):
        if rng.random() < 0.7:
            return ", ".join(nouns[:-1]) + (" and " if rng.random() < 0.7 else ", and ") + nouns[-1]
        return rng.choice([", ", " and ", ", ", " "]).join(nouns)
    # Patterns that name the first thing first, and those that name the second first
    first, second, turned = {
        "stack": (phrases.STACKS, phrases.UNDER, 0.3),
        "front": (phrases.FRONT, phrases.BEHIND, 0.4),
        "hat": (phrases.WEARING, phrases.WEARING, 0.0),
    }.get(scene.layout, (phrases.PAIRS, phrases.TURNED, 0.1))
    if rng.random() < turned:
        return rng.choice(second).format(nouns[1], nouns[0])
    return rng.choice(first).format(*nouns)


def noun_phrase(item: Item, rng: random.Random) -> str:
    """ "a fox", "the small blue car", "three cats"."""
    motif, words = MOTIFS[item.motif], []
    if item.size:
        words.append(rng.choice(phrases.SMALL if item.size == "small" else phrases.BIG))
    if rng.random() < 0.12:
        words.append(rng.choice(phrases.ADJECTIVES))
    if item.colour:
        words.append(_colour(item.colour, rng))
    if item.count > 1:
        words.append(rng.choice(plurals(motif)))
        name = " ".join(words)
        bare = item.count in (2, 3) and rng.random() < 0.12
        return name if bare else f"{rng.choice(phrases.NUMBERS[item.count])} {name}"
    words.append(motif.name if rng.random() < 0.6 or not motif.aliases else rng.choice(motif.aliases))
    if rng.random() < 0.06:
        words.append(rng.choice(phrases.KINDS))
    name, roll = " ".join(words), rng.random()
    if not motif.countable:
        return name if roll < 0.8 else f"the {name}" if roll < 0.88 else f"some {name}" if roll < 0.94 else with_article(name)
    if roll < 0.60:
        return with_article(name)
    return name if roll < 0.86 else f"{rng.choice(phrases.DETERMINERS)} {name}"


def fragments(names: Sequence[str]) -> Iterator[str]:
    """Every piece of text of which captions of these motifs are made."""
    for name in names:
        yield from MOTIFS[name].names
        yield from plurals(MOTIFS[name])
    yield from other_fragments()


def other_fragments() -> Iterator[str]:
    """Those that name no motif."""
    yield from (*GROUNDS, *OBJECT_COLOURS)
    for words in (COLOUR_WORDS.values(), phrases.NUMBERS.values()):
        for group in words:
            yield from group
    yield from (*phrases.PREFIXES, *phrases.ADJECTIVES, *phrases.AFTER, *phrases.KINDS, *phrases.PRAISE, *phrases.SMALL)
    yield from (*phrases.BIG, *phrases.SHADES, *phrases.DETERMINERS, "a an the some , and")
    patterns = [
        phrases.GROUNDS, phrases.SCENIC, phrases.PAIRS, phrases.TURNED, phrases.STACKS, phrases.UNDER, phrases.FRONT,
        phrases.BEHIND, phrases.WEARING, *(place[2] for place in phrases.PLACES.values()),
    ]  # fmt: skip
    for group in patterns:
        yield from (pattern.format("", "", "") for pattern in group)
    for scenery in phrases.SCENERY.values():
        yield from scenery[3]


class Vocabulary:
    """The tokens of captions, and of `more` words, as rows of a small embedding; row 0 is every other token."""

    def __init__(self, names: Sequence[str] = tuple(MOTIFS), more: Iterable[str] = ()) -> None:
        used = {token for text in (*fragments(names), *more) for token in _tokens(text)}
        self.tokens = [*sorted(used), BOS, EOS]
        self._rows = {token: row + 1 for row, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens) + 1

    def row(self, text: str, rng: random.Random | None = None) -> Rows:
        """(77,): rows of a text with start and end marks, padded with the end mark as CLIP-L does.

        With a generator, some texts get words in that the model does not know, anywhere.
        """
        tokens = [self._row(token) for token in _tokens(text)]
        if rng is not None and rng.random() < (UNSEEN if text else UNSEEN_ALONE):
            for _ in range(rng.randint(1, 4)):  # words, of one token or a few
                place = rng.randint(0, len(tokens))
                tokens[place:place] = [0] * rng.choice((1, 1, 1, 2, 2, 3, 4))
        row = np.full(TOKENS, self._rows[EOS], np.int16)
        row[0] = self._rows[BOS]
        row[1 : 1 + len(tokens[: TOKENS - 2])] = tokens[: TOKENS - 2]
        return row

    def _row(self, token: int) -> int:
        return self._rows.get(token, 0)

    def rows(self, texts: Sequence[str], rng: random.Random | None = None) -> Rows:
        """(B, 77), as `row`."""
        return np.stack([self.row(text, rng) for text in texts])


@lru_cache(maxsize=65_536)
def _tokens(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer().encode(text))


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    return Tokenizer(raw=True)  # captions are plain ASCII: nothing to repair


def _colour(name: str, rng: random.Random) -> str:
    """A word for a colour, most often the usual one."""
    return rng.choice((*COLOUR_WORDS.get(name, (name,)), name, name))

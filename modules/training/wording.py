"""Free wording around captions: what people write beside the things that a model knows, which it is to read over.

A caption stays as it is; before, behind and now and then within it come clauses of words that name nothing: words of English
grammar, and words of the tokenizer's vocabulary that no caption has, also inflected, as the tokenizer cuts them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property

from modules.prompts.tokenizer import BOS, Tokenizer
from modules.training import phrases
from modules.training.captions import fragments, other_fragments
from modules.training.lexicon import KINDS, kinds
from modules.training.motifs import BY_ANY_NAME, MOTIFS, plurals

FUNCTION = (
    "with", "its", "a", "that", "has", "was", "who", "is", "which", "of", "of", "the", "the", "for", "my", "his", "her",
    "their", "our", "your", "in", "on", "at", "by", "from", "as", "if", "like", "after", "before", "just", "and", "but", "so",
    "because", "while", "when", "where", "until", "than", "such", "out", "off", "down", "up", "about", "to", "to", "over",
    "into", "not", "have", "been", "had", "will", "would", "can", "could", "it", "they", "we", "you", "he", "she", "someone",
    "all", "every", "any", "no", "more", "most", "too", "very", "there", "here", "again", "only", "what", "how", "why",
    "this", "these", ",", ",",
)  # fmt: skip
"""Words of English grammar.  No phrase is written here, so that none is one of the handwritten prompts' (`paraphrases.txt`)."""
IDIOMS = (
    "left over",
    "left behind",
    "left open",
    "left it there",
    "has left",
    "right away",
    "right now",
    "all right",
    "just right",
    "one day",
    "for one",
    "one more time",
    "the first of all",
    "on a single",
    "at once",
    "top of the list",
    "deep down",
    "way up",
    "way down",
    "up and down",
    "upside down",
    "over and over",
    "behind the times",
    "under way",
    "on the way",
    "in the middle of it",
    "on top of it all",
    "on the other side of",
    "from top to bottom",
    "at the back",
    "in front",
    "on the edge of",
    "at the end",
    "side by side with",
    "a hot",
    "a cold",
    "an old",
    "the best",
    "a good",
    "a lot of",
    "a bit",
    "a long",
    "a tall",
    "half of",
    "twice as",
    "a third",
    "for two",
    "as one",
    "of three",
    "in four",
    "second",
    "third time",
)
"""Phrases of words that say something elsewhere: where, how many, how big, or a part of a name."""
ENDINGS = ("", "", "", "", "s", "ing", "ed", "ly", "er", "'s")
PARTS, SAID, NUMBERS, MADE_UP = 0.14, 0.1, 0.03, 0.05
"""Shares of words that are parts of names, idioms, numbers, and pieces of words put together."""
CLAUSES = (1, 1, 1, 1, 2, 2)


class FreeWording:
    """Writes around captions of the motifs `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._known = sorted({word for fragment in fragments(names) for word in re.findall(r"[a-z]+", fragment.lower())})

    @cached_property
    def words(self) -> list[str]:
        """Words of the tokenizer's vocabulary, of four letters or more, that no caption has."""
        tokenizer = Tokenizer(raw=True)
        found = {index: tokenizer.decode([index]).strip() for index in range(BOS)}
        known = set(self._known)
        plain = {index: word for index, word in found.items() if re.fullmatch("[a-z]{4,12}", word) and word not in known}
        return sorted(word for index, word in plain.items() if tokenizer.encode(word) == [index])

    @cached_property
    def pieces(self) -> list[str]:
        """Beginnings of words, of two to four letters."""
        tokenizer = Tokenizer(raw=True)
        found = (tokenizer.decode([index]) for index, kind in enumerate(kinds()) if KINDS[kind] == "piece")
        return sorted(piece for piece in found if 2 <= len(piece) <= 4)

    @cached_property
    def parts(self) -> list[str]:
        """Words that alone name nothing and say nothing: those that names of several words have ("hot" of "hot dog"), and those
        of scenery ("winter" of "in winter")."""
        said = {word for text in other_fragments() for word in re.findall("[a-z]+", text.lower())}
        found = {word for name in BY_ANY_NAME for word in re.findall(r"[a-z]{3,}", name) if " " in name} - said
        found |= {text.split(" ")[-1] for scenery in phrases.SCENERY.values() for text in scenery[3]}
        return sorted(word for word in found - self._names if f"{word}s" not in self._names)

    @cached_property
    def _long_names(self) -> dict[str, tuple[str, ...]]:
        """Names of several words, each with all names of its motif."""
        all_names = [(*motif.names, *plurals(motif)) for motif in MOTIFS.values()]
        return {name: names for names in all_names for name in names if " " in name}

    @cached_property
    def _any_long_name(self) -> re.Pattern[str]:
        return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(self._long_names, key=len, reverse=True))) + r")\b")

    def adds(self, text: str, told: str) -> bool:
        """Whether the words of `told` happen to make up a name of several words of what `text` does not name."""
        found = set(self._any_long_name.findall(told))
        return not all(any(name in text for name in self._long_names[long]) for long in found)

    @cached_property
    def _names(self) -> set[str]:
        return {name for motif in MOTIFS.values() for name in (*motif.names, *plurals(motif))}

    def around(self, text: str, rng: random.Random) -> str:
        """`text` with clauses before or behind it, seldom within."""
        before = self._clause(rng, (0, 1, 1, 2)) if rng.random() < 0.4 else ""
        behind = self.alone(rng) if not before or rng.random() < 0.6 else ""
        if before and rng.random() < 0.4:
            before += rng.choice((" of", "'s", " a", ",", " to", " for"))
        if rng.random() < 0.15:
            parts = text.split(" ")
            place = rng.randint(0, len(parts))
            parts[place:place] = [self._word(rng) for _ in range(rng.randint(1, 2))]
            text = " ".join(parts)
        return " ".join(part for part in (before, text, behind) if part).replace(" ,", ",")

    def filler(self, rng: random.Random) -> str:
        """One clause."""
        return self._clause(rng, (1, 1, 2))

    def alone(self, rng: random.Random) -> str:
        """Clauses that name nothing."""
        clauses = [self._clause(rng, (1, 1, 2, 2)) for _ in range(rng.choice(CLAUSES))]
        return " ".join(clauses).replace(" ,", ",")

    def _clause(self, rng: random.Random, counts: Sequence[int]) -> str:
        """Up to three words of grammar, with other words behind them, or one between."""
        grammar = rng.choices(FUNCTION, k=rng.choice((0, 1, 1, 2, 2, 3)))
        words = [self._word(rng) for _ in range(rng.choice(counts))]
        if len(grammar) > 1 and words and rng.random() < 0.3:
            grammar.insert(1, words.pop())
        return " ".join([*grammar, *words]) or self._word(rng)

    def _word(self, rng: random.Random) -> str:
        kind = rng.choices(
            ("part", "idiom", "number", "made up", ""), (PARTS, SAID, NUMBERS, MADE_UP, 1 - PARTS - SAID - NUMBERS - MADE_UP)
        )[0]
        if kind == "part":
            part = rng.choice(self.parts)
            return rng.choice((part, f"{part} {self._usual(rng)}", f"{self._usual(rng)} {part}"))
        if kind == "idiom":
            return rng.choice((f"{rng.choice(IDIOMS)} {self._usual(rng)}", f"{self._usual(rng)} {rng.choice(IDIOMS)}"))
        if kind == "number":
            return f"{self._usual(rng)} {rng.choice((rng.randint(1, 9), rng.randint(10, 99), rng.randint(1900, 2030)))}"
        return self._made_up(rng) if kind else self._usual(rng)

    def _usual(self, rng: random.Random) -> str:
        word = rng.choice(self.words) + rng.choice(ENDINGS)
        return word if word not in self._names else self._usual(rng)  # "farm" with "er"

    def _made_up(self, rng: random.Random) -> str:
        """One that the tokenizer cuts into pieces, also such as are words alone ("walk" of "spacewalk")."""
        word = rng.choice(self.pieces) + rng.choice(rng.choice((self.words, self._known)))
        return word if word not in self._names else self._made_up(rng)

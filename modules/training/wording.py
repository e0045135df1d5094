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
from modules.training.captions import fragments, other_fragments
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
ENDINGS = ("", "", "", "", "s", "ing", "ed", "ly", "er", "'s")
PARTS = 0.08  # share of words that are parts of names
CLAUSES = (1, 1, 1, 2, 2, 3)


class FreeWording:
    """Writes around captions of the motifs `names`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._known = {word for fragment in fragments(names) for word in re.findall(r"[a-z]+", fragment.lower())}

    @cached_property
    def words(self) -> list[str]:
        """Words of the tokenizer's vocabulary, of four letters or more, that no caption has."""
        tokenizer = Tokenizer(raw=True)
        found = {index: tokenizer.decode([index]).strip() for index in range(BOS)}
        plain = {index: word for index, word in found.items() if re.fullmatch("[a-z]{4,12}", word) and word not in self._known}
        return sorted(word for index, word in plain.items() if tokenizer.encode(word) == [index])

    @cached_property
    def parts(self) -> list[str]:
        """Words that names of several words have ("hot" of "hot dog"), and that alone name nothing and say nothing."""
        found = {word for name in BY_ANY_NAME for word in re.findall(r"[a-z]{3,}", name) if " " in name}
        said = {word for text in other_fragments() for word in re.findall("[a-z]+", text.lower())}
        return sorted(word for word in found - said - self._names if f"{word}s" not in self._names)

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
        clauses = [self._clause(rng, (1, 1, 2, 2, 3)) for _ in range(rng.choice(CLAUSES))]
        return " ".join(clauses).replace(" ,", ",")

    def _clause(self, rng: random.Random, counts: Sequence[int]) -> str:
        """Up to three words of grammar, with other words behind them, or one between."""
        grammar = rng.choices(FUNCTION, k=rng.choice((0, 1, 1, 2, 2, 3)))
        words = [self._word(rng) for _ in range(rng.choice(counts))]
        if len(grammar) > 1 and words and rng.random() < 0.3:
            grammar.insert(1, words.pop())
        return " ".join([*grammar, *words]) or self._word(rng)

    def _word(self, rng: random.Random) -> str:
        word = rng.choice(self.words) + rng.choice(ENDINGS)
        while word in self._names:  # "farm" with "er"
            word = rng.choice(self.words) + rng.choice(ENDINGS)
        if rng.random() < PARTS:  # between others: beside a name it could make up another one
            return f"{word} {rng.choice(self.parts)} {rng.choice(self.words)}"
        return word

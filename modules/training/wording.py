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
from modules.training.captions import fragments

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
BARE = 0.1  # share of texts without a caption: they are to be read as an empty one
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
        return rng.choice(self.words) + rng.choice(ENDINGS)

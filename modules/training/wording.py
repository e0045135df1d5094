"""Free wording around captions: what people write beside the things that a model knows, which it is to read over.

A caption stays as it is; before, behind and now and then within it come clauses of words that name nothing: function words, and words
of the tokenizer's vocabulary that no caption has, also inflected, as the tokenizer cuts them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cached_property

from modules.prompts.tokenizer import BOS, Tokenizer
from modules.training.captions import fragments

BEFORE = (
    "could you sketch", "can we have", "how you would draw", "the sort of", "we were told to", "i fancy", "i fancy a {u}", "i once saw",
    "portrait of", "{u} portrait of", "the {u} of", "a {u} view of", "just", "one {u}", "{u}'s best", "my {u}'s", "{u} {u}", "{u}",
    "hungry again!", "once upon a time", "this is how {u} imagined", "it is {u}, so", "please {u}", "nothing but", "everybody {u}", "a {u} {u}",
    "the {u}", "let us {u}", "would you {u}", "when {u} came", "they {u} about", "what {u} calls", "some {u}", "her {u}", "his {u} {u}",
)  # fmt: skip
LINKS = (
    "with", "with its", "with a", "with all of its", "that", "that has", "that was", "who", "who is", "which", "of", "of the", "for", "for my",
    "for the", "in", "in the", "on", "on a", "at", "at the", "by", "by the", "from", "from a", "as", "as if", "like a", "after", "after a",
    "before", "before the", "about to", "just", "and", "but", "so", "because", "while", "when", "where", "until", "than", "such as", "out of",
    "down the", "up to", "over", "under the", "into", "to", "to the", "not", "is", "was", "has", "have been", "will", "would", "it", "they", "we",
    "you", "one", "all", "every", "any", "no", "more", "most", "too", "very", "there", "here", "again", "first thing in the", ",", ",", ", the",
)  # fmt: skip
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
        before = self._filled(rng.choice(BEFORE), rng) if rng.random() < 0.4 else ""
        behind = " ".join(self._clause(rng) for _ in range(rng.choice(CLAUSES))) if not before or rng.random() < 0.6 else ""
        if rng.random() < 0.15:
            parts = text.split(" ")
            place = rng.randint(0, len(parts))
            parts[place:place] = [self._word(rng) for _ in range(rng.randint(1, 2))]
            text = " ".join(parts)
        return " ".join(part for part in (before, text, behind) if part).replace(" ,", ",")

    def alone(self, rng: random.Random) -> str:
        """Clauses that name nothing."""
        return " ".join(self._clause(rng) for _ in range(rng.choice(CLAUSES))).replace(" ,", ",")

    def _clause(self, rng: random.Random) -> str:
        link = [rng.choice(LINKS)] if rng.random() < 0.8 else []
        return " ".join([*link, *(self._word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3))))])

    def _filled(self, pattern: str, rng: random.Random) -> str:
        return re.sub(r"\{u\}", lambda _: self._word(rng), pattern)

    def _word(self, rng: random.Random) -> str:
        return rng.choice(self.words) + rng.choice(ENDINGS)

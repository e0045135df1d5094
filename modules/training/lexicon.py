"""The vocabulary of free wording: rows of their own for words that captions and clauses have, one for each kind of other word.

English tells by a word's ending what it does in a sentence; the kinds keep that of words whose meaning is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from modules.prompts.tokenizer import BOS, VOCABULARY_SIZE, Tokenizer
from modules.training.captions import Vocabulary

ENDINGS = ("ing", "ed", "ly", "s")
KINDS = ("word", *ENDINGS, "piece", "number")
"""Whole words, those with an ending, pieces that a word goes on behind, and what is no word."""


class Lexicon(Vocabulary):
    """The tokens of captions, and of `more` words; row 0 and the last ones are the kinds of every other token."""

    def __init__(self, names: Sequence[str], more: Iterable[str] = ()) -> None:
        super().__init__(names, more)
        self.every = torch.tensor([self._row(token) for token in range(VOCABULARY_SIZE)])
        """(49408,): the row of each of the tokenizer's tokens."""

    def __len__(self) -> int:
        return super().__len__() + len(KINDS) - 1

    def _row(self, token: int) -> int:
        row = super()._row(token)
        kind = 0 if row else kinds()[token]
        return super().__len__() + kind - 1 if kind else row

    def examples(self) -> Tensor:
        """(rows,): one of the tokens that each row stands for."""
        found = torch.zeros(len(self), dtype=torch.long)
        return found.index_copy(0, self.every.flip(0), torch.arange(VOCABULARY_SIZE).flip(0))


@lru_cache(maxsize=1)
def kinds() -> list[int]:
    """The kind of each of the tokenizer's tokens, as its number among `KINDS`."""
    tokenizer = Tokenizer(raw=True)
    [behind] = tokenizer.encode("a")
    texts = [tokenizer.decode([token, behind]) if token < BOS else "" for token in range(VOCABULARY_SIZE)]
    return [KINDS.index(_kind(text[:-1])) for text in texts]


def _kind(text: str) -> str:
    word = text.rstrip()
    if not (word.isascii() and word.isalpha()):
        return "number"
    if not text.endswith(" "):
        return "piece"
    return next((ending for ending in ENDINGS if word.endswith(ending) and len(word) > len(ending) + 2), "word")

"""Rows for the words that free wording has, and for the kinds of all others."""

from __future__ import annotations

import torch

from modules.prompts.tokenizer import EOS, Tokenizer
from modules.training.captions import Vocabulary
from modules.training.lexicon import KINDS, Lexicon, kinds

NAMES = ("fox", "car")
TOKENIZER = Tokenizer(raw=True)


def kind_of(text: str) -> list[str]:
    return [KINDS[kinds()[token]] for token in TOKENIZER.encode(text)]


def test_words_that_are_not_known_are_told_apart_by_their_endings() -> None:
    assert [kind_of(word) for word in ("gathering", "painted", "silently", "queues", "vendor")] == [
        ["ing"], ["ed"], ["ly"], ["s"], ["word"],
    ]  # fmt: skip
    assert [kind_of(word) for word in ("sing", "bed", "fly", "gas")] == [["word"]] * 4, "where they are no endings"
    assert kind_of("66 !") == ["number"] * 3
    assert kind_of("botanists") == ["piece", "piece", "word"], "what a word goes on behind, and its end"


def test_a_text_has_the_rows_of_its_words_and_of_the_kinds_of_others() -> None:
    lexicon, plain = Lexicon(NAMES, ["vendor"]), Vocabulary(NAMES)
    fox = lexicon.row("a fox gathering vendor mustard")
    assert len(lexicon) == len(plain) + 1 + len(KINDS) - 1
    tokens = [*lexicon.tokens]
    assert [tokens[row - 1] for row in (fox[1], fox[2], fox[4])] == TOKENIZER.encode("a fox vendor")
    assert fox[3] == len(lexicon) - len(KINDS) + KINDS.index("ing")
    assert fox[5] == 0
    assert tokens[fox[6] - 1] == EOS
    assert plain.row("a fox gathering").tolist()[3] == 0, "which captions' own vocabulary does not tell apart"


def test_each_token_has_a_row_and_each_row_a_token() -> None:
    lexicon = Lexicon(NAMES, ["vendor"])
    assert len(lexicon.every) == 49408
    assert torch.equal(lexicon.every.unique(), torch.arange(len(lexicon)))
    assert torch.equal(lexicon.every[lexicon.examples()], torch.arange(len(lexicon)))
    assert torch.equal(lexicon.every[lexicon.tokens], torch.arange(1, len(lexicon.tokens) + 1))

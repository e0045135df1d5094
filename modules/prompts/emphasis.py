r"""Emphasis, `(a)`, `[a]`, `(a:1.3)`, and BREAK: a text to pieces with weights.

It knows neither prompt editing (worked out before, see `schedule`) nor tokens.  The rules and their oddities are A1111's
(`prompt_parser.parse_prompt_attention` 1.10.1): round and square brackets are counted apart and need not nest, what stays
open counts to the end of the text, and a backslash makes any of `\ ( ) [ ]` a plain character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ROUND, SQUARE = 1.1, 1 / 1.1
MAX_DEPTH = 40
"""Open brackets that weigh; more are read and weigh nothing.  40 round ones are a factor of 45."""
MAX_WEIGHT = 1000.0
"""Weights are held to this size, so that no number overflows."""

_TOKEN = re.compile(r":\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|\\[\\()\[\]]|[\\()\[\]:]|[^\\()\[\]:]+")
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Piece:
    """Text of one weight; 1.0 is neutral."""

    text: str
    weight: float = 1.0

    @property
    def is_break(self) -> bool:
        """Whether a new chunk begins here.

        A1111 marks a break as the text BREAK of weight -1, and weights multiply marks as well: inside `(a BREAK b:1.2)` it is
        the word BREAK of weight -1.2.
        """
        return self.text == "BREAK" and self.weight == -1.0


def weigh(text: str) -> list[Piece]:
    """The pieces of `text`, neighbours of equal weight joined; at least one.

    >>> weigh("a (red:1.5) (cat")
    [Piece(text='a ', weight=1.0), Piece(text='red', weight=1.5), Piece(text=' ', weight=1.0), Piece(text='cat', weight=1.1)]
    """
    texts: list[str] = []
    weights: list[float] = []
    round_open: list[int] = []
    square_open: list[int] = []

    def close(opened: list[int], factor: float) -> None:
        start = opened.pop()
        if len(round_open) + len(square_open) < MAX_DEPTH:
            weights[start:] = [weight * factor for weight in weights[start:]]

    for match in _TOKEN.finditer(text):
        token = match.group()
        if token[0] == "\\":
            texts.append(token[1:])  # a backslash before anything else is dropped
            weights.append(1.0)
        elif token == "(":
            round_open.append(len(texts))
        elif token == "[":
            square_open.append(len(texts))
        elif match[1] is not None and round_open:
            close(round_open, float(match[1]))
        elif token == ")" and round_open:
            close(round_open, ROUND)
        elif token == "]" and square_open:
            close(square_open, SQUARE)
        elif "BREAK" not in token:
            texts.append(token)
            weights.append(1.0)
        else:
            for index, part in enumerate(_split_at_breaks(token)):
                if index:
                    texts.append("BREAK")
                    weights.append(-1.0)
                texts.append(part)
                weights.append(1.0)
    while round_open:
        close(round_open, ROUND)
    while square_open:
        close(square_open, SQUARE)
    return _merged(texts, weights)


def _split_at_breaks(text: str) -> list[str]:
    """The parts around the whole word BREAK, without the blanks on both sides of it."""
    parts = _BREAK.split(text)
    last = len(parts) - 1
    return [_trimmed(part, left=i > 0, right=i < last) for i, part in enumerate(parts)]


def _trimmed(text: str, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def _merged(texts: list[str], weights: list[float]) -> list[Piece]:
    pieces: list[Piece] = []
    start = 0
    for i in range(1, len(texts) + 1):
        if i == len(texts) or weights[i] != weights[start]:
            weight = max(-MAX_WEIGHT, min(MAX_WEIGHT, weights[start]))
            pieces.append(Piece("".join(texts[start:i]), weight))
            start = i
    return pieces or [Piece("")]

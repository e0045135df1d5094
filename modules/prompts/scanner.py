r"""Prompt editing, `[before:after:when]` and `[a|b]`, read into a tree in one pass.

What is no construct of the language is plain text, bracket for bracket, so nothing is ever refused.  This file does not know
steps (see `schedule`) nor weights (see `emphasis`): `(a:1.2)` and `[a]` are text here, though their brackets must balance
inside a construct.

The language is A1111's (`prompt_parser` 1.10.1).  There it is an ambiguous grammar for a general parser, which takes 81 s for
2 kB of `[a:b:0.5] ` and, with the version that it pins, reads unbalanced prompts differently from one start to the next.  Here
every construct that the grammar allows is followed, which is what the same grammar gives with newer versions of that parser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, TypeVar

T = TypeVar("T")

MAX_DEPTH = 100
"""Brackets inside brackets; around deeper ones, brackets are text."""
MAX_EDITS = 2_000
"""Constructs of one prompt; a prompt with more is text throughout."""

_STRAY_BAR = "a | outside of [a|b]"
_TOKEN = re.compile(r"(?:\\.|[^\\\[\]():|])+|[\\\[\]():|]")
_WHEN = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class Switch:
    """`[before:after:when]`; `when` is the number as it was written, since "1" and "1.0" differ."""

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: str


@dataclass(frozen=True)
class Cycle:
    """`[a|b|c]`: one option after the other, over and over."""

    options: tuple[tuple[Node, ...], ...]


Node = str | Switch | Cycle


@dataclass(slots=True)
class _Bracket:
    """An open bracket: where it stands in the nodes, and the colons and bars directly inside it."""

    opener: str
    start: int
    colons: list[int]
    bars: list[int]


def scan(text: str) -> tuple[Node, ...]:
    r"""The tree of a prompt; a prompt without constructs is one string.

    A `|` outside of `[a|b]`, or a backslash with nothing behind it, makes the whole prompt text (A1111's parser fails there).

    >>> scan("a [cat:dog:5]")
    ('a ', Switch(before=('cat',), after=('dog',), when='5'))
    >>> scan("[a|b] (c|d)")
    ('[a|b] (c|d)',)
    """
    nodes = _scan(text)
    return (text,) if isinstance(nodes, str) else joined(nodes)


def complaint(text: str) -> str:
    """Why the whole prompt is text although it has brackets, "" when it is not.

    >>> complaint("[cat:dog:5] (a|b)")
    'a | outside of [a|b]'
    """
    nodes = _scan(text)
    return nodes if isinstance(nodes, str) and "[" in text else ""


def _scan(text: str) -> list[Node] | str:
    """The nodes, or in words what makes the prompt text throughout."""
    nodes: list[Node] = []
    stack: list[_Bracket] = []
    edits = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        nodes.append(token)
        if token in ("[", "("):
            if len(stack) == MAX_DEPTH:
                if any(bracket.bars for bracket in stack):
                    return _STRAY_BAR
                stack.clear()
            stack.append(_Bracket(token, len(nodes) - 1, [], []))
        elif token == ":":
            if stack:
                stack[-1].colons.append(len(nodes) - 1)
        elif token == "|":
            if not stack or stack[-1].opener == "(":
                return _STRAY_BAR
            stack[-1].bars.append(len(nodes) - 1)
        elif token in ("]", ")"):
            if stack and _closes(nodes, stack[-1], token):
                bracket = stack.pop()
                if bracket.opener == "[" and (bracket.colons or bracket.bars):
                    nodes[bracket.start :] = [_construct(nodes, bracket)]
                    edits += 1
                    if edits > MAX_EDITS:
                        return f"more than {MAX_EDITS:,} of [a:b:when] and [a|b]"
                continue
            # Text inside a bracket must be balanced: one stray bracket, and none of those around it opens a construct
            if any(bracket.bars for bracket in stack):
                return _STRAY_BAR
            stack.clear()
        elif token == "\\":  # the end of the text or of a line is no character that it could escape
            return "a backslash at the end of a line"
    return _STRAY_BAR if any(bracket.bars for bracket in stack) else nodes


def _closes(nodes: list[Node], bracket: _Bracket, closer: str) -> bool:
    """Whether `closer`, the last node, completes something with `bracket`: emphasis, a switch or a cycle."""
    if bracket.opener == "(":
        return closer == ")" and len(bracket.colons) <= 1
    if closer == ")":
        return False
    if bracket.bars:
        return not bracket.colons
    return not bracket.colons or (len(bracket.colons) <= 2 and _when(nodes, bracket) is not None)


def _when(nodes: list[Node], bracket: _Bracket) -> str | None:
    """The number between the last colon and the closing bracket."""
    last = nodes[bracket.colons[-1] + 1 : -1]
    if len(last) != 1 or not isinstance(last[0], str):
        return None
    match = _WHEN.fullmatch(last[0])
    return match[1] if match else None


def _construct(nodes: list[Node], bracket: _Bracket) -> Node:
    marks = [bracket.start, *(bracket.bars or bracket.colons), len(nodes) - 1]
    segments = [joined(nodes[a + 1 : b]) for a, b in pairwise(marks)]
    if bracket.bars:
        return Cycle(tuple(segments))
    when = _when(nodes, bracket)
    assert when is not None, "checked by _closes"
    before = segments[0] if len(segments) == 3 else ()
    return Switch(before, segments[-2], when)


def joined(nodes: Sequence[T]) -> tuple[T, ...]:
    """`nodes` with neighbouring strings made one."""
    whole: list[Any] = []
    for is_text, run in groupby(nodes, lambda node: isinstance(node, str)):
        if is_text:
            whole.append("".join(map(str, run)))
        else:
            whole.extend(run)
    return tuple(whole)

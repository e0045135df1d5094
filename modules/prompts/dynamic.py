r"""Prompts that say something else for every seed: `{red|blue}`, `{2$$a|b|c}` and `__name__`.

    {a|b|c}             one of them; an option may be empty, and may hold braces and wildcards itself
    {3::a|b}            a three times as often as b
    {2$$a|b|c}          two different ones, in any order, joined by ", "
    {1-3$$ and $$a|b|c} one to three, joined by " and "
    __name__            a line of the wildcard file of that name, which may hold braces and wildcards itself
    {2$$__name__}       two different lines
    \{                  a brace

Braces without `|` or `$$` are text (in older pictures they are a way to emphasise that A1111 does not know), and so is the bar
in `[a|b]`.  The syntax is that of the Dynamic Prompts extension.  Steps, weights and tokens are unknown here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from itertools import pairwise

from modules.prompts.scanner import joined
from modules.prompts.wildcards import Lists, Wildcards

MAX_DEPTH = 20
"""Braces in braces, and wildcards in wildcards."""
MAX_DRAWS = 2_000
MAX_PICKS = 50
"""Of one choice."""
MAX_TEXT = 100_000
"""Characters of all lines that are drawn.  Beyond these bounds wildcards stay as they are written, and choices are left out."""

_TOKEN = re.compile(r"\\.|[{}\[\]|]|__[\w ./*-]{1,200}?__|[^\\{}\[\]|_]+|.", re.DOTALL)
_COUNT = re.compile(r"\s*(\d{1,3})(?:-(\d{1,3}))?\$\$(?:([^$]{0,100})\$\$)?")
_WEIGHT = re.compile(r"\s*(\d{1,6}(?:\.\d{0,6})?)::")


class Draw:
    """Whole numbers that follow from a key alone, equal on every machine and in every version of Python."""

    def __init__(self, *key: object) -> None:
        self._key = repr(key)
        self._drawn = 0

    def below(self, end: int) -> int:
        """The next number, from 0 to end - 1."""
        digest = hashlib.sha256(f"{self._key}#{self._drawn}".encode()).digest()
        self._drawn += 1
        return int.from_bytes(digest[:8], "big") % end


@dataclass(frozen=True)
class Choice:
    """`{...}`: from `low` to `high` of the options, joined by `joiner`; `weights` has one for each."""

    options: tuple[tuple[Node, ...], ...]
    weights: tuple[int, ...]
    low: int = 1
    high: int = 1
    joiner: str | None = None


@dataclass(frozen=True)
class Wildcard:
    """`__name__`."""

    name: str

    @property
    def written(self) -> str:
        return f"__{self.name}__"


Node = str | Choice | Wildcard


@dataclass(frozen=True)
class Resolved:
    """A prompt without choices, and the names in it that no wildcard file has."""

    text: str
    unknown: tuple[str, ...] = ()


def resolve(text: str, seed: int, wildcards: Wildcards, stream: str = "prompt") -> Resolved:
    """Draw what `text` leaves open.

    Equal arguments (and files) give equal answers.  `stream` keeps the draws of the prompt and of the negative prompt apart.
    """
    if "{" not in text and "__" not in text:
        return Resolved(text)
    drawing = _Drawing(Draw(seed, stream), wildcards.lists())
    return Resolved(drawing.text(scan(text), 0), tuple(dict.fromkeys(drawing.unknown)))


# ---------------------------------------------------------------------------------------------------------------- reading


@dataclass
class _Bracket:
    """An open bracket: where it stands in the nodes, and the bars directly inside it."""

    opener: str
    start: int
    bars: list[int] = field(default_factory=list)


def scan(text: str) -> tuple[Node, ...]:
    """The tree of a template, in one pass."""
    nodes: list[Node] = []
    stack: list[_Bracket] = []
    braces = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        nodes.append(token)
        if token == "{":
            if braces == MAX_DEPTH:  # then none of those that are open is more than a character
                stack.clear()
                braces = 0
            stack.append(_Bracket(token, len(nodes) - 1))
            braces += 1
        elif token == "[":
            stack.append(_Bracket(token, len(nodes) - 1))
        elif token == "]":
            if stack and stack[-1].opener == "[":
                stack.pop()
        elif token == "|":
            if stack:
                stack[-1].bars.append(len(nodes) - 1)
        elif token == "}" and braces:
            bars: list[int] = []
            while stack[-1].opener == "[":  # never closed: a character, and its bars separate options
                bars += stack.pop().bars
            bracket = stack.pop()
            braces -= 1
            if choice := _choice(nodes, bracket.start, sorted(bracket.bars + bars)):
                nodes[bracket.start :] = [choice]
        elif len(token) > 4 and token.startswith("__") and token.endswith("__"):
            nodes[-1] = Wildcard(token[2:-2].strip())
    return tuple(nodes)


def _choice(nodes: list[Node], start: int, bars: list[int]) -> Choice | None:
    """What the braces from `start` to the end of `nodes` mean; None when they are text."""
    marks = [start, *bars, len(nodes) - 1]
    first = joined(nodes[start + 1 : marks[1]])
    count = _COUNT.match(first[0]) if first and isinstance(first[0], str) else None
    if not bars and count is None:
        return None

    options = [first, *(joined(nodes[a + 1 : b]) for a, b in pairwise(marks[1:]))]
    low = high = 1
    joiner: str | None = None
    if count is not None:
        options[0] = _without(first, count.end())
        low = int(count[1])
        high = int(count[2] or low)
        joiner = ", " if count[3] is None else count[3]
    weights = []
    for i, option in enumerate(options):
        weight = _WEIGHT.match(option[0]) if option and isinstance(option[0], str) else None
        if weight is not None:
            options[i] = _without(option, weight.end())
        weights.append(_millionths(weight))
    return Choice(tuple(options), tuple(weights), min(low, high), max(low, high), joiner)


def _without(option: tuple[Node, ...], length: int) -> tuple[Node, ...]:
    """`option` without the first characters of its leading text."""
    head = option[0]
    assert isinstance(head, str)
    return (head[length:], *option[1:]) if len(head) > length else option[1:]


def _millionths(weight: re.Match[str] | None) -> int:
    return 1_000_000 if weight is None else round(float(weight[1]) * 1_000_000)


# ---------------------------------------------------------------------------------------------------------------- drawing


@dataclass
class _Drawing:
    """One resolution under way."""

    draw: Draw
    lists: Lists
    unknown: list[str] = field(default_factory=list)
    draws: int = 0
    length: int = 0

    def text(self, nodes: tuple[Node, ...], depth: int) -> str:
        return "".join(self._node(node, depth) for node in nodes)

    def _node(self, node: Node, depth: int) -> str:
        if isinstance(node, str):
            return node
        self.draws += 1
        if depth > MAX_DEPTH or self.draws > MAX_DRAWS:
            return "" if isinstance(node, Choice) else node.written
        if isinstance(node, Choice):
            return self._chosen(node, depth)
        values = self.lists.values(node.name)
        if values is None:
            self.unknown.append(node.name)
            return node.written
        return self._value(values[self.draw.below(len(values))], depth, node.written) if values else ""

    def _value(self, value: str, depth: int, instead: str = "") -> str:
        """A line of a file, which is a template itself; `instead` where there is no room for it."""
        self.length += len(value)
        return self.text(scan(value), depth + 1) if self.length <= MAX_TEXT else instead

    def _chosen(self, choice: Choice, depth: int) -> str:
        options: list[tuple[Node, ...] | str] = list(choice.options)
        weights = list(choice.weights)
        if values := self._lines(choice):
            options, weights = list(values), [1] * len(values)

        wanted = min(MAX_PICKS, choice.low + self.draw.below(choice.high - choice.low + 1))
        picked: list[str] = []
        while options and len(picked) < wanted:
            index = self._index(weights)
            option = options.pop(index)
            weights.pop(index)
            picked.append(self._value(option, depth) if isinstance(option, str) else self.text(option, depth + 1))
        if choice.joiner is None:
            return "".join(picked)
        return choice.joiner.join(text for piece in picked if (text := piece.strip()))

    def _lines(self, choice: Choice) -> tuple[str, ...] | None:
        """The lines to choose from, where the only option is a wildcard."""
        if len(choice.options) == 1 and len(choice.options[0]) == 1 and isinstance(only := choice.options[0][0], Wildcard):
            return self.lists.values(only.name)
        return None

    def _index(self, weights: list[int]) -> int:
        """One of the options by weight; when none weighs anything, any of them."""
        if min(weights) == max(weights):
            return self.draw.below(len(weights))
        drawn = self.draw.below(sum(weights))
        for index, weight in enumerate(weights):
            drawn -= weight
            if drawn < 0:
                return index
        raise AssertionError("the weights' sum is larger than what was drawn")

r"""What surrounds the words of a prompt: comments, networks in angle brackets, and AND.

The order is A1111's: comments, then networks, then AND; each side of AND goes on to `timeline`.  Which networks exist, and what
they do, is not known here.  The negative prompt has neither networks nor AND.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from modules.prompts.block_weights import BlockWeights

MAX_PARTS = 64
"""Sides of AND that are evaluated apart; each costs a row of the network at every step."""

_COMMENT_LINE = re.compile(r"(?:\A|\n)#[^\n]*\n?")
_COMMENT_TAIL = re.compile(r"#[^\n]*\n?")
_NETWORK = re.compile(r"<(\w+):")
_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[+-]?(?:\d+\.?|\d*\.\d+)")


def without_comments(text: str) -> str:
    """`text` without what stands between a # and the end of its line (A1111; this also takes "#fff").

    >>> without_comments("a cat # and no dog\\nin a hat")
    'a cat \\nin a hat'
    """
    return _COMMENT_TAIL.sub("\n", _COMMENT_LINE.sub("\n", text))


@dataclass(frozen=True)
class ExtraNetwork:
    """`<kind:name:...>` as it was written: what stands behind the name by position and by key (`te=0.5`)."""

    kind: str
    name: str
    positional: tuple[str, ...] = ()
    named: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"<{':'.join([self.kind, self.name, *self.positional, *(f'{key}={value}' for key, value in self.named)])}>"

    def multipliers(self) -> tuple[float, float]:
        """(text encoder's, U-Net's) multiplier of a `lora`: 1 where nothing is said, the U-Net's that of the text encoder.

        Raises:
            ValueError: one of them is no finite number.
        """
        numbers = [text for text in self.positional if not _is_blocks(text)]
        te = _multiplier(self._said("te", numbers, 0, "1"))
        unet = self._said("unet", numbers, 1, "")
        return te, _multiplier(unet) if unet else te

    def options(self) -> NetworkOptions:
        """What else is said of a `lora`.

        Raises:
            ValueError: it makes no sense; the message says why.
        """
        numbers = [text for text in self.positional if not _is_blocks(text)]
        named = dict(self.named)
        blocks = named.get("lbw", next(filter(_is_blocks, self.positional), ""))
        rank = self._said("dyn", numbers, 2, "")
        if rank and not (rank.isascii() and rank.isdigit() and int(rank[:9]) > 0):
            raise ValueError(f"dyn: {rank[:40]!r} is no rank; write a whole number from 1 on")
        return NetworkOptions(BlockWeights.parse(blocks) if blocks else None, int(rank[:9]) if rank else None)

    def window(self) -> tuple[int, int | None]:
        """The first step that counts, from 0, and the first that does not any more: `start=`, `stop=` or `step=5-10`.

        Raises:
            ValueError: one is no whole number.
        """
        named = dict(self.named)
        start, dash, stop = named.get("step", "").partition("-")
        first = _whole(named.get("start", start) or "0")
        last = named.get("stop", stop if dash else "")
        return first, _whole(last) if last else None

    def spelled(self, exists: Callable[[str], bool]) -> ExtraNetwork:
        """With a name that `exists` where it has colons, which a tag cannot tell from those between its parts."""
        for more in range(len(self.positional) + 1):
            name = ":".join((self.name, *self.positional[:more]))
            if exists(name):
                return replace(self, name=name, positional=self.positional[more:])
        return self

    def _said(self, key: str, numbers: list[str], position: int, default: str) -> str:
        return dict(self.named).get(key, numbers[position] if len(numbers) > position else default)


@dataclass(frozen=True)
class NetworkOptions:
    """Of a LoRA beside its strengths: the weights of its blocks, and the most ranks of it that are used (A1111's `dyn`)."""

    blocks: BlockWeights | None = None
    rank: int | None = None


def _is_blocks(text: str) -> bool:
    """Whether something without a key is weights of blocks, as the extension of 2023 writes them: numbers, or a name."""
    try:
        return ("," in text or text[:1].isalpha()) and bool(BlockWeights.parse(text))
    except ValueError:
        return False


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:40]!r} is no step; write a whole number")
    return int(text[:9])


def _multiplier(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("what stands behind the name must be numbers") from None
    if not abs(value) < 1e6:
        raise ValueError(f"what stands behind the name must be numbers, and {text[:40]!r} is too large")
    return value


MARK = "\ue000{}\ue001"
"""What stands for a network in the text of `marked`: no word of the prompt language, in characters that no font has."""


def take_networks(text: str) -> tuple[str, tuple[ExtraNetwork, ...]]:
    """`text` without its `<word:anything>` tags, of whatever kind, and the tags in order.

    >>> take_networks("a <lora:ink:0.8> cat")
    ('a  cat', (ExtraNetwork(kind='lora', name='ink', positional=('0.8',), named=()),))
    """
    pieces, networks = _pieces(text)
    return "".join(pieces), networks


def marked(text: str) -> str:
    """`text` with its tags as marks, each `MARK` with the number of its network, which `marks` finds again."""
    pieces, _ = _pieces(re.sub("[\ue000\ue001]", " ", text))
    return "".join(piece + MARK.format(number) for number, piece in enumerate(pieces[:-1])) + pieces[-1]


def marks(text: str) -> list[int]:
    """The numbers of the networks whose marks stand in `text`."""
    return [int(number) for number in re.findall(MARK.format("([0-9]+)"), text)]


def _pieces(text: str) -> tuple[list[str], tuple[ExtraNetwork, ...]]:
    """What stands before, between and behind the tags, and the tags."""
    kept: list[str] = []
    networks: list[ExtraNetwork] = []
    start, at = 0, text.find("<")
    while at >= 0:
        head = _NETWORK.match(text, at)
        end = text.find(">", head.end()) if head else -1
        if head and end < 0:
            break  # no tag is closed from here on
        if head and end > head.end():
            kept.append(text[start:at])
            networks.append(_network(head[1], text[head.end() : end]))
            start = end + 1
            at = text.find("<", start)
        else:
            at = text.find("<", at + 1)
    kept.append(text[start:])
    return kept, tuple(networks)


def _network(kind: str, arguments: str) -> ExtraNetwork:
    """The first argument is the name, with any character; A1111 loses one with an equals sign."""
    name, *items = arguments.split(":")
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    for item in items:
        key, equals, value = item.partition("=")
        if equals and "=" not in value:
            named.append((key, value))
        else:
            positional.append(item)
    return ExtraNetwork(kind, name, tuple(positional), tuple(named))


@dataclass(frozen=True)
class Part:
    """One side of AND and its weight."""

    text: str
    weight: float = 1.0


def split_and(text: str) -> tuple[Part, ...]:
    """The sides of AND (upper case, a whole word, also inside brackets), at least one.

    A colon and a number at the very end of a side are its weight, with or without AND: "ratio 16:9" is "ratio 16" of weight 9,
    as in A1111.  Sides beyond `MAX_PARTS` stay in the last one.

    >>> split_and("a cat :1.2 AND a dog:-0.5")
    (Part(text='a cat', weight=1.2), Part(text=' a dog', weight=-0.5))
    """
    return tuple(_part(side) for side in _AND.split(text, maxsplit=MAX_PARTS - 1))


def _part(side: str) -> Part:
    side = side.rstrip()
    text, colon, tail = side.rpartition(":")
    if colon and _WEIGHT.fullmatch(tail.strip()):
        return Part(text.rstrip(), max(-1000.0, min(1000.0, float(tail))))
    return Part(side)

r"""What surrounds the words of a prompt: comments, networks in angle brackets, and AND.

The order is A1111's: comments, then networks, then AND; each side of AND goes on to `timeline`.  Which networks exist, and what
they do, is not known here.  The negative prompt has neither networks nor AND.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
        named = dict(self.named)
        te = _multiplier(named.get("te", self.positional[0] if self.positional else "1"))
        unet = named.get("unet", self.positional[1] if len(self.positional) > 1 else None)
        return te, te if unet is None else _multiplier(unet)


def _multiplier(text: str) -> float:
    value = float(text)
    if not abs(value) < 1e6:
        raise ValueError(f"{text!r} is too large")
    return value


def take_networks(text: str) -> tuple[str, tuple[ExtraNetwork, ...]]:
    """`text` without its `<word:anything>` tags, of whatever kind, and the tags in order.

    >>> take_networks("a <lora:ink:0.8> cat")
    ('a  cat', (ExtraNetwork(kind='lora', name='ink', positional=('0.8',), named=()),))
    """
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
    return "".join(kept), tuple(networks)


def _network(kind: str, arguments: str) -> ExtraNetwork:
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    for item in arguments.split(":"):
        key, equals, value = item.partition("=")
        if equals and "=" not in value:
            named.append((key, value))
        else:
            positional.append(item)
    name = positional[0] if positional else ""
    return ExtraNetwork(kind, name, tuple(positional[1:]), tuple(named))


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

"""Weights of a LoRA for each block of a U-Net: `lbw=` in its tag, as the extension sd-webui-lora-block-weight writes them.

    lbw=1,0,0,0.5,...       a number for each block, BASE (the text encoders) first
    lbw=IN02                1 for the blocks that are named, 0 for the others; several with commas or blanks, ranges with a
                            hyphen, NOT in front for all others
    lbw=OUTD                one of the extension's own names for such a choice

Which blocks there are is the network's to say: all of them, or only those with attention, which is where a LoRA without
convolutions has its layers.  So SD 1.x takes 26 numbers or 17, SDXL 20 or 12, as there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BASE, MIDDLE = "BASE", "MID"

_IN_LATE, _IN_ALL, _OUT_DEEP = "IN05-IN08", "IN00-IN11", "OUT03-OUT06"
NAMED = {
    "NONE": "",
    "ALL": "BASE-OUT11",
    "INS": "BASE IN01-IN04",
    "IND": f"BASE {_IN_LATE}",
    "INALL": f"BASE {_IN_ALL}",
    "MIDD": f"BASE {_IN_LATE} MID {_OUT_DEEP}",
    "OUTD": f"BASE {_OUT_DEEP}",
    "OUTS": "BASE OUT07-OUT11",
    "OUTALL": "BASE OUT00-OUT11",
    "ALL0.5": "BASE-OUT11",
}
"""The presets that the extension brings, for SD 1.x with 17 numbers; by blocks they say the same."""

_ORDER = (BASE, *(f"IN{number:02}" for number in range(12)), MIDDLE, *(f"OUT{number:02}" for number in range(12)))
_RANGE = re.compile(r"([A-Z]+[0-9]*)(?:-([A-Z]+[0-9]*))?")


@dataclass(frozen=True)
class BlockWeights:
    """`numbers` in the order of the blocks, or with none of them `factor` for the blocks `named` and 0 for all others."""

    numbers: tuple[float, ...] = ()
    named: frozenset[str] = frozenset()
    factor: float = 1.0

    @classmethod
    def parse(cls, text: str) -> BlockWeights:
        """What stands behind `lbw=`.

        Raises:
            ValueError: it is none of the forms; the message says what it is.

        >>> BlockWeights.parse("1,0,0.5").numbers
        (1.0, 0.0, 0.5)
        >>> sorted(BlockWeights.parse("IN07-MID").named)
        ['IN07', 'IN08', 'IN09', 'IN10', 'IN11', 'MID']
        """
        words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
        if words and all(_number(word) is not None for word in words):
            return cls(tuple(map(_finite, words)))
        if random := next((word for word in words if word in ("R", "U", "X")), ""):
            raise ValueError(f"lbw: {random!r} (a random weight) is not known here; write a number")
        if text.strip() in NAMED:
            return cls(named=_blocks(NAMED[text.strip()].split()), factor=0.5 if text.strip() == "ALL0.5" else 1.0)
        inverted = words[:1] == ["NOT"]
        named = _blocks(words[inverted:])
        if not named:
            raise ValueError("lbw: it names no block and has no number; write numbers, or names such as IN02 or OUT03-OUT05")
        return cls(named=frozenset(_ORDER) - named if inverted else named)

    def by_block(self, every: Sequence[str], attentive: Sequence[str]) -> dict[str, float]:
        """The weight of each block of a network, BASE first, whose blocks are `every`, and `attentive` those with attention.

        Raises:
            ValueError: it has another number of weights, or names a block that is not there.
        """
        if not self.numbers:
            return {block: self.factor * (block in self.named) for block in (BASE, *every)}
        for blocks in ((BASE, *attentive), (BASE, *every)):
            if len(blocks) == len(self.numbers):
                return dict.fromkeys((BASE, *every), 0.0) | dict(zip(blocks, self.numbers, strict=True))
        wanted = " or ".join(
            f"{1 + len(blocks)} ({what})" for blocks, what in ((attentive, "blocks with attention"), (every, "all blocks"))
        )
        raise ValueError(f"lbw: it has {len(self.numbers)} numbers, this checkpoint takes {wanted}, BASE first")


def _blocks(words: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    for word in words:
        ends = _RANGE.fullmatch(word)
        if not ends:
            raise ValueError(f"lbw: {word[:40]!r} is neither a number nor a block such as IN02, MID or OUT03-OUT05")
        first, last = _place(ends[1]), _place(ends[2] or ends[1])
        found.update(_ORDER[min(first, last) : max(first, last) + 1])
    return frozenset(found)


def _place(block: str) -> int:
    name = re.sub(r"^(IN|OUT)(\d)$", r"\g<1>0\2", "MID" if block in ("M00", "M0") else block)
    if name not in _ORDER:
        raise ValueError(f"lbw: there is no block {block[:40]!r}; blocks are BASE, IN00 to IN11, MID and OUT00 to OUT11")
    return _ORDER.index(name)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < 1e6:
        raise ValueError(f"lbw: {text!r} is too large")
    return value

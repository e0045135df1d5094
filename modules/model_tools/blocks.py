"""The blocks of a U-Net that a merge weighs one by one: BASE, IN00..., M00, OUT00..., as the MBW convention names them.

SD 1.x has 26 (BASE, IN00 to IN11, M00, OUT00 to OUT11), SDXL 20 (IN00 to IN08, OUT00 to OUT08); the numbers come from the
file's own blocks.  The time embedding counts as IN00, the last layers (`out.`) as the last OUT, everything outside of the
U-Net as BASE, as in bbc-mc's sd-webui-mbw, which made the convention.  No torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_NAME = re.compile(r"BASE|IN\d\d|M00|OUT\d\d")
LOW, HIGH = -2.0, 3.0
"""Bounds of a block's weight."""


def block_names(unet: Iterable[str]) -> list[str]:
    """The blocks of a U-Net whose tensors have these ldm names, BASE first.

    >>> block_names(["input_blocks.1.0.op.bias", "output_blocks.0.1.conv.bias"])
    ['BASE', 'IN00', 'IN01', 'M00', 'OUT00']
    """
    counts = {"input": 0, "output": 0}
    for name in unet:
        if found := re.match(r"(input|output)_blocks\.(\d{1,2})\.", name):
            counts[found[1]] = max(counts[found[1]], int(found[2]) + 1)
    inputs, outputs = ([f"{side}{number:02}" for number in range(counts[key])] for side, key in _SIDES)
    return ["BASE", *inputs, "M00", *outputs]


_SIDES = (("IN", "input"), ("OUT", "output"))


def block_of(name: str, blocks: list[str]) -> str:
    """The block of a U-Net's tensor, by its ldm name.

    >>> block_of("time_embed.0.bias", ["BASE", "IN00", "M00", "OUT00"]), block_of("middle_block.1.norm.bias", [])
    ('IN00', 'M00')
    """
    if found := re.match(r"(input|output)_blocks\.(\d{1,2})\.", name):
        return f"{'IN' if found[1] == 'input' else 'OUT'}{int(found[2]):02}"
    if name.startswith("middle_block."):
        return "M00"
    return blocks[-1] if name.startswith("out.") else "IN00"


def check_weights(text: str) -> None:
    """
    Raises:
        ValueError: it is neither a list of numbers nor of NAME=NUMBER.
    """
    _parsed(text)


def weights_of(text: str, blocks: list[str], otherwise: float) -> dict[str, float]:
    """The weight of each of `blocks`.

    Raises:
        ValueError: numbers are too few or too many, or a block is named that this model has not.
    """
    parsed = _parsed(text)
    if isinstance(parsed, list):
        if not parsed:
            return dict.fromkeys(blocks, otherwise)
        if len(parsed) != len(blocks):
            raise ValueError(
                f"blocks: {len(parsed)} numbers were given, and this model has {len(blocks)} blocks "
                f"({blocks[0]}, {blocks[1]} to {blocks[-1]}); give one for each, or NAME=NUMBER for some"
            )
        return dict(zip(blocks, parsed, strict=True))
    if unknown := [name for name in parsed if name not in blocks]:
        raise ValueError(f"blocks: this model has no block {unknown[0]}; its blocks are {', '.join(blocks)}")
    return dict.fromkeys(blocks, otherwise) | parsed


def _parsed(text: str) -> list[float] | dict[str, float]:
    pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
    if not any("=" in piece for piece in pieces):
        return [_number(piece) for piece in pieces]
    named: dict[str, float] = {}
    for piece in pieces:
        name, sign, number = (part.strip() for part in piece.partition("="))
        if not sign or not _NAME.fullmatch(name.upper()):
            raise ValueError(
                f"must be numbers, or NAME=NUMBER with a block's name such as IN04, M00 or BASE, not {piece[:20]!r}"
            )
        named[name.upper()] = _number(number)
    return named


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LOW <= value <= HIGH:
        raise ValueError(f"must have numbers from {LOW:g} to {HIGH:g}, not {text[:20]!r}")
    return value

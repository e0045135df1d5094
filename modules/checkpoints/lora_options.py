"""What a tag may say of a LoRA beside its strengths: weights of blocks, and the most ranks of it that are used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from modules.diffusion.adapters import Adapter, Delta, LowRank, Weighted
from modules.diffusion.networks import AdaptableNetwork, LoadedAdapter
from modules.prompts.block_weights import BASE, MIDDLE
from modules.prompts.compose import NetworkOptions

_BLOCK = re.compile(r"(input|middle|output)_blocks?\.(\d+)\.")
_SIDES = {"input": "IN", "output": "OUT"}


def adjusted(adapter: LoadedAdapter, options: NetworkOptions, networks: Mapping[str, AdaptableNetwork]) -> LoadedAdapter:
    """The adapter with these options; blocks of weight 0 have no side paths.

    Layers of the U-Net outside of its blocks (time embedding, last convolution) keep their strength.

    Raises:
        ValueError: it has weights for another network's blocks, or there is no U-Net with blocks.
    """
    factors = {} if options.blocks is None else _by_block(options, networks)
    parts: dict[str, Adapter] = {}
    for part, one in adapter.parts.items():
        deltas: dict[str, Delta] = {}
        for place, delta in one.deltas.items():
            if options.rank is not None and isinstance(delta, LowRank):
                delta = delta.cut(options.rank)
            factor = factors.get(block_of(place) if part == "unet" else BASE, 1.0)
            if factor:
                deltas[place] = delta if factor == 1.0 else Weighted(delta, factor)
        if deltas:
            parts[part] = Adapter(one.name, deltas)
    return replace(adapter, parts=parts, version=f"{adapter.version}|{options}")


def block_of(place: str) -> str:
    """The block of a U-Net's layer, "" outside of them.

    >>> block_of("input_blocks.4.1.proj_in"), block_of("middle_block.1.norm"), block_of("time_embed.0")
    ('IN04', 'MID', '')
    """
    found = _BLOCK.match(place)
    if not found:
        return ""
    return MIDDLE if found[1] == "middle" else f"{_SIDES[found[1]]}{int(found[2]):02}"


def _by_block(options: NetworkOptions, networks: Mapping[str, AdaptableNetwork]) -> dict[str, float]:
    assert options.blocks is not None
    places = networks["unet"].layers if "unet" in networks else ()
    every = _in_order(filter(None, map(block_of, places)))
    if not every:
        raise ValueError("lbw: the network of this checkpoint has no such blocks")
    return options.blocks.by_block(every, _in_order(block_of(place) for place in places if ".transformer_blocks." in place))


def _in_order(blocks: Iterable[str]) -> list[str]:
    sides = ("IN", MIDDLE, "OUT")
    return sorted(set(blocks), key=lambda block: (sides.index(block.rstrip("0123456789")), block))

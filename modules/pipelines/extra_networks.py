"""The networks that a prompt names in angle brackets (`<lora:name:te:unet>`), read for a model.

What cannot be used is left out of the picture, and said: on its record, and in the text that other programs read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modules.diffusion.adapters import Adapter
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.unet_denoiser import MAX_ADAPTERS
from modules.errors import AtelierError
from modules.prompts.check import network_problem
from modules.prompts.compose import ExtraNetwork

if TYPE_CHECKING:
    from modules.checkpoints.manager import ModelHandle


LORA_HASHES, LEFT_OUT = "Lora hashes", "Networks left out"

LISTS = {LORA_HASHES: (r"[^, ][^,]*", ", "), "TI hashes": (r"[^, ][^,]*", ", "), LEFT_OUT: (r"<[^>]*>", " ")}
"""Items of the text that are lists: what an entry looks like, and what stands between two."""


@dataclass(frozen=True)
class ReadNetworks:
    """What of a prompt's networks is used, and how much on the text encoders and on the denoising network.

    `said` are items of the picture's text, under A1111's names, `notes` a sentence for each network that is left out.
    """

    on_text: Strengths = ()
    on_unet: tuple[tuple[Adapter, float], ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_networks(model: ModelHandle, wanted: Sequence[ExtraNetwork]) -> ReadNetworks:
    """Read them, at most `MAX_ADAPTERS` different ones; one that is named twice counts with both strengths.  Reads files: it
    belongs on a host thread."""
    strengths: dict[LoadedAdapter, tuple[float, float]] = {}
    left_out: dict[ExtraNetwork, str] = {}
    notes: list[str] = []
    names: set[str] = set()
    for network in wanted:
        if problem := network_problem(network):
            left_out[network] = problem
            continue
        te, unet = network.multipliers()
        if te == unet == 0.0:
            continue
        if len(names | {network.name.casefold()}) > MAX_ADAPTERS:  # before it is read
            left_out[network] = f"{MAX_ADAPTERS} different networks are the most of one picture"
            continue
        try:
            adapter = model.adapter(network.name)
        except AtelierError as error:
            left_out[network] = str(error)
            continue
        names.add(network.name.casefold())
        if adapter not in strengths and adapter.unmatched:
            notes.append(f"{network}: {len(adapter.unmatched)} of its tensors belong to no layer of this checkpoint")
        before = strengths.get(adapter, (0.0, 0.0))
        strengths[adapter] = before[0] + te, before[1] + unet
    said = {}
    if strengths:
        said[LORA_HASHES] = ", ".join(f"{_plain(one.name)}: {one.digest}" for one in strengths)
    if left_out:
        said[LEFT_OUT] = " ".join(map(str, left_out))
    return ReadNetworks(
        on_text=tuple((one, te) for one, (te, _) in strengths.items() if te and one.parts.keys() - {"unet"}),
        on_unet=tuple((one.parts["unet"], unet) for one, (_, unet) in strengths.items() if unet and "unet" in one.parts),
        said=said,
        notes=(*notes, *(f"{network}: {why}; it is left out" for network, why in left_out.items())),
    )


def both_said(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The items of the text of two stages: what both list ("Lora hashes", "TI hashes", `LEFT_OUT`) is in one list."""
    said = {**before, **after}
    for name in before.keys() & after.keys() & LISTS.keys():
        entries = [entry for text in (before[name], after[name]) for entry in re.findall(LISTS[name][0], text)]
        said[name] = LISTS[name][1].join(dict.fromkeys(entries))
    return said


def _plain(name: str) -> str:
    """A name as "Lora hashes" can hold it."""
    return name.replace(":", "").replace(",", "")

"""The networks that a prompt names in angle brackets (`<lora:name:te:unet>`), read for a model.

What cannot be used is left out of the picture, and said: on its record, and in the text that other programs read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from modules.diffusion.adapters import Adapter
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.unet_denoiser import MAX_ADAPTERS
from modules.errors import AtelierError
from modules.prompts.check import left_out_notes, network_problem, too_many_networks
from modules.prompts.compose import ExtraNetwork, NetworkOptions

if TYPE_CHECKING:
    from modules.checkpoints.handle import ModelHandle


LORA_HASHES, LEFT_OUT = "Lora hashes", "Networks left out"

LISTS = {LORA_HASHES: (r"[^, ][^,]*", ", "), "TI hashes": (r"[^, ][^,]*", ", "), LEFT_OUT: (r"<[^>]*>", " ")}
"""Items of the text that are lists: what an entry looks like, and what stands between two."""


@dataclass(frozen=True)
class ReadNetworks:
    """What of a prompt's networks is used: each with its strength on the text encoders and on the denoising network.

    `said` are items of the picture's text, under A1111's names, `notes` a sentence for each network that is left out.
    """

    used: Mapping[ExtraNetwork, tuple[LoadedAdapter, float, float]] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def strengths(self, networks: Sequence[ExtraNetwork]) -> tuple[Strengths, tuple[tuple[Adapter, float], ...]]:
        """On the text encoders and on the denoising network, where these count; one that is named twice has both strengths."""
        total: dict[LoadedAdapter, tuple[float, float]] = {}
        for network in networks:
            if network in self.used:
                adapter, te, unet = self.used[network]
                before = total.get(adapter, (0.0, 0.0))
                total[adapter] = before[0] + te, before[1] + unet
        on_text = tuple((one, te) for one, (te, _) in total.items() if te and one.parts.keys() - {"unet"})
        on_unet = tuple((one.parts["unet"], unet) for one, (_, unet) in total.items() if unet and "unet" in one.parts)
        return on_text, on_unet


def read_networks(model: ModelHandle, wanted: Sequence[ExtraNetwork]) -> ReadNetworks:
    """Read them, at most `MAX_ADAPTERS` different ones.  Reads files: it belongs on a host thread."""
    used: dict[ExtraNetwork, tuple[LoadedAdapter, float, float]] = {}
    left_out: dict[ExtraNetwork, str] = {}
    notes: dict[str, None] = {}
    seen: set[object] = set()
    names: set[str] = set()
    for written in dict.fromkeys(wanted):
        if len(seen) >= MAX_ADAPTERS and written.name.casefold() not in names:  # before files are looked for
            left_out[written] = too_many_networks()
            continue
        network = written.spelled(partial(model.knows_network, written.kind))
        if problem := network_problem(network):
            left_out[written] = problem
            continue
        te, unet = network.multipliers()
        if te == unet == 0.0:
            continue
        if network.kind == "hypernet":
            te = 0.0  # it knows no text encoders
        same = network.kind, network.name.casefold(), network.options()
        if len(seen | {same}) > MAX_ADAPTERS:  # before it is read
            left_out[written] = too_many_networks()
            continue
        try:
            adapter = model.hypernetwork(network.name) if network.kind == "hypernet" else model.adapter(network.name)
            if adapter.unmatched:
                notes[f"{written}: {len(adapter.unmatched)} of its tensors belong to no layer of this checkpoint"] = None
            if network.options() != NetworkOptions() and network.kind != "hypernet":
                adapter = model.adjusted(adapter, network.options())
        except (AtelierError, ValueError) as error:
            left_out[written] = str(error)
            continue
        seen.add(same)
        names.add(written.name.casefold())
        used[written] = adapter, te, unet
    said = {}
    if by_name := {_plain(one.name): one.digest for tag, (one, _, _) in used.items() if tag.kind != "hypernet"}:
        said[LORA_HASHES] = ", ".join(f"{name}: {digest}" for name, digest in by_name.items())
    if left_out:
        said[LEFT_OUT] = " ".join(map(str, left_out))
    return ReadNetworks(used, said, (*notes, *left_out_notes(left_out)))


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

"""How the networks of a model are held: whole on the device, streamed from main memory, or the denoiser in 8 bits.

What is lossless comes first: an autoencoder and text encoders that are streamed leave the device to the denoiser, and cost time
only where they run, once for each picture.  8 bits round the denoiser's weights and cost little time; streaming it rounds
nothing and brings all of its weights through the bus in every step.  A denoiser whose file is quantised is not rounded again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from modules.checkpoints.cache import Component

log = logging.getLogger(__name__)

Storage = Literal["auto", "full", "fp8"]
"""What the setting says: 8 bits only where memory is short, never, or always.  "full" also brings a file's quantised numbers to
the computing format when they are loaded; else they are kept as they are (`diffusion.quantised`)."""

Streamed = Literal["nothing", "others", "everything"]
"""Of a model's networks; the others are all but its denoiser."""

DENOISER = "unet"
"""The part of a model that runs in every step."""


@dataclass(frozen=True)
class Residence:
    """See the module; `short` is whether that is for want of memory."""

    streamed: Streamed = "nothing"
    eight_bits: bool = False
    short: bool = False

    @property
    def through_main_memory(self) -> bool:
        """Whether networks are read to main memory first, and placed from there."""
        return self.streamed != "nothing" or self.eight_bits

    @property
    def notes(self) -> tuple[str, ...]:
        """What pictures say of it, beside what the engine says of streamed weights when they run."""
        return ("memory ran short: the U-Net's weights were kept in 8 bits",) if self.short and self.eight_bits else ()


def first_choice(storage: Storage) -> Residence:
    """How a model is held where memory is enough."""
    return Residence(eight_bits=storage == "fp8")


def fallbacks(storage: Storage, streaming: bool) -> Iterator[Residence]:
    """What is tried where memory is not enough, after everything else was let go of; `streaming` where main memory is another
    memory than the device's."""
    chosen = first_choice(storage)
    yield chosen
    if streaming:
        yield Residence("others", chosen.eight_bits, short=not chosen.eight_bits)
        if storage == "auto":
            yield Residence("others", eight_bits=True, short=True)
        yield Residence("everything", chosen.eight_bits, short=not chosen.eight_bits)


def possible(residence: Residence, components: Sequence[Component]) -> Residence:
    """The same without 8 bits where the denoiser's layers keep the file's blocks of quantised numbers already."""
    quantised = any(
        part_of(each) == DENOISER and each.placement is not None and each.placement.quantised for each in components
    )
    return replace(residence, eight_bits=False) if quantised else residence


def place(components: Sequence[Component], residence: Residence, device: torch.device) -> None:
    """Hold networks that were read to main memory in this way.

    Raises:
        torch.OutOfMemoryError: the device cannot hold them; they are not to be used any more.
    """
    for component in components:
        if component.leases:  # it is another model's too, and runs where it is
            continue
        _place(component, residence, device)
    if residence.streamed == "everything":
        log.warning("memory ran short: the weights are streamed from main memory, block by block")
    elif residence.streamed == "others":
        log.warning("memory ran short: the weights of the text encoder and the VAE are streamed from main memory")
    for note in residence.notes:
        log.warning("%s", note)


def _place(component: Component, residence: Residence, device: torch.device) -> None:
    placement, denoiser = component.placement, part_of(component) == DENOISER
    if placement is None:
        component.network.to(device)
        return
    if residence.eight_bits and denoiser:
        placement.store_in_eight_bits()
    if residence.streamed == "everything" or (residence.streamed == "others" and not denoiser):
        placement.stream()
    if not placement.streamed and not placement.in_eight_bits:
        component.network.to(device)
    component.size = placement.size


def part_of(component: Component) -> str:
    """What a component is of its file: "unet", "vae", "text" or "text_2"; "" for what is known otherwise."""
    key = component.key
    return str(key[-1]) if isinstance(key, tuple) else ""

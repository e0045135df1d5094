"""Which checkpoint can go on with another one's denoising loop.  No torch: both processes ask."""

from __future__ import annotations

from dataclasses import replace

from modules.checkpoints.families import Family
from modules.checkpoints.families.parts import LatentFormat


def refiner_problem(name: str, family: Family, refiner: str, refining: Family) -> str:
    """Why the checkpoint `refiner` cannot go on where `name` stops: a sentence, "" where it can.

    Nothing is decoded in between, so both see pictures as the same latents.  Concat conditioning is made for what the first one
    takes: a refiner takes the same or none.
    """
    if not same_latents(family, refining):
        return (
            f"{refiner!r} ({refining.title}) cannot go on with latents of {name!r} ({family.title}): "
            "they stand for other pictures there; choose a refiner of the same kind, or none"
        )
    if refining.concat not in ("", family.concat):
        does = "edits a given picture" if refining.concat == "picture" else "is an inpainting network"
        return (
            f"{refiner!r} ({refining.title}) {does} and cannot go on with a picture of {name!r} ({family.title}), "
            "which is painted without such inputs; choose another refiner, or none"
        )
    return ""


def same_latents(one: Family, other: Family) -> bool:
    """Whether a latent of the one stands for the same picture with the other."""
    return _space(one.latent) == _space(other.latent)


def _space(latent: LatentFormat) -> LatentFormat:
    """What of a latent space decides which picture a latent is."""
    return replace(latent, preview="")

"""Which checkpoint can repaint what another one's first pass made.  No torch: both processes ask."""

from __future__ import annotations

from modules.checkpoints.families import Family
from modules.checkpoints.refiners import same_latents


def second_pass_problem(name: str, family: Family, second: str, other: Family, upscaler: str) -> str:
    """Why the checkpoint `second` cannot run the second pass behind `name`: a sentence, "" where it can.

    An upscaler of pixels stands between any two kinds, as what it gets is decoded by the one and encoded by the other; an
    upscaler of latents only where both see pictures as the same latents.
    """
    if other.concat not in ("", "mask"):
        does = {"picture": "edits a given picture", "map": "paints along a map"}.get(other.concat, "enlarges a given picture")
        return f"{second!r} ({other.title}) {does} and cannot repaint a first pass; choose another hires checkpoint, or none"
    if upscaler.startswith("Latent") and not same_latents(family, other):
        return (
            f"{second!r} ({other.title}) cannot go on with latents of {name!r} ({family.title}): they stand for other pictures "
            "there; choose an upscaler of pixels such as Lanczos, or a hires checkpoint of the same kind"
        )
    return ""

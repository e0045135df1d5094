"""The options of what a checkpoint is run with: the halves of its VAE, and the numbers that SDXL's networks are given beside
the prompt, declared once each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import Integer, Real

MAX_ORIGINAL = 16_384
"""Pixels on a side of a picture that SDXL may be told of."""


class CheckpointOptions(BaseModel):
    """By what latents become pictures and pictures latents, and what SDXL is told of the picture.

    `vae_decoder` and `vae_encoder` are the checkpoint's VAE ("Full") or TAESD, which is tiny, quick and a little coarse.

    The others are SDXL's conditioning on sizes (Podell et al. 2023, arXiv:2307.01952, section 2.2), in pixels: the size of the
    original that the picture was cut from (0: the picture's own) and where the cut begins; and for its refiner the aesthetic
    scores that come with the prompt and with the negative prompt.  Other families have no place for them.
    """

    vae_decoder: Annotated[
        Literal["Full", "TAESD"],
        About(
            "VAE decoder",
            "TAESD is many times quicker and a little coarser; its file goes into the folder vae_approx",
            group="Checkpoint",
            infotext="VAE Decoder",
            a1111_option="sd_vae_decode_method",
        ),
    ] = "Full"
    vae_encoder: Annotated[
        Literal["Full", "TAESD"],
        About(
            "VAE encoder",
            "the same for pictures to start from",
            group="Checkpoint",
            infotext="VAE Encoder",
            a1111_option="sd_vae_encode_method",
        ),
    ] = "Full"
    original_width: Annotated[
        Integer,
        Field(ge=0, le=MAX_ORIGINAL),
        About(
            "Original width",
            "of the picture that SDXL is told this one was cut from; 0 is its own",
            group="Checkpoint",
            infotext="SDXL original width",
        ),
    ] = 0
    original_height: Annotated[
        Integer,
        Field(ge=0, le=MAX_ORIGINAL),
        About("Original height", "of that picture; 0 is its own", group="Checkpoint", infotext="SDXL original height"),
    ] = 0
    crop_left: Annotated[
        Integer,
        Field(ge=0, le=MAX_ORIGINAL),
        About(
            "Crop left",
            "pixels that were cut off on the left, as SDXL is told",
            group="Checkpoint",
            infotext="SDXL crop left",
            a1111_option="sdxl_crop_left",
        ),
    ] = 0
    crop_top: Annotated[
        Integer,
        Field(ge=0, le=MAX_ORIGINAL),
        About(
            "Crop top",
            "pixels that were cut off at the top, as SDXL is told",
            group="Checkpoint",
            infotext="SDXL crop top",
            a1111_option="sdxl_crop_top",
        ),
    ] = 0
    aesthetic_score: Annotated[
        Real,
        Field(ge=0.0, le=10.0),
        About(
            "Aesthetic score",
            "that SDXL's refiner gets with the prompt, 0 to 10",
            group="Checkpoint",
            infotext="Aesthetic score",
            a1111_option="sdxl_refiner_high_aesthetic_score",
        ),
    ] = 6.0
    negative_aesthetic_score: Annotated[
        Real,
        Field(ge=0.0, le=10.0),
        About(
            "Negative aesthetic score",
            "that it gets with the negative prompt, 0 to 10",
            group="Checkpoint",
            infotext="Negative aesthetic score",
            a1111_option="sdxl_refiner_low_aesthetic_score",
        ),
    ] = 2.5


SIZE_FIELDS = (
    *("original_width", "original_height", "crop_left", "crop_top"),
    *("aesthetic_score", "negative_aesthetic_score"),
)
"""Fields that only networks with numbers in their vector know."""


def with_named_taesd(fields: object) -> object:
    """Fields in which `vae` is TAESD as those that say the same: both halves by it, the rest as it would be."""
    if not isinstance(fields, dict) or not isinstance(vae := fields.get("vae"), str) or vae.casefold() != "taesd":
        return fields
    return {**fields, "vae": "Automatic", "vae_decoder": "TAESD", "vae_encoder": "TAESD"}

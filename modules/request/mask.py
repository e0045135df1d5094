"""The options of inpainting and outpainting, declared once each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import Integer, Pixel, Real

MaskMode = Literal["Inpaint masked", "Inpaint not masked"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing", "blurred", "tile", "patches"]
InpaintArea = Literal["Whole picture", "Only masked", "Crop and stitch"]


class MaskOptions(BaseModel):
    """What is repainted of a source picture, and how the rest is kept; lengths are pixels of the source picture.

    Names and defaults are those of A1111's page.  `mask_mode` says which side of the mask is repainted, `masked_content` what
    stands there before ("tile", "patches" and "blurred" look to the surroundings; see `modules.pixels.infill`), `inpaint_area`
    how much of the picture the network sees: all of it, a crop around the mask at the size of the request, or a crop grown for
    context, at the model's own resolution and returned with a feathered edge ("Crop and stitch").  `box` (x, y, width, height)
    is that crop where it was drawn, in the latter two; all 0 is none.  `outpaint_*` extend the picture on each side.

    `mask_round` makes the mask black and white for the network.  `differential` lets each grey level begin at its own strength
    (Levin & Fried 2023, arXiv:2306.00950).  `soft_*` are A1111's soft inpainting.
    """

    mask_mode: Annotated[
        MaskMode,
        About(
            "Mask mode",
            "which side is repainted",
            group="Picture",
            position=2,
            infotext="Mask mode",
            section="mask",
            a1111="inpainting_mask_invert",
        ),
    ] = "Inpaint masked"
    mask_blur_x: Annotated[
        Integer,
        Field(ge=0, le=64),
        About(
            "Mask blur, across",
            "pixels, 0 to 64",
            group="Picture",
            position=6,
            infotext=("Mask blur", "Mask blur X"),
            section="mask",
            a1111="mask_blur_x",
        ),
    ] = 4
    mask_blur_y: Annotated[
        Integer,
        Field(ge=0, le=64),
        About(
            "Mask blur, down",
            "pixels, 0 to 64",
            group="Picture",
            position=7,
            infotext="Mask blur Y",
            section="mask",
            a1111="mask_blur_y",
        ),
    ] = 4
    mask_round: Annotated[
        bool,
        About(
            infotext="Round mask",
            section="picture options",
            infotext_position=4,
            a1111="mask_round",
            unless=("soft_inpainting", "differential"),
        ),
    ] = True
    masked_content: Annotated[
        MaskedContent,
        About(
            "Masked content",
            "what stands there before",
            group="Picture",
            position=3,
            infotext="Masked content",
            section="mask",
            a1111="inpainting_fill",
        ),
    ] = "original"
    inpaint_area: Annotated[
        InpaintArea,
        About(
            "Inpaint area",
            "what the network sees",
            group="Picture",
            position=4,
            infotext="Inpaint area",
            section="mask",
            a1111="inpaint_full_res",
        ),
    ] = "Whole picture"
    masked_padding: Annotated[
        Integer,
        Field(ge=0, le=256),
        About(
            "Padding",
            "pixels around the mask that are seen with Only masked",
            group="Picture",
            position=5,
            infotext="Masked area padding",
            section="mask",
            a1111="inpaint_full_res_padding",
            unless=("box",),
        ),
    ] = 32
    box: Annotated[
        tuple[Pixel, Pixel, Pixel, Pixel], About(infotext="Inpaint box", section="picture options", infotext_position=5)
    ] = (0, 0, 0, 0)
    conditioning_mask_strength: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Conditioning mask strength",
            "how much inpainting models see of the mask, 0 to 1",
            group="Picture",
            position=15,
            step=0.01,
            infotext="Conditional mask weight",
            section="own",
            a1111_option="inpainting_mask_weight",
        ),
    ] = 1.0
    differential: Annotated[
        bool,
        About(
            "Differential",
            "each grey of the mask begins at its own strength",
            group="Picture",
            position=18,
            infotext="Differential diffusion",
            section="picture options",
            infotext_position=6,
            unless=("soft_inpainting",),
        ),
    ] = False
    soft_inpainting: Annotated[
        bool,
        About(
            "Soft inpainting",
            "blend by what changed, as A1111 does",
            group="Picture",
            position=19,
            infotext="Soft inpainting enabled",
            section="soft inpainting",
        ),
    ] = False
    soft_bias: Annotated[
        Real,
        Field(ge=0.0, le=8.0),
        About(
            "Schedule bias",
            step=0.1,
            infotext="Soft inpainting schedule bias",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 1.0
    soft_preservation: Annotated[
        Real,
        Field(ge=0.0, le=8.0),
        About(
            "Preservation strength",
            step=0.05,
            infotext="Soft inpainting preservation strength",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 0.5
    soft_contrast_boost: Annotated[
        Real,
        Field(ge=1.0, le=32.0),
        About(
            "Transition contrast boost",
            step=0.5,
            infotext="Soft inpainting transition contrast boost",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 4.0
    soft_mask_influence: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Mask influence",
            step=0.05,
            infotext="Soft inpainting mask influence",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 0.0
    soft_difference_threshold: Annotated[
        Real,
        Field(ge=0.0, le=8.0),
        About(
            "Difference threshold",
            step=0.25,
            infotext="Soft inpainting difference threshold",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 0.5
    soft_difference_contrast: Annotated[
        Real,
        Field(ge=0.0, le=8.0),
        About(
            "Difference contrast",
            step=0.25,
            infotext="Soft inpainting difference contrast",
            section="soft inpainting",
            needs=("soft_inpainting",),
        ),
    ] = 2.0
    outpaint_left: Annotated[
        Integer,
        Field(ge=0, le=1024),
        About(
            "Outpaint left",
            "pixels by which the picture grows",
            group="Picture",
            position=8,
            infotext="Outpaint left",
            section="picture options",
            infotext_position=7,
        ),
    ] = 0
    outpaint_right: Annotated[
        Integer,
        Field(ge=0, le=1024),
        About(
            "Outpaint right",
            "pixels by which the picture grows",
            group="Picture",
            position=9,
            infotext="Outpaint right",
            section="picture options",
            infotext_position=8,
        ),
    ] = 0
    outpaint_up: Annotated[
        Integer,
        Field(ge=0, le=1024),
        About(
            "Outpaint up",
            "pixels by which the picture grows",
            group="Picture",
            position=10,
            infotext="Outpaint up",
            section="picture options",
            infotext_position=9,
        ),
    ] = 0
    outpaint_down: Annotated[
        Integer,
        Field(ge=0, le=1024),
        About(
            "Outpaint down",
            "pixels by which the picture grows",
            group="Picture",
            position=11,
            infotext="Outpaint down",
            section="picture options",
            infotext_position=10,
        ),
    ] = 0

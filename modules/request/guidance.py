"""The options of guidance, declared once each."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import Integer, Real


class GuidanceOptions(BaseModel):
    """What guidance does beyond its scale; the defaults are off.  `modules.pipelines.guidance` says what each is."""

    distilled_cfg_scale: Annotated[
        Real,
        Field(ge=0.0, le=100.0),
        About(
            "Distilled CFG scale",
            "what Flux.1 dev and Fill are told of guidance in the place of a negative prompt; 3.5 is usual, 30 for Fill",
            group="Guidance",
            position=-4,
            infotext="Distilled CFG Scale",
        ),
    ] = 3.5
    skip_early_cfg: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Skip early",
            "part of the run that goes without the negative prompt, 0 to 1",
            group="Guidance",
            infotext="Skip Early CFG",
            a1111_option="skip_early_cond",
        ),
    ] = 0.0
    ngms: Annotated[
        Real,
        Field(ge=0.0, le=15.0),
        About(
            "Skip at low noise",
            "noise level below which every other step goes without it (NGMS)",
            group="Guidance",
            infotext="NGMS",
            a1111="s_min_uncond",
            a1111_option="s_min_uncond",
        ),
    ] = 0.0
    ngms_all_steps: Annotated[
        bool,
        About(
            "Skip all steps at low noise",
            "not only every other one",
            group="Guidance",
            infotext="NGMS all steps",
            a1111_option="s_min_uncond_all",
            needs=("ngms",),
        ),
    ] = False
    cfg_rescale: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "CFG rescale",
            "give guidance the contrast of the prompt alone, 0 to 1; 0.7 is usual",
            group="Guidance",
            position=-3,
            infotext="CFG rescale",
        ),
    ] = 0.0
    mimic_scale: Annotated[
        Real,
        Field(ge=0.0, le=50.0),
        About(
            "Mimic scale",
            "keep the range of values of this CFG scale (dynamic thresholding); 0 is off",
            group="Guidance",
            infotext="Mimic scale",
            unless=("apg",),
        ),
    ] = 0.0
    threshold_percentile: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Mimic percentile",
            "part of the values that set the range, 0 to 1",
            group="Guidance",
            infotext="Threshold percentile",
            needs=("mimic_scale",),
            unless=("apg",),
        ),
    ] = 1.0
    apg: Annotated[
        bool,
        About(
            "Adaptive projected guidance", "a high CFG scale without its burnt colours (APG)", group="Guidance", infotext="APG"
        ),
    ] = False
    apg_eta: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About("APG eta", "how much of the burning part stays, 0 to 1", group="Guidance", infotext="APG eta", needs=("apg",)),
    ] = 0.0
    apg_norm: Annotated[
        Real,
        Field(ge=0.0, le=1000.0),
        About(
            "APG norm",
            "longest difference that is let through; 0 is no limit",
            group="Guidance",
            infotext="APG norm",
            needs=("apg",),
        ),
    ] = 0.0
    apg_momentum: Annotated[
        Real,
        Field(ge=-1.0, le=1.0),
        About(
            "APG momentum",
            "weight of earlier steps, -1 to 1; usually negative",
            group="Guidance",
            infotext="APG momentum",
            needs=("apg",),
        ),
    ] = 0.0
    pag_scale: Annotated[
        Real,
        Field(ge=0.0, le=20.0),
        About(
            "PAG scale",
            "away from a picture without structure, 0 to 20; 3 is usual",
            group="Guidance",
            position=-4,
            infotext="PAG scale",
        ),
    ] = 0.0
    sag_scale: Annotated[
        Real,
        Field(ge=0.0, le=5.0),
        About(
            "SAG scale",
            "away from a blurred picture, 0 to 5; 0.75 is usual; costs an evaluation more",
            group="Guidance",
            position=-2,
            infotext="SAG scale",
        ),
    ] = 0.0
    sag_blur: Annotated[
        Real,
        Field(ge=0.1, le=10.0),
        About(
            "SAG blur", "how blurred, 0.1 to 10", group="Guidance", position=-1, infotext="SAG blur sigma", needs=("sag_scale",)
        ),
    ] = 2.0
    cfg_zero: Annotated[
        bool,
        About(
            "CFG-Zero*",
            "fit the negative side's length; made for flow models, a small change with SD 1.x",
            group="Guidance",
            position=1,
            infotext="CFG Zero star",
            unless=("apg", "mimic_scale"),
        ),
    ] = False
    cfg_zero_steps: Annotated[
        Integer,
        Field(ge=0, le=20),
        About(
            "Zero-init steps",
            "first steps that wait instead of guessing (CFG-Zero*)",
            group="Guidance",
            infotext="CFG Zero init steps",
        ),
    ] = 0

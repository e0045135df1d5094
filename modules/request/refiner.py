"""The options of a refiner, declared once each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import Real

RefinerPass = Literal["first pass", "second pass", "both passes"]
"""Of a request with a second pass, the one that the refiner ends; under A1111's names."""


class RefinerOptions(BaseModel):
    """Another checkpoint that goes on with the denoising loop from a noise level on, as in A1111.

    It takes over at the first evaluation for which (999 - t) / 1000 is at least `refiner_switch_at`, t the trained timestep
    whose noise level is nearest; with `refiner_by_steps` when that share of the steps is done, as A1111 did before 1.8.  At 1
    it never does.  The ensemble of denoisers of SDXL (Podell et al. 2023, arXiv:2307.01952, section 2.5).
    """

    refiner: Annotated[
        str,
        Field(max_length=300),
        About(
            "Refiner",
            "a checkpoint that goes on with the picture from a noise level on; none where it is empty",
            group="Checkpoint",
            position=1,
            infotext="Refiner",
            infotext_position=18,
            a1111="refiner_checkpoint",
        ),
    ] = ""
    refiner_switch_at: Annotated[
        Real,
        Field(ge=0.01, le=1.0),
        About(
            "Switch at",
            "how much of the noise schedule is behind when the refiner takes over, 0.01 to 1 (never)",
            group="Checkpoint",
            position=2,
            step=0.01,
            infotext="Refiner switch at",
            infotext_position=18,
            a1111="refiner_switch_at",
            needs=("refiner",),
        ),
    ] = 0.8
    refiner_pass: Annotated[
        RefinerPass,
        About(
            "Refined pass",
            "which pass the refiner ends where there is a second one",
            group="Checkpoint",
            position=3,
            infotext="Hires refiner",
            infotext_position=18,
            a1111_option="hires_fix_refiner_pass",
            needs=("refiner",),
        ),
    ] = "second pass"
    refiner_by_steps: Annotated[
        bool,
        About(
            "Switch by steps",
            "the share is one of the steps and not of the noise schedule, as in A1111 before 1.8",
            group="Checkpoint",
            position=4,
            infotext="Refiner switch by sampling steps",
            infotext_position=18,
            a1111_option="refiner_switch_by_sample_steps",
            needs=("refiner",),
        ),
    ] = False

"""The options of FreeU that a request may have; imported by both halves, without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from modules.fields import About
from modules.request import RequestExtension
from modules.request.kinds import Real

NAME = "freeu"


class FreeUOptions(BaseModel):
    """Factors of 1 change nothing.  `start` and `end` say between which parts of the way from noise it works."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    b1: Annotated[
        Real,
        Field(ge=0, le=3),
        About("FreeU B1", "shapes of the coarsest levels; 1 is off, 1.3 to 1.5 usual", step=0.01),
    ] = 1.0
    b2: Annotated[
        Real,
        Field(ge=0, le=3),
        About("FreeU B2", "shapes of the next level; 1 is off, 1.4 to 1.6 usual", step=0.01),
    ] = 1.0
    s1: Annotated[
        Real,
        Field(ge=0, le=3),
        About("FreeU S1", "skip connections of the coarsest levels; 1 is off, 0.9 usual", step=0.01),
    ] = 1.0
    s2: Annotated[
        Real,
        Field(ge=0, le=3),
        About("FreeU S2", "skip connections of the next level; 1 is off, 0.2 usual", step=0.01),
    ] = 1.0
    start: Annotated[Real, Field(ge=0, le=1), About("FreeU start", "from where on, 0 is pure noise", step=0.01)] = 0.0
    end: Annotated[Real, Field(ge=0, le=1), About("FreeU end", "up to where, 1 is the finished picture", step=0.01)] = 1.0


OPTIONS = RequestExtension(NAME, FreeUOptions, "FreeU")

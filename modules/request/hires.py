"""The options of a second pass, declared once each."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from modules.fields import About
from modules.request.kinds import Integer, Prompt, Real, Side

LATENT_UPSCALERS = (
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
)
"""By which the latent of the first pass is interpolated, under A1111's names."""

UpscalerName = Annotated[str, Field(min_length=1, max_length=300)]
"""One of those that are built in, or the name of an upscaler's file (`checkpoints.upscalers`)."""


class Hires(BaseModel):
    """A second pass over the result of the first, at another size: A1111's hires fix.

    The result is brought to `width` x `height` pixels by `upscaler`, a built-in one or a file's name (covering them, cut off
    evenly where the aspect ratio is another one), and repainted with `denoising_strength` in exactly `steps` steps, 0 for those
    of the first pass.  What is left empty (None for `cfg_scale`) is the first pass's.  `checkpoint` runs the second pass in
    place of the request's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[Side, About(infotext="Hires resize-1", section="own", a1111="hr_resize_x")]
    height: Annotated[Side, About(infotext="Hires resize-2", section="own", a1111="hr_resize_y")]
    upscaler: Annotated[UpscalerName, About(infotext="Hires upscaler", section="own", a1111="hr_upscaler")] = "Latent"
    denoising_strength: Annotated[
        Real, Field(ge=0.0, le=1.0), About(infotext="Denoising strength", section="own", a1111="denoising_strength")
    ] = 0.7
    steps: Annotated[
        Integer, Field(ge=0, le=150), About(infotext="Hires steps", section="own", a1111="hr_second_pass_steps")
    ] = 0
    checkpoint: Annotated[
        str, Field(max_length=300), About(infotext="Hires checkpoint", section="texts", a1111="hr_checkpoint_name")
    ] = ""
    sampler: Annotated[str, About(infotext="Hires sampler", section="texts", a1111="hr_sampler_name")] = ""
    schedule: Annotated[
        str, About(infotext="Hires schedule type", section="texts", infotext_position=101, a1111="hr_scheduler")
    ] = ""
    cfg_scale: Annotated[
        Annotated[Real, Field(ge=0.0, le=50.0)] | None, About(infotext="Hires CFG Scale", section="own", a1111="hr_cfg")
    ] = None
    prompt: Annotated[Prompt, About(infotext="Hires prompt", section="texts", a1111="hr_prompt")] = ""
    negative_prompt: Annotated[Prompt, About(infotext="Hires negative prompt", section="texts", a1111="hr_negative_prompt")] = (
        ""
    )

    @model_serializer(mode="wrap")
    def _without_later_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A second pass with the request's checkpoint is written as before there was another one."""
        fields: dict[str, Any] = dump(self)
        if not fields.get("checkpoint", True):
            del fields["checkpoint"]
        return fields

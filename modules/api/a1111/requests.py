"""The bodies of A1111's API: its names, its defaults (which are not those of its page), its tolerance of unknown fields.

Values are converted as its models do (`coercion`), and null stands for a field's default.  Ranges are ours, so that an error
response names the field that was sent.  What the fields mean here is `translate`'s affair.

Facts: AUTOMATIC1111 v1.10.1, `modules/api/models.py` and the dataclasses in `modules/processing.py` that it is made from.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modules.api.a1111.coercion import Mapping, Name, Prompt, Real, Switch, Text, Whole
from modules.fields import bounds_of
from modules.request import MAX_SIDE, MAX_STYLES, MAX_TILED_SIDE, MIN_SIDE, Img2Img

MAX_PICTURE_TEXT = 90 << 20
"""Characters of a picture as base64; the guard lets 64 MiB through."""

PictureText = Annotated[
    str, Field(max_length=MAX_PICTURE_TEXT, description="A picture as base64 or as a data URI; no addresses.")
]
MAX_BATCH = 100
"""Of batch_size and of n_iter; their product has the bound of a job's pictures."""


def _bounds(field: str) -> Any:
    """The bounds of our field of that name."""
    bounds = bounds_of(Img2Img, field)
    return Field(ge=bounds.ge, le=bounds.le)


Seed = Annotated[Whole, Field(ge=-(2**63), le=2**64 - 1)]
"""What torch's generators take."""
Size = Annotated[Whole, Field(ge=MIN_SIDE, le=MAX_TILED_SIDE)]
FromSide = Annotated[Whole, Field(le=MAX_SIDE)]
"""0 and less is none."""
Share = Annotated[Real, Field(ge=0.0, le=1.0)]
Blur = Annotated[Whole, _bounds("mask_blur_x")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, data: Any) -> Any:
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


_SIDE = "Rounded down to a multiple of 8. When absent, the checkpoint's own where that is less than 512."


class GenerationBody(_Body):
    """What txt2img and img2img have in common."""

    prompt: Prompt | None = ""
    negative_prompt: Prompt | None = ""
    styles: Annotated[list[Name | None], Field(max_length=MAX_STYLES)] | None = Field(
        None, description="Those that are not here are left out, and named in the answer's info under notes."
    )
    seed: Seed | None = -1
    subseed: Seed | None = -1
    subseed_strength: Share | None = 0.0
    seed_resize_from_h: FromSide | None = -1
    seed_resize_from_w: FromSide | None = -1
    sampler_name: Name | None = Field(None, description="Old combined names such as 'DPM++ 2M Karras' are understood.")
    scheduler: Name | None = None
    batch_size: Annotated[Whole, Field(ge=1, le=MAX_BATCH)] | None = 1
    n_iter: Annotated[Whole, Field(ge=1, le=MAX_BATCH)] | None = 1
    steps: Annotated[Whole, _bounds("steps")] | None = 50
    cfg_scale: Annotated[Real, _bounds("cfg_scale")] | None = 7.0
    width: Size | None = Field(512, description=_SIDE)
    height: Size | None = Field(512, description=_SIDE)
    restore_faces: bool | None = Field(None, description="Not built yet: true is passed over, with a note in info.")
    tiling: bool | None = Field(None, description="Not built yet: true is passed over, with a note in info.")
    do_not_save_samples: bool | None = False
    do_not_save_grid: bool | None = False
    eta: Share | None = None
    denoising_strength: Share | None = 0.75
    s_min_uncond: Annotated[Real, _bounds("ngms")] | None = None
    s_churn: Annotated[Real, _bounds("s_churn")] | None = None
    s_tmax: Annotated[Real, _bounds("s_tmax")] | None = None
    s_tmin: Annotated[Real, _bounds("s_tmin")] | None = None
    s_noise: Annotated[Real, _bounds("s_noise")] | None = None
    override_settings: Mapping | None = Field(None, description="Options (see /sdapi/v1/options) for this call.")
    override_settings_restore_afterwards: bool | None = Field(True, description="False keeps the overrides as your options.")
    refiner_checkpoint: Name | None = Field(None, description="Goes on with the picture from a noise level on.")
    refiner_switch_at: Share | None = Field(None, description="0.8 when absent, at least 0.01; at 1 it never takes over.")
    disable_extra_networks: bool | None = False
    firstpass_image: PictureText | None = Field(None, description="What a second pass starts from; for enable_hr alone.")
    comments: Mapping | None = None
    sampler_index: Name | None = Field("Euler", description="Used when there is no sampler_name.")
    script_name: Name | None = Field(None, description="One of /sdapi/v1/scripts that is not always on, such as 'x/y/z plot'.")
    script_args: Annotated[list[Any], Field(max_length=64)] | None = Field(
        [], description="Its arguments by their places, see /sdapi/v1/script-info; the answer has the grid first."
    )
    send_images: bool | None = True
    save_images: bool | None = Field(
        False, description="Pictures are kept in the outputs folder in any case; true also brings a grid."
    )
    alwayson_scripts: Mapping | None = Field({}, description="'Soft Inpainting' as {'args': [true, 1, 0.5, ...]}.")
    force_task_id: Name | None = Field(None, description="Your name for this call, for /internal/progress.")
    infotext: Annotated[Text, Field(max_length=1 << 20)] | None = Field(
        None, description="A picture's parameters text: fields that the request does not name are taken from it."
    )


class TextBody(GenerationBody):
    """`POST /sdapi/v1/txt2img`."""

    enable_hr: bool | None = Field(
        False, description="A second pass over the result of the first; the other hr fields count with it alone."
    )
    firstphase_width: Whole | None = 0
    firstphase_height: Whole | None = 0
    hr_scale: Real | None = 2.0
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Whole | None = 0
    hr_resize_x: Whole | None = 0
    hr_resize_y: Whole | None = 0
    hr_checkpoint_name: Name | None = Field(None, description="Runs the second pass in place of the first one's.")
    hr_sampler_name: Name | None = None
    hr_scheduler: Name | None = None
    hr_cfg: Annotated[Real, _bounds("cfg_scale")] | None = Field(
        None, description="Forge's: the second pass's own guidance scale."
    )
    hr_prompt: Prompt | None = ""
    hr_negative_prompt: Prompt | None = ""


class PictureBody(GenerationBody):
    """`POST /sdapi/v1/img2img`."""

    init_images: Annotated[list[PictureText], Field(max_length=8)] | None = None
    resize_mode: Annotated[Whole, Field(ge=0, le=3)] | None = Field(
        0, description="0 just resize, 1 crop and resize, 2 resize and fill, 3 just resize (latent upscale)"
    )
    image_cfg_scale: Annotated[Real, _bounds("image_cfg_scale")] | None = None
    mask: PictureText | None = Field(None, description="White is repainted; a picture with alpha counts by its alpha.")
    mask_blur_x: Blur | None = 4
    mask_blur_y: Blur | None = 4
    mask_blur: Blur | None = Field(None, description="Sets mask_blur_x and mask_blur_y.")
    mask_round: bool | None = True
    inpainting_fill: Annotated[Whole, Field(ge=0, le=3)] | None = Field(
        0, description="0 fill, 1 original, 2 latent noise, 3 latent nothing"
    )
    inpaint_full_res: bool | None = Field(True, description="True: only the masked part is painted, at the full size.")
    inpaint_full_res_padding: Annotated[Whole, _bounds("masked_padding")] | None = 0
    inpainting_mask_invert: Switch | None = 0
    initial_noise_multiplier: Annotated[Real, _bounds("noise_multiplier")] | None = None
    latent_mask: PictureText | None = Field(None, description="Not built yet: a picture is refused.")
    include_init_images: bool | None = Field(False, description="True: the answer's parameters repeat init_images and mask.")


class _ExtrasBody(_Body):
    resize_mode: Annotated[Whole, Field(ge=0, le=1)] = Field(
        0, description="0: by upscaling_resize; 1: to upscaling_resize_w x upscaling_resize_h"
    )
    show_extras_results: bool = True
    gfpgan_visibility: Share = Field(0.0, description="Not built yet: must be 0.")
    codeformer_visibility: Share = Field(0.0, description="Not built yet: must be 0.")
    codeformer_weight: Share = 0.0
    upscaling_resize: Annotated[Real, Field(gt=0.0, le=8.0)] = 2.0
    upscaling_resize_w: Annotated[Whole, Field(ge=1, le=8192)] = 512
    upscaling_resize_h: Annotated[Whole, Field(ge=1, le=8192)] = 512
    upscaling_crop: bool = True
    upscaler_1: Name | None = "None"
    upscaler_2: Name | None = "None"
    extras_upscaler_2_visibility: Share = 0.0
    upscale_first: bool = False


class ExtrasBody(_ExtrasBody):
    """`POST /sdapi/v1/extra-single-image`."""

    image: PictureText = ""


class NamedPicture(_Body):
    data: PictureText
    name: Name = ""


class ExtrasBatchBody(_ExtrasBody):
    """`POST /sdapi/v1/extra-batch-images`."""

    imageList: Annotated[list[NamedPicture], Field(max_length=64)]


class InfoBody(_Body):
    """`POST /sdapi/v1/png-info`."""

    image: PictureText


class InterrogateBody(_Body):
    """`POST /sdapi/v1/interrogate`."""

    image: PictureText = ""
    model: Name = "clip"


class TaskBody(_Body):
    """`POST /internal/progress`."""

    id_task: Name | None = Field(None, description="The force_task_id of a call, or a job's id.")
    id_live_preview: Whole | None = -1
    live_preview: bool | None = True

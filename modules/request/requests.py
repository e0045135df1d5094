"""The requests: a picture from words, and a picture from a picture.  Their options stand in classes of their own."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from modules.fields import About
from modules.request.checkpoint import CheckpointOptions, with_named_taesd
from modules.request.extensions import checked, describe
from modules.request.guidance import GuidanceOptions
from modules.request.hires import Hires
from modules.request.kept_extensions import checked_kept
from modules.request.kinds import (
    MAX_PIXELS,
    MAX_SEED,
    MAX_SIDE,
    MAX_STYLES,
    Integer,
    Prompt,
    Real,
    Side,
    SourceId,
    StyleName,
)
from modules.request.mask import MaskOptions
from modules.request.refiner import RefinerOptions
from modules.request.sampling import NoiseOptions, SamplerOptions
from modules.request.tiles import TileOptions
from modules.roles import Role, allow_role_fields, by_role, needs_init

Emphasis = Literal["Original", "No norm", "Ignore", "None"]
"""What weights do.  Original: multiply, then bring the encoding back to its old mean.  No norm: multiply only.
Ignore: brackets are read and weigh nothing.  None: brackets and BREAK are text like any other."""

ResizeMode = Literal["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]


LATER_FIELDS = (
    *("vae", *RefinerOptions.model_fields, *CheckpointOptions.model_fields, "upscaler_noise_level"),
    *TileOptions.model_fields,
    "distilled_cfg_scale",
)
"""Fields that are written only where they are not at their default, as records were before there were such fields."""


class Txt2Img(NoiseOptions, SamplerOptions, GuidanceOptions, RefinerOptions, CheckpointOptions, TileOptions):
    """A picture from words.

    Sizes are pixels.  `seed` is -1 until the request is accepted, then resolved; image k of `count` uses seed + k.
    `checkpoint` is a name as `checkpoints.files.scan` lists it, None until accepted; `vae` is Automatic, None or a file's name
    (`checkpoints.vaes`), or TAESD, which is read as both halves of it (`CheckpointOptions`).  The options of noise, sampler,
    guidance, refiner, checkpoint and tiles stand in classes of their own.

    The prompts may hold what `modules.prompts` reads; `styles` are names of the styles file, applied in this order, `comments`
    removes what stands behind a #, `emphasis` is what weights do, `old_prompt_editing` reads `[a:b:when]` as A1111 did before
    1.6, and `raw_text` leaves curly quotes, full-width letters and the like as they are (`prompts.tokenizer`).  With `private`
    the picture's file says nothing of how it was made; the job list knows until it is forgotten.  `hires` is a second pass,
    `extensions` are options of extensions by their names (`request.extensions`), `kept_extensions` those of extensions that are
    not in use here: they go into the picture's file, and change nothing (`request.kept_extensions`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[Prompt, About(a1111="prompt")] = ""
    negative_prompt: Annotated[Prompt, About(a1111="negative_prompt")] = ""
    seed: Annotated[Integer, Field(ge=-1, le=MAX_SEED), About(infotext="Seed", section="own", a1111="seed")] = -1
    steps: Annotated[Integer, Field(ge=1, le=150), About(infotext="Steps", section="own", a1111="steps")] = 20
    cfg_scale: Annotated[Real, Field(ge=0.0, le=50.0), About(infotext="CFG scale", section="own", a1111="cfg_scale")] = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Automatic"
    width: Annotated[Side, About(infotext="Size-1", section="own", a1111="width")] = 512
    height: Annotated[Side, About(infotext="Size-2", section="own", a1111="height")] = 512
    count: Annotated[Integer, Field(ge=1, le=100)] = 1
    checkpoint: str | None = None
    vae: Annotated[
        str,
        Field(min_length=1, max_length=300),
        About(
            "VAE",
            "a file's name, None for the checkpoint's own, or Automatic: NAME.vae.safetensors beside it where there is one",
            group="Checkpoint",
            position=-1,
            infotext="VAE",
            section="own",
        ),
    ] = "Automatic"
    clip_skip: Annotated[
        Integer,
        Field(ge=1, le=12),
        About(
            "Clip skip",
            "n leaves out the last n - 1 layers of the text encoder, 1 to 12",
            group="Prompt",
            infotext="Clip skip",
            section="own",
            a1111_option="CLIP_stop_at_last_layers",
        ),
    ] = 1
    styles: Annotated[tuple[StyleName, ...], Field(max_length=MAX_STYLES), About(a1111="styles")] = ()
    emphasis: Annotated[
        Emphasis,
        About(
            "Emphasis",
            "what (brackets:1.2) do",
            group="Prompt",
            infotext="Emphasis",
            section="own",
            a1111_option="emphasis",
        ),
    ] = "Original"
    comments: Annotated[
        bool,
        About("Comments", "leave out what stands behind a #", group="Prompt", a1111_option="enable_prompt_comments"),
    ] = True
    old_prompt_editing: Annotated[
        bool,
        About(
            "Old prompt editing",
            "read [a:b:when] as A1111 did before 1.6",
            group="Prompt",
            infotext="Old prompt editing timelines",
            section="own",
            a1111_option="use_old_scheduling",
        ),
    ] = False
    raw_text: Annotated[
        bool,
        About(
            "Raw text",
            "leave curly quotes, full-width letters and &amp; as they are, like ComfyUI",
            group="Prompt",
            infotext="Raw text",
            infotext_position=101,
        ),
    ] = False
    private: Annotated[
        bool,
        About(
            "Private",
            "nothing in the picture's file says how it was made",
            group="File",
            a1111_option="enable_pnginfo",
        ),
    ] = False
    hires: Hires | None = None
    extensions: Annotated[dict[str, dict[str, Any]], AfterValidator(checked)] = Field({}, json_schema_extra=describe)
    kept_extensions: Annotated[dict[str, dict[str, Any]], AfterValidator(checked_kept)] = Field({})

    @model_validator(mode="before")
    @classmethod
    def _taesd_by_name(cls, fields: Any) -> Any:
        return with_named_taesd(fields)

    @model_validator(mode="after")
    def _affordable(self) -> Txt2Img:
        if not self.tiled_diffusion and (problem := _too_large("", self) or (self.hires and _too_large("hires.", self.hires))):
            raise ValueError(problem)
        width, height = max(((each.width, each.height) for each in (self, self.hires) if each), key=math.prod)
        if width * height * self.count > MAX_PIXELS:
            what = f"{self.count} pictures of {width}x{height} are" if self.count > 1 else f"{width}x{height} is"
            less = "make fewer" if width * height <= MAX_PIXELS else f"{MAX_PIXELS:,} pixels is the most"
            raise ValueError(f"{what} too much for one request; {less}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a request does not use of later fields is not written: second pass, extensions, VAE, refiner, SDXL's numbers."""
        fields: dict[str, Any] = dump(self)
        if fields.get("hires", 0) is None:
            del fields["hires"]
        for name in ("extensions", "kept_extensions"):
            if not fields.get(name, True):
                del fields[name]
        for name in LATER_FIELDS:
            if name in fields and fields[name] == type(self).model_fields[name].default:
                del fields[name]
        return fields

    def second_pass(self) -> Txt2Img:
        """The settings of the second pass as a request of its own, which starts from what the first made."""
        assert self.hires is not None, "the caller asks for a second pass where there is one"
        names = ("prompt", "negative_prompt", "steps", "sampler", "schedule", "checkpoint")
        own = {name: getattr(self.hires, name) for name in names}
        given = {name: value for name, value in own.items() if value}
        scale = self.cfg_scale if self.hires.cfg_scale is None else self.hires.cfg_scale
        size = {"width": self.hires.width, "height": self.hires.height}
        return self.model_copy(update={**size, **given, "cfg_scale": scale, "hires": None})

    def image(self, index: int) -> Txt2Img:
        """The request of picture `index` alone: same settings, its own seed (wrapping at 2**64).

        Where the seed is varied, it stays and the variation's seed counts on, as in A1111.
        """
        varies = "variation_seed" if self.variation_strength > 0 else "seed"
        return self.model_copy(update={varies: (getattr(self, varies) + index) % (MAX_SEED + 1), "count": 1})


def _too_large(prefix: str, sized: Txt2Img | Hires) -> str:
    """Which side is larger than is painted without tiled diffusion, "" for none."""
    name = next((name for name in ("width", "height") if getattr(sized, name) > MAX_SIDE), "")
    if not name:
        return ""
    return (
        f"{prefix}{name}: must be {MAX_SIDE} at most without tiled diffusion, {getattr(sized, name)} was given; switch "
        "tiled diffusion on (tiled_diffusion), which paints larger pictures in windows, or take a smaller size"
    )


class Img2Img(Txt2Img, MaskOptions):
    """A picture from a picture; with a mask, or to be extended, only in part: inpainting and outpainting.

    `pictures` are ids of kept pictures (`modules.images.uploads`) by role: the init image, and the mask, which is as large and
    white where it counts.  The fields `source` and `mask`, which older versions and other clients have for them, are read too.
    `denoising_strength` is how much of the noise schedule is run; `fix_steps` runs `steps` of it at any strength.
    `noise_multiplier` scales the noise that is added, `extra_noise` is added on top.  `image_cfg_scale` is the guidance towards
    the init image of 8-channel editing models (Brooks et al. 2023, arXiv:2211.09800).  `upscaler_noise_level` is the timestep
    up to which SD x4 upscaler's low-resolution picture is noised, in training up to 350: more of it invents more detail.  A
    completed request has one exactly where its checkpoint is such a one, which begins with noise alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=allow_role_fields)

    pictures: Annotated[dict[Role, SourceId], AfterValidator(needs_init)]
    denoising_strength: Annotated[
        Real, Field(ge=0.0, le=1.0), About(infotext="Denoising strength", section="own", a1111="denoising_strength")
    ] = 0.75
    resize_mode: Annotated[
        ResizeMode,
        About(
            "Resize mode",
            "how the picture becomes the size that is painted",
            group="Picture",
            position=1,
            infotext="Resize mode",
            section="picture options",
            infotext_position=1,
            a1111="resize_mode",
        ),
    ] = "Just resize"
    fix_steps: Annotated[
        bool,
        About(
            "All steps",
            "run all steps at any strength",
            group="Picture",
            position=16,
            infotext="Fix steps",
            section="picture options",
            infotext_position=2,
            a1111_option="img2img_fix_steps",
        ),
    ] = False
    color_correction: Annotated[
        bool,
        About(
            "Colour correction",
            "give the result the colours of the picture",
            group="Picture",
            position=17,
            infotext="Color correction",
            section="picture options",
            infotext_position=3,
            a1111_option="img2img_color_correction",
        ),
    ] = False
    noise_multiplier: Annotated[
        Real,
        Field(ge=0.0, le=1.5),
        About(
            "Noise multiplier",
            "scale of the noise that is added, 0 to 1.5",
            group="Picture",
            position=12,
            step=0.01,
            infotext="Noise multiplier",
            infotext_position=4,
            a1111="initial_noise_multiplier",
            a1111_option="initial_noise_multiplier",
        ),
    ] = 1.0
    extra_noise: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Extra noise",
            "noise on top of it, 0 to 1",
            group="Picture",
            position=13,
            step=0.01,
            infotext="Extra noise",
            infotext_position=12,
            a1111_option="img2img_extra_noise",
        ),
    ] = 0.0
    image_cfg_scale: Annotated[
        Real,
        Field(ge=0.0, le=10.0),
        About(
            "Image CFG scale",
            "guidance towards the picture, of editing models",
            group="Picture",
            position=14,
            step=0.1,
            infotext="Image CFG scale",
            section="own",
            a1111="image_cfg_scale",
        ),
    ] = 1.5
    upscaler_noise_level: Annotated[
        Annotated[Integer, Field(ge=0, le=350)] | None,
        About(
            "Upscaler noise level",
            "noise on the picture that SD x4 upscaler enlarges, 0 to 350 [20]: more invents more detail",
            group="Picture",
            position=15,
            step=1,
            infotext="Upscaler noise level",
            section="picture options",
            infotext_position=20,
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _by_role(cls, fields: Any) -> Any:
        return by_role(fields)

    @model_validator(mode="after")
    def _one_pass(self) -> Img2Img:
        if self.hires is not None:
            raise ValueError("hires: a picture from a picture has no second pass; leave it out, or paint from words alone")
        return self

    @model_validator(mode="after")
    def _box_has_a_size(self) -> Img2Img:
        if any(self.box) and not (self.box[2] and self.box[3]):
            raise ValueError("box: width and height must be at least 1; leave all four numbers 0 for no box")
        return self

    @property
    def source(self) -> str:
        """The id of the init image."""
        return self.pictures["init"]

    @property
    def mask(self) -> str | None:
        """The id of the mask."""
        return self.pictures.get("mask")

    @property
    def inpaints(self) -> bool:
        """Whether only a part of the picture is painted."""
        return self.mask is not None or self.outpaints

    @property
    def outpaints(self) -> bool:
        return any((self.outpaint_left, self.outpaint_right, self.outpaint_up, self.outpaint_down))


GenerationRequest = Txt2Img
"""Any request: an `Img2Img` is a `Txt2Img` that starts from a picture."""

"""What a user asks for: frozen, JSON-stable data without torch.

A request never changes after it was accepted.  What is found out later (model hash, versions, timings) goes to
`modules.images.infotext.GenerationInfo`.  Validation speaks in the user's words: what was asked, what is allowed.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from modules.errors import RequestError
from modules.roles import Role, allow_role_fields, by_role, needs_init, picture_name

MAX_PROMPT = 32_768
"""Characters of a prompt."""
MAX_STYLES = 100
MAX_SEED = 2**64 - 1
MAX_SIDE = 2048
MIN_SIDE = 64
SIDE_STEP = 8
MAX_PIXELS = 33_554_432
"""width x height x count of one request."""
MAX_SOURCE_SIDE = 8192
MAX_SOURCE_PIXELS = 33_554_432
"""Of a picture to start from, and of what it is extended to."""

Emphasis = Literal["Original", "No norm", "Ignore", "None"]
"""What weights do.  Original: multiply, then bring the encoding back to its old mean.  No norm: multiply only.
Ignore: brackets are read and weigh nothing.  None: brackets and BREAK are text like any other."""

ResizeMode = Literal["Just resize", "Crop and resize", "Resize and fill", "Just resize (latent upscale)"]
MaskMode = Literal["Inpaint masked", "Inpaint not masked"]
MaskedContent = Literal["fill", "original", "latent noise", "latent nothing", "blurred", "tile", "patches"]
InpaintArea = Literal["Whole picture", "Only masked", "Crop and stitch"]
Upscaler = Literal[
    "Latent",
    "Latent (antialiased)",
    "Latent (bicubic)",
    "Latent (bicubic antialiased)",
    "Latent (nearest)",
    "Latent (nearest-exact)",
    "Lanczos",
    "Nearest",
]
"""How the first pass becomes the size of the second, under A1111's names: its latent is interpolated, or its pixels."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\ud800-\udfff]")


def clean_text(text: str) -> str:
    r"""`text` without NUL, other control characters and lone surrogates, which no file format or log can carry.

    >>> clean_text("a\x00b\r\nc\ud800")
    'ab\nc'
    """
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _prompt(value: Any) -> Any:
    return clean_text(value) if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """Refuse bools and non-finite numbers, which pydantic would take or name cryptically."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Prompt = Annotated[str, BeforeValidator(_prompt), Field(max_length=MAX_PROMPT)]
StyleName = Annotated[str, BeforeValidator(_prompt), Field(max_length=1_000)]
Integer = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Pixel = Annotated[int, BeforeValidator(_number), Field(ge=0, le=MAX_SOURCE_SIDE)]
SourceId = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, BeforeValidator(_number), Field(ge=MIN_SIDE, le=MAX_SIDE, multiple_of=SIDE_STEP)]


class NoiseOptions(BaseModel):
    """Where an image's noise comes from.

    `rng` is A1111's random number source; `variation_strength` turns the noise towards that of `variation_seed`, which image k
    raises by k instead of the seed; `seed_resize_width` x `seed_resize_height` (pixels, 0: off) is the size whose noise is put
    into the middle; `ensd` is the eta noise seed delta.
    """

    rng: Literal["CPU", "GPU", "NV"] = "CPU"
    variation_seed: Annotated[Integer, Field(ge=-1, le=MAX_SEED)] = -1
    variation_strength: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    seed_resize_width: Annotated[Integer, Field(ge=0, le=MAX_SIDE)] = 0
    seed_resize_height: Annotated[Integer, Field(ge=0, le=MAX_SIDE)] = 0
    ensd: Annotated[Integer, Field(ge=0, le=MAX_SEED)] = 0


class SolverOptions(BaseModel):
    """What may be bent in a sampler and its schedule; 0 (for `eta` None) leaves the sampler's or schedule's own value.

    An `s_tmax` of 0 means no upper limit.  `zero_snr` stretches the noise levels to zero terminal signal-to-noise ratio,
    `ignore_zero_snr` leaves them as they are where the checkpoint's file asks for it and the request does not, and `prediction`
    says what the network predicts, the noise or v, where its file does not say it or says it wrong.  With `exact_steps` UniPC
    runs `steps` steps from words, where A1111 runs more for most numbers.
    """

    eta: Annotated[Real, Field(ge=0.0, le=1.0)] | None = None
    s_churn: Annotated[Real, Field(ge=0.0, le=100.0)] = 0.0
    s_tmin: Annotated[Real, Field(ge=0.0, le=1000.0)] = 0.0
    s_tmax: Annotated[Real, Field(ge=0.0, le=1000.0)] = 0.0
    s_noise: Annotated[Real, Field(ge=0.0, le=2.0)] = 1.0
    discard_penultimate: bool = False
    exact_steps: bool = False
    sigma_min: Annotated[Real, Field(ge=0.0, le=100.0)] = 0.0
    sigma_max: Annotated[Real, Field(ge=0.0, le=10_000.0)] = 0.0
    rho: Annotated[Real, Field(ge=0.0, le=100.0)] = 0.0
    beta_alpha: Annotated[Real, Field(ge=0.01, le=10.0)] = 0.6
    beta_beta: Annotated[Real, Field(ge=0.01, le=10.0)] = 0.6
    zero_snr: bool = False
    ignore_zero_snr: bool = False
    prediction: Literal["Automatic", "eps", "v"] = "Automatic"
    sgm_noise_multiplier: bool = False


class GuidanceOptions(BaseModel):
    """What guidance does beyond its scale; the defaults are off.  `modules.pipelines.guidance` says what each is."""

    skip_early_cfg: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    ngms: Annotated[Real, Field(ge=0.0, le=15.0)] = 0.0
    ngms_all_steps: bool = False
    cfg_rescale: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    mimic_scale: Annotated[Real, Field(ge=0.0, le=50.0)] = 0.0
    threshold_percentile: Annotated[Real, Field(ge=0.0, le=1.0)] = 1.0
    apg: bool = False
    apg_eta: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    apg_norm: Annotated[Real, Field(ge=0.0, le=1000.0)] = 0.0
    apg_momentum: Annotated[Real, Field(ge=-1.0, le=1.0)] = 0.0
    pag_scale: Annotated[Real, Field(ge=0.0, le=20.0)] = 0.0
    sag_scale: Annotated[Real, Field(ge=0.0, le=5.0)] = 0.0
    sag_blur: Annotated[Real, Field(ge=0.1, le=10.0)] = 2.0
    cfg_zero: bool = False
    cfg_zero_steps: Annotated[Integer, Field(ge=0, le=20)] = 0


class MaskOptions(BaseModel):
    """What is repainted of a source picture, and how the rest is kept; lengths are pixels of the source picture.

    Names and defaults are those of A1111's page.  `mask_mode` says which side of the mask is repainted, `masked_content` what
    stands there before ("tile", "patches" and "blurred" look to the surroundings; see `modules.pixels.infill`), `inpaint_area`
    how much of the picture the network sees: all of it, a crop around the mask at the size of the request, or a crop grown for
    context, at the model's own resolution and returned with a feathered edge ("Crop and stitch").  `box` (x, y, width, height)
    is that crop where somebody drew it, in the latter two; all 0 is none.  `outpaint_*` extend the picture on each side.

    `mask_round` makes the mask black and white for the network.  `differential` lets each grey level begin at its own strength
    (Levin & Fried 2023, arXiv:2306.00950).  `soft_*` are A1111's soft inpainting.
    """

    mask_mode: MaskMode = "Inpaint masked"
    mask_blur_x: Annotated[Integer, Field(ge=0, le=64)] = 4
    mask_blur_y: Annotated[Integer, Field(ge=0, le=64)] = 4
    mask_round: bool = True
    masked_content: MaskedContent = "original"
    inpaint_area: InpaintArea = "Whole picture"
    masked_padding: Annotated[Integer, Field(ge=0, le=256)] = 32
    box: tuple[Pixel, Pixel, Pixel, Pixel] = (0, 0, 0, 0)
    conditioning_mask_strength: Annotated[Real, Field(ge=0.0, le=1.0)] = 1.0
    differential: bool = False
    soft_inpainting: bool = False
    soft_bias: Annotated[Real, Field(ge=0.0, le=8.0)] = 1.0
    soft_preservation: Annotated[Real, Field(ge=0.0, le=8.0)] = 0.5
    soft_contrast_boost: Annotated[Real, Field(ge=1.0, le=32.0)] = 4.0
    soft_mask_influence: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    soft_difference_threshold: Annotated[Real, Field(ge=0.0, le=8.0)] = 0.5
    soft_difference_contrast: Annotated[Real, Field(ge=0.0, le=8.0)] = 2.0
    outpaint_left: Annotated[Integer, Field(ge=0, le=1024)] = 0
    outpaint_right: Annotated[Integer, Field(ge=0, le=1024)] = 0
    outpaint_up: Annotated[Integer, Field(ge=0, le=1024)] = 0
    outpaint_down: Annotated[Integer, Field(ge=0, le=1024)] = 0


class Hires(BaseModel):
    """A second pass over the result of the first, at another size: A1111's hires fix.

    The result is brought to `width` x `height` pixels by `upscaler` (covering them, cut off evenly where the aspect ratio is
    another one), and repainted with `denoising_strength` in exactly `steps` steps, 0 for those of the first pass.  What is left
    empty (None for `cfg_scale`) is the first pass's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Side
    height: Side
    upscaler: Upscaler = "Latent"
    denoising_strength: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.7
    steps: Annotated[Integer, Field(ge=0, le=150)] = 0
    sampler: str = ""
    schedule: str = ""
    cfg_scale: Annotated[Real, Field(ge=0.0, le=50.0)] | None = None
    prompt: Prompt = ""
    negative_prompt: Prompt = ""


class Txt2Img(NoiseOptions, SolverOptions, GuidanceOptions):
    """A picture from words.

    Sizes are pixels.  `seed` is -1 until the request is accepted, then resolved; image k of `count` uses seed + k.
    `checkpoint` is a name as `checkpoints.files.scan` lists it, None until accepted.  The options of noise, solver and guidance
    stand in classes of their own.

    The prompts may hold what `modules.prompts` reads; `styles` are names of the styles file, applied in this order, `comments`
    removes what stands behind a #, `emphasis` is what weights do, `old_prompt_editing` reads `[a:b:when]` as A1111 did before
    1.6, and `raw_text` leaves curly quotes, full-width letters and the like as they are (`prompts.tokenizer`).  With `private`
    the picture's file says nothing of how it was made; the job list knows until it is forgotten.  `hires` is a second pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    seed: Annotated[Integer, Field(ge=-1, le=MAX_SEED)] = -1
    steps: Annotated[Integer, Field(ge=1, le=150)] = 20
    cfg_scale: Annotated[Real, Field(ge=0.0, le=50.0)] = 7.0
    sampler: str = "DPM++ 2M"
    schedule: str = "Automatic"
    width: Side = 512
    height: Side = 512
    count: Annotated[Integer, Field(ge=1, le=100)] = 1
    checkpoint: str | None = None
    clip_skip: Annotated[Integer, Field(ge=1, le=12)] = 1
    styles: Annotated[tuple[StyleName, ...], Field(max_length=MAX_STYLES)] = ()
    emphasis: Emphasis = "Original"
    comments: bool = True
    old_prompt_editing: bool = False
    raw_text: bool = False
    private: bool = False
    hires: Hires | None = None

    @model_validator(mode="after")
    def _affordable(self) -> Txt2Img:
        width, height = max(((each.width, each.height) for each in (self, self.hires) if each), key=math.prod)
        if width * height * self.count > MAX_PIXELS:
            raise ValueError(f"{self.count} pictures of {width}x{height} are too much for one request; make fewer")
        return self

    @model_serializer(mode="wrap")
    def _without_an_absent_pass(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Requests of one pass are written as they were before there was a second."""
        fields: dict[str, Any] = dump(self)
        if fields.get("hires", 0) is None:
            del fields["hires"]
        return fields

    def second_pass(self) -> Txt2Img:
        """The settings of the second pass as a request of its own, which starts from what the first made."""
        assert self.hires is not None, "the caller asks for a second pass where there is one"
        own = {name: getattr(self.hires, name) for name in ("prompt", "negative_prompt", "steps", "sampler", "schedule")}
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


class Img2Img(Txt2Img, MaskOptions):
    """A picture from a picture; with a mask, or to be extended, only in part: inpainting and outpainting.

    `pictures` are ids of kept pictures (`modules.images.uploads`) by role: the init image, and the mask, which is as large and
    white where it counts.  The fields `source` and `mask`, which older versions and other clients have for them, are read too.
    `denoising_strength` is how much of the noise schedule is run; `fix_steps` runs `steps` of it at any strength.
    `noise_multiplier` scales the noise that is added, `extra_noise` is added on top.  `image_cfg_scale` is the guidance towards
    the init image of 8-channel editing models (Brooks et al. 2023, arXiv:2211.09800).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=allow_role_fields)

    pictures: Annotated[dict[Role, SourceId], AfterValidator(needs_init)]
    denoising_strength: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.75
    resize_mode: ResizeMode = "Just resize"
    fix_steps: bool = False
    color_correction: bool = False
    noise_multiplier: Annotated[Real, Field(ge=0.0, le=1.5)] = 1.0
    extra_noise: Annotated[Real, Field(ge=0.0, le=1.0)] = 0.0
    image_cfg_scale: Annotated[Real, Field(ge=0.0, le=10.0)] = 1.5

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


def parse_request(fields: dict[str, Any]) -> GenerationRequest:
    """A request from untrusted fields; one with `pictures` (or a `source`) starts from them.

    Raises:
        RequestError: one line per bad field, saying what was given and what is allowed.
    """
    kind = Img2Img if "source" in fields or "pictures" in fields else Txt2Img
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        explained = dict.fromkeys(_explain(e, fields) for e in error.errors(include_url=False))  # a box may be wrong four times
        raise RequestError("; ".join(explained)) from None


def parse_stored(fields: dict[str, Any]) -> GenerationRequest:
    """A request that some version of this program stored.  What a field means that it did not have yet is what it did then.

    Texts were taken as they are and UniPC ran exactly the steps that were asked for until `raw_text` came, with which records
    tell the two times apart.

    Raises:
        RequestError: as `parse_request`.
    """
    before = {} if "raw_text" in fields else {"raw_text": True, "exact_steps": True}
    return parse_request({**before, **fields})


def _explain(error: Any, fields: dict[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "request"
    if name == "hires":
        name = ".".join(map(str, error["loc"][:2]))
    if name == "pictures":
        name = picture_name(error["loc"], fields)
    if "too_long" in error["type"] and isinstance(error["input"], str):
        return f"{name}: at most {error['ctx']['max_length']:,} characters, {len(error['input']):,} were given"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such field"
    if name == "request" or (error["type"] == "value_error" and name == "pictures"):
        return str(error["msg"]).removeprefix("Value error, ")
    if name == "styles" and error["type"] == "too_long":
        return f"styles: at most {MAX_STYLES} names, {len(error['input'])} were given"
    if error["type"] == "missing" and len(error["loc"]) == 1 + name.startswith("hires."):
        return f"{name}: must be {_allowed(name)}, none was given"
    given = fields[name] if name in ("box", "source") else error["input"]
    return f"{name}: must be {_allowed(name)}, {repr(given)[:60]} was given"


def _allowed(name: str) -> str:
    """What a field takes, in words, from its own declaration."""
    kinds = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if name.endswith(("source", "mask", "pictures.init")):
        return "the id of a picture that was sent before, 64 hexadecimal digits"
    if name == "pictures" or name.startswith("pictures."):
        return f"ids of pictures by role ({', '.join(get_args(Role))})"
    if name == "hires":
        return f"an object with the fields of a second pass ({', '.join(Hires.model_fields)})"
    field = Hires.model_fields[name.removeprefix("hires.")] if name.startswith("hires.") else Img2Img.model_fields[name]
    kind, parts = field.annotation, list(field.metadata)
    if type(None) in get_args(kind):  # a number or None: its bounds are a level deeper
        inner = get_args(kind)[0]
        kind, *nested = get_args(inner) or (inner,)
        parts += [part for declared in nested for part in getattr(declared, "metadata", ())]
    bounds = {key: getattr(part, key) for part in parts for key in ("ge", "le", "multiple_of") if hasattr(part, key)}
    text = kinds.get(kind, "a value of its kind")  # type: ignore[arg-type]
    if name == "box":
        return "four whole numbers from 0 to 8192: x, y, width, height"
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, get_args(field.annotation)))
    if "multiple_of" in bounds:
        text = f"a multiple of {bounds['multiple_of']}"
    low, high = (int(end) if end == int(end) else end for end in (bounds.get("ge", 0), bounds.get("le", 0)))
    return f"{text} from {low} to {high}" if "ge" in bounds and "le" in bounds else text

"""What a user asks for: frozen, JSON-stable data without torch.

A request never changes after it was accepted.  What is found out later (model hash, versions, timings) goes to
`modules.images.infotext.GenerationInfo`.  Each field is declared once, with an `About` (`modules.fields`) from which page,
command line, infotext and both APIs follow.  Validation answers in the user's words: what was asked, what is allowed.

    kinds       the kinds of fields and their limits
    sampling    options of noise, sampler and schedule
    guidance    options of guidance
    mask        options of inpainting and outpainting
    hires       options of a second pass
    refiner     options of a checkpoint that goes on with the denoising loop
    checkpoint  options of what a checkpoint is run with: halves of its VAE, SDXL's numbers
    tiles       options of tiled diffusion, and the windows that follow from them
    extensions  options of extensions, whose classes plugins name; kept_extensions: those of extensions that are not in use
    requests    Txt2Img and Img2Img, which have all these options
    starting    what a request has to start from for the kind of its checkpoint
    upscaling   Upscaling: a picture that is only enlarged
    parsing     fields -> request; explaining: what is wrong with one
"""

from modules.request.extensions import EXTENSIONS, RequestExtension, options_of
from modules.request.guidance import GuidanceOptions
from modules.request.hires import LATENT_UPSCALERS, Hires
from modules.request.kinds import (
    MAX_PIXELS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SIDE,
    MAX_SOURCE_PIXELS,
    MAX_SOURCE_SIDE,
    MAX_STYLES,
    MAX_TILED_SIDE,
    MIN_SIDE,
    SIDE_STEP,
    Integer,
    Prompt,
    Real,
    clean_text,
)
from modules.request.mask import InpaintArea, MaskedContent, MaskMode, MaskOptions
from modules.request.parsing import parse_request, parse_stored
from modules.request.refiner import RefinerOptions
from modules.request.requests import LATER_FIELDS, Emphasis, GenerationRequest, Img2Img, ResizeMode, Txt2Img
from modules.request.sampling import NoiseOptions, SamplerOptions
from modules.request.tiles import TileOptions
from modules.request.upscaling import Upscaling

__all__ = [
    "EXTENSIONS",
    "LATENT_UPSCALERS",
    "LATER_FIELDS",
    "MAX_PIXELS",
    "MAX_PROMPT",
    "MAX_SEED",
    "MAX_SIDE",
    "MAX_SOURCE_PIXELS",
    "MAX_SOURCE_SIDE",
    "MAX_STYLES",
    "MAX_TILED_SIDE",
    "MIN_SIDE",
    "SIDE_STEP",
    "Emphasis",
    "GenerationRequest",
    "GuidanceOptions",
    "Hires",
    "Img2Img",
    "InpaintArea",
    "Integer",
    "MaskMode",
    "MaskOptions",
    "MaskedContent",
    "NoiseOptions",
    "Prompt",
    "Real",
    "RefinerOptions",
    "RequestExtension",
    "ResizeMode",
    "SamplerOptions",
    "TileOptions",
    "Txt2Img",
    "Upscaling",
    "clean_text",
    "options_of",
    "parse_request",
    "parse_stored",
]

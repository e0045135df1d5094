"""What a request has to start from for the kind of checkpoint that it names.  No torch: asked when it is submitted and run."""

from __future__ import annotations

from modules.request.requests import Img2Img, Txt2Img

NOISE_LEVEL = 20
"""Of the picture that is enlarged, where nothing is said: Stability AI's demonstration's."""
NOT_ENLARGING = ("denoising_strength", "noise_multiplier", "extra_noise", "fix_steps", "vae_encoder")
"""Fields of a picture from a picture that mean nothing where it is enlarged: it begins with noise alone, and is not encoded."""


_DOES = {
    "picture": "edits a given picture",
    "low-res": "enlarges a given picture",
    "map": "paints along a given map of classes",
}
"""What networks with this concat conditioning do, for which they need a picture."""

FROM_NOISE = ("low-res", "map")
"""Concat conditioning of networks that begin with noise alone, whatever picture they are given."""


def starting_problem(checkpoint: str, concat: str, request: Txt2Img) -> str:
    """Why a checkpoint whose network takes this concat conditioning (`families.Family.concat`) cannot do what is asked for: the
    end of a sentence that names it, "" where it can."""
    name = f"checkpoint {checkpoint!r}"
    if concat in _DOES and not isinstance(request, Img2Img):
        return (
            f"{name} {_DOES[concat]} and cannot paint from words alone; "
            "give it a picture to start from (img2img), or choose another checkpoint"
        )
    if concat in FROM_NOISE and isinstance(request, Img2Img) and request.inpaints:
        whole = "enlarges a whole picture" if concat == "low-res" else "paints a whole picture along a map"
        return (
            f"{name} {whole} and can neither inpaint a part of it nor extend it; "
            "leave out the mask and the extension (img2img), or choose another checkpoint"
        )
    if concat != "low-res" and isinstance(request, Img2Img) and request.upscaler_noise_level is not None:
        return f"upscaler_noise_level: {name} does not enlarge pictures; leave it out, or choose SD x4 upscaler"
    return ""

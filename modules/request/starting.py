"""What a request has to start from for the kind of checkpoint that it names.  No torch: asked when it is submitted and run."""

from __future__ import annotations

from modules.request.requests import Img2Img, Txt2Img

NOISE_LEVEL = 20
"""Of the picture that is enlarged, where nothing is said: Stability AI's demonstration's."""
NOT_ENLARGING = ("denoising_strength", "noise_multiplier", "extra_noise", "fix_steps", "vae_encoder")
"""Fields of a picture from a picture that mean nothing where it is enlarged: it begins with noise alone, and is not encoded."""


_DOES = {"picture": "edits", "low-res": "enlarges"}
"""What networks with this concat conditioning do with a picture, without which they do nothing."""


def starting_problem(checkpoint: str, concat: str, request: Txt2Img) -> str:
    """Why a checkpoint whose network takes this concat conditioning (`families.Family.concat`) cannot do what is asked for: the
    end of a sentence that names it, "" where it can."""
    name = f"checkpoint {checkpoint!r}"
    if concat in _DOES and not isinstance(request, Img2Img):
        return (
            f"{name} {_DOES[concat]} a given picture and cannot paint from words alone; "
            "give it a picture to start from (img2img), or choose another checkpoint"
        )
    if concat == "low-res" and isinstance(request, Img2Img) and request.inpaints:
        return (
            f"{name} enlarges a whole picture and can neither inpaint a part of it nor extend it; "
            "leave out the mask and the extension (img2img), or choose another checkpoint"
        )
    if concat != "low-res" and isinstance(request, Img2Img) and request.upscaler_noise_level is not None:
        return f"upscaler_noise_level: {name} does not enlarge pictures; leave it out, or choose SD x4 upscaler"
    return ""

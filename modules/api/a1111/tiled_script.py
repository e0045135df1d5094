"""The always on script "Tiled Diffusion" of an API call as fields of a request.

Facts: the extension "Tiled Diffusion & VAE" (pkuliyi2015), `scripts/tilediffusion.py`: the order of its arguments, and that its
sizes count latent positions of 8 pixels.  Some clients send them as one object.
"""

from __future__ import annotations

from typing import Any, get_args

from modules.api.a1111.coercion import is_no
from modules.errors import RequestError
from modules.request.tiles import TileMethod

ARGUMENTS = (
    ("enabled", "Enable Tiled Diffusion", False),
    ("method", "Method", "MultiDiffusion"),
    ("overwrite_size", "Overwrite image size", False),
    ("keep_input_size", "Keep input image size", True),
    ("image_width", "Image width", 1024),
    ("image_height", "Image height", 1024),
    ("tile_width", "Latent tile width", 96),
    ("tile_height", "Latent tile height", 96),
    ("overlap", "Latent tile overlap", 48),
    ("tile_batch_size", "Latent tile batch size", 4),
    ("upscaler_name", "Upscaler", "None"),
    ("scale_factor", "Scale Factor", 2.0),
    ("noise_inverse", "Enable Noise Inversion", False),
    ("noise_inverse_steps", "Inversion steps", 10),
    ("noise_inverse_retouch", "Retouch", 1),
    ("noise_inverse_renoise_strength", "Renoise strength", 1),
    ("noise_inverse_renoise_kernel", "Renoise kernel size", 64),
    ("control_tensor_cpu", "Move ControlNet tensor to CPU (if applicable)", False),
    ("enable_bbox_control", "Enable Control", False),
    ("draw_background", "Draw full canvas background", False),
    ("causal_layers", "Causalize layers", False),
)
"""Name, label and default of each, by place; behind them stand those of eight regions."""
LATENT = 8
_SIZES = ("tile_width", "tile_height", "overlap", "tile_batch_size")
_WHERE = "alwayson_scripts.Tiled Diffusion"


def tiled_args() -> list[dict[str, Any]]:
    """What script-info says of them."""
    none = dict.fromkeys(("minimum", "maximum", "step", "choices"))
    methods = {"choices": list(get_args(TileMethod))}
    return [
        {"label": label, "value": value, **none, **(methods if name == "method" else {})} for name, label, value in ARGUMENTS
    ]


def tiled_fields(args: list[Any], image: bool) -> dict[str, Any]:
    """The fields that the arguments set.

    As in the extension, sides are cut to 16 to 256 positions, the overlap to 4 less than the smaller one.

    Raises:
        RequestError: an argument is none of its kind, or asks for what is not here.
    """
    given = {name: value for name, _, value in ARGUMENTS}
    sent = args[0] if args and isinstance(args[0], dict) else dict(zip(given, args, strict=False))
    given |= {str(name): value for name, value in sent.items() if value is not None}
    if given["method"] not in get_args(TileMethod):
        raise RequestError(
            f"{_WHERE}: there is no method {str(given['method'])[:40]!r}; there are {' and '.join(get_args(TileMethod))}"
        )
    for name, words in (("noise_inverse", "noise inversion"), ("enable_bbox_control", "region prompt control")):
        if not is_no(given[name]):
            raise RequestError(f"{_WHERE}: {words} is not here; send false for {name}")
    if image and not is_no(given["upscaler_name"]) and str(given["upscaler_name"]).lower() != "none" and _real(given) != 1:
        raise RequestError(
            f"{_WHERE}: an upscaler is not applied by it here; send the larger width and height, or script_name 'SD upscale'"
        )
    width, height, overlap, batch = (_whole(name, given[name]) for name in _SIZES)
    width, height = (min(max(side, 16), 256) for side in (width, height))
    fields: dict[str, Any] = {
        "tiled_diffusion": True,
        "tile_method": given["method"],
        "tile_width": width * LATENT,
        "tile_height": height * LATENT,
        "tile_overlap": min(max(0, overlap), min(width, height) - 4) * LATENT,
        "tile_batch": min(max(1, batch), 8),
    }
    if not image and not is_no(given["overwrite_size"]):
        sides = (("width", "image_width"), ("height", "image_height"))
        fields |= {ours: _whole(name, given[name]) // LATENT * LATENT for ours, name in sides}
    return fields


def _real(given: dict[str, Any]) -> float:
    try:
        return float(given["scale_factor"])
    except (TypeError, ValueError):
        raise RequestError(f"{_WHERE}: scale_factor must be a number, {str(given['scale_factor'])[:40]!r} was given") from None


def _whole(name: str, value: Any) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not -1e6 < number < 1e6 or number != int(number):
        raise RequestError(f"{_WHERE}: {name} must be a whole number, {str(value)[:40]!r} was given")
    return int(number)

"""`script_name` and `script_args`: the scripts of A1111's dropdown that are here, and their arguments by place.

Facts: AUTOMATIC1111 v1.10.1, `scripts/*.py`, whose order of arguments this is.
"""

from __future__ import annotations

from typing import Any

from modules.api.a1111.outpainting_scripts import OUTPAINTING
from modules.api.a1111.script_places import Place, one_of
from modules.errors import RequestError
from modules.scripts.axes import Names, axes, find_axis
from modules.scripts.detail import MAX_DETAILS
from modules.scripts.detectors import DETECTORS
from modules.scripts.loopback import CURVES
from modules.scripts.plan import OF_PICTURES, TITLES
from modules.scripts.runs import ScriptRuns
from modules.scripts.upscale import NO_UPSCALER


def _labels(image: bool) -> list[str]:
    return [axis.label for axis in axes(image)]


_AXES = tuple(
    place
    for letter in "xyz"
    for place in (
        Place(f"{letter}_type", f"{letter.upper()} type", "Nothing", choices=_labels),
        Place(f"{letter}_values", f"{letter.upper()} values", ""),
        Place(f"{letter}_dropdown", f"{letter.upper()} values", []),
    )
)
_MARGIN = Place("margin_size", "Grid margins (px)", 0, 0, 500, 2)

PLACES: dict[str, tuple[Place, ...]] = {
    "xyz": (
        *_AXES,
        Place("draw_legend", "Draw legend", True),
        Place("include_lone_images", "Include Sub Images", False),
        Place("include_sub_grids", "Include Sub Grids", False),
        Place("no_fixed_seeds", "Keep -1 for seeds", False),
        Place("vary_seeds_x", "Vary seeds for X", False),
        Place("vary_seeds_y", "Vary seeds for Y", False),
        Place("vary_seeds_z", "Vary seeds for Z", False),
        _MARGIN,
        Place("csv_mode", "Use text inputs instead of dropdowns", False),
    ),
    "matrix": (
        Place("put_at_start", "Put variable parts at start of prompt", False),
        Place("different_seeds", "Use different seed for each picture", False),
        Place("prompt_type", "Select prompt", "positive", choices=one_of("positive", "negative")),
        Place("variations_delimiter", "Select joining char", "comma", choices=one_of("comma", "space")),
        _MARGIN,
    ),
    "prompts": (
        Place("iterate_seed", "Iterate seed every line", False),
        Place("same_seed", "Use same random seed for all lines", False),
        Place("prompt_position", "Insert prompts at the", "start", choices=one_of("start", "end", "none")),
        Place("prompts", "List of prompt inputs", ""),
    ),
    "loopback": (
        Place("loops", "Loops", 4, 1, 32, 1),
        Place("final_denoising_strength", "Final denoising strength", 0.5, 0, 1, 0.01),
        Place("denoising_curve", "Denoising strength curve", "Linear", choices=one_of(*CURVES)),
        Place("append_interrogation", "Append interrogated prompt at each iteration", "None", choices=one_of("None")),
    ),
    "upscale": (
        Place("info", "", ""),
        Place("overlap", "Tile overlap", 64, 0, 256, 16),
        Place("upscaler", "Upscaler", NO_UPSCALER),
        Place("scale_factor", "Scale Factor", 2.0, 1, 4, 0.05),
    ),
    "detail": (
        Place("boxes", "Boxes (left, top, width, height)", []),
        Place("detector", "Detector", "", choices=lambda _image: [one.name for one in DETECTORS]),
        Place("denoising_strength", "Denoising strength", 0.4, 0, 1, 0.01),
        Place("padding", "Padding", 32, 0, 256, 1),
        Place("mask_blur", "Mask blur", 8, 0, 64, 1),
        Place("prompt", "Prompt", ""),
        Place("negative_prompt", "Negative prompt", ""),
        Place("after", "Paint the picture first", False),
        Place("most", "Details at most", 4, 1, MAX_DETAILS, 1),
        Place("growth", "Mask dilation", 4, -128, 128, 4),
        Place("whole", "Whole picture", False),
    ),
}
"""By our names of the scripts."""

_OLDER = 14
"""Arguments of the X/Y/Z plot before 1.6, where the margin stands behind "Keep -1 for seeds"."""


def chosen_names(image: bool) -> list[str]:
    """As A1111 lists them: titles in lower case."""
    ours = [TITLES[script].lower() for script in PLACES if image or script not in OF_PICTURES]
    return [*ours, *(OUTPAINTING if image else ())]


def chosen_infos(names: Names) -> list[dict[str, Any]]:
    """What script-info says of them; `names` are those of what is here."""
    return [
        {
            "name": TITLES[script].lower(),
            "is_alwayson": False,
            "is_img2img": image,
            "args": [_described(place, image, names) for place in places],
        }
        for script, places in PLACES.items()
        for image in (False, True)
        if image or script not in OF_PICTURES
    ] + [
        {"name": name, "is_alwayson": False, "is_img2img": True, "args": [place.described(True) for place in places]}
        for name, places in OUTPAINTING.items()
    ]


def _described(place: Place, image: bool, names: Names) -> dict[str, Any]:
    found = place.described(image)
    return {**found, "choices": names.enlargers()} if place.option == "upscaler" else found


def chosen_script(name: str, args: list[Any], image: bool, runs: ScriptRuns) -> dict[str, Any]:
    """The script that a call asks for, as `modules.scripts` reads it.

    Raises:
        RequestError: it is not here, or is asked for what cannot be done.
    """
    known = {TITLES[script].lower(): script for script in PLACES if image or script not in OF_PICTURES}
    script = known.get(name.strip().lower())
    if script is None:
        raise RequestError(f"Script {name[:80]!r} not found; known here: {', '.join(chosen_names(image))}")
    places = PLACES[script]
    if len(args) > len(places):
        raise RequestError(f"script_args: {len(args)} were given, and {TITLES[script]} takes {len(places)}")
    if script == "xyz" and len(args) == _OLDER:
        places = (*places[: _OLDER - 1], _MARGIN)
    given = {place.option: value for place, value in zip(places, args, strict=False)}
    options = {place.option: place.value for place in PLACES[script]} | given
    if script == "xyz":
        _choose(options, image, runs)
    elif script == "upscale":
        options = {**options, "upscaler": _upscaler(options["upscaler"], runs.names().enlargers())}
        del options["info"]
    elif script == "loopback" and str(options.pop("append_interrogation") or "None").lower() != "none":
        raise RequestError("script_args: interrogating pictures is not built; send None for append_interrogation")
    return {**options, "name": script}


def _upscaler(value: Any, names: list[str]) -> str:
    """A1111 takes its name, or its place in the list of upscalers, which are `names` here."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return names[value] if whole and 0 <= value < len(names) else str(value)


def _choose(options: dict[str, Any], image: bool, runs: ScriptRuns) -> None:
    """Values of axes with choices are a list of their own, unless the text is asked for."""
    text = str(options.pop("csv_mode")).lower() in ("true", "1")
    names = runs.names()
    for letter in "xyz":
        listed = options.pop(f"{letter}_dropdown")
        try:
            axis = find_axis(options[f"{letter}_type"], image)
        except RequestError:
            continue  # which the plot says with its letter
        if listed and isinstance(listed, list) and not text and axis.choices(names) is not None:
            options[f"{letter}_values"] = listed

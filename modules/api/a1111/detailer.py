"""The always on script "ADetailer" of an API call as a detail pass behind its pictures.

Facts: the extension "ADetailer" (Bing-su, 24.11), `adetailer/args.py` and `scripts/!adetailer.py`: its arguments are two
switches (on, and whether img2img itself is skipped) and an object for each pass, whose names and defaults are these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.api.a1111.coercion import is_no
from modules.errors import RequestError
from modules.scripts.detectors import DETECTORS

NAME = "adetailer"
_WHERE = "alwayson_scripts.ADetailer"
DEFAULTS: dict[str, Any] = {
    "ad_model": "None",
    "ad_model_classes": "",
    "ad_tab_enable": True,
    "ad_prompt": "",
    "ad_negative_prompt": "",
    "ad_confidence": 0.3,
    "ad_mask_filter_method": "Area",
    "ad_mask_k": 0,
    "ad_mask_min_ratio": 0.0,
    "ad_mask_max_ratio": 1.0,
    "ad_dilate_erode": 4,
    "ad_x_offset": 0,
    "ad_y_offset": 0,
    "ad_mask_merge_invert": "None",
    "ad_mask_blur": 4,
    "ad_denoising_strength": 0.4,
    "ad_inpaint_only_masked": True,
    "ad_inpaint_only_masked_padding": 32,
    "ad_use_inpaint_width_height": False,
    "ad_inpaint_width": 512,
    "ad_inpaint_height": 512,
    "ad_use_steps": False,
    "ad_steps": 28,
    "ad_use_cfg_scale": False,
    "ad_cfg_scale": 7.0,
    "ad_use_checkpoint": False,
    "ad_checkpoint": None,
    "ad_use_vae": False,
    "ad_vae": None,
    "ad_use_sampler": False,
    "ad_sampler": "DPM++ 2M Karras",
    "ad_scheduler": "Use same scheduler",
    "ad_use_noise_multiplier": False,
    "ad_noise_multiplier": 1.0,
    "ad_use_clip_skip": False,
    "ad_clip_skip": 1,
    "ad_restore_face": False,
    "ad_controlnet_model": "None",
    "ad_controlnet_module": "None",
    "ad_controlnet_weight": 1.0,
    "ad_controlnet_guidance_start": 0.0,
    "ad_controlnet_guidance_end": 1.0,
}
_OWN = {
    "ad_use_inpaint_width_height": {"ad_inpaint_width": "width", "ad_inpaint_height": "height"},
    "ad_use_steps": {"ad_steps": "steps"},
    "ad_use_cfg_scale": {"ad_cfg_scale": "cfg_scale"},
    "ad_use_checkpoint": {"ad_checkpoint": "checkpoint"},
    "ad_use_vae": {"ad_vae": "vae"},
    "ad_use_sampler": {"ad_sampler": "sampler", "ad_scheduler": "schedule"},
    "ad_use_noise_multiplier": {"ad_noise_multiplier": "noise_multiplier"},
    "ad_use_clip_skip": {"ad_clip_skip": "clip_skip"},
}
"""Switches, and the fields that they have a pass have for itself."""
_SAME = ("Use same checkpoint", "Use same VAE", "Use same sampler", "Use same scheduler", "None", "", None)
_REFUSED = {
    "ad_x_offset": "masks are not moved here",
    "ad_y_offset": "masks are not moved here",
    "ad_mask_merge_invert": "masks are neither merged nor inverted here",
    "ad_restore_face": "face restoration is not built",
    "ad_controlnet_model": "ControlNet is not applied to details here",
    "ad_model_classes": "no detector here tells classes apart",
}
"""What would be another picture, and why it is not made."""
_FACES = ("face", "head")
"""In names of ADetailer's models: those that find faces."""


def detail_args() -> list[dict[str, Any]]:
    """What script-info says of them."""
    none = dict.fromkeys(("minimum", "maximum", "step", "choices"))
    switches = [{"label": label, "value": False, **none} for label in ("Enable ADetailer", "Skip img2img")]
    return [*switches, {"label": "ADetailer 1st", "value": DEFAULTS, **none}]


def detail_script(asked: Mapping[str, Any] | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The script "Detail pass" that `alwayson_scripts` ask for, as `modules.scripts` reads it, None where they ask for none;
    and notes on what was passed over.

    Raises:
        RequestError: it is asked for what cannot be done.
    """
    args = next((given for name, given in (asked or {}).items() if name.strip().lower() == NAME), None)
    args = args.get("args") if isinstance(args, dict) else args
    if not isinstance(args, list):
        return None, []
    switches = [one for one in args if not isinstance(one, dict)]
    units = [one for one in args if isinstance(one, dict)]
    if (switches and is_no(switches[0])) or not args:
        return None, []
    if len(switches) > 1 and not is_no(switches[1]):
        raise RequestError(f"{_WHERE}: a picture's details alone are painted by script_name 'Detail pass' here; send false")
    if not units:
        raise RequestError(f"{_WHERE}: send an object with ad_model for each detail pass among its args")
    notes: list[str] = []
    passes = [one for unit in units if (one := _pass({**DEFAULTS, **unit}, notes)) is not None]
    return ({"name": "detail", "after": True, "passes": passes} if passes else None), list(dict.fromkeys(notes))


def _pass(unit: dict[str, Any], notes: list[str]) -> dict[str, Any] | None:
    """A pass as the script reads it, None where it is off."""
    model = str(unit["ad_model"] or "None")
    if model.lower() == "none" or is_no(unit["ad_tab_enable"]):
        return None
    for name, why in _REFUSED.items():
        if unit[name] not in (DEFAULTS[name], None, "", "None") and not (is_no(unit[name]) or unit[name] == 0):
            raise RequestError(f"{_WHERE}: {name}: {why}; leave it out")
    if str(unit["ad_mask_filter_method"]) != "Area":
        raise RequestError(
            f"{_WHERE}: ad_mask_filter_method: details are taken by their area here, the largest first; send Area"
        )
    if unit["ad_confidence"] != DEFAULTS["ad_confidence"]:
        notes.append(f"{_WHERE}: ad_confidence: detectors here tell no confidence; it was passed over")
    if strange := [str(name)[:60] for name in unit if name not in DEFAULTS and name != "is_api"]:
        notes.append(f"{_WHERE}: {', '.join(strange)}: not known here; passed over")
    found: dict[str, Any] = {
        "detector": _detector(model, notes),
        "prompt": unit["ad_prompt"],
        "negative_prompt": unit["ad_negative_prompt"],
        "denoising_strength": unit["ad_denoising_strength"],
        "padding": unit["ad_inpaint_only_masked_padding"],
        "mask_blur": unit["ad_mask_blur"],
        "growth": unit["ad_dilate_erode"],
        "smallest": unit["ad_mask_min_ratio"],
        "largest": unit["ad_mask_max_ratio"],
        "whole": is_no(unit["ad_inpaint_only_masked"]),
        "own": _own(unit),
    }
    return found | ({"most": unit["ad_mask_k"]} if unit["ad_mask_k"] else {})


def _own(unit: Mapping[str, Any]) -> dict[str, Any]:
    return {
        ours: unit[theirs]
        for switch, names in _OWN.items()
        if not is_no(unit[switch])
        for theirs, ours in names.items()
        if unit[theirs] not in _SAME
    }


def _detector(model: str, notes: list[str]) -> str:
    """The detector that takes the place of a model of ADetailer's.

    Raises:
        RequestError: none does.
    """
    if (known := DETECTORS.find(model)) is not None:
        return known.name
    names = [one.name for one in DETECTORS]
    face = next((name for name in names if name.lower().startswith("face")), "")
    if face and any(word in model.lower() for word in _FACES):
        notes.append(f"{_WHERE}: ad_model {model[:60]!r} is not here; {face} looked for faces in its place")
        return face
    there = ", ".join(names) or "none is installed: pip install 'opencv-python-headless<5'"
    raise RequestError(f"{_WHERE}: ad_model: there is no detector {model[:60]!r} here ({there})")

"""Keys that Forge's built-in extensions and A1111's popular ones add to a text, in this program's keys where it has the same.

Source: the scripts in Forge's `extensions-builtin/`; the keys of SAG and of sd-dynamic-thresholding are from memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from modules.images.readers.file_texts import number

_GUIDANCE = {
    "sag_enabled": {"sag_scale": "SAG scale", "sag_blur_sigma": "SAG blur sigma"},
    "pagi_enabled": {"pagi_scale": "PAG scale"},
    "dynthres_enabled": {
        "dynthres_mimic_scale": "Mimic scale",
        "dynthres_threshold_percentile": "Threshold percentile",
    },
}
"""What is taken over of an extension that is on, by the key that says so."""
_PLAIN = {
    "pagi_attenuation": (0,),
    "pagi_start_step": (0,),
    "pagi_end_step": (1,),
    "sag_threshold": (1,),
}
"""Settings of theirs that have no field here, and the values with which they do nothing."""
_MODES = ("Mimic mode", "CFG mode", "dynthres_mimic_mode", "dynthres_cfg_mode")
_NAMES = {"freeu": "FreeU", "hypertile": "HyperTile", "kohya_hrfix": "Kohya's HR fix", "dynthres": "dynamic thresholding"}


def meant(parsed: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The items with what extensions say in keys of this program, and sentences about what is not taken over."""
    items = dict(parsed)
    notes = []
    on = [key for key in parsed if key.endswith("_enabled") and parsed[key] == "True"]
    for key in on:
        for name, ours in _GUIDANCE.get(key, {}).items():
            if name in parsed:
                items.setdefault(ours, parsed[name])
    percentile = number(items.get("Threshold percentile"))
    if percentile is not None and percentile > 1:  # the extension's slider counts in hundredths
        items["Threshold percentile"] = f"{percentile / 100:g}"
    if parsed.get("Dynamic thresholding enabled") == "False":
        items.pop("Mimic scale", None)
    asked = [_NAMES.get(name := key.removesuffix("_enabled"), name.replace("_", " ")) for key in on if key not in _GUIDANCE]
    if asked:
        notes.append(f"made with {', '.join(asked)}, which is not taken over")
    if any(
        number(parsed.get(key)) not in (None, *idle) for key, idle in _PLAIN.items() if f"{key.split('_')[0]}_enabled" in on
    ):
        notes.append("its guidance by attention was for a part of the steps or weakened, here it is whole")
    if any(parsed.get(key, "Constant") != "Constant" for key in _MODES):
        notes.append("its dynamic thresholding changed over the steps, here it is constant")
    return items, tuple(notes)

"""SD.Next's texts: A1111's layout with keys of its own, and the samplers of the library diffusers.

With its backend "Original", until 2024, it painted with k-diffusion and its texts mean what A1111's mean.

Source: SD.Next's `modules/processing_info.py` and `modules/sd_samplers_diffusers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from modules.images.infotext_keys import NEGATIVE, PROMPT, ZERO_SNR
from modules.images.readers import compel, language
from modules.images.readers.file_texts import MAX_ITEMS, ExtraNetwork

_SAMPLERS = {
    "KDPM2": "DPM2",
    "KDPM2 a": "DPM2 a",
    "LMSD": "LMS",
    "PNDM": "PLMS",
    "DPM SDE": "DPM++ SDE",
    "SA Solver": "SA-Solver",
    "Euler SGM": "Euler",
}
"""Where its names are not A1111's."""
_SIGMAS = {"karras": "Karras", "exponential": "Exponential", "betas": "Beta", "beta": "Beta"}
_SPACINGS = {"linspace": "Uniform", "trailing": "SGM Uniform"}
_PREDICTIONS = {"v_prediction": "v", "vprediction": "v", "epsilon": "eps"}
_RENAMED = {"Variation strength": "Variation seed strength", "Sampler eta delta": "ENSD", "CFG true": "PAG scale"}
_NOT_TAKEN = {
    "Refine": "a second pass",
    "Hires force": "a second pass",
    "Hires scale": "a second pass",
    "Hires fixed": "a second pass",
    "Refiner": "a refiner",
    "Detailer": "details that are painted again",
    "ToMe": "token merging",
    "ToDo": "token merging",
    "CFG end": "guidance for a part of the steps",
    "CFG adaptive": "adaptive guidance",
    "Sampler eta multiplier": "a multiplier of the first noise",
    "Sampler beta schedule": "noise levels of its own",
    "Sampler beta start": "noise levels of its own",
    "Sampler beta end": "noise levels of its own",
    "Sampler range": "a range of timesteps",
    "Sampler timesteps": "timesteps of its own",
    "Sampler shift": "shifted noise levels",
    "Sampler order": "another order of the solver",
    "Sampler low order": "another order of the solver",
    "Sampler dynamic": "dynamic thresholding",
    "FreeU": "FreeU",
    "HiDiffusion": "HiDiffusion",
    "HyperTile UNet": "HyperTile",
    "TE": "another text encoder",
    "UNet": "another U-Net",
    "Resize after": "a resize behind it",
    "Grid": "a grid of pictures",
}
"""Keys of its own that change the picture and have no field here."""
_OTHERWISE = ("Refiner", "Refiner switch at")
"""Keys of A1111's that mean something else: its refiner makes steps of its own after the last one."""


def meant(parsed: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The items of such a text as A1111 would have them, and sentences about what is not taken over."""
    items = {_RENAMED.get(key, key): value for key, value in parsed.items() if key not in _OTHERWISE}
    notes = []
    asked = dict.fromkeys(what for key, what in _NOT_TAKEN.items() if parsed.get(key, "") not in ("", "False", "None"))
    if asked:
        notes.append(f"made with {', '.join(asked)}, which is not taken over")
    if parsed.get("Backend", "").casefold() == "original":
        return items, tuple(notes)
    raw = parsed.get("Sampler", "")
    if raw:
        items["Sampler"] = _SAMPLERS.get(raw, raw)
        items["Schedule type"] = parsed.get("Schedule type") or _schedule(parsed, raw)
    if prediction := _PREDICTIONS.get(parsed.get("Sampler type", "").casefold()):
        items["Prediction"] = prediction
    if parsed.get("Sampler rescale") == "True":
        items["Noise Schedule"] = ZERO_SNR
    notes += _words(items, parsed.get("Parser", "").casefold())
    notes.append(f"SD.Next's {raw or 'samplers'} come from another library: the picture will only be similar")
    return items, tuple(notes)


def _schedule(parsed: Mapping[str, str], sampler: str) -> str:
    """Even timesteps unless one of its settings is said: nothing is left to A1111's Automatic, which is Karras for some."""
    if found := _SIGMAS.get((parsed.get("Sampler sigma") or parsed.get("Sampler options") or "").split("/")[0].casefold()):
        return found
    return _SPACINGS.get(parsed.get("Sampler spacing", ""), "SGM Uniform" if sampler == "Euler SGM" else "Uniform")


def _words(items: dict[str, str], parser: str) -> list[str]:
    """The prompts of its other parsers, in place."""
    if parser.startswith("fixed"):
        items["Emphasis"] = "None"
    elif parser.startswith("compel"):
        prompts = (items.get(PROMPT, ""), items.get(NEGATIVE, ""))
        if functions := compel.functions(*prompts):
            return [f"its prompt uses .{'(), .'.join(functions)}(), which is not known here"]
        items[PROMPT], items[NEGATIVE] = language.whole_weight(compel.words(prompts[0])), compel.words(prompts[1])
        items["Emphasis"] = "No norm"
    return []


def inversions(parsed: Mapping[str, str]) -> tuple[ExtraNetwork, ...]:
    """The textual inversions that it names: "Embeddings: a, b" in quotes."""
    names = [name.strip() for name in parsed.get("Embeddings", "").split(",")[:MAX_ITEMS]]
    return tuple(ExtraNetwork("embedding", name) for name in dict.fromkeys(names) if name)

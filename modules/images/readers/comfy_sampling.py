"""What ComfyUI's names of samplers and schedules mean, for every program whose pictures ComfyUI made.

Source: ComfyUI's `comfy/samplers.py` and `comfy/k_diffusion/sampling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from modules.images.readers import names
from modules.images.readers.file_texts import number

_SCHEDULES = {
    "beta": "Beta timesteps",
    "kl_optimal": "KL Optimal to zero",
}
"""Schedules that A1111 has under the same name and spaces otherwise."""
_ON_THE_DEVICE = ("LCM", "DDPM", "ER SDE", "SEEDS 2", "SEEDS 3", "SA-Solver", "SA-Solver PECE")
"""Samplers whose later noise comes from the device's generator, as all ancestral ones' does; the SDE ones draw on the CPU."""
_DETERMINISTIC = ("DPM fast", "DPM adaptive")
"""Samplers that ComfyUI runs with an eta of 0, A1111 with 1."""
_OTHERWISE = {
    "UniPC": "UniPC walks noise levels of its own here and not the schedule's",
    "LCM": "LCM walks the 50 levels that such models were distilled at here, not all of the network's",
}
_OTHER_LEVELS = {
    "Turbo": "the schedule Turbo spreads its steps over all noise levels here, where ComfyUI takes the highest of ten",
    "Align Your Steps GITS": "the schedule GITS has a table for each number of steps in ComfyUI and one here",
}


_HIGHEST = 14.6146
"""The highest noise level of SD 1.x and SDXL."""


def starts_lower(items: Mapping[str, str]) -> bool:
    """Whether the first level is set to one below the model's highest, from which ComfyUI starts with sigma times the noise."""
    highest = number(items.get("Schedule max sigma"))
    return highest is not None and highest < _HIGHEST


def sampling(sampler: str, scheduler: str, whole: bool = True) -> tuple[dict[str, str], tuple[str, ...]]:
    """A1111's items for a sampler and a schedule of ComfyUI's, and sentences about what differs.

    `whole` says that the run begins with noise alone.  ComfyUI then starts from sqrt(1 + sigma^2) times the noise if the first
    level is the model's highest (`Sampler.max_denoise`), which it is for every schedule but ddim_uniform.

    >>> sampling("ddim", "ddim_uniform")
    ({'Sampler': 'Euler', 'Schedule type': 'DDIM'}, ())
    """
    name, in_name = names.sampler(sampler)
    if name == "DDIM":
        name = "Euler"  # what ComfyUI runs under that name
    schedule = in_name or _SCHEDULES.get(scheduler.strip().casefold()) or names.schedule(scheduler)
    items = {"Sampler": name, "Schedule type": schedule}
    if schedule == "Align Your Steps":
        items["Discard penultimate sigma"] = "True"  # ComfyUI's has a level more, of which the last is set to 0
    if name in _DETERMINISTIC:
        items["Eta"] = "0"
    if whole and name and schedule != "DDIM":
        items["SGM noise multiplier"] = "True"
    notes = [
        f"{note}: the picture will only be similar" for note in (_OTHERWISE.get(name), _OTHER_LEVELS.get(schedule)) if note
    ]
    if name in _ON_THE_DEVICE or name.endswith((" a", " a CFG++")) or sampler.strip().casefold().endswith("_gpu"):
        notes.append(f"ComfyUI draws the noise of {name}'s later steps on the GPU: the picture will only be similar")
    return {key: value for key, value in items.items() if value}, tuple(notes)

"""Nodes of ComfyUI that make a sampler or the noise levels of one, for samplers that are put together from parts.

Source: ComfyUI's `comfy_extras/nodes_custom_sampler.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules.images.readers import names
from modules.images.readers.file_texts import number, said

_SAMPLERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerEulerAncestralCFGPP": "euler_ancestral_cfg_pp",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerLMS": "lms",
    "SamplerDPMAdaptative": "dpm_adaptive",
    "SamplerER_SDE": "er_sde",
    "SamplerSASolver": "sa_solver",
    "SamplerSEEDS2": "seeds_2",
}
_OF_SIGMAS = {
    "KarrasScheduler": {"sigma_min": "Schedule min sigma", "sigma_max": "Schedule max sigma", "rho": "Schedule rho"},
    "ExponentialScheduler": {"sigma_min": "Schedule min sigma", "sigma_max": "Schedule max sigma"},
    "PolyexponentialScheduler": {"sigma_min": "Schedule min sigma", "sigma_max": "Schedule max sigma", "rho": "Schedule rho"},
    "BetaSamplingScheduler": {"alpha": "Beta schedule alpha", "beta": "Beta schedule beta"},
}
_USUAL = {"Schedule min sigma": 0.0291675, "Schedule max sigma": 14.614642}
"""What these nodes begin with: the ends of SD 1.x and SDXL."""
_KINDS = {"alignyoursteps": "ays", "gits": "gits", "betasampling": "beta"}


def sampler(kind: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """ComfyUI's name of the sampler that a node makes, "" for one that is not known, and the items that its inputs say."""
    name = _SAMPLERS.get(kind, "")
    if not name:
        return "", {}
    name += "_heun" if said(inputs.get("solver_type")) == "heun" and name == "dpmpp_2m_sde" else ""
    name += "_gpu" if said(inputs.get("noise_device")) == "gpu" else ""
    keys = {"eta": "Eta", "s_noise": "Sigma noise"}
    return name, {key: f"{value:g}" for part, key in keys.items() if (value := number(inputs.get(part))) is not None}


def sigmas(kind: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """ComfyUI's name of the schedule that a node makes, "" for one that is not known, and the items that its inputs say."""
    bare = kind.removesuffix("Scheduler").removeprefix("SD").casefold()
    known = _KINDS.get(bare, bare)
    if names.schedule(known) == known:
        return "", {}
    items = {}
    for part, key in _OF_SIGMAS.get(kind, {}).items():
        value = number(inputs.get(part))
        if value is not None and abs(value - _USUAL.get(key, -1)) > 1e-6:
            items[key] = f"{value:g}"
    return known, items

"""Which attention back end networks are built with, and why."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

import torch

from modules.diffusion.attention import backends
from modules.diffusion.attention.backends import BACKENDS, Attend, sdpa, xformers_missing
from modules.diffusion.attention.fallback import with_fallback
from modules.diffusion.attention.measured import CANDIDATES, MATH, ChoiceStore, CudaClock, Forgetful, Measured
from modules.errors import SettingsError


@dataclass(frozen=True)
class AttentionChoice:
    """A back end and why it was taken; `reason` is printed once at start."""

    name: str
    reason: str
    attend: Attend


def choose_attention(requested: str, device: torch.device, store: ChoiceStore | None = None) -> AttentionChoice:
    """The back end for `requested` ("auto" or a name of `BACKENDS`) on `device`; `store` remembers what is measured.

    Raises:
        SettingsError: the name is unknown, or the back end does not run on this device.
    """
    if requested == "auto":
        return _automatic(device, store or Forgetful())
    if requested not in BACKENDS:
        raise SettingsError(f"attention {requested!r} is unknown; choose auto, {', '.join(BACKENDS)}")
    if requested == "xformers" and (missing := xformers_missing(device)):
        raise SettingsError(f"attention xformers was asked for, but {missing}; use --attention auto")
    return AttentionChoice(requested, "asked for", BACKENDS[requested] if device.type == "cpu" else with_fallback(requested))


def candidates(device: torch.device) -> tuple[dict[str, Attend], str]:
    """What is measured against each other on a CUDA device, and what xformers is there, or why it is not among it."""
    missing = xformers_missing(device)
    if missing:
        return dict(CANDIDATES), missing
    fused = {name: attend for name, attend in CANDIDATES.items() if name != MATH}
    with_xformers = {**fused, "xformers": backends.xformers, MATH: CANDIDATES[MATH]}
    return with_xformers, f"xformers {importlib.metadata.version('xformers')}"


def _automatic(device: torch.device, store: ChoiceStore) -> AttentionChoice:
    if device.type != "cuda":
        reason = f"torch {torch.__version__} on {device.type}; {xformers_missing(device)}"
        return AttentionChoice("sdpa", reason, sdpa if device.type == "cpu" else with_fallback("sdpa"))
    tried, xformers = candidates(device)
    attend = Measured(tried, CudaClock(device), store)
    known = len(store.load())
    reason = (
        f"for each shape the fastest of {', '.join(tried)}, measured on this device (torch {torch.__version__}, {xformers}; "
        f"{known} shape{'s' * (known != 1)} measured before)"
    )
    return AttentionChoice("measured", reason, attend)

"""What a file, or one beside it, says of how its network was trained: what it predicts, and up to which noise level.

Shapes do not tell it.  No torch: names, metadata and a few lines of text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modules.checkpoints import keys
from modules.checkpoints.header import Header

V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Empty tensors that models with v-prediction carry beside their weights (ComfyUI writes them and reads them of SDXL)."""

MAX_YAML = 256 * 1024
"""Bytes of a configuration that are read; the published ones have 2 kB."""

_V_IN_YAML = re.compile(r"""^\s*parameterization\s*:\s*["']?v["']?\s*(?:#.*)?$""", re.MULTILINE)
_EPS_IN_YAML = re.compile(r"""^\s*parameterization\s*:\s*["']?eps["']?\s*(?:#.*)?$""", re.MULTILINE)
_ZERO_SNR_IN_YAML = re.compile(
    r"^\s*(?:zsnr|ztsnr|rescale_betas_zero_snr|zero_terminal_snr)\s*:\s*[Tt]rue\s*(?:#.*)?$", re.MULTILINE
)


@dataclass(frozen=True)
class Training:
    """`prediction` is "" where nothing is said; `zero_snr` is training up to zero terminal signal-to-noise ratio."""

    prediction: Literal["", "eps", "v"] = ""
    zero_snr: bool = False


def training_of(header: Header, path: Path) -> Training:
    """What is said of the checkpoint at `path`, surest first.

    1. NAME.yaml beside NAME.safetensors, as A1111 reads it: `parameterization: "v"`.
    2. Tensors called v_pred and ztsnr.
    3. Metadata: `modelspec.prediction_type`, ComfyUI's `modelspec.predict_key`, kohya's `ss_v_parameterization` and
       `ss_zero_terminal_snr`.
    """
    yaml = _yaml_beside(path)
    said = header.metadata
    marks = {keys.canonical(name) for name in header.tensors if len(name) < 64}
    by_metadata = (said.get("modelspec.prediction_type") or said.get("modelspec.predict_key") or "").strip().lower()
    zero_snr = (
        _ZERO_SNR_IN_YAML.search(yaml) is not None
        or ZERO_SNR_MARK in marks
        or said.get("ss_zero_terminal_snr", "").lower() == "true"
    )
    if _V_IN_YAML.search(yaml):
        return Training("v", zero_snr)
    if _EPS_IN_YAML.search(yaml):
        return Training("eps", zero_snr)
    if V_MARK in marks or by_metadata.startswith("v") or said.get("ss_v_parameterization", "").lower() == "true":
        return Training("v", zero_snr)
    return Training("eps" if by_metadata.startswith("eps") else "", zero_snr)


def yaml_of(path: Path) -> Path:
    """Where the configuration of the checkpoint at `path` would be."""
    return path.with_suffix(".yaml")


def _yaml_beside(path: Path) -> str:
    try:
        with yaml_of(path).open("rb") as file:
            return file.read(MAX_YAML).decode("utf-8", "replace")
    except OSError:
        return ""

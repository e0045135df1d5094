"""What a file, or its configuration, says of how its network was trained: what it predicts, and up to which noise level.

Shapes do not tell it.  No torch: names, metadata and a few lines of text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml as pyyaml

from modules.checkpoints import keys
from modules.checkpoints.header import Header
from modules.checkpoints.sources import stem_of

V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Empty tensors that models with v-prediction carry along with their weights (ComfyUI writes them and reads them of SDXL)."""

MAX_YAML = 256 * 1024
"""Bytes of a configuration that are read; the published ones have 2 kB."""

_LOADER = getattr(pyyaml, "CSafeLoader", pyyaml.SafeLoader)
_PARAMETERIZATION = re.compile(r"""^\s*parameterization\s*:\s*["']?([^"'#\n]*)""", re.MULTILINE)

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

    1. NAME.yaml next to NAME.safetensors, as A1111 reads it: `parameterization: "v"`.
    2. Tensors called v_pred and ztsnr.
    3. Metadata: `modelspec.prediction_type`, ComfyUI's `modelspec.predict_key`, kohya's `ss_v_parameterization` and
       `ss_zero_terminal_snr`.  Of a folder in diffusers' layout, what its scheduler's configuration says is under these keys.
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
    return path.with_name(stem_of(path) + ".yaml")


def yaml_identity(path: Path) -> tuple[int, ...]:
    """What changes with the configuration of the checkpoint at `path`; () where there is none."""
    try:
        status = yaml_of(path).stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


def yaml_problem(path: Path) -> str:
    """What is wrong with the configuration of the checkpoint at `path`, as a sentence that names it.

    "" where nothing is, or none is there.  Whatever is wrong, `training_of` goes on with the lines that are legible.
    """
    config = yaml_of(path)
    try:
        status = config.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _named(config, f"cannot be read ({error.strerror})")
    return _problem(str(config), status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=4096)
def _problem(config: str, *identity: int) -> str:
    path = Path(config)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_YAML + 1)
    except OSError as error:
        return _named(path, f"cannot be read ({error.strerror})")
    if len(data) > MAX_YAML:
        return _named(path, f"is longer than {MAX_YAML // 1024} kB")
    try:
        text = data.decode("utf-8-sig")
        # Events only: aliases and merges, which can make gigabytes of a few lines, are never followed
        kinds = [type(event) for event in pyyaml.parse(text, Loader=_LOADER)]
    except UnicodeDecodeError:
        return _named(path, "is no text in UTF-8")
    except pyyaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return _named(path, f"is no YAML (line {mark.line + 1})" if mark else "is no YAML")
    except RecursionError:  # of the parser that is written in Python
        return _named(path, "is nested too deeply")
    if kinds[2:3] != [pyyaml.MappingStartEvent]:  # behind the stream's and the document's own
        return _named(path, "has no settings in it")
    said = _PARAMETERIZATION.search(text)
    if said and said[1].strip() not in ("v", "eps"):
        return _named(path, f"says parameterization {said[1].strip()[:20]!r}, which is neither v nor eps")
    return ""


def _named(config: Path, what: str) -> str:
    return f"{config.name} {what}; only what is legible of it counts. Mend or remove the file, or set Prediction in Advanced"


def _yaml_beside(path: Path) -> str:
    try:
        with yaml_of(path).open("rb") as file:
            return file.read(MAX_YAML).decode("utf-8", "replace")
    except OSError:
        return ""

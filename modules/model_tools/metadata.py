"""What a made file says of itself: how it was made, in our words (`atelier.recipe`), A1111's (`sd_merge_recipe`,
`sd_merge_models`), kohya's (`ss_*`) and those of Stability's modelspec.  Formats: A1111 `modules/extras.py`, kohya-ss
`library/sai_model_spec.py`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules import __version__
from modules.checkpoints.families.family import Family
from modules.checkpoints.header import Header
from modules.checkpoints.sources import stem_of
from modules.checkpoints.training import training_of
from modules.model_tools.work import Work

MAX_INHERITED = 200_000
"""Characters of a source's own merge history that are taken along."""
_A1111_METHODS = {"weighted": "Weighted sum", "difference": "Add difference"}


def checkpoint_metadata(work: Work, first: Header, first_path: Path, family: Family, title: str) -> dict[str, str]:
    """Of a checkpoint made of the one with the header `first`: what that says of how to run it, and modelspec's fields."""
    kept = ("atelier.", "modelspec.resolution", "modelspec.license", "modelspec.encoder_layer", "ss_zero_terminal_snr")
    said = {
        key: value for key, value in first.metadata.items() if key.startswith(kept) and not key.startswith("atelier.motifs")
    }
    said["format"] = "pt"
    said |= _modelspec(title, architecture_of(family), "Stable Diffusion checkpoint made by Atelier " + __version__)
    trained = training_of(first, first_path)
    if trained.prediction:
        said["modelspec.prediction_type"] = "v" if trained.prediction == "v" else "epsilon"
    return said | {"atelier.recipe": recipe(work), "modelspec.merged_from": ", ".join(_names(work))}


def merge_metadata(work: Work, fields: Mapping[str, Any], headers: Mapping[Path, Header]) -> dict[str, str]:
    """A1111's record of a merge: `sd_merge_recipe`, and `sd_merge_models` by sha256 with what went into the sources."""
    models: dict[str, Any] = {}
    for path, header in headers.items():
        inherited = _json(header.metadata.get("sd_merge_models"))
        models |= inherited if isinstance(inherited, dict) else {}
        models[work.sha256(path)] = {
            "name": path.name,
            "legacy_hash": legacy_hash(path) if path.is_file() else "",
            "sd_merge_recipe": header.metadata.get("sd_merge_recipe"),
        }
    return {"sd_merge_recipe": json.dumps(dict(fields)), "sd_merge_models": json.dumps(models)}


def a1111_recipe(work: Work, inpainting: bool, editing: bool) -> dict[str, Any]:
    """The fields of A1111's `sd_merge_recipe`; `type` tells who made it."""
    request = work.order.request.model_dump()
    sha256 = {name: work.sha256(path) for name, path in work.order.files.items()}
    vae = work.order.files.get("vae")
    return {
        "type": "atelier",
        "primary_model_hash": sha256.get("a") or sha256.get("checkpoint"),
        "secondary_model_hash": sha256.get("b"),
        "tertiary_model_hash": sha256.get("c"),
        "interp_method": _A1111_METHODS.get(request.get("method", ""), "No interpolation"),
        "multiplier": request.get("multiplier", 0.0),
        "block_weights": request.get("blocks", ""),
        "save_as_half": request["dtype"] in ("fp16", "bf16"),
        "custom_name": request["output"],
        "config_source": 0,
        "bake_in_vae": vae.name if vae else "None",
        "discard_weights": "",
        "is_inpainting": inpainting,
        "is_instruct_pix2pix": editing,
        "loras": request.get("loras", []),
    }


def lora_metadata(work: Work, family: Family | None, rank: int, alpha: float, title: str) -> dict[str, str]:
    """Of a LoRA: modelspec's fields, and kohya's that other programs show and choose by."""
    architecture = architecture_of(family) + "/lora" if family else ""
    said = {"format": "pt", "ss_network_module": "networks.lora", "ss_network_dim": str(rank), "ss_output_name": title}
    said["ss_network_alpha"] = f"{alpha:g}"
    if family:
        said |= base_metadata(family)
    return said | _modelspec(title, architecture, "made by Atelier " + __version__) | {"atelier.recipe": recipe(work)}


def recipe(work: Work) -> str:
    """How the file was made, as JSON: what was asked, and name and hash of each source."""
    request = work.order.request.model_dump(exclude={"replace"})
    return json.dumps({"version": 1, "atelier": __version__, "request": request, "sources": work.named()})


def legacy_hash(path: Path) -> str:
    """A1111's hash of old: 8 digits of the sha256 of 64 kB from the first megabyte on."""
    with path.open("rb") as file:
        file.seek(0x100000)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def _root(family: Family) -> str:
    return family.name.partition("-")[0]


_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sdxl": "stable-diffusion-xl-v1-base",
    "x4": "stable-diffusion-x4-upscaler",
}
_BASE: Mapping[str, Mapping[str, str]] = {
    "sd1": {"ss_base_model_version": "sd_v1", "ss_v2": "False"},
    "sd2": {"ss_base_model_version": "sd_v2", "ss_v2": "True"},
    "sdxl": {"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"},
}


def architecture_of(family: Family) -> str:
    """modelspec's name of a family; its own name for one that modelspec does not know."""
    name = _ARCHITECTURES.get(_root(family), family.name)
    return name + {"mask": "-inpainting", "picture": "-instructpix2pix"}.get(family.concat, "")


def base_metadata(family: Family) -> Mapping[str, str]:
    return _BASE.get(_root(family), {})


def _modelspec(title: str, architecture: str, description: str) -> dict[str, str]:
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "modelspec.description": description,
    }


def _names(work: Work) -> list[str]:
    return [stem_of(path) for path in work.order.files.values()]


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text and len(text) <= MAX_INHERITED else None
    except (ValueError, RecursionError):
        return None

"""Checkpoints as JSON, for the page and the native API."""

from __future__ import annotations

from typing import Any

from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import CheckpointInfo


def checkpoint_json(info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint and the settings it is best run with, as JSON-ready data."""
    defaults, family = info.defaults, FAMILIES.find(info.family)
    return {
        "name": info.name,
        "title": info.title,
        "family": info.family,
        "prompt": (family.words or "nothing") if family else "text",
        "takes": family.concat if family else "",
        "description": info.description,
        "prompts": list(info.prompts),
        "motifs": list(info.motifs),
        "problem": info.problem,
        "note": info.note,
        "defaults": {
            "width": defaults.width,
            "height": defaults.height,
            "steps": defaults.steps,
            "cfg_scale": defaults.cfg_scale,
            "sampler": defaults.sampler,
            "schedule": defaults.schedule,
        },
    }

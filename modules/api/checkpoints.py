"""Checkpoints as JSON, for the page and the native API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.fitting import unfit


def checkpoint_json(info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint and the settings it is best run with, as JSON-ready data."""
    defaults, family = info.defaults, FAMILIES.find(info.family)
    return {
        "name": info.name,
        "title": info.title,
        "family": info.family,
        "prompt": (family.words or "nothing") if family else "text",
        "takes": family.concat if family else "",
        "unguided": family.unguided if family else "",
        "unfit": [asdict(one) for one in unfit(family)],
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
            "distilled_cfg_scale": defaults.distilled_cfg_scale if family and family.distilled else None,
        },
    }

"""Checkpoints as JSON, for the page and the native API."""

from __future__ import annotations

from typing import Any

from modules.checkpoints.files import CheckpointInfo


def checkpoint_json(info: CheckpointInfo) -> dict[str, Any]:
    """A checkpoint and the settings it is best run with, as JSON-ready data."""
    defaults = info.defaults
    return {
        "name": info.name,
        "title": info.title,
        "family": info.family,
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

"""For tests of extensions: a small picture from the bare core.  Nothing of the program uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.extensions.isolation import Picture, made, making
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import parse_request


def painted(checkpoint: Path, notes: dict[str, None] | None = None, **fields: Any) -> npt.NDArray[np.uint8]:
    """The picture (H, W, 3) of a request with these `fields`, by the checkpoint's file, on the processor in fp32.

    What extensions say that failed in it is added to `notes`.

    Raises:
        RequestError: the fields make no sense, or not with this checkpoint.
    """
    basics = {"prompt": "a cat", "seed": 1, "steps": 3, "width": 64, "height": 64, "cfg_scale": 5.0}
    request = parse_request({**basics, **fields, "checkpoint": checkpoint.stem})
    manager = ModelManager(
        [checkpoint.parent], torch.device("cpu"), torch.float32, sdpa, cache=checkpoint.parent / "hashes.json"
    )
    with making(picture := Picture()):
        try:
            result = run_reference(generate(stages_of(request)), manager)
        finally:
            made(picture)
    if notes is not None:
        notes |= picture.notes
        notes |= dict.fromkeys(note for note in [result.facts.get("notes", "")] if note)
    return result.pixels.numpy()

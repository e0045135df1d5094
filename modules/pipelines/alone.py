"""The slow twin of the engine: one story, one work at a time, nothing shared.

It is the reference that the engine's batches are tested against, and all that `python -m modules.pipelines` needs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from modules.checkpoints.manager import ModelManager
from modules.pipelines.txt2img import Painted
from modules.pipelines.work import Decode, Encode, EncodeImage, Host, Load, Meanwhile, Predict, Program, Report, Work


@torch.inference_mode()
def run_alone(
    story: Program[Painted], manager: ModelManager, on_report: Callable[[Report], None] = lambda report: None
) -> Painted:
    """Run `story` to its end on this thread.  Errors of the story come out as they are."""
    answer: Any = None
    while True:
        try:
            work = story.send(answer)
        except StopIteration as end:
            painted: Painted = end.value
            return painted
        if isinstance(work, Report):
            on_report(work)
        answer = _answer(work, manager)


def _answer(work: Work, manager: ModelManager) -> Any:
    match work:
        case Load(checkpoint):
            return manager.load(checkpoint)
        case Encode(model, chunks, clip_skip, vectors):
            return [model.text.encode_chunks([chunk], clip_skip, vectors)[0] for chunk in chunks]
        case EncodeImage(model, image):
            return model.encode(image[None])[0]
        case Predict(model, rows):
            return [model.denoise([row])[0] for row in rows]
        case Decode(model, latent):
            image = model.decode(latent[None])
            return ((image[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu()
        case Host(call):
            return call()
        case Meanwhile(call):
            begun: Future[Any] = Future()
            begun.set_result(call())
            return begun
        case Report():
            return None

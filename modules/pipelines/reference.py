"""The reference runner: one pipeline, one device op at a time, nothing shared.

It is the reference that the engine's batches are tested against, and all that `python -m modules.pipelines` needs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from modules.checkpoints.manager import ModelManager
from modules.pipelines.ops import (
    Check,
    Decode,
    DeviceOp,
    Encode,
    EncodeImage,
    Host,
    Load,
    LoadUpscaler,
    Meanwhile,
    Predict,
    Program,
    Progressed,
    Report,
    Upscale,
)
from modules.pipelines.painted import Painted


@torch.inference_mode()
def run_reference(
    pipeline: Program[Painted], manager: ModelManager, on_report: Callable[[Report], None] = lambda report: None
) -> Painted:
    """Run `pipeline` to its end on this thread.  Errors of ops are thrown into it, and come out as they are unless it has an
    answer to them."""
    answer: Any = None
    failed: Exception | None = None
    while True:
        try:
            op = pipeline.send(answer) if failed is None else pipeline.throw(failed)
        except StopIteration as end:
            painted: Painted = end.value
            return painted
        if isinstance(op, Report):
            on_report(op)
        answer = failed = None
        try:
            answer = _answer(op, manager)
        except Exception as error:
            failed = error


def _answer(op: DeviceOp, manager: ModelManager) -> Any:
    match op:
        case Load(checkpoint, vae, taesd):
            return manager.load(checkpoint, vae, taesd)
        case Encode(model, chunks, clip_skip, vectors, adapters):
            return [model.prompts.encode([chunk], clip_skip, vectors, adapters)[0] for chunk in chunks]
        case EncodeImage(model, image):
            return model.latent.encode(image[None])[0]
        case Predict(model, rows):
            return [model.denoise([row])[0] for row in rows]
        case Decode(model, latent):
            image = model.latent.decode(latent[None])
            return ((image[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu()
        case LoadUpscaler(name):
            return manager.upscaler(name)
        case Upscale(upscaler, tile):
            return upscaler.enlarge(tile[None])[0].cpu()
        case Host(call):
            return call()
        case Meanwhile(call):
            begun: Future[Any] = Future()
            begun.set_result(call())
            return begun
        case Check():
            return op.now()
        case Report() | Progressed():
            return None

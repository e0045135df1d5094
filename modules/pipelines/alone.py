"""The slow twin of the engine: one story, one work at a time, nothing shared.

It is the reference that the engine's batches are tested against, and all that `python -m modules.pipelines` needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from modules.checkpoints.manager import ModelManager
from modules.pipelines.txt2img import Painted
from modules.pipelines.work import Decode, Encode, EncodeImage, Host, Load, Predict, Program, Report, Row, Work, probe_for


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
            mean, _ = model.vae.encode(image[None].to(model.device, model.vae_dtype))
            return mean[0].float() * model.latent.scale
        case Predict(model, rows):
            answers = [_denoise(model, row) for row in rows]
            return [denoised for denoised, _ in answers] + [mass for _, mass in answers if mass is not None]
        case Decode(model, latent):
            image = model.vae.decode((latent[None] / model.latent.scale).to(model.vae_dtype)).float()
            return ((image[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu()
        case Host(call):
            return call()
        case Report():
            return None


def _denoise(model: Any, row: Row) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One row, one forward; the attention mass where it is watched."""
    x, sigma = row.x[None], torch.tensor([row.sigma], dtype=torch.float32, device=row.x.device)
    timestep = torch.tensor([row.told(model)], dtype=torch.float32, device=row.x.device)
    scaled = model.prediction.scale_input(x, sigma).to(model.unet_dtype)
    probe = probe_for([row])
    if row.conditioning.channels is not None:
        scaled = torch.cat([scaled, row.conditioning.channels[None].to(scaled)], dim=1)
    output = model.unet(scaled, timestep, row.conditioning.context[None].to(model.unet_dtype), probe)
    denoised: torch.Tensor = model.prediction.denoised(output.float(), x, sigma)[0]
    return denoised, None if probe is None or probe.mass is None else probe.mass[0]

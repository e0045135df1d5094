"""Pictures of a loaded model, without engine or pipelines: prompts and seeds in, pixels out, with an adapter if asked.

For the trainer's own data (`styles`) and for sheets to look at.  DPM++ 2M on the Karras spacing, with the steps, the size and
the guidance scale that the file recommends; classifier-free guidance (Ho & Salimans 2022) against the empty prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.adapters import Adapter
from modules.diffusion.forward import context_for
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import sigmas_for
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.pixels import Picture
from modules.training.lora.text import Weighted, encoded

BATCH = 8
"""Pictures that are painted at a time."""


def paint(
    model: ModelHandle,
    prompts: Sequence[str],
    seeds: Sequence[int],
    adapter: Mapping[str, Adapter] = MappingProxyType({}),
    weight: float = 1.0,
    steps: int = 0,
    size: int = 0,
    bf16: bool = False,
) -> Iterator[Picture]:
    """One picture (height, width, 3) for each prompt and seed.

    Args:
        adapter: by part, "unet" and "text", on both with this `weight`.
        steps: of the sampler, 0 for as many as the file recommends.
        size: edge of a square in pixels, 0 for the size that the file recommends.
        bf16: autocast to bfloat16.
    """
    for start in range(0, len(prompts), BATCH):
        here = slice(start, start + BATCH)
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            on = {part: [(each, weight)] for part, each in adapter.items()}
            images = model.latent.decode(_latents(model, prompts[here], seeds[here], on, steps, size))
        for image in ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu():
            yield image.numpy()


def _latents(
    model: ModelHandle, prompts: Sequence[str], seeds: Sequence[int], adapters: Mapping[str, Weighted], steps: int, size: int
) -> Tensor:
    """Scaled latents (B, C, h, w) at the end of the denoising loop."""
    best = model.info.defaults
    width, height = (size or best.width), (size or best.height)
    unet = cast(UNetDenoiser, model.denoiser).unet
    sampler, _ = find_sampler("DPM++ 2M")
    sigmas = sigmas_for("Karras", sampler, model.noise.trained, steps or best.steps)
    shape = model.latent.channels, height // model.latent.factor, width // model.latent.factor
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    context = encoded(model, [*prompts, *[""] * len(prompts)], adapters.get("text", ())).to(model.dtype)
    ctx = context_for([adapters.get("unet", ())] * len(context), [()] * len(context), None, model.device)

    program = sampler.sample(torch.stack(noise).to(model.device) * sampler.start_scale(sigmas[0]), sigmas, None)
    answer: Tensor | None = None
    while True:
        try:
            x, sigma = program.send(answer)  # type: ignore[arg-type]  # None begins
        except StopIteration as end:
            return cast(Tensor, end.value)
        levels = torch.full((2 * len(x),), sigma, device=x.device)
        rows = torch.cat([x, x])
        scaled = model.noise.scale_input(rows, levels).to(model.dtype)
        timesteps = torch.full_like(levels, model.noise.model_timestep(sigma))
        positive, negative = model.noise.denoised(unet(scaled, timesteps, context, ctx).float(), rows, levels).chunk(2)
        answer = negative + best.cfg_scale * (positive - negative)

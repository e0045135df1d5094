"""The exported file at work, without engine, queue or web: prompts in, pictures out.

A small, plain way to the networks, so that the evaluation measures the file itself and the trainer depends on nothing above
`modules.diffusion`. The sampler is DPM++ 2M (Lu et al. 2022) on the Karras spacing, as in the file's metadata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextModel

from modules.diffusion.unet import UNet
from modules.diffusion.vae import AutoencoderKL
from modules.prompts.tokenizer import BOS, EOS, Tokenizer
from modules.training.autoencoder import VAE, tensor_to_pixels
from modules.training.denoiser import TEXT_LAYERS, TOKENS, UNET, alphas_cumprod, einsum_attention, text_config
from modules.training.export import LATENT_SCALE, STEPS, VOCABULARY
from modules.training.normalise import channels_last
from modules.training.rendering import SIZE, Pixels

PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.transformer.text_model.",
}


@dataclass(frozen=True)
class Starter:
    """The three networks of the file, and its metadata."""

    unet: UNet
    vae: AutoencoderKL
    text: CLIPTextModel
    metadata: dict[str, str]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(B, 77, D) contexts."""
        tokenizer = Tokenizer()
        rows = torch.full((len(prompts), TOKENS), EOS)
        rows[:, 0] = BOS
        for row, prompt in zip(rows, prompts, strict=True):
            ids = tokenizer.encode(prompt)[: TOKENS - 2]
            row[1 : 1 + len(ids)] = torch.tensor(ids, dtype=row.dtype)
        return self.text(input_ids=rows).last_hidden_state  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int], cfg_scale: float, steps: int = STEPS) -> Tensor:
        """Scaled latents (B, 4, h, w), one per prompt and seed."""
        context = self.encode([*prompts, *[""] * len(prompts)])
        sigmas = karras(steps)
        edge = SIZE // self.vae.config.downsampling
        noise = [torch.randn(4, edge, edge, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        x = torch.stack(noise) * sigmas[0]
        last: Tensor | None = None
        for index, (sigma, lower) in enumerate(pairwise(sigmas)):
            denoised = self._guided(x, sigma, context, cfg_scale)
            if lower == 0:
                return denoised
            h = math.log(sigma / lower)
            if last is None:
                direction = denoised
            else:
                ratio = math.log(sigmas[index - 1] / sigma) / h
                direction = (1 + 1 / (2 * ratio)) * denoised - last / (2 * ratio)
            x = lower / sigma * x - math.expm1(-h) * direction
            last = denoised
        return x

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Pixels]:
        return tensor_to_pixels(self.vae.decode(latents / LATENT_SCALE))

    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], cfg_scale: float, workers: int = 1, batch: int = 8
    ) -> list[Pixels]:
        """One picture per prompt and seed, 20 steps; `workers` batches at a time (see `parallel` for why)."""

        def part(start: int) -> list[Pixels]:
            here = slice(start, start + batch)
            return self.decode(self.sample(prompts[here], seeds[here], cfg_scale))

        with ThreadPoolExecutor(workers) as pool:
            return [picture for pictures in pool.map(part, range(0, len(prompts), batch)) for picture in pictures]

    def _guided(self, x: Tensor, sigma: float, context: Tensor, cfg_scale: float) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2021) on the denoised latents."""
        scaled = (x / math.sqrt(sigma**2 + 1)).contiguous(memory_format=torch.channels_last)
        timesteps = torch.full((2 * len(x),), timestep_of(sigma))
        with_prompt, without = self.unet(torch.cat([scaled, scaled]), timesteps, context).chunk(2)
        noise: Tensor = without + cfg_scale * (with_prompt - without)
        return x - sigma * noise


def load(file: Path) -> Starter:
    """Read the file into the project's networks; every tensor must find its place and no other may be left."""
    with safe_open(str(file), "pt") as handle:
        state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
        metadata = dict(handle.metadata() or {})
    parts = {
        part: {name.removeprefix(prefix): value.float() for name, value in state.items() if name.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }
    parts["text"].pop("embeddings.position_ids", None)
    unet, vae = UNet(UNET, attend=einsum_attention), AutoencoderKL(VAE)
    text = CLIPTextModel(text_config(VOCABULARY, UNET.context_dim, TEXT_LAYERS))
    unet.load_state_dict(parts["unet"])
    vae.load_state_dict(parts["vae"])
    text.load_state_dict(parts["text"])
    for network in (unet, vae, text):
        channels_last(network)
        network.train(False)
    return Starter(unet, vae, text, metadata)


def karras(steps: int, rho: float = 7.0) -> list[float]:
    """Noise levels from the schedule's highest to its lowest, even in their rho-th roots, then 0 (Karras 2022, eq. 5)."""
    levels = _sigmas()
    high, low = levels[-1].item() ** (1 / rho), levels[0].item() ** (1 / rho)
    return [(high + index / (steps - 1) * (low - high)) ** rho for index in range(steps)] + [0.0]


def timestep_of(sigma: float) -> float:
    """The fractional timestep at which the schedule has this noise level (linear in the logarithm)."""
    logs = _sigmas().log()
    high = int((logs < math.log(sigma)).sum().clamp(1, 999))
    share = (math.log(sigma) - logs[high - 1]) / (logs[high] - logs[high - 1])
    return high - 1 + share.clamp(0, 1).item()


def _sigmas() -> Tensor:
    alphas = alphas_cumprod().double()
    return ((1 - alphas) / alphas).sqrt()

"""An exported file at work, without engine, queue or web: prompts in, pictures out, in batches and on any device.

A small, plain way to the networks, so that the evaluation measures the file itself. Shapes come from the file's tensors. The
sampler is DPM++ 2M (Lu et al. 2022, arXiv:2211.01095) on the spacing of Karras et al. (2022), as in the file's metadata.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from modules.checkpoints import shapes
from modules.checkpoints.families.sd1 import CLIP_L
from modules.diffusion.clip import CLIPText
from modules.diffusion.unet import UNet
from modules.diffusion.vae import AutoencoderKL
from modules.errors import CheckpointError
from modules.prompts.tokenizer import BOS, EOS, Tokenizer
from modules.training.composition import to_pixels
from modules.training.normalise import channels_last
from modules.training.schedule import karras, timestep_of

TOKENS = 77
HEADS = 8
LATENT_SCALE = 0.18215  # of SD 1.x: the denoiser sees this times the autoencoder's latents
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.transformer.text_model.",
}


@dataclass(frozen=True)
class Starter:
    """The three networks of a file, and its metadata. `bfloat16`: matrix products and convolutions in that format."""

    unet: UNet
    vae: AutoencoderKL
    text: CLIPText
    metadata: dict[str, str]
    device: torch.device
    bfloat16: bool = False

    @property
    def size(self) -> int:
        """Pixels of the native edge."""
        return int(self.metadata.get("atelier.native_size", "512x512").split("x")[0])

    @property
    def steps(self) -> int:
        return int(self.metadata.get("atelier.steps", "20"))

    @property
    def cfg_scale(self) -> float:
        return float(self.metadata.get("atelier.cfg_scale", "7"))

    @property
    def motifs(self) -> list[str]:
        """The names that the file says it draws."""
        return list(json.loads(self.metadata.get("atelier.motifs", "[]")))

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Contexts (B, 77, D)."""
        tokenizer = Tokenizer()
        rows = torch.full((len(prompts), TOKENS), EOS)
        rows[:, 0] = BOS
        for row, prompt in zip(rows, prompts, strict=True):
            ids = tokenizer.encode(prompt)[: TOKENS - 2]
            row[1 : 1 + len(ids)] = torch.tensor(ids, dtype=row.dtype)
        return self.text.final_layer_norm(self.text(rows.to(self.device))[-1])  # type: ignore[no-any-return]

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int], cfg_scale: float, steps: int) -> Tensor:
        """Scaled latents (B, 4, h, w), one per prompt and seed; the noise is the CPU generator's, on every device."""
        edge = self.size // self.vae.config.downsampling
        noise = [torch.randn(4, edge, edge, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        sigmas = karras(steps)
        with self._arithmetic():
            context = self.encode([*prompts, *[""] * len(prompts)])
            x = torch.stack(noise).to(self.device) * sigmas[0]
            last: Tensor | None = None
            for index, (sigma, lower) in enumerate(pairwise(sigmas)):
                denoised = self._guided(x, sigma, context, cfg_scale)
                if lower == 0:
                    return denoised
                h = math.log(sigma / lower)
                direction = denoised
                if last is not None:
                    ratio = math.log(sigmas[index - 1] / sigma) / h
                    direction = (1 + 1 / (2 * ratio)) * denoised - last / (2 * ratio)
                x = lower / sigma * x - math.expm1(-h) * direction
                last = denoised
        return x

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], not clamped, of scaled latents."""
        with self._arithmetic():
            z = (latents / LATENT_SCALE).contiguous(memory_format=torch.channels_last)
            return self.vae.decode(z).float()

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Pictures in [-1, 1] through the autoencoder."""
        return self.decode(self.latents(x))

    @torch.no_grad()
    def latents(self, x: Tensor) -> Tensor:
        """Scaled latents (B, 4, h, w) of pictures (B, 3, H, W) in [-1, 1]."""
        with self._arithmetic():
            return self.vae.encode(x)[0].float() * LATENT_SCALE

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], cfg_scale: float, steps: int) -> Tensor:
        """Pictures (B, 3, H, W) in bytes on the CPU, one per prompt and seed, as one batch."""
        return to_pixels(self.decode(self.sample(prompts, seeds, cfg_scale, steps))).cpu()

    def _guided(self, x: Tensor, sigma: float, context: Tensor, cfg_scale: float) -> Tensor:
        """Classifier-free guidance (Ho & Salimans 2021) on the denoised latents."""
        scaled = (x / math.sqrt(sigma**2 + 1)).contiguous(memory_format=torch.channels_last)
        timesteps = torch.full((2 * len(x),), timestep_of(sigma), device=self.device)
        with_prompt, without = self.unet(torch.cat([scaled, scaled]), timesteps, context).float().chunk(2)
        noise: Tensor = without + cfg_scale * (with_prompt - without)
        return x - sigma * noise

    def _arithmetic(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


def load(file: Path, device: torch.device | None = None, bfloat16: bool = False) -> Starter:
    """Read a file into the project's networks; every tensor must find its place and no other may be left.

    Raises:
        CheckpointError: the file cannot be read, or it is no miniature of Stable Diffusion 1.x.
    """
    device = device or torch.device("cpu")
    try:
        with safe_open(str(file), "pt") as handle:
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
            metadata = dict(handle.metadata() or {})
    except Exception as error:  # safetensors raises its own types and the system's
        raise CheckpointError(f"{file} is no safetensors file that can be read ({error}); name one as an argument.") from error
    parts = {
        part: {name.removeprefix(prefix): value.float() for name, value in state.items() if name.startswith(prefix)}
        for part, prefix in PREFIXES.items()
    }
    parts["text"].pop("embeddings.position_ids", None)
    sizes = {part: {name: tuple(value.shape) for name, value in tensors.items()} for part, tensors in parts.items()}
    unet, vae = UNet(shapes.unet_config(sizes["unet"], HEADS, 0)), AutoencoderKL(shapes.vae_config(sizes["vae"]))
    text = CLIPText(shapes.text_config(sizes["text"], CLIP_L))
    networks: dict[str, nn.Module] = {"unet": unet, "vae": vae, "text": text}
    for part, network in networks.items():
        try:
            network.load_state_dict(parts[part])
        except RuntimeError as error:
            raise CheckpointError(f"The {part} of {file} does not fit its own shapes: {error}") from error
        network.to(device).requires_grad_(False).eval()
        channels_last(network)
    return Starter(unet, vae, text, metadata, device, bfloat16)

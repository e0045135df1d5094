"""What is trained: the sizes of the networks, the number of scenes, batches and rates, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.training.motifs import MOTIFS

_VAE = VAEConfig(channels=(64, 64, 128, 128), res_blocks=1)
_UNET = UNetConfig(channels=(96, 128, 192), res_blocks=1, transformer_depth=(0, 1, 1), context_dim=128)


@dataclass(frozen=True)
class Recipe:
    """The defaults are the shipped file's, for one GPU. Rates are Adam's; matrices get Muon's at `gain` times that."""

    names: tuple[str, ...] = tuple(MOTIFS)
    picture: int = 256  # px
    scenes: int = 131_072
    captions: int = 4  # of each scene
    autoencoder: VAEConfig = _VAE
    unet: UNetConfig = _UNET
    text_layers: int = 4
    autoencoder_batch: int = 32
    autoencoder_rate: float = 1e-3
    autoencoder_gain: float = 1.2
    polish_rate: float = 5e-4
    batch: int = 768
    rate: float = 1.4e-3
    gain: float = 2.0
    warmup: int = 100
    practice_scenes: int = 4_096

    def text(self, vocabulary: int) -> TextConfig:
        """CLIP's form, one head per 64 channels."""
        width = self.unet.context_dim
        return TextConfig(vocabulary, width, self.text_layers, heads=max(1, width // 64), hidden=4 * width)


FULL = Recipe()
ON_CPU = replace(FULL, scenes=16_384, autoencoder_batch=4, batch=48, rate=1e-3)
"""The same networks with batches that a few cores can do; hours instead of minutes."""
SMOKE = Recipe(
    names=("apple", "fox", "cat", "car", "star", "rocket", "tree", "crown", "top hat", "pizza", "grapes", "house"),
    picture=64, scenes=32, captions=2, autoencoder=VAEConfig(channels=(64, 64, 64, 64), res_blocks=1),
    unet=UNetConfig(channels=(32, 32), res_blocks=1, transformer_depth=(0, 1), context_dim=64), text_layers=1,
    autoencoder_batch=2, batch=8, warmup=5, practice_scenes=16,
)  # fmt: skip
"""Every stage at the smallest sizes: it shows that they run, no picture worth looking at comes of it."""


def recipe_for(device: torch.device, smoke: bool = False) -> Recipe:
    return SMOKE if smoke else FULL if device.type == "cuda" else ON_CPU

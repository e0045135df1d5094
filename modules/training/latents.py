"""The stage "cache": the latents of all scenes, which the denoiser and the decoder's polish learn from."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from modules.errors import SettingsError
from modules.training.autoencoder import LatentAutoencoder, raw_latents
from modules.training.composition import Composer
from modules.training.data import Scenes
from modules.training.loop import replaced

PART = 4096  # scenes between two savings


def encode_all(model: LatentAutoencoder, scenes: Scenes, composer: Composer, file: Path, batch: int = 128) -> Tensor:
    """Latents (N, 4, h, w) of every scene in float16, standardised with the model's statistics; goes on where `file` ends."""
    done = torch.load(file, weights_only=True) if file.exists() else torch.empty(0)
    parts, count = ([done] if len(done) else []), len(done)
    began = time.monotonic()
    while count < len(scenes):
        until = min(len(scenes), count + PART)
        for start in range(count, until, batch):
            raw = raw_latents(model, scenes, composer, start, min(until, start + batch))
            z = (raw - model.mean[:, None, None]) / model.deviation[:, None, None]
            parts.append(z.half().cpu())
        count = until
        parts = [torch.cat(parts)]
        if composer.device.type != "cuda" or count == len(scenes):  # a GPU encodes faster than a disk takes it
            with replaced(file) as partial:
                torch.save(parts[0], partial)
        print(f"cache: {count} of {len(scenes)} latents, {time.monotonic() - began:.0f} s", flush=True)
    return parts[0]


def load(file: Path, scenes: Scenes) -> Tensor:
    """
    Raises:
        SettingsError: the cache is not that of all scenes.
    """
    latents: Tensor = torch.load(file, weights_only=True)
    if len(latents) != len(scenes):
        raise SettingsError(f"{file} holds {len(latents)} latents of {len(scenes)} scenes; run the stage cache again.")
    return latents

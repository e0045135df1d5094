"""The stages "autoencoder" and "polish": pixels to 4-channel latents at an eighth of the size, and back.

Narrow networks meet a defect of GroupNorm that wide ones do not: 64 channels in 32 groups are pairs, and a pair of
constants always normalises to (1, -1), so *any* flat colour is erased. Hence two tricks, both undone or harmless on export:
the norms have eps 1.0 instead of 1e-6 in training, which leaves small signals small (`export.scale_streams`); and training
starts at a linear autoencoder (`linear_start`).

There is no KL term. Latents are standardised by running *total* statistics (batch statistics would erase the mean colour),
a little noise keeps the decoder smooth, and the statistics are folded into the quant convolutions on export.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.training.composition import Composer
from modules.training.data import Pictures, Scenes, pictures_of
from modules.training.linear_start import make_linear, read_latents
from modules.training.loop import Budget, Rate, Trainer, generator
from modules.training.muon import optimiser
from modules.training.normalise import TrainingKernels, channels_last, set_eps
from modules.training.recipe import Recipe

TRAINING_EPS = 1.0
LATENT_NOISE = 0.06  # standard deviations added to the standardised latents in training
POLISH_NOISE = 0.16  # standard deviations at most: about what 20 steps of sampling leave in a latent
EDGES = 0.75  # weight of the loss of differences between neighbours
MEASURED = 2048  # scenes from which the latents' statistics are taken in the end


class LatentAutoencoder(nn.Module):
    """The project's autoencoder with standardised latents around it: what the stages train against."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.vae = AutoencoderKL(config, kernels=TrainingKernels())
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("square", torch.ones(config.latent_channels))
        self.mean: Tensor
        self.square: Tensor
        set_eps(self.vae, TRAINING_EPS)
        channels_last(self)

    @property
    def deviation(self) -> Tensor:
        return (self.square - self.mean**2).clamp_min(1e-6).sqrt()

    def encode(self, x: Tensor) -> Tensor:
        """Standardised latents (B, 4, h, w) of pictures in [-1, 1]. In training the running statistics follow them."""
        raw = self.vae.encode(x)[0].float()
        if self.training:
            self.follow(raw.detach(), 0.02)
        return (raw - self.mean[:, None, None]) / self.deviation[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z.contiguous(memory_format=torch.channels_last)).float()

    @torch.no_grad()
    def follow(self, raw: Tensor, momentum: float) -> None:
        """Move the statistics towards those of raw latents; `momentum` 1 takes theirs."""
        self.mean.lerp_(raw.mean((0, 2, 3)), momentum)
        self.square.lerp_(raw.square().mean((0, 2, 3)), momentum)


def train(
    recipe: Recipe, scenes: Scenes, composer: Composer, file: Path, budget: Budget, seed: int = 1, stop_at: int | None = None
) -> LatentAutoencoder:
    """Train until the budget is used up; the state lives in `file`. Returns the averaged weights."""
    torch.manual_seed(seed)
    device = composer.device
    model = LatentAutoencoder(recipe.autoencoder).to(device)
    vae = model.vae
    layers = (vae.encoder.conv_in, vae.encoder.conv_out, vae.decoder.conv_in, vae.decoder.conv_out)
    ends = {layer.weight for layer in (*layers, vae.quant_conv, vae.post_quant_conv)}
    rate = Rate(recipe.autoencoder_rate, warmup=min(50, recipe.warmup))
    adam = optimiser(model, ends, recipe.autoencoder_rate, recipe.autoencoder_gain)
    trainer = Trainer(model, adam, rate, file, ema=0.998, title="autoencoder")
    if not trainer.resume():
        make_linear(vae)
        measure(model, scenes, composer, 64)
        read_latents(vae, model.mean.cpu(), model.deviation.cpu())
        trainer.restart_average()
        print(f"autoencoder: linear start, {psnr(model, scenes, composer):.2f} dB", flush=True)
    pictures = Pictures(scenes, composer, recipe.autoencoder_batch, seed)

    def loss_of(step: int, used: float) -> Tensor:
        x = pictures.at(step)
        with torch.autocast(device.type, torch.bfloat16):
            z = model.encode(x)
            noise = torch.randn(z.shape, generator=generator(seed, step, device), device=device)
            y = model.decode(z + LATENT_NOISE * noise)
        return reconstruction_loss(y, x)

    def finish() -> None:
        model.load_state_dict(trainer.average)
        restandardise(model, scenes, composer)
        trainer.average = {name: value.clone() for name, value in model.state_dict().items()}

    trainer.run(loss_of, budget, stop_at, every=100, at_end=finish)
    model.load_state_dict(trainer.average)
    print(f"autoencoder: {trainer.step} steps, {psnr(model, scenes, composer):.2f} dB", flush=True)
    return model.eval()


def polish(
    recipe: Recipe, scenes: Scenes, composer: Composer, latents: Tensor, start: Path, file: Path, budget: Budget, seed: int = 3
) -> LatentAutoencoder:
    """Train the decoder alone on standardised `latents` of the scenes, with noise as a denoiser leaves it in them.

    `start` is the state of `train`. The encoder stays as it is, so that the cache and the denoiser keep their worth.
    """
    device = composer.device
    model = load(recipe, start, device)
    model.requires_grad_(False)
    trained = [p for part in (model.vae.decoder, model.vae.post_quant_conv) for p in part.requires_grad_(True).parameters()]
    adam = torch.optim.Adam(trained, lr=recipe.polish_rate, betas=(0.9, 0.99))
    rate = Rate(recipe.polish_rate, warmup=min(30, recipe.warmup))
    trainer = Trainer(model, adam, rate, file, ema=0.995, title="polish")
    trainer.resume()

    def loss_of(step: int, used: float) -> Tensor:
        chosen = np.random.default_rng((seed, step)).integers(0, len(latents), recipe.autoencoder_batch)
        x, gen = pictures_of(scenes, composer, chosen), generator(seed, step, device)
        z = latents[torch.from_numpy(chosen).to(latents.device)].to(device).float()
        levels = POLISH_NOISE * torch.rand(len(z), 1, 1, 1, generator=gen, device=device)
        with torch.autocast(device.type, torch.bfloat16):
            y = model.decode(z + levels * torch.randn(z.shape, generator=gen, device=device))
        return reconstruction_loss(y, x)

    trainer.run(loss_of, budget, every=100)
    model.load_state_dict(trainer.average)
    print(f"polish: {trainer.step} steps, {psnr(model, scenes, composer):.2f} dB", flush=True)
    return model


def load(recipe: Recipe, file: Path, device: torch.device) -> LatentAutoencoder:
    """The averaged weights of an earlier `train` or `polish`."""
    model = LatentAutoencoder(recipe.autoencoder).to(device)
    model.load_state_dict(torch.load(file, weights_only=True, map_location=device)["average"])
    return model.eval()


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """L1 + MSE + the mean absolute error of differences between neighbours: sharp edges where they belong."""
    across = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
    down = F.l1_loss(y[..., 1:, :] - y[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    return F.l1_loss(y, x) + F.mse_loss(y, x) + EDGES * (across + down)


@torch.no_grad()
def raw_latents(model: LatentAutoencoder, scenes: Scenes, composer: Composer, first: int, last: int) -> Tensor:
    """(last - first, 4, h, w) as the encoder gives them, in bfloat16 arithmetic."""
    x = pictures_of(scenes, composer, np.arange(first, last))
    with torch.autocast(x.device.type, torch.bfloat16):
        return model.vae.encode(x)[0].float()


def measure(model: LatentAutoencoder, scenes: Scenes, composer: Composer, count: int, batch: int = 64) -> None:
    """Set the statistics to those of the latents of the first `count` scenes."""
    count = min(count, len(scenes))
    starts = range(0, count, batch)
    raw = [raw_latents(model, scenes, composer, start, min(count, start + batch)).cpu() for start in starts]
    model.follow(torch.cat(raw).to(composer.device), 1.0)


@torch.no_grad()
def restandardise(model: LatentAutoencoder, scenes: Scenes, composer: Composer) -> None:
    """Take the statistics of many scenes instead of the running ones; the decoder, which was trained on those, takes the
    difference into its first convolution."""
    mean, deviation = model.mean.clone(), model.deviation.clone()
    measure(model, scenes, composer, MEASURED)
    conv = model.vae.post_quant_conv
    assert conv.bias is not None
    conv.bias += conv.weight[:, :, 0, 0] @ ((model.mean - mean) / deviation)
    conv.weight *= (model.deviation / deviation)[None, :, None, None]


@torch.no_grad()
def psnr(model: LatentAutoencoder, scenes: Scenes, composer: Composer, count: int = 32, batch: int = 8) -> float:
    """Mean peak signal-to-noise ratio of the reconstructions in dB (peak to peak 2.0)."""
    training, ratios = model.training, []
    model.eval()
    for start in range(0, min(count, len(scenes)), batch):
        x = pictures_of(scenes, composer, np.arange(start, min(start + batch, len(scenes))))
        with torch.autocast(x.device.type, torch.bfloat16):
            y = model.decode(model.encode(x))
        ratios.append(-10 * ((y.clamp(-1, 1) - x).square().mean((1, 2, 3)) / 4).log10())
    model.train(training)
    return torch.cat(ratios).mean().item()

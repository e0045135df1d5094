"""Stage 2, the autoencoder: pixels to 4-channel latents at an eighth of the size, and back.

Narrow networks meet a defect of GroupNorm that wide ones do not: 64 channels in 32 groups are pairs, and a pair of
constants always normalises to (1, -1), so *any* flat colour is erased. Hence two tricks, both undone or harmless on export:

- Train with the norms' eps at 1.0 instead of 1e-6, which leaves small signals small. `export.scale_streams` multiplies the
  residual streams by 1e-3 afterwards; with the layout's eps of 1e-6 the very same function results.
- Start as a linear autoencoder (about 20 dB before the first step): residual branches add nothing yet, resampling averages
  and repeats, and colours travel in pairs (x, -x), because silu(x) - silu(-x) = x passes them exactly.

There is no KL term. Latents are standardised by running *total* statistics (batch statistics would erase the mean colour),
a little noise keeps the decoder smooth, and the statistics are folded into the quant convolutions on export.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.vae import AutoencoderKL, ResnetBlock, ResolutionLevel, VAEConfig
from modules.training import parallel
from modules.training.loop import Budget, Rate, Trainer, generator, rng
from modules.training.normalise import channels_last, use_fast_norms
from modules.training.rendering import Pixels, Scene, render

VAE = VAEConfig(channels=(64, 64, 64, 64), res_blocks=1)
TRAINING_EPS = 1.0
LATENT_NOISE = 0.05  # standard deviations added to the standardised latents in training
POLISH_NOISE = 0.15  # standard deviations at most: about what 20 steps of sampling leave in a latent
BATCH = 4  # whole pictures (GroupNorm's statistics then are those of inference), shared among the workers


class LatentAutoencoder(nn.Module):
    """The project's autoencoder with standardised latents around it: what `autoencoder` and `denoiser` train against."""

    def __init__(self, config: VAEConfig = VAE) -> None:
        super().__init__()
        self.vae = AutoencoderKL(config)
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("square", torch.ones(config.latent_channels))
        self.mean: Tensor
        self.square: Tensor
        _skip_finest_blocks(self.vae)
        use_fast_norms(self.vae, TRAINING_EPS)
        channels_last(self)

    @property
    def deviation(self) -> Tensor:
        return (self.square - self.mean**2).clamp_min(1e-6).sqrt()

    def encode(self, x: Tensor) -> Tensor:
        """Standardised latents (B, 4, h, w) of pictures in [-1, 1]. In training the running statistics follow them."""
        z = self.vae.encode(x)[0].float()
        if self.training:
            self._follow(z.detach(), 0.02)
        return (z - self.mean[:, None, None]) / self.deviation[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z).float()

    def measure(self, x: Tensor) -> None:
        """Set the statistics to those of the latents of `x`."""
        self._follow(self.vae.encode(x)[0].float(), 1.0)

    @torch.no_grad()
    def _follow(self, z: Tensor, momentum: float) -> None:
        self.mean.lerp_(z.mean((0, 2, 3)), momentum)
        self.square.lerp_(z.square().mean((0, 2, 3)), momentum)


def train(scenes: Sequence[Scene], file: Path, budget: Budget, seed: int = 1, stop_at: int | None = None) -> LatentAutoencoder:
    """Train on pictures of `scenes` until the budget is used up; the state lives in `file`. Returns the averaged weights."""
    torch.manual_seed(seed)
    model = LatentAutoencoder()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
    trainer = Trainer(model, optimiser, Rate(1e-3, warmup=30), file, ema=0.998)
    if not trainer.resume():
        start_linear(model, pixels_to_tensor([render(scene) for scene in scenes[:16]]))
        trainer.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    _report(trainer.step, model, scenes)

    def loss_of(step: int) -> Tensor:
        part = step * parallel.size() + parallel.rank()
        x = _batch(scenes, rng(seed, part), BATCH // parallel.size())
        with torch.autocast("cpu", torch.bfloat16):
            z = model.encode(x)
            y = model.decode(z + LATENT_NOISE * torch.randn(z.shape, generator=generator(seed, part)))
        return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * _edge_loss(y, x)

    trainer.run(loss_of, budget, stop_at, every=100)
    model.load_state_dict(trainer.average)
    _report(trainer.step, model, scenes)
    return model


def polish(
    scenes: Sequence[Scene], latents: Tensor, start: Path, file: Path, budget: Budget, seed: int = 3
) -> LatentAutoencoder:
    """Train the decoder alone on raw latents of `scenes`, with the noise that a denoiser leaves in them.

    `start` is the state of `train`. The encoder stays as it is, so the denoiser need not wait, nor be trained again.
    """
    model = load(start)
    model.requires_grad_(False)
    parts = (model.vae.decoder, model.vae.post_quant_conv)
    parameters = [p for part in parts for p in part.requires_grad_(True).parameters()]
    trainer = Trainer(model, torch.optim.Adam(parameters, lr=4e-4, betas=(0.9, 0.99)), Rate(4e-4, warmup=30), file, ema=0.995)
    trainer.resume()
    clean = (latents - model.mean[:, None, None]) / model.deviation[:, None, None]

    def loss_of(step: int) -> Tensor:
        part = step * parallel.size() + parallel.rank()
        rand, gen = rng(seed, part), generator(seed, part)
        chosen = [rand.randrange(len(scenes)) for _ in range(BATCH // parallel.size())]
        x = pixels_to_tensor([render(scenes[index]) for index in chosen])
        sigmas = POLISH_NOISE * torch.rand(len(chosen), 1, 1, 1, generator=gen)
        z = clean[chosen] + sigmas * torch.randn(clean[chosen].shape, generator=gen)
        with torch.autocast("cpu", torch.bfloat16):
            y = model.decode(z.contiguous(memory_format=torch.channels_last))
        return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * _edge_loss(y, x)

    trainer.run(loss_of, budget)
    model.load_state_dict(trainer.average)
    _report(trainer.step, model, scenes)
    return model


def _report(step: int, model: LatentAutoencoder, scenes: Sequence[Scene]) -> None:
    if parallel.rank() == 0:
        print(f"autoencoder: step {step}, {psnr(model, scenes[:32]):.2f} dB", flush=True)


def load(file: Path) -> LatentAutoencoder:
    """The averaged weights of an earlier `train`."""
    model = LatentAutoencoder()
    model.load_state_dict(torch.load(file, weights_only=True)["average"])
    return model.eval()


def pixels_to_tensor(pictures: Sequence[Pixels]) -> Tensor:
    """(B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def tensor_to_pixels(x: Tensor) -> list[Pixels]:
    x = x.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1)
    return list(x.numpy())


@torch.no_grad()
def psnr(model: LatentAutoencoder, scenes: Sequence[Scene]) -> float:
    """Mean peak signal-to-noise ratio of the reconstructions in dB (peak to peak 2.0)."""
    model.eval()
    ratios = []
    for start in range(0, len(scenes), 8):
        x = pixels_to_tensor([render(scene) for scene in scenes[start : start + 8]])
        error = (model.decode(model.encode(x)).clamp(-1, 1) - x).square().mean((1, 2, 3)) / 4
        ratios.append(-10 * error.log10())
    return torch.cat(ratios).mean().item()


def _batch(scenes: Sequence[Scene], rand: random.Random, count: int) -> Tensor:
    """Pictures of random scenes; a third on a ground of any colour, that the decoder may learn colours and not a table."""

    def picture(scene: Scene) -> Pixels:
        if rand.random() < 0.33:
            scene = dataclasses.replace(scene, tint=(rand.randrange(256), rand.randrange(256), rand.randrange(256)))
        pixels = render(scene)
        return pixels[:, ::-1] if rand.random() < 0.5 else pixels

    return pixels_to_tensor([picture(rand.choice(scenes)) for _ in range(count)])


def _edge_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours: sharp edges where they belong."""
    across = F.l1_loss(y[..., 1:] - y[..., :-1], x[..., 1:] - x[..., :-1])
    down = F.l1_loss(y[..., 1:, :] - y[..., :-1, :], x[..., 1:, :] - x[..., :-1, :])
    return across + down


def _skip_finest_blocks(vae: AutoencoderKL) -> None:
    """Leave out one full-resolution block on each side, 40 % of the cost. `export` puts zeros there, an exact identity."""
    down, up = vae.encoder.down[0], vae.decoder.up[0]
    assert isinstance(down, ResolutionLevel)
    assert isinstance(up, ResolutionLevel)
    down.block[0], up.block[1] = nn.Identity(), nn.Identity()


@torch.no_grad()
def start_linear(model: LatentAutoencoder, pictures: Tensor) -> None:
    """Weights of a linear autoencoder: channels (0, 6), (2, 8), (4, 10) carry red, green and blue as (x, -x)."""
    vae = model.vae
    for name, module in vae.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.fill_(1.1)
        elif isinstance(module, ResnetBlock):
            _silence(module.conv2)
        elif name.endswith("proj_out") and isinstance(module, nn.Conv2d):
            _silence(module)
        elif name.endswith("sample.conv") and isinstance(module, nn.Conv2d):
            _resample_exactly(module, down="downsample" in name)
    for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
        _spread_colours(conv)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _silence(conv)
        nn.init.dirac_(conv.weight)

    _gather_colours(vae.encoder.conv_out, torch.ones(3), keep=1.0, bias=torch.zeros(8))
    model.measure(pictures)
    _gather_colours(vae.decoder.conv_out, model.deviation[:3], keep=0.1, bias=model.mean[:3])


def _silence(conv: nn.Conv2d) -> None:
    conv.weight.zero_()
    _set_bias(conv, torch.zeros(conv.out_channels))


def _set_bias(conv: nn.Conv2d, bias: Tensor) -> None:
    assert conv.bias is not None
    conv.bias.copy_(bias)


def _resample_exactly(conv: nn.Conv2d, down: bool) -> None:
    """2x2 average on the way down, repetition on the way up; odd channels start silent so that pairs stay exact."""
    weight = conv.weight * (0.6 if down else 0.3)
    weight[:, 1::2] = 0
    weight[1::2] = 0
    weight[:12] = 0
    for channel in range(weight.shape[0]):
        if down:
            weight[channel, channel, :2, :2] += 0.25
        else:
            weight[channel, channel, 1, 1] += 1
    conv.weight.copy_(weight)
    _set_bias(conv, torch.zeros(conv.out_channels))


def _spread_colours(conv: nn.Conv2d) -> None:
    weight = conv.weight * 1.5
    weight[:12] = 0
    weight[1::2] = 0
    for colour in range(3):
        weight[2 * colour, colour, 1, 1] = 1
        weight[2 * colour + 6, colour, 1, 1] = -1
    conv.weight.copy_(weight)
    _set_bias(conv, torch.zeros(conv.out_channels))


def _gather_colours(conv: nn.Conv2d, gains: Tensor, keep: float, bias: Tensor) -> None:
    """Outputs 0 to 2 read the colour pairs. Each group of the norm is (x, 0), which it turns into about (x, -x)."""
    weight = conv.weight * keep
    weight[:, 1::2] = 0
    weight[:3] = weight[:3] if keep < 1 else 0
    weight[3:, :12] = 0
    for colour, gain in enumerate(gains.tolist()):
        for channel, sign in ((0, 1), (6, -1), (1, -1), (7, 1)):
            weight[colour, 2 * colour + channel, 1, 1] += sign * gain
    conv.weight.copy_(weight)
    _set_bias(conv, bias)

"""Weights of a linear autoencoder, the start of training: about 23 dB before the first step.

Residual branches add nothing yet, resampling averages and repeats, and colours travel in pairs (x, -x), because
silu(x) - silu(-x) = x passes them exactly. Each carrier is the first channel of a group of its own, the others of its group are
silent, so that the group's norm gives (x - m) and (-m), whose difference is x again (the norms' eps is 1 in training).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.diffusion.vae import AutoencoderKL, ResnetBlock

GROUPS = 32


@torch.no_grad()
def make_linear(vae: AutoencoderKL) -> None:
    """The encoder's latents 0 to 2 become the mean colours of 8x8 squares; the decoder's output is left to `read_latents`.

    Raises:
        ValueError: a level is narrower than 64 channels, so that its groups hold one channel alone.
    """
    if min(vae.config.channels) < 2 * GROUPS:
        raise ValueError(f"{vae.config.channels} channels: a linear start needs at least {2 * GROUPS} at every level.")
    for name, module in vae.named_modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.fill_(1.1)
        elif isinstance(module, ResnetBlock):
            zero(module.conv2)
            if module.widens:
                _pass_on(module.nin_shortcut)
        elif name.endswith("proj_out") and isinstance(module, nn.Conv2d):
            zero(module)
        elif name.endswith("sample.conv") and isinstance(module, nn.Conv2d):
            _resample(module, down="downsample" in name)
    for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
        _spread(conv)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        zero(conv)
        nn.init.dirac_(conv.weight)
    _gather(vae.encoder.conv_out, torch.ones(3), keep=1.0, bias=torch.zeros(2 * vae.config.latent_channels))


@torch.no_grad()
def read_latents(vae: AutoencoderKL, mean: Tensor, deviation: Tensor) -> None:
    """Let the decoder give back the colours of latents that were standardised with `mean` and `deviation` (4,)."""
    _gather(vae.decoder.conv_out, deviation[:3], keep=0.1, bias=mean[:3])


@torch.no_grad()
def zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()


def _carriers(width: int) -> tuple[list[int], list[int], int]:
    """Channels that carry (red, green, blue) and their negatives, and the size of a group."""
    n = width // GROUPS
    return [n * k for k in range(3)], [n * (k + 3) for k in range(3)], n


def _silent(width: int) -> Tensor:
    """Channels that are zero at the start: all but the first of each group."""
    return torch.arange(width) % (width // GROUPS) != 0


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None = None) -> None:
    assert conv.bias is not None
    conv.weight.copy_(weight)
    conv.bias.copy_(torch.zeros(conv.out_channels) if bias is None else bias)


def _pass_on(conv: nn.Conv2d) -> None:
    """A 1x1 shortcut between widths: carriers to carriers, the other active channels mixed."""
    wide, narrow = conv.weight.shape[:2]
    weight = conv.weight.cpu() * 0.6
    weight[:, _silent(narrow)] = 0
    weight[_silent(wide)] = 0
    sources, targets = (plus + minus for plus, minus, _ in (_carriers(narrow), _carriers(wide)))
    weight[:, sources] = 0
    weight[targets] = 0
    weight[targets, sources] = 1
    _set(conv, weight)


def _resample(conv: nn.Conv2d, down: bool) -> None:
    """2x2 average on the way down, repetition on the way up."""
    width = conv.weight.shape[0]
    weight = conv.weight.cpu() * (0.6 if down else 0.3)
    weight[:, _silent(width)] = 0
    weight[_silent(width)] = 0
    weight[: 6 * (width // GROUPS)] = 0
    diagonal = torch.arange(width)
    if down:
        weight[diagonal, diagonal, :2, :2] += 0.25
    else:
        weight[diagonal, diagonal, 1, 1] += 1
    _set(conv, weight)


def _spread(conv: nn.Conv2d) -> None:
    """The first layer: colours into their carriers."""
    width = conv.weight.shape[0]
    plus, minus, n = _carriers(width)
    weight = conv.weight.cpu() * 1.5
    weight[: 6 * n] = 0
    weight[_silent(width)] = 0
    for colour in range(3):
        weight[plus[colour], colour, 1, 1] = 1
        weight[minus[colour], colour, 1, 1] = -1
    _set(conv, weight)


def _gather(conv: nn.Conv2d, gains: Tensor, keep: float, bias: Tensor) -> None:
    """The last layer: outputs 0 to 2 read the colours, carrier minus its silent neighbour."""
    width = conv.weight.shape[1]
    plus, minus, n = _carriers(width)
    weight = conv.weight.cpu() * keep
    weight[:, _silent(width)] = 0
    weight[:3] = weight[:3] if keep < 1 else 0
    weight[3:, : 6 * n] = 0
    for colour, gain in enumerate(gains.tolist()):
        for channel, sign in ((plus[colour], 1), (minus[colour], -1), (plus[colour] + 1, -1), (minus[colour] + 1, 1)):
            weight[colour, channel, 1, 1] += sign * gain
    _set(conv, weight, bias)

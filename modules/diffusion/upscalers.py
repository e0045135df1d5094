"""Super-resolution networks: RRDBNet (ESRGAN) and SRVGGNetCompact (Real-ESRGAN's small ones), from RGB in [0, 1] to larger RGB.

Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", arXiv:1809.00219; Rakotonirina &
Rasoanaivo 2020, "ESRGAN+", arXiv:2001.08073; Wang et al. 2021, "Real-ESRGAN", arXiv:2107.10833.  Tensors have the names of
BasicSR's classes; `checkpoints.upscalers` brings other files' names to them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modules.diffusion.upscaler_config import CompactConfig, RRDBConfig

SLOPE = 0.2
"""Of RRDBNet's LeakyReLU, and what each of its residuals is scaled by."""


class DenseBlock(nn.Module):
    """Five convolutions, each of all that the ones before gave."""

    def __init__(self, features: int, growth: int, plus: bool) -> None:
        super().__init__()
        for number in range(5):
            setattr(self, f"conv{number + 1}", _conv(features + number * growth, growth if number < 4 else features))
        self.conv1x1 = nn.Conv2d(features, growth, 1, bias=False) if plus else None

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for number in range(1, 5):
            made = F.leaky_relu(getattr(self, f"conv{number}")(torch.cat(seen, 1)), SLOPE)
            if self.conv1x1 is not None and number == 2:
                made = made + self.conv1x1(x)
            if self.conv1x1 is not None and number == 4:
                made = made + seen[2]
            seen.append(made)
        return self.conv5(torch.cat(seen, 1)) * SLOPE + x  # type: ignore[no-any-return, operator]


class ResidualBlock(nn.Module):
    """Three dense blocks around an identity."""

    def __init__(self, features: int, growth: int, plus: bool) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (DenseBlock(features, growth, plus) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * SLOPE + x  # type: ignore[no-any-return]


class RRDBNet(nn.Module):
    """ESRGAN's generator: (B, 3, h, w) to (B, 3, scale h, scale w), around [0, 1]; sides are multiples of the folding."""

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__()
        self.config, width = config, config.features
        self.conv_first = _conv(3 * config.unshuffle**2, width)
        self.body = nn.Sequential(*(ResidualBlock(width, config.growth, config.plus) for _ in range(config.blocks)))
        self.conv_body = _conv(width, width)
        for number in range(config.doublings):
            setattr(self, f"conv_up{number + 1}", _conv(width, width))
        self.conv_hr, self.conv_last = _conv(width, width), _conv(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first(F.pixel_unshuffle(x, self.config.unshuffle) if self.config.unshuffle > 1 else x)
        x = x + self.conv_body(self.body(x))
        for number in range(self.config.doublings):
            larger = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(getattr(self, f"conv_up{number + 1}")(larger), SLOPE)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))  # type: ignore[no-any-return]


class Compact(nn.Module):
    """SRVGGNetCompact: (B, 3, h, w) to (B, 3, scale h, scale w): what is added to the nearest neighbours, around [0, 1]."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [_conv(3, config.features), _activation(config)]
        for _ in range(config.convs):
            layers += [_conv(config.features, config.features), _activation(config)]
        self.body = nn.Sequential(*layers, _conv(config.features, 3 * config.scale**2))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.config.scale
        larger = F.interpolate(x, scale_factor=float(scale), mode="nearest")
        return F.pixel_shuffle(self.body(x), scale) + larger


def upscaler(config: RRDBConfig | CompactConfig) -> RRDBNet | Compact:
    """The network of a configuration."""
    return RRDBNet(config) if isinstance(config, RRDBConfig) else Compact(config)


def _activation(config: CompactConfig) -> nn.Module:
    if config.activation == "prelu":
        return nn.PReLU(config.features)
    return nn.LeakyReLU(0.1) if config.activation == "leakyrelu" else nn.ReLU()


def _conv(incoming: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(incoming, out, 3, padding=1)

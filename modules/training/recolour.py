"""Recolouring a glyph: its dominant colour is found and replaced in OKLab (Ottosson 2020); eyes, wheels and leaves stay.

An elephant that became pink, or a car whose red became blue, keeps its shading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modules.training.motifs import OBJECT_COLOURS

_LMS = torch.tensor(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    dtype=torch.float64,
)
_LAB = torch.tensor(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    dtype=torch.float64,
)
_BINS = 72  # of hue
_NEAR = math.radians(34)  # how far a hue may lie from the dominant one


@dataclass(frozen=True)
class Dominant:
    """The colour of most of a glyph in OKLab: lightness, chroma (0 for greys), hue in radians, and the lightness's range."""

    light: float
    chroma: float
    hue: float
    low: float
    high: float

    @property
    def grey(self) -> bool:
        return self.chroma == 0.0


def oklab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] (..., 3) to OKLab, in the precision of `rgb`."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return (linear @ _LMS.T.to(rgb)).clamp_min(0) ** (1 / 3) @ _LAB.T.to(rgb)


def from_oklab(lab: Tensor) -> Tensor:
    """OKLab (..., 3) to sRGB in [0, 1]; what lies outside is clipped."""
    linear = ((lab @ _LAB.inverse().T.to(lab)) ** 3 @ _LMS.inverse().T.to(lab)).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def analyse(rgb: Tensor, alpha: Tensor) -> Dominant | None:
    """The dominant colour of a glyph, (3, H, W) and (H, W) in [0, 1]; None where no colour prevails."""
    lab = oklab(rgb.permute(1, 2, 0)[alpha > 0.5].double())
    light, chroma, hue = lab[:, 0], torch.hypot(lab[:, 1], lab[:, 2]), torch.atan2(lab[:, 2], lab[:, 1])
    coloured = chroma > 0.05
    bins = torch.bincount(((hue[coloured] + math.pi) / (2 * math.pi) * _BINS).long() % _BINS, minlength=_BINS)
    smooth = torch.stack([bins.roll(k) for k in range(-3, 4)]).sum(0)
    peak = (int(smooth.argmax()) + 0.5) / _BINS * 2 * math.pi - math.pi
    members = coloured & (_between(hue, peak) < _NEAR)
    greys = (chroma < 0.05) & (light > 0.22)
    if members.sum() >= 0.42 * len(light) and members.sum() >= 1.1 * greys.sum():
        middle = math.atan2(float(hue[members].sin().mean()), float(hue[members].cos().mean()))
        return _dominant(light[members], float(chroma[members].median()), middle)
    if greys.sum() >= 0.5 * len(light) and (chroma > 0.1).sum() < 0.3 * len(light):
        return _dominant(light[greys], 0.0, 0.0)
    return None


def recolour(rgb: Tensor, dominant: Dominant, colours: Sequence[str]) -> Tensor:
    """(T, 3, H, W) in [0, 1]: (3, H, W) with the dominant colour replaced by each of `colours` (names of `OBJECT_COLOURS`)."""
    light, a, b = oklab(rgb.permute(1, 2, 0).float()).unbind(-1)
    chroma = torch.hypot(a, b)

    # How much of each pixel belongs to the dominant colour
    if dominant.grey:
        weight = _smooth_step(chroma, 0.075, 0.045) * _smooth_step(light, 0.16, 0.30)
        tint = torch.ones_like(light)
    else:
        away = _between(torch.atan2(b, a), dominant.hue)
        weight = _smooth_step(chroma, 0.025, 0.055) * _smooth_step(away, 0.85, 0.55)
        tint = (chroma / max(dominant.chroma, 0.03)).clamp(0.0, 1.25)

    # Shading: the dominant colour's range of lightness, fitted into what the new colour allows
    up, down = max(dominant.high - dominant.light, 0.03), max(dominant.light - dominant.low, 0.03)
    spread = light - dominant.light
    made = []
    for name in colours:
        new, new_a, new_b = (float(v) for v in oklab(torch.tensor(OBJECT_COLOURS[name], dtype=torch.float64) / 255))
        gain_up, gain_down = min(1.0, (0.985 - new) / up), min(1.0, (new - 0.08) / down)
        if name == "black":  # shiny black things would turn grey
            gain_up = min(gain_up, 0.75)
        shaded = new + torch.where(spread > 0, spread * gain_up, spread * gain_down)
        here = tint
        if dominant.grey:  # highlights and shadows carry less colour
            here = tint * (1 - _smooth_step(shaded, 0.93, 1.0)) * _smooth_step(shaded, 0.05, 0.25)
        target = torch.stack([shaded, new_a * here, new_b * here], -1)
        lab = torch.stack([light, a, b], -1)
        made.append(from_oklab(lab + weight[..., None] * (target - lab)).permute(2, 0, 1))
    return torch.stack(made)


def _dominant(light: Tensor, chroma: float, hue: float) -> Dominant:
    low, high = torch.quantile(light, torch.tensor([0.03, 0.97], dtype=light.dtype)).tolist()
    return Dominant(float(light.median()), chroma, hue, low, high)


def _between(hue: Tensor, other: float) -> Tensor:
    """The angle between hues, 0 to π."""
    return (torch.remainder(hue - other + math.pi, 2 * math.pi) - math.pi).abs()


def _smooth_step(x: Tensor, low: float, high: float) -> Tensor:
    x = ((x - low) / (high - low)).clamp(0, 1)
    return x * x * (3 - 2 * x)

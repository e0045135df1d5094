"""Composition: pictures of scenes, whole batches on the device, from glyphs kept there.

Every glyph is sampled through its own affine map (translation and scale, bilinear) out of a bitmap of about its size, and laid
over what is below it: out = below (1 - alpha) + colour, with premultiplied colours (Porter & Duff 1984, "over").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from modules.training.scenes import Floats, Variant

_LEVELS = (0.8125, 0.575, 0.40625, 0.289, 0.203)  # edges of the bitmaps as shares of the picture's
_SLACK = 0.96  # a bitmap may be so much smaller than what it is drawn at


class Composer:
    """Glyphs at five sizes on `device`, and pictures of `size` pixels made of them.

    Args:
        order: what the glyphs are, in their order.
        glyphs: (N, 4, E, E) bytes, RGBA with premultiplied alpha.
    """

    def __init__(self, order: Sequence[Variant], glyphs: Tensor, size: int, device: torch.device) -> None:
        self.size, self.device = size, device
        self.numbers = {variant: number for number, variant in enumerate(order)}
        self.edges = [max(8, round(size * share)) for share in _LEVELS]
        self.levels = [_scaled(glyphs, edge).to(device) for edge in self.edges]

    @torch.no_grad()
    def compose(self, slots: Floats, grounds: Floats) -> Tensor:
        """Pictures (B, 3, size, size) in [0, 255] as floats of `scenes.arrays`' slots (B, 9, 4) and grounds (B, 7)."""
        ruler = (torch.arange(self.size, device=self.device) + 0.5) / self.size
        ground = self._sent(grounds)
        below = (ruler[None] > ground[:, 6:7])[:, None, :, None]
        canvas = torch.where(below, ground[:, 3:6, None, None], ground[:, 0:3, None, None])
        canvas = canvas.expand(-1, -1, -1, self.size).contiguous()
        levels = self._levels_for(slots[..., 3])
        for slot in range(slots.shape[1]):
            used = slots[:, slot, 0] >= 0
            if not used.any():
                break
            for level in np.unique(levels[used, slot]):
                chosen = np.nonzero(used & (levels[:, slot] == level))[0]
                where = torch.from_numpy(chosen).to(self.device)
                glyph = self._sampled(int(level), self._sent(slots[chosen, slot]), ruler)
                canvas[where] = canvas[where] * (1 - glyph[:, 3:] / 255) + glyph[:, :3]
        return canvas

    def _levels_for(self, edges: Floats) -> npt.NDArray[np.int64]:
        """For each glyph the smallest bitmap that is large enough."""
        levels = np.zeros(edges.shape, np.int64)
        for index, edge in enumerate(self.edges):
            levels[edge >= edges * self.size * _SLACK] = index
        return levels

    def _sampled(self, level: int, placed: Tensor, ruler: Tensor) -> Tensor:
        """(B, 4, size, size) of glyphs (B, 4): number, x, y, edge; transparent outside."""
        size = self.size
        across = 2 * (ruler[None] - placed[:, 1:2]) / placed[:, 3:4]
        down = 2 * (ruler[None] - placed[:, 2:3]) / placed[:, 3:4]
        grid = torch.stack([across[:, None, :].expand(-1, size, -1), down[:, :, None].expand(-1, -1, size)], -1)
        bitmaps = self.levels[level][placed[:, 0].long()].float()
        return F.grid_sample(bitmaps, grid, "bilinear", "zeros", align_corners=False)

    def _sent(self, values: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device, non_blocking=True)


def to_unit(pixels: Tensor) -> Tensor:
    """[0, 255] to [-1, 1], channels last in memory."""
    return (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def to_pixels(x: Tensor) -> Tensor:
    """[-1, 1], clamped, to bytes."""
    return x.float().clamp(-1, 1).add(1).mul(127.5).round().byte()


def _scaled(glyphs: Tensor, edge: int) -> Tensor:
    """(N, 4, edge, edge) bytes; bicubic, low-passed on the way down. Colours stay below their alpha."""
    made = []
    for part in torch.split(glyphs, 128):
        small = F.interpolate(part.float(), size=(edge, edge), mode="bicubic", antialias=True, align_corners=False).clamp(
            0, 255
        )
        small[:, :3] = torch.minimum(small[:, :3], small[:, 3:])
        made.append(small.round().byte())
    return torch.cat(made)

"""The engine half: FreeU (Si et al. 2023, arXiv:2309.11497) as an edit of a U-Net's skip connections.

The edit is data on the rows that a picture asks about, so they share forwards with those of other pictures, and equal factors
of several pictures are applied at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modules.diffusion.forward import Join
from modules.diffusion.rows import Row
from modules.diffusion.samplers import Denoised
from modules.hooks import hookimpl
from modules.pipelines.denoisers import Denoiser, on_rows
from modules.pipelines.ops import Program
from modules.pipelines.wrappers import Run, Wrapper
from modules.request import RequestExtension
from modules.request.extensions import options_of

from .options import NAME, OPTIONS, FreeUOptions


@dataclass(frozen=True)
class FreeU:
    """Where what comes from below has four times the channels of the finest level (1280 of SD 1.x and SDXL), `b1` scales the
    first half of those, and `s1` the lowest frequencies of the skip connection; where it has twice as many, `b2` and `s2` do.

    Those are the places of the authors' code and of ComfyUI; diffusers counts resolution levels instead.
    """

    b1: float = 1.0
    b2: float = 1.0
    s1: float = 1.0
    s2: float = 1.0

    def __call__(self, h: Tensor, skip: Tensor, join: Join) -> tuple[Tensor, Tensor]:
        channels = h.shape[1]
        if channels == 4 * join.width:
            return scaled_half(h, self.b1), scaled_low(skip, self.s1)
        if channels == 2 * join.width:
            return scaled_half(h, self.b2), scaled_low(skip, self.s2)
        return h, skip


def scaled_half(h: Tensor, factor: float) -> Tensor:
    """(n, C, H, W) with the first half of its channels times `factor`."""
    if factor == 1.0:
        return h
    half = h.shape[1] // 2
    return torch.cat([h[:, :half] * factor, h[:, half:]], dim=1)


def scaled_low(x: Tensor, factor: float) -> Tensor:
    """(n, C, H, W) with its lowest frequencies times `factor`: 0 and -1 along each axis, a square of side 2 around the middle
    of the shifted spectrum.  Computed in fp32."""
    if factor == 1.0:
        return x
    height, width = x.shape[-2:]
    scale = torch.ones(height, width, device=x.device)
    scale[:: max(1, height - 1), :: max(1, width - 1)] = factor  # the first and the last of each axis
    return torch.fft.ifft2(torch.fft.fft2(x.float()) * scale).real.to(x.dtype)


def wrap(denoise: Denoiser, run: Run) -> Denoiser:
    """`denoise` with the request's factors on every row, between its `start` and its `end`."""
    options = options_of(run.stage.settings.extensions, NAME, FreeUOptions)
    edit = FreeU(options.b1, options.b2, options.s1, options.s2)
    if edit == FreeU():
        return denoise
    if not run.model.denoiser.has("output_blocks"):
        run.note(f"FreeU was left out: {run.model.info.name} has no U-Net with skip connections")
        return denoise

    def edited(row: Row) -> Row:
        return replace(row, skip_edits=(*row.skip_edits, edit))

    def freed(x: Tensor, sigma: float) -> Program[Denoised]:
        program = denoise(x, sigma)
        return on_rows(program, edited) if options.start <= run.done(sigma) <= options.end else program

    return freed


class Plugin:
    @hookimpl
    def request_extensions(self) -> list[RequestExtension]:
        return [OPTIONS]

    @hookimpl
    def denoiser_wrappers(self) -> list[Wrapper]:
        return [Wrapper("FreeU", wrap)]

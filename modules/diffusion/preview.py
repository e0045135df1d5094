"""What a running latent looks like, without a decoder: a linear map from latent channels to RGB, one pixel per position.

It knows nothing of steps or of who is watching.  A latent space has its own map: the one of SD 1.x is well known, others are
fitted once to their decoder (`fit_rgb_factors`), which takes a fraction of a second for a small autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class LinearPreview:
    """rgb = latent @ weight + bias, in [-1, 1] like pixels.  `weight` is (C, 3), `bias` is (3,), both on the CPU."""

    weight: Tensor
    bias: Tensor

    def __call__(self, latent: Tensor) -> Tensor:
        """uint8 (h, w, 3) on the CPU from a latent (C, h, w) on any device, scaled as the U-Net sees it."""
        finite = latent.permute(1, 2, 0).to(self.weight).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        rgb = finite @ self.weight + self.bias
        return ((rgb.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


SD1_PREVIEW = LinearPreview(
    weight=torch.tensor(
        [
            [0.298, 0.207, 0.208],
            [0.187, 0.286, 0.173],
            [-0.158, 0.189, 0.264],
            [-0.184, -0.271, -0.473],
        ]
    ),
    bias=torch.zeros(3),
)
"""For SD 1.x's autoencoder; factors by keturn, "Decoding latents to RGB without upscaling", discuss.huggingface.co, 2022."""

SDXL_PREVIEW = LinearPreview(
    weight=torch.tensor(
        [
            [0.2583, 0.2776, 0.3297],
            [-0.2997, 0.1054, 0.0142],
            [0.0505, 0.1862, -0.1433],
            [-0.2119, -0.1499, -0.0800],
        ]
    ),
    bias=torch.tensor([0.1444, -0.0333, 0.0071]),
)
"""For SDXL's autoencoder; factors of stable-diffusion.cpp's `latent-preview.h` (MIT)."""

PUBLISHED = {"SD 1.x": SD1_PREVIEW, "SDXL": SDXL_PREVIEW}
"""Maps that are published for the full-size autoencoder (`VAEConfig()`) of a latent space, by its name."""


def fit_rgb_factors(
    decode: Callable[[Tensor], Tensor], latent_channels: int, swatches: int = 64, side: int = 2
) -> LinearPreview:
    """The linear map that comes closest to a decoder, by least squares.

    The decoder is shown flat latents, one random colour each: on independent noise per position, which no picture has, it
    answers otherwise.  Measured on the starter model against 16 decoded stickers, mean error of 255: fitted on white noise 25,
    on these 10, on the stickers themselves 9.  Always the same latents, so the same file has the same previews.  The default
    costs as much as decoding one picture of 16 x 16 latent positions.

    Args:
        decode: latents (B, C, h, w), scaled as the U-Net sees them, to pixels (B, 3, h * f, w * f) around [-1, 1].  It gets
            float32 on the CPU and moves it to where it runs.
        latent_channels: C.
        swatches, side: how many latents of which side length are decoded.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    colours = torch.randn(swatches, latent_channels, generator=generator) * 0.8  # 1.0 and 1.2 fitted worse
    with torch.no_grad():
        pixels = decode(colours[:, :, None, None].expand(-1, -1, side, side).contiguous())
    wanted = pixels.float().cpu().mean(dim=(2, 3))

    solution = torch.linalg.lstsq(F.pad(colours, (0, 1), value=1.0).double(), wanted.double()).solution.float()
    return LinearPreview(solution[:latent_channels], solution[latent_channels])

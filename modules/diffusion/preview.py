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

SD3_PREVIEW = LinearPreview(
    weight=torch.tensor(
        [
            [-0.0645, 0.0177, 0.1052],
            [0.0028, 0.0312, 0.065],
            [0.1848, 0.0762, 0.036],
            [0.0944, 0.036, 0.0889],
            [0.0897, 0.0506, -0.0364],
            [-0.002, 0.1203, 0.0284],
            [0.0855, 0.0118, 0.0283],
            [-0.0539, 0.0658, 0.1047],
            [-0.0057, 0.0116, 0.07],
            [-0.0412, 0.0281, -0.0039],
            [0.1106, 0.1171, 0.122],
            [-0.0248, 0.0682, -0.0481],
            [0.0815, 0.0846, 0.1207],
            [-0.012, -0.0055, -0.0867],
            [-0.0749, -0.0634, -0.0456],
            [-0.1418, -0.1457, -0.1259],
        ]
    ),
    bias=torch.zeros(3),
)
"""For SD 3's autoencoder; factors of Stability AI's sd3.5, `sd3_impls.py` (MIT)."""

FLUX_PREVIEW = LinearPreview(
    weight=torch.tensor(
        [
            [-0.0412, 0.0199, 0.0973],
            [0.0281, 0.0267, 0.1296],
            [0.0656, -0.068, -0.0147],
            [-0.013, -0.0148, 0.0813],
            [0.0786, 0.0593, -0.0247],
            [-0.016, -0.0037, 0.005],
            [0.0336, 0.139, 0.0685],
            [-0.0245, -0.0636, -0.0301],
            [-0.0402, -0.0167, 0.1272],
            [0.1127, 0.0888, -0.0419],
            [-0.0235, 0.0937, 0.0255],
            [0.0829, 0.0483, 0.0075],
            [0.0757, 0.0741, 0.082],
            [-0.1435, 0.0183, -0.1361],
            [-0.0258, -0.082, -0.04],
            [-0.1118, -0.0556, -0.0324],
        ]
    ),
    bias=torch.tensor([0.0246, -0.0069, -0.0081]),
)
"""For Flux.1's autoencoder; factors of stable-diffusion.cpp's `latent-preview.h` (MIT)."""

PUBLISHED = {"SD 1.x": SD1_PREVIEW, "SDXL": SDXL_PREVIEW, "SD 3": SD3_PREVIEW, "Flux": FLUX_PREVIEW}
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

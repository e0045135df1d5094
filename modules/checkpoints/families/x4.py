"""SD x4 upscaler: enlarges a picture to four times its size along a text (Stability AI's x4-upscaling.yaml).

The picture is concat conditioning in pixels, one for each position of the latent, with noise of a level of its own, which is
the class that the network is told.  The text encoder is SD 2.x's, the autoencoder has three levels.  Of the U-Net's levels the
finest has no attention, the next ones attend to the text alone (`UNetConfig.cross_only`).
"""

from __future__ import annotations

from modules.checkpoints import keys
from modules.checkpoints.families.parts import Defaults, LatentFormat
from modules.checkpoints.families.sd2 import OPEN_CLIP_H
from modules.checkpoints.families.unet import UNetFamily

X4_LATENT = LatentFormat(channels=4, scale=0.08333, factor=4)

X4 = (
    UNetFamily(
        name="x4-upscaler",
        title="Stable Diffusion x4 upscaler",
        in_channels=7,
        latent=X4_LATENT,
        text=(OPEN_CLIP_H,),
        heads=8,
        marks=(keys.OPEN_CLIP_END, keys.UNET + "label_emb.weight"),
        prediction="v",
        betas=(0.0001, 0.02),
        defaults=Defaults(steps=75, cfg_scale=9.0, sampler="DDIM", schedule="Automatic"),
    ),
)

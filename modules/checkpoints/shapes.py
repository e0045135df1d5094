"""The configurations of the networks in a file, from the shapes of their tensors (`sizes`).

The one thing that shapes do not tell is the number of U-Net heads; the family does.
"""

from __future__ import annotations

from modules.checkpoints import sizes
from modules.checkpoints.families import Family, Shapes
from modules.diffusion.text import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig


def unet_config(shapes: Shapes, family: Family) -> UNetConfig:
    """The shape of a U-Net, see `sizes.unet_sizes`.

    Raises:
        CheckpointError: the tensors are no U-Net of the form that we build.
    """
    return UNetConfig(**sizes.unet_sizes(shapes)._asdict(), heads=family.heads)


def vae_config(shapes: Shapes) -> VAEConfig:
    """The shape of an autoencoder, see `sizes.vae_sizes`.

    Raises:
        CheckpointError: the tensors are no autoencoder of the form that we build.
    """
    return VAEConfig(**sizes.vae_sizes(shapes)._asdict())


def text_config(shapes: Shapes) -> TextConfig:
    """The shape of a CLIP text encoder, see `sizes.text_sizes`.

    Raises:
        CheckpointError: the tensors are no CLIP text encoder.
    """
    return TextConfig(**sizes.text_sizes(shapes)._asdict())

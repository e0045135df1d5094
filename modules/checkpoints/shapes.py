"""The configurations of the networks in a file, from the shapes of their tensors (`sizes`).

What shapes do not tell, the number of U-Net heads and how a text encoder is read, the family does.
"""

from __future__ import annotations

from modules.checkpoints import sizes
from modules.checkpoints.families import Family, TextPart
from modules.checkpoints.sizes import Shapes
from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig


def unet_config(shapes: Shapes, family: Family) -> UNetConfig:
    """The shape of a U-Net, see `sizes.unet_sizes`.

    Raises:
        CheckpointError: the tensors are no U-Net of the form that we build.
    """
    return UNetConfig(**sizes.unet_sizes(shapes)._asdict(), heads=family.heads, head_width=family.head_width)


def vae_config(shapes: Shapes) -> VAEConfig:
    """The shape of an autoencoder, see `sizes.vae_sizes`.

    Raises:
        CheckpointError: the tensors are no autoencoder of the form that we build.
    """
    return VAEConfig(**sizes.vae_sizes(shapes)._asdict())


def text_config(shapes: Shapes, read: TextPart) -> TextConfig:
    """The shape of a CLIP text encoder, see `sizes.text_sizes`, and how it is `read`.

    Raises:
        CheckpointError: the tensors are no CLIP text encoder.
    """
    return TextConfig(
        **sizes.text_sizes(shapes)._asdict(),
        activation=read.activation,
        layer=read.layer,
        normalised=read.normalised,
        pad=read.pad,
    )

"""The configurations of the networks in a file, from the shapes of their tensors (`sizes`).

What shapes do not tell, the number of U-Net heads and how a text encoder is read, the family does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modules.checkpoints import sizes
from modules.checkpoints.sizes import Shapes
from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig

if TYPE_CHECKING:
    from modules.checkpoints.families.parts import TextPart


def unet_config(shapes: Shapes, heads: int, head_width: int) -> UNetConfig:
    """The shape of a U-Net, see `sizes.unet_sizes`; its attention heads are `heads` in number or, where that is 0, so wide.

    Raises:
        CheckpointError: the tensors are no U-Net of the form that we build.
    """
    return UNetConfig(**sizes.unet_sizes(shapes)._asdict(), heads=heads, head_width=head_width)


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
        pooled=read.pooled_plain,
    )

"""The networks of a checkpoint, made of its tensors: what the component cache holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modules.checkpoints import shapes
from modules.checkpoints.completeness import check_together, part_shapes
from modules.checkpoints.families import Family, TextPart
from modules.checkpoints.header import Header
from modules.checkpoints.keys import Layout
from modules.checkpoints.sizes import text_sizes, unet_sizes
from modules.checkpoints.weights import Filler
from modules.diffusion.attention import Attend
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet
from modules.diffusion.vae import AutoencoderKL


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the networks of an open file.  They are built on the meta device: no memory and no random numbers for weights that
    are replaced at once.

    Raises:
        CheckpointError: its networks do not go together; making one, that it lacks tensors or has them in another shape.
    """

    header: Header
    layout: Layout
    family: Family
    fill: Filler
    attend: Attend

    def __post_init__(self) -> None:
        texts = [text_sizes(part_shapes(self.header, self.layout.part(part.part))) for part in self.family.text]
        check_together(self.family, texts, unet_sizes(part_shapes(self.header, self.layout.unet)))

    def unet(self, dtype: torch.dtype) -> UNet:
        config = shapes.unet_config(part_shapes(self.header, self.layout.unet), self.family)
        with torch.device("meta"):
            network = UNet(config, self.attend)
        self.fill(network, self.layout.unet, dtype, "U-Net")
        return network

    def vae(self, dtype: torch.dtype) -> AutoencoderKL:
        config = shapes.vae_config(part_shapes(self.header, self.layout.vae))
        with torch.device("meta"):
            network = AutoencoderKL(config, self.attend)
        self.fill(network, self.layout.vae, dtype, "VAE")
        return network

    def text(self, part: TextPart, dtype: torch.dtype) -> TextEncoder:
        names = self.layout.part(part.part)
        config = shapes.text_config(part_shapes(self.header, names), part)
        with torch.device("meta"):
            network = TextEncoder(config)
        self.fill(network.networks, names, dtype, part.title)
        return network.eval()

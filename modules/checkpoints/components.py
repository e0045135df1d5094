"""The networks of a checkpoint with a U-Net, made of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import torch

from modules.checkpoints import keys, lora_names, shapes
from modules.checkpoints.completeness import check_together, check_vae, part_shapes, text_places
from modules.checkpoints.keys import Layout, Place
from modules.checkpoints.latent_space import KLLatentSpace
from modules.checkpoints.model_file import ModelFile
from modules.checkpoints.sizes import text_sizes, unet_sizes
from modules.diffusion.accelerators import while_resident
from modules.diffusion.clip_prompts import CLIPPrompts
from modules.diffusion.forward import adaptable_layers, adaptable_norms
from modules.diffusion.networks import AdaptableNetwork, LatentSpace, Networks, NoiseProcess
from modules.diffusion.prediction import PREDICTIONS, ContinuousNoise, DiscreteNoise, trained_sigmas
from modules.diffusion.text import TextEncoder, TextEncoders
from modules.diffusion.unet import UNet
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.diffusion.vae import AutoencoderKL
from modules.errors import CheckpointError

if TYPE_CHECKING:
    from modules.checkpoints.families.parts import LatentFormat, TextPart, VectorNumbers


@dataclass(frozen=True, eq=False)
class UNetParts:
    """Makes the networks of an open file with a U-Net, an autoencoder and text `encoders`.  They are built on the meta device:
    no memory and no random numbers for weights that are replaced at once.

    Raises:
        CheckpointError: its networks do not go together; making one, that it lacks tensors or has them in another shape.
    """

    file: ModelFile
    encoders: Sequence[TextPart]
    numbers: VectorNumbers
    """What the U-Net's vector has beside the pooled text."""

    def __post_init__(self) -> None:
        self.file.ignore(self.layout.unexpected)
        texts = [text_sizes(part_shapes(self.file.header, text_places(self.layout, part))) for part in self.encoders]
        unet = unet_sizes(part_shapes(self.file.header, self.layout.unet))
        check_together(self.encoders, len(self.numbers), texts, unet)

    @cached_property
    def layout(self) -> Layout:
        return keys.layout(self.file.header.tensors)

    def networks(
        self, latent: LatentFormat, heads: int, head_width: int, noise: NoiseProcess, blank_negative: bool, edits_scaled: bool
    ) -> Networks:
        """All of them, read as a family's data says (`families.UNetFamily`)."""
        file = self.file
        unet = denoising_network(file, self.layout.unet, heads, head_width)
        vae = autoencoder(file, self.layout.vae)
        texts = [
            cast(TextEncoder, file.component(part.part, partial(self._text, part), streamable=True)) for part in self.encoders
        ]
        accelerate = while_resident(file.accelerate, file.placement("unet"), file.attend)
        parts = tuple(part.part for part in self.encoders)
        return Networks(
            UNetDenoiser(unet, file.dtype, latent.channels, accelerate),
            CLIPPrompts(TextEncoders(texts), blank_negative, self.numbers, file.inversions, parts),
            KLLatentSpace(vae, latent, file.vae_dtype, file.device, edits_scaled=edits_scaled),
            noise,
            {"unet": adaptable_unet(file, unet)} | dict(zip(parts, map(self._adaptable_text, texts), strict=True)),
        )

    def _adaptable_text(self, encoder: TextEncoder) -> AdaptableNetwork:
        layers, norms = adaptable_layers(encoder.networks), adaptable_norms(encoder.networks)
        stems = lora_names.text_aliases((*layers, *norms))
        return AdaptableNetwork(layers, stems, self.file.device, self.file.dtype, norms)

    def _text(self, part: TextPart) -> TextEncoder:
        names = text_places(self.layout, part)
        config = shapes.text_config(part_shapes(self.file.header, names), part)
        with torch.device("meta"):
            network = TextEncoder(config)
        self.file.fill(network.networks, names, self.file.dtype, part.title)
        return network.eval()


def denoising_network(file: ModelFile, places: Mapping[str, Place], heads: int, head_width: int) -> UNet:
    """The U-Net whose tensors are at `places` of an open file; its attention heads are `heads` in number or, where that is 0,
    `head_width` wide."""

    def make() -> UNet:
        config = shapes.unet_config(part_shapes(file.header, places), heads, head_width)
        with torch.device("meta"):
            network = UNet(config, file.attend, file.kernels)
        file.fill(network, places, file.dtype, "U-Net")
        if file.device.type == "cuda":
            network.join()  # elsewhere the weights are used where the file is mapped, and few launches bring nothing
        network.source, network.title = repr((*file.content, "unet")), file.path.name
        return network

    return cast(UNet, file.component("unet", make, streamable=True))


def adaptable_unet(file: ModelFile, unet: UNet) -> AdaptableNetwork:
    """What adapters can change of a file's U-Net."""
    layers, norms = adaptable_layers(unet), adaptable_norms(unet)
    stems = lora_names.unet_aliases((*layers, *norms), len(unet.config.channels), unet.config.res_blocks)
    return AdaptableNetwork(layers, stems, file.device, file.dtype, norms)


def autoencoder(file: ModelFile, places: Mapping[str, Place]) -> AutoencoderKL:
    """The autoencoder whose tensors are at `places` of an open file."""

    def make() -> AutoencoderKL:
        config = shapes.vae_config(part_shapes(file.header, places))
        with torch.device("meta"):
            network = AutoencoderKL(config, file.attend, file.kernels)
        file.fill(network, places, file.vae_dtype, "VAE")
        return network

    return cast(AutoencoderKL, file.component("vae", make, streamable=True))


def with_vae(file: ModelFile, space: LatentSpace) -> KLLatentSpace:
    """The latent space of a model with the autoencoder of another file.

    Raises:
        CheckpointError: it has another form than the model's latent space; the message is the rest of a sentence.
    """
    if not isinstance(space, KLLatentSpace):
        raise CheckpointError("does not fit: this checkpoint's family takes no other VAE")
    places = keys.vae_layout(file.header.tensors)
    sizes = check_vae(file.header, places)
    wanted = space.format.channels, space.format.factor
    if (sizes.latent_channels, 2 ** (len(sizes.channels) - 1)) != wanted:
        raise CheckpointError(
            f"does not fit: it has {sizes.latent_channels} latent channels and {len(sizes.channels)} levels, this checkpoint's "
            f"latents have {wanted[0]} channels and a pixel for {wanted[1]}"
        )
    if bool(sizes.codebook) != bool(space.vae.config.codebook):
        with_it, without = "has a codebook (VQ)", "has none (KL)"
        own, other = (with_it, without) if sizes.codebook else (without, with_it)
        raise CheckpointError(f"does not fit: it {own}, and the autoencoder of this checkpoint {other}")
    return replace(space, vae=autoencoder(file, places), tiling=None)


def discrete_noise(prediction: str, zero_snr: bool, betas: tuple[float, float]) -> NoiseProcess:
    """The noise process of a network that was trained at discrete timesteps to predict "eps" or "v"."""
    return DiscreteNoise(PREDICTIONS[prediction], trained_sigmas(*betas), zero_snr)


def continuous_noise(sigma_min: float, sigma_max: float, data: float, v: bool) -> NoiseProcess:
    """The noise process of a network that was trained at all noise levels of a range."""
    return ContinuousNoise(sigma_min, sigma_max, data, v)

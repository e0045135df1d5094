"""The networks of an original latent-diffusion checkpoint (`families.ldm`), made of its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn

from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.components import adaptable_unet, autoencoder, denoising_network, discrete_noise
from modules.checkpoints.latent_space import KLLatentSpace, MapLatentSpace
from modules.checkpoints.ldm_layout import LDMLayout, bert_sizes
from modules.checkpoints.model_file import ModelFile
from modules.diffusion.accelerators import while_resident
from modules.diffusion.bert import BERTConfig, BERTText
from modules.diffusion.bert_prompts import BERTPrompts
from modules.diffusion.label_prompts import ClassEmbedder, ClassPrompts, LayoutPrompts, NoPrompts
from modules.diffusion.networks import LatentSpace, Networks, PromptEncoder
from modules.diffusion.unet_denoiser import UNetDenoiser

if TYPE_CHECKING:
    from pathlib import Path

    from modules.checkpoints.families.parts import Concat, LatentFormat, Words
    from modules.checkpoints.header import Header
    from modules.prompts.labels import Labels


class Said(Protocol):
    """What a family of these checkpoints says of one (`families.ldm.LDMFamily`)."""

    @property
    def heads(self) -> int: ...

    @property
    def head_width(self) -> int: ...

    @property
    def latent(self) -> LatentFormat: ...

    @property
    def words(self) -> Words: ...

    @property
    def concat(self) -> Concat: ...

    def layout(self, header: Header) -> LDMLayout: ...

    def labels(self, header: Header, path: Path) -> Labels: ...

    def latent_of(self, header: Header, path: Path) -> LatentFormat: ...

    def betas_of(self, header: Header, path: Path) -> tuple[float, float]: ...


def networks(family: Said, file: ModelFile) -> Networks:
    """All of them.

    Raises:
        CheckpointError: it lacks tensors or has them in another shape.
    """
    layout = family.layout(file.header)
    file.ignore(layout.unexpected)
    unet = denoising_network(file, layout.unet, family.heads, family.head_width)
    latent = _latent_space(family, file, layout)
    prompts = _prompts(family, file, layout)
    accelerate = while_resident(file.accelerate, file.placement("unet"), file.attend)
    return Networks(
        UNetDenoiser(unet, file.dtype, family.latent.channels, accelerate),
        prompts,
        latent,
        discrete_noise("eps", False, family.betas_of(file.header, file.path)),
        {"unet": adaptable_unet(file, unet)},
    )


def _latent_space(family: Said, file: ModelFile, layout: LDMLayout) -> LatentSpace:
    vae, format = autoencoder(file, layout.vae), family.latent_of(file.header, file.path)
    if family.concat != "map":
        return KLLatentSpace(vae, format, file.vae_dtype, file.device)
    shape = part_shapes(file.header, layout.condition)["channel_mapper.weight"]
    with torch.device("meta"):
        mapper = nn.Conv2d(shape[1], shape[0], 1, bias="channel_mapper.bias" in layout.condition)
    rescaler = nn.ModuleDict({"channel_mapper": mapper})
    file.fill(rescaler, layout.condition, torch.float32, "map of classes")
    colours = mapper.weight[:, :, 0, 0].T if mapper.bias is None else mapper.weight[:, :, 0, 0].T + mapper.bias
    return MapLatentSpace(vae, format, file.vae_dtype, file.device, colours=colours.detach().cpu().clone())


def _prompts(family: Said, file: ModelFile, layout: LDMLayout) -> PromptEncoder:
    if not family.words:
        return NoPrompts(file.device)
    shapes = part_shapes(file.header, layout.condition)
    if family.words == "class":
        classes, width = shapes["embedding.weight"]

        def make_table() -> nn.Module:
            with torch.device("meta"):
                table = ClassEmbedder(classes, width)
            file.fill(table, layout.condition, file.dtype, "table of classes")
            return table

        table = cast(ClassEmbedder, file.component("text", make_table))
        return ClassPrompts(table, family.labels(file.header, file.path))

    def make() -> nn.Module:
        with torch.device("meta"):
            network = BERTText(BERTConfig(**bert_sizes(shapes)._asdict()))
        file.fill(network, layout.condition, file.dtype, "text encoder")
        return network

    text = cast(BERTText, file.component("text", make, streamable=True))
    if family.words == "text":
        return BERTPrompts(text)
    return LayoutPrompts(text, family.labels(file.header, file.path))

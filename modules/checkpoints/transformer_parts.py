"""The networks of a checkpoint with a transformer (SD 3, Flux), made of its tensors and of those of files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

from modules.checkpoints import keys, lora_names, sizes, text_files, transformer_sizes
from modules.checkpoints.completeness import check_part, check_t5, check_vae, part_shapes, text_places
from modules.checkpoints.components import autoencoder
from modules.checkpoints.keys import Layout
from modules.checkpoints.latent_space import KLLatentSpace
from modules.checkpoints.model_file import ModelFile
from modules.checkpoints.shapes import text_config
from modules.diffusion.adapters import rows_of
from modules.diffusion.clip_prompts import CLIPPrompts
from modules.diffusion.flow import FlowNoise
from modules.diffusion.flux import Flux, FluxConfig
from modules.diffusion.forward import adaptable_layers
from modules.diffusion.joint_denoiser import JointDenoiser
from modules.diffusion.joint_prompts import JointPrompts
from modules.diffusion.mmdit import MMDiT, MMDiTConfig
from modules.diffusion.networks import AdaptableNetwork, Networks
from modules.diffusion.t5 import T5Config, T5Text
from modules.diffusion.text import TextEncoder, TextEncoders
from modules.errors import CheckpointError
from modules.prompts.t5_tokenizer import T5Tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from modules.checkpoints.families.parts import LatentFormat, TextPart


class TransformerData(Protocol):
    """What a family says of its networks, see `families.transformer.TransformerFamily`."""

    @property
    def title(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def latent(self) -> LatentFormat: ...

    @property
    def text(self) -> tuple[TextPart, ...]: ...

    @property
    def clip_in_context(self) -> bool: ...

    @property
    def t5_tokens(self) -> int: ...

    @property
    def shift(self) -> float: ...

    @property
    def by_size(self) -> bool: ...

    @property
    def distilled(self) -> bool: ...

    @property
    def vae_hints(self) -> tuple[str, ...]: ...

    @property
    def vae_others(self) -> tuple[str, ...]: ...


@dataclass(eq=False)
class TransformerParts:
    """Makes the networks of an open file as its family's data says.

    Raises:
        CheckpointError: an encoder or the autoencoder that is needed is neither in the file nor beside it, or has other sizes
            than the transformer expects; the message is the rest of a sentence.
    """

    file: ModelFile
    family: TransformerData
    _absent: dict[str, str] = field(default_factory=dict)
    """By part, the titles of text encoders that are not there."""
    _tokenizer: T5Tokenizer | None = None

    @cached_property
    def layout(self) -> Layout:
        return keys.layout(self.file.header.tensors)

    @cached_property
    def sizes(self) -> transformer_sizes.MMDiTSizes | transformer_sizes.FluxSizes:
        measure = transformer_sizes.mmdit_sizes if self.family.kind == "sd3" else transformer_sizes.flux_sizes
        return measure(part_shapes(self.file.header, self.layout.unet))

    def networks(self) -> Networks:
        file, family = self.file, self.family
        file.ignore(self.layout.unexpected)
        texts: dict[str, TextEncoder] = {
            part.part: encoder for part in family.text if (encoder := self._clip(part)) is not None
        }
        t5 = self._t5()
        self._check_texts(texts, t5)
        space = self._latent_space()
        network = cast(Any, file.component("unet", self._transformer, streamable=True))
        adaptable = {"unet": self._adaptable_transformer(network)}
        adaptable |= {part: self._adaptable_text(encoder, encoder.networks) for part, encoder in texts.items()}
        adaptable |= {} if t5 is None else dict.fromkeys(self._t5_parts, self._adaptable_text(t5, t5))
        return Networks(
            JointDenoiser(network, file.dtype, file.device, family.latent.channels),
            self._prompts(texts, t5),
            space,
            FlowNoise(family.shift, family.by_size),
            adaptable,
        )

    @property
    def _t5_parts(self) -> tuple[str, ...]:
        """What adapters call T5: it is Flux's second encoder."""
        return ("text_3",) if self.family.kind == "sd3" else ("text_3", "text_2")

    def _prompts(self, texts: Mapping[str, TextEncoder], t5: T5Text | None) -> JointPrompts:
        family, found = self.family, self.sizes
        clip = None
        if texts:
            inversions = self.file.inversions if family.clip_in_context else None
            clip = CLIPPrompts(TextEncoders(list(texts.values())), inversions=inversions, parts=tuple(texts))
        return JointPrompts(
            clip=clip,
            columns=self._columns(texts),
            t5=t5,
            tokenizer=self._tokenizer if t5 is not None else None,
            context_width=found.context_width,
            pooled_width=found.pooled_width,
            clip_in_context=family.clip_in_context,
            t5_tokens=family.t5_tokens,
            device=self.file.device,
            guided=family.distilled,
            absent=tuple(self._absent.values()),
            t5_parts=self._t5_parts,
        )

    def _columns(self, texts: Mapping[str, TextEncoder]) -> list[tuple[int, int]]:
        """By encoder, where its columns of the context and of the pooled text begin: the first encoder's are first, and the
        last one's last in the pooled text, whichever is not there."""
        columns, context, pooled = [], 0, 0
        for part in self.family.text:
            if (encoder := texts.get(part.part)) is None:
                others = sum(each.config.width for each in texts.values())
                context = pooled = self.sizes.pooled_width - others  # the width of the one that is not there
                continue
            columns.append((context, pooled))
            context += encoder.config.width
            pooled += encoder.config.projection or encoder.config.width
        return columns

    def _check_texts(self, texts: Mapping[str, TextEncoder], t5: T5Text | None) -> None:
        found = self.sizes
        if self.family.clip_in_context:
            if not texts and t5 is None:
                raise CheckpointError(
                    "has no text encoder, and there is none beside it: "
                    f"{text_files.missing_text('text')}, and the others of SD 3"
                )
        elif t5 is None:
            where = text_files.missing_text("text_3") if "text_3" in self._absent else ""
            raise CheckpointError(f"needs T5: {where or text_files.missing_tokenizer()}")
        pooled = sum(encoder.config.projection or encoder.config.width for encoder in texts.values())
        if pooled > found.pooled_width or (len(texts) == len(self.family.text) and pooled != found.pooled_width):
            raise CheckpointError(
                f"gets {pooled} numbers of pooled text from its text encoders, where its transformer expects "
                f"{found.pooled_width}; use others"
            )

    # ---- the networks

    def _transformer(self) -> nn.Module:
        options = self.sizes._asdict()
        with torch.device("meta"):
            network: nn.Module
            if self.family.kind == "sd3":
                network = MMDiT(MMDiTConfig(**options), self.file.attend)
            else:
                network = Flux(FluxConfig(**options), self.file.attend)
        self.file.fill(network, self.layout.unet, self.file.dtype, "transformer")
        return network

    def _latent_space(self) -> KLLatentSpace:
        file, family = self.file, self.family
        places = self.layout.vae
        if not places:
            path = text_files.find_vae_file(
                file.folders, file.path, family.latent.channels, family.vae_hints, family.vae_others
            )
            if path is None or file.open_beside is None:
                usual = "ae.safetensors" if family.kind == "flux" else "sd3_vae.safetensors"
                raise CheckpointError(f"has no VAE: put that of {family.title} ({usual}) into the VAE folder of your models")
            file = file.open_beside(path, lambda header: header)
            places = keys.vae_layout(file.header.tensors)
        found = check_vae(file.header, places)
        if found.latent_channels != family.latent.channels:
            raise CheckpointError(
                f"has a VAE of {found.latent_channels} latent channels, its transformer expects {family.latent.channels}; "
                "use another file"
            )
        return KLLatentSpace(autoencoder(file, places), family.latent, file.vae_dtype, file.device)

    def _with_text(self, part: str, own: Mapping[str, Any]) -> ModelFile | None:
        """The file that has this text encoder: this one, or one beside it."""
        if own:
            return self.file
        found = text_files.find_text_file(self.file.folders, part)
        if found is None or self.file.open_beside is None:
            self._absent[part] = text_files.TITLES[part]
            return None
        return self.file.open_beside(found.path, lambda header: text_files.as_part(header, found))

    def _clip(self, part: TextPart) -> TextEncoder | None:
        file = self._with_text(part.part, self.layout.part(part.part))
        if file is None:
            return None
        places = text_places(keys.layout(file.header.tensors), part)
        check_part(file.header, places, sizes.text_tensors(sizes.text_sizes(part_shapes(file.header, places))), part.title)

        def make() -> TextEncoder:
            with torch.device("meta"):
                network = TextEncoder(text_config(part_shapes(file.header, places), part))
            file.fill(network.networks, places, file.dtype, part.title)
            return network.eval()

        return cast(TextEncoder, file.component(_known_as(part), make, streamable=True))

    def _t5(self) -> T5Text | None:
        """T5, where it and its tokenizer are there."""
        file = self._with_text("text_3", self.layout.text_3)
        if file is None:
            return None
        beside: Path | None = None if file is self.file else file.path
        found = check_t5(file.header, self.sizes.context_width)
        self._tokenizer = text_files.find_tokenizer(self.file.path, beside, self.file.folders)
        if self._tokenizer is None or self._tokenizer.size > found.vocabulary:
            if self.family.clip_in_context:
                self._absent[""] = "T5's tokenizer"
            return None
        # Its feed-forward's numbers are too large for float16
        dtype = torch.bfloat16 if file.dtype == torch.float16 else file.dtype

        def make() -> T5Text:
            with torch.device("meta"):
                network = T5Text(T5Config(**found._asdict()))
            file.fill(network, keys.layout(file.header.tensors).text_3, dtype, "T5 text encoder")
            return network

        return cast(T5Text, file.component("text_3", partial(make), streamable=True))

    # ---- what adapters reach

    def _adaptable_transformer(self, network: nn.Module) -> AdaptableNetwork:
        layers = adaptable_layers(network)
        rows = {place: rows_of(layer) for place, layer in layers.items()}
        stems, pieces = lora_names.transformer_aliases(rows, self.family.kind, self.sizes.width)
        return AdaptableNetwork(layers, stems, self.file.device, self.file.dtype, pieces=pieces)

    def _adaptable_text(self, encoder: nn.Module, named: nn.Module) -> AdaptableNetwork:
        layers = adaptable_layers(named)
        dtype = next(encoder.parameters()).dtype
        return AdaptableNetwork(layers, lora_names.text_aliases(layers), self.file.device, dtype)


def _known_as(part: TextPart) -> str:
    """The name of an encoder among components: one file may serve several families, which read it in different ways."""
    return f"{part.part}:{part.layer}"

"""Families of transformers with joint attention to text: SD 3 and Flux.

Their files may lack what is the same for many of them: text encoders and autoencoder are then taken from files of their own in
the models folders (`checkpoints.text_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modules.checkpoints import keys, sizes, transformer_sizes
from modules.checkpoints.completeness import check_part, check_t5, check_vae, part_shapes, text_places
from modules.checkpoints.families.family import Family
from modules.checkpoints.families.parts import Concat, TextPart
from modules.errors import CheckpointError

if TYPE_CHECKING:
    from modules.checkpoints.header import Header
    from modules.checkpoints.model_file import ModelFile
    from modules.diffusion.networks import Networks
    from modules.diffusion.samplers import Sampler

SCHEDULES = ("Automatic", "Simple", "SGM Uniform", "Normal", "Uniform", "DDIM", "Beta", "Beta timesteps", "Linear Quadratic")
"""Those that are spread over timesteps.  The others are spread over the logarithm of sigma, or are tables for SD 1.x and SDXL:
a flow's levels begin at almost pure noise, where they would spend most steps."""

OWN_LEVELS = "it walks down noise levels of its own, which are made for networks that predict the noise at discrete timesteps"
UNPAIRED = "it steers by the answer to the negative prompt, and the network is run without one"
OTHER_LEVELS = "it is spread over noise levels of other networks, and would spend most steps of a flow in almost pure noise"

Kind = Literal["sd3", "flux"]

SIZES: Mapping[str, tuple[Callable[[sizes.Shapes], Any], Callable[[Any], sizes.Tensors]]] = {
    "sd3": (transformer_sizes.mmdit_sizes, transformer_sizes.mmdit_tensors),
    "flux": (transformer_sizes.flux_sizes, transformer_sizes.flux_tensors),
}
"""By kind of transformer, its sizes from shapes, and its tensors from sizes."""


@dataclass(frozen=True, kw_only=True)
class TransformerFamily(Family):
    """One of these families, as data.

    `kind` is its transformer, `in_channels` are those of its latents with concat conditioning.  `text` are CLIP's encoders;
    with `clip_in_context` the network attends to them and `any_encoder` of CLIP's and T5 is enough, else T5 is needed.
    `t5_tokens` is the length up to which texts are filled for T5.  `shift` is that of the noise levels
    (`diffusion.flow.FlowNoise`), with `by_size` for 1024x1024 pixels.  `vae_hints` are parts of names of autoencoders that go
    with it, `vae_others` of those that do not.
    """

    kind: Kind
    in_channels: int
    text: tuple[TextPart, ...]
    clip_in_context: bool
    t5_tokens: int
    shift: float
    by_size: bool = False
    guided: bool = False
    """Whether the network takes a guidance scale."""
    vae_hints: tuple[str, ...] = ()
    vae_others: tuple[str, ...] = ()

    @property
    def distilled(self) -> bool:
        return self.guided

    @property
    def concat(self) -> Concat:
        return "" if self.in_channels == self.latent.channels else "mask"

    def refuses_sampler(self, sampler: Sampler) -> str:
        if sampler.spacing is not None or sampler.distilled is not None:
            return OWN_LEVELS
        return UNPAIRED if sampler.pair and self.unguided else ""

    def refuses_schedule(self, schedule: str) -> str:
        return "" if schedule in SCHEDULES else OTHER_LEVELS

    def check(self, header: Header) -> None:
        layout = keys.layout(header.tensors)
        measure, tensors = SIZES[self.kind]
        found = measure(part_shapes(header, layout.unet))
        if found.in_channels != self.in_channels or found.out_channels != self.latent.channels:
            raise CheckpointError(
                f"has a transformer of {found.in_channels} input and {found.out_channels} output channels, where {self.title} "
                f"has {self.in_channels} and {self.latent.channels}; use one that is not for depth maps or edges"
            )
        check_part(header, layout.unet, tensors(found), "transformer")
        if layout.vae:
            check_vae(header, layout.vae)
        for part in self.text:
            if places := text_places(layout, part):
                check_part(header, places, sizes.text_tensors(sizes.text_sizes(part_shapes(header, places))), part.title)
        if layout.text_3:
            check_t5(header, found.context_width)

    def load(self, file: ModelFile) -> Networks:
        from modules.checkpoints.transformer_parts import TransformerParts

        return TransformerParts(file, self).networks()

"""The layers of a checkpoint's file, by our names and by those that LoRA files have for them.

A layer here is what has a weight in the file: linear layers and convolutions, and normalisations, which adapters change by full
differences.  Where the file keeps several of our tensors in one (OpenCLIP's fused attention), a layer is a slice of it.
No torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modules.checkpoints import keys, sizes
from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.families import UNetFamily, recognise
from modules.checkpoints.header import Header
from modules.checkpoints.keys import Layout, Place, stored_name
from modules.checkpoints.lora_names import diffusers_name
from modules.errors import CheckpointError

Key = tuple[str, str]
"""(part, our name without ".weight" or ".bias")."""

_NORMS = {"in_layers.0": "norm1", "out_layers.0": "norm2"}


@dataclass(frozen=True)
class Layer:
    """`part` is "unet", "text" or "text_2", `place` our name of it, `shape` that of its weight."""

    part: str
    place: str
    shape: tuple[int, ...]

    @property
    def key(self) -> Key:
        return self.part, self.place

    @property
    def is_norm(self) -> bool:
        return len(self.shape) == 1

    @property
    def is_spatial(self) -> bool:
        """A convolution with a kernel larger than 1x1."""
        return len(self.shape) == 4 and self.shape[2:] != (1, 1)


class Model:
    """What the header of a checkpoint says of its layers.

    Raises:
        CheckpointError: it is no checkpoint with a U-Net that this version knows.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        try:
            family = recognise(header.shapes)
            if keys.is_scaled(header.tensors):
                raise CheckpointError("has scaled 8-bit weights, which these tools do not read; take its fp16 version")
            if not isinstance(family, UNetFamily):
                raise CheckpointError(f"is a {family.title} checkpoint; these tools work on Stable Diffusion checkpoints")
            self.family: UNetFamily = family
            self.unet = sizes.unet_sizes(part_shapes(header, self.layout.unet))
        except CheckpointError as error:
            raise CheckpointError(f"{path.name} {error}") from None

    @cached_property
    def layout(self) -> Layout:
        return keys.layout(self.header.tensors)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(each.part for each in self.family.text)

    @cached_property
    def places(self) -> Mapping[tuple[str, str], Place]:
        """Where in the file the tensor (part, our name) is."""
        parts = ("unet", *self.texts)
        return {(part, name): place for part in parts for name, place in self.layout.part(part).items()}

    @cached_property
    def pieces(self) -> Mapping[str, list[tuple[str, str, Place]]]:
        """Our tensors (part, name, place) that each of the file's holds."""
        found: dict[str, list[tuple[str, str, Place]]] = {}
        for (part, name), place in self.places.items():
            found.setdefault(stored_name(place), []).append((part, name, place))
        return found

    @cached_property
    def layers(self) -> Mapping[Key, Layer]:
        found = {}
        for part in ("unet", *self.texts):
            for name, shape in part_shapes(self.header, self.layout.part(part)).items():
                place, dot, kind = name.rpartition(".")
                if dot and kind == "weight" and len(shape) in (1, 2, 4) and "embedding" not in place:
                    found[(part, place)] = Layer(part, place, shape)
        return found

    @cached_property
    def stems(self) -> Mapping[Key, Key]:
        """Layers by part and stem, in all spellings that `lora_names.split` leaves."""
        found: dict[Key, Key] = {}
        for part, place in self.layers:
            spellings = [place, self._diffusers(place)] if part == "unet" else [place]
            for spelling in spellings:
                found[(part, spelling.replace(".", "_"))] = (part, place)
        return found

    def kohya(self, key: Key) -> str:
        """What kohya's scripts call a layer: diffusers' names, for SDXL ldm's, with underscores.

        The text encoders of a model with two are te1 and te2, that of one is te.
        """
        part, place = key
        if part == "unet":
            return "lora_unet_" + (place if self.unet.vector_width else self._diffusers(place)).replace(".", "_")
        number = self.texts.index(part) + 1 if len(self.texts) > 1 else ""
        return f"lora_te{number}_text_model_" + place.replace(".", "_")

    def _diffusers(self, place: str) -> str:
        if place == "out.0":
            return "conv_norm_out"
        for ldm, name in _NORMS.items():
            if place.endswith("." + ldm):
                stem = diffusers_name(place.removesuffix(ldm) + "in_layers.2", len(self.unet.channels), self.unet.res_blocks)
                return re.sub(r"conv1$", name, stem)
        return diffusers_name(place, len(self.unet.channels), self.unet.res_blocks)

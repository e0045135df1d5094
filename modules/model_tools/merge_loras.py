"""Merging LoRAs into one: by concatenation of their factors, which is exact, or cut to a rank by singular values.

Layers that not all files name alike are brought together by a checkpoint's layers, or without one by the names that SD 1.x and
SDXL have.  What is no low rank (LoHa, full differences, ...) becomes a full difference, or with svd a low rank.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints import sizes
from modules.checkpoints.completeness import listed
from modules.checkpoints.keys import stored_name
from modules.checkpoints.lora_names import diffusers_name
from modules.errors import RequestError
from modules.model_tools.bake import view
from modules.model_tools.disk import check_target
from modules.model_tools.layers import Key, Model
from modules.model_tools.lora_file import Changes, LoraFile
from modules.model_tools.metadata import lora_metadata
from modules.model_tools.requests import MergeLoras
from modules.model_tools.svd import low_rank
from modules.model_tools.tensors import FORMATS, STORED, ModelWriter, Source
from modules.model_tools.work import Work

Shape = tuple[int, ...]
Weighted = tuple[float, Changes]
_KOHYA = re.compile(r"lora_(?:unet|te\d?)_\w+")


def merge_loras(request: MergeLoras, work: Work) -> None:
    """Write the LoRA whose changes are the sum of those of the others.

    Raises:
        RequestError, CheckpointError, OutputError: the files do not go together, one cannot be read or written; says which.
    """
    check_target(work.order.target, request.replace)
    with contextlib.ExitStack() as stack:
        loras = [LoraFile(stack.enter_context(Source(path))) for path in work.order.loras()]
        path = work.order.files.get("checkpoint")
        merger = _Merger(request, loras, stack.enter_context(Source(path)) if path else None)
        work.hash_sources()
        work.notes += merger.notes
        family = merger.model.family if merger.model else None
        rank = max((part.rank for part in merger.parts), default=0)
        said = lora_metadata(work, family, rank, float(rank), work.order.target.stem)
        if not family:
            said |= {key: value for key, value in loras[0].file.header.metadata.items() if key in _INHERITED}
        writer = stack.enter_context(ModelWriter(work.order.part, merger.plan(), said))
        for number, part in enumerate(merger.parts):
            work.step("merging", number, len(merger.parts))
            for name, tensor in part.make().items():
                writer.add(f"{part.stem}.{name}", tensor)
        work.step("writing to disk", 1, 1)
        writer.publish(work.order.target, request.replace, hash_tensors=True)


_INHERITED = ("ss_base_model_version", "ss_v2", "modelspec.architecture", "ss_sd_model_name", "ss_clip_skip")
"""What a LoRA without a checkpoint takes from the first of its sources."""


@dataclass(frozen=True)
class _Part:
    """What a layer gets in the new file: names and shapes, and how they are made.  `stem` begins their names."""

    stem: str
    shapes: Mapping[str, Shape]
    make: Callable[[], dict[str, Tensor]]

    @property
    def rank(self) -> int:
        return self.shapes["lora_down.weight"][0] if "lora_down.weight" in self.shapes else 0


class _Merger:
    def __init__(self, request: MergeLoras, loras: list[LoraFile], checkpoint: Source | None) -> None:
        self.request, self.checkpoint = request, checkpoint
        self.model = Model(checkpoint.path, checkpoint.header) if checkpoint else None
        self.notes: list[str] = []
        layers: dict[Key, list[Weighted]] = {}
        for wanted, lora in zip(request.loras, loras, strict=True):
            lost = list(lora.others)
            for key, changes in lora.layers.items():
                place = self.model.stems.get(key) if self.model else canonical(key)
                if place is None:
                    lost += changes.names.values()
                elif strength := wanted.for_part(key[0]):
                    layers.setdefault(place, []).append((strength, changes))
            if lost:
                self.notes.append(f"{lora.name}: {listed(lost)} name no layer and are left out")
        if not layers:
            where = f" of {checkpoint.path.name}" if checkpoint else ""
            raise RequestError(f"nothing is left to merge: the LoRAs change no layer{where}, or all strengths are 0")
        self.two_texts = any(key[0] == "text_2" for key in layers) or any(
            name.startswith("lora_te1_") for lora in loras for name in lora.file.header.tensors
        )
        dtype = loras[0].file.header.tensors[next(iter(next(iter(loras[0].layers.values())).names.values()))].dtype
        self.dtype = dtype if request.dtype == "keep" else STORED[FORMATS[request.dtype]]
        self.parts = [part for key, changes in layers.items() for part in self._parts(key, changes)]

    def plan(self) -> dict[str, tuple[str, Shape]]:
        return {f"{part.stem}.{name}": (self.dtype, shape) for part in self.parts for name, shape in part.shapes.items()}

    def _parts(self, key: Key, all_changes: list[Weighted]) -> list[_Part]:
        stem, parts = self._stem(key, all_changes), []
        weights = [(strength, changes) for strength, changes in all_changes if changes.has_weight]
        biases = [(strength, changes) for strength, changes in all_changes if changes.has_bias]
        if weights:
            together = self.request.method == "concat" and all(changes.is_low_rank for _, changes in weights)
            if together and len({_plain(changes.weight_shape) for _, changes in weights}) == 1:
                parts.append(_concatenated(stem, weights))
            else:
                parts.append(self._summed(key, stem, weights))
        if biases:
            first = biases[0][1]
            name = "diff_b" if "diff_b" in first.names else "b_norm"
            shapes = {
                changes.source.file.shapes[changes.names.get("diff_b", changes.names.get("b_norm", ""))]
                for _, changes in biases
            }
            if len(shapes) != 1:
                raise RequestError(
                    f"{first.source.name}: the LoRAs change {stem} in different shapes; they are of different models"
                )
            make = lambda: {name: sum_of([(strength, changes.bias_change()) for strength, changes in biases])}  # noqa: E731
            parts.append(_Part(stem, {name: shapes.pop()}, make))
        return parts

    def _summed(self, key: Key, stem: str, weights: list[Weighted]) -> _Part:
        """A full difference, or with svd a low rank of it."""
        shape = self._shape(key, weights)

        def whole() -> Tensor:
            weight = self._weight(key) if self.model else torch.empty(shape, device="meta")
            return sum_of([(strength, changes.weight_change(weight)) for strength, changes in weights])

        if len(shape) == 1:
            return _Part(stem, {"w_norm": shape}, lambda: {"w_norm": whole()})
        if self.request.method == "concat":
            return _Part(stem, {"diff": shape}, lambda: {"diff": whole()})
        spatial = len(shape) == 4 and shape[2:] != (1, 1)
        columns = torch.Size(shape[1:]).numel()
        rank = min((spatial and self.request.conv_rank) or self.request.rank, shape[0], columns)
        ones = [1] * (len(shape) - 2)
        shapes: dict[str, Shape] = {
            "lora_down.weight": (rank, *shape[1:]),
            "lora_up.weight": (shape[0], rank, *ones),
            "alpha": (),
        }

        def cut() -> dict[str, Tensor]:
            up, down = low_rank(whole().flatten(1), rank)
            return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(float(rank))}

        return _Part(stem, shapes, cut)

    def _shape(self, key: Key, weights: list[Weighted]) -> Shape:
        if self.model:
            return self.model.layers[key].shape
        found = {changes.weight_shape if changes.is_free else None for _, changes in weights}
        if None in found:
            odd = next(changes for _, changes in weights if not changes.is_free or changes.weight_shape is None)
            kinds = ", ".join(sorted(odd.names.keys() - {"alpha"}))
            raise RequestError(
                f"{odd.source.name} changes layers in a way ({kinds}) that depends on the model's weights; "
                "name the checkpoint that the LoRAs are for"
            )
        if len(found) > 1:
            names = " and ".join(changes.source.name for _, changes in weights[:2])
            raise RequestError(f"{names} change {key[1]} in different shapes; they are for different models")
        return next(iter(found)) or ()

    def _weight(self, key: Key) -> Tensor:
        assert self.model is not None
        assert self.checkpoint is not None
        place = self.model.places[(key[0], f"{key[1]}.weight")]
        return view(self.checkpoint.read(stored_name(place)), place)

    def _stem(self, key: Key, changes: list[Weighted]) -> str:
        if self.model:
            return self.model.kohya(key)
        for _, each in changes:
            for name in each.names.values():
                if found := _KOHYA.match(name):
                    return found[0]
        part, stem = key
        if part == "unet":
            return f"lora_unet_{stem}"
        number = {"text": "1", "text_2": "2"}[part] if self.two_texts else ""
        return f"lora_te{number}_text_model_{stem}"


def _concatenated(stem: str, weights: list[Weighted]) -> _Part:
    shape = weights[0][1].weight_shape or ()
    rank = sum(changes.rank for _, changes in weights)
    ones = [1] * (len(shape) - 2)
    shapes: dict[str, Shape] = {"lora_down.weight": (rank, *shape[1:]), "lora_up.weight": (shape[0], rank, *ones), "alpha": ()}

    def make() -> dict[str, Tensor]:
        factors = [(strength, changes.factors()) for strength, changes in weights]
        down = torch.cat([each.down.reshape(len(each.down), *shape[1:]) for _, each in factors])
        up = torch.cat([each.up.flatten(1) * (each.scale * strength) for strength, each in factors], dim=1)
        return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(float(rank))}

    return _Part(stem, shapes, make)


def sum_of(changes: list[tuple[float, Tensor]]) -> Tensor:
    total = torch.zeros_like(changes[0][1])
    for strength, change in changes:
        total.add_(change.reshape(total.shape), alpha=strength)
    return total


def _plain(shape: Shape | None) -> tuple[Any, ...]:
    """Linear layers and 1x1 convolutions are alike."""
    return shape[:2] if shape and shape[2:] == (1, 1) else shape or ()


def canonical(key: Key) -> Key:
    """A layer by part and stem under one name, however a file spells it: diffusers' names, where ldm's are known.

    >>> canonical(("unet", "input_blocks_1_1_proj_in"))
    ('unet', 'down_blocks_0_attentions_0_proj_in')
    """
    part, stem = key
    return (part, _diffusers_stems().get(stem, stem)) if part == "unet" else key


@lru_cache(maxsize=1)
def _diffusers_stems() -> dict[str, str]:
    """ldm's stems to diffusers', of the U-Nets of SD 1.x and SDXL; where both have a layer they agree."""
    sd1 = sizes.UNetSizes(4, 4, (320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, 768, 0)
    sdxl = sizes.UNetSizes(4, 4, (320, 640, 1280), 2, (0, 2, 10), 10, 2048, 2816)
    found = {}
    for unet in (sd1, sdxl):
        for name, _ in sizes.unet_tensors(unet):
            place = name.rpartition(".")[0]
            spelled = partial(diffusers_name, levels=len(unet.channels), res_blocks=unet.res_blocks)
            found[place.replace(".", "_")] = spelled(place).replace(".", "_")
    return found

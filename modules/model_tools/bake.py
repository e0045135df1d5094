"""Baking LoRAs into a checkpoint: each weight W becomes W + sum of strength x change(W), what painting with them computes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from torch import Tensor

from modules.checkpoints.completeness import listed
from modules.checkpoints.keys import Place, Slice
from modules.errors import CheckpointError, RequestError
from modules.model_tools.disk import check_target
from modules.model_tools.layers import Key, Model
from modules.model_tools.lora_file import Changes, LoraFile
from modules.model_tools.metadata import a1111_recipe, checkpoint_metadata, merge_metadata
from modules.model_tools.requests import BakeLoras
from modules.model_tools.tensors import ModelWriter, Source, planned
from modules.model_tools.work import Work


def bake(request: BakeLoras, work: Work) -> None:
    """Write the checkpoint with the LoRAs in its weights.

    Raises:
        RequestError, CheckpointError, OutputError: a LoRA fits no layer, a file cannot be read or written; says which.
    """
    check_target(work.order.target, request.replace)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Source(work.order.files["checkpoint"]))
        loras = [LoraFile(stack.enter_context(Source(path))) for path in work.order.loras()]
        baker = _Baker(request, source, loras)
        work.hash_sources()
        plan = {
            name: planned(source, name, request.dtype) for name in source.header.tensors if not name.startswith("model_ema")
        }
        said = checkpoint_metadata(work, source.header, source.path, baker.model.family, work.order.target.stem)
        concat = baker.model.family.concat
        said |= merge_metadata(work, a1111_recipe(work, concat == "mask", concat == "picture"), {source.path: source.header})
        writer = stack.enter_context(ModelWriter(work.order.part, plan, said))
        for number, name in enumerate(writer.order):
            work.step("baking", number, len(writer.order))
            writer.add(name, baker.tensor(name))
        work.notes += baker.notes()
        work.step("writing to disk", len(writer.order), len(writer.order))
        writer.publish(work.order.target, request.replace)


class _Baker:
    """The changes of several LoRAs by the checkpoint's layers."""

    def __init__(self, request: BakeLoras, source: Source, loras: Sequence[LoraFile]) -> None:
        self.source, self.model = source, Model(source.path, source.header)
        self.changes: dict[Key, list[tuple[float, Changes]]] = {}
        self.unmatched: dict[str, list[str]] = {}
        self.unfit: list[str] = []
        self.changed: set[str] = set()
        self.loras = loras
        for wanted, lora in zip(request.loras, loras, strict=True):
            unmatched = list(lora.others)
            for (part, stem), changes in lora.layers.items():
                place, strength = self.model.stems.get((part, stem)), wanted.for_part(part)
                if place is None:
                    unmatched += changes.names.values()
                else:
                    self.changes.setdefault(place, []).append((strength, changes))
            if sum(len(changes.names) for changes in lora.layers.values()) + len(lora.others) == len(unmatched):
                raise RequestError(
                    f"{lora.name} fits no layer of {source.path.name} ({self.model.family.title}); it is for another family"
                )
            if unmatched:
                self.unmatched[lora.name] = unmatched

    def tensor(self, name: str) -> Tensor | bytes:
        """A tensor of the checkpoint as it becomes, in fp32; the bytes of one without floating-point numbers."""
        if not self.source.is_float(name):
            return self.source.stored(name)
        tensor, own = self.source.read(name), False
        for part, piece, place in self.model.pieces.get(name, ()):
            layer, _, kind = piece.rpartition(".")
            for strength, changes in self.changes.get((part, layer), ()):
                applies = changes.has_weight if kind == "weight" else changes.has_bias if kind == "bias" else False
                if not applies or strength == 0:
                    continue
                original = view(self.source.read(name), place)
                change = self._change(changes, kind, original)
                if change is not None:
                    tensor, own = (tensor if own else tensor.clone()), True  # what was read is the mapped file itself
                    view(tensor, place).add_(change, alpha=strength)
                    self.changed.add(changes.source.name)
        return tensor

    def _change(self, changes: Changes, kind: str, original: Tensor) -> Tensor | None:
        """None where it does not fit this layer, which is remembered."""
        try:
            if kind == "bias":
                return changes.bias_change().reshape(original.shape)
            return changes.weight_change(original)
        except (CheckpointError, RuntimeError) as error:
            self.unfit.append(str(error).split("\n", 1)[0])
            return None

    def notes(self) -> list[str]:
        """What was left out.

        Raises:
            RequestError: a LoRA changed nothing at all.
        """
        lost = [lora.name for lora in self.loras if lora.name not in self.changed]
        if lost and self.unfit:
            raise RequestError(f"{lost[0]} fits no layer of {self.source.path.name}: {self.unfit[0]}")
        found = [f"{lora}: {listed(names)} name no layer of this checkpoint" for lora, names in self.unmatched.items()]
        return found + ([f"{len(self.unfit)} changes do not fit their layers: {self.unfit[0]}"] if self.unfit else [])


def view(stored: Tensor, place: Place) -> Tensor:
    """Our tensor within the file's."""
    if isinstance(place, Slice):
        piece = stored.chunk(place.parts)[place.number] if place.parts > 1 else stored
        return piece.T if place.transposed else piece
    return stored

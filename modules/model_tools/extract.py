"""Extracting a LoRA: the difference of two checkpoints, layer by layer, cut to a rank by singular values.

Layers that do not differ are left out.  Names are kohya's, which every program reads.
"""

from __future__ import annotations

import contextlib
import re

from torch import Tensor

from modules.checkpoints.keys import stored_name
from modules.errors import RequestError
from modules.model_tools.bake import view
from modules.model_tools.disk import check_target
from modules.model_tools.layers import Layer, Model
from modules.model_tools.metadata import lora_metadata
from modules.model_tools.requests import ExtractLora
from modules.model_tools.svd import low_rank
from modules.model_tools.tensors import FORMATS, STORED, ModelWriter, Source
from modules.model_tools.work import Work

_OUTSIDE = re.compile(r"(?:time_embed|label_emb|out)\.|input_blocks\.0\.0$")
"""Layers of a U-Net that no trainer gives a low rank."""
SAME = 0.0
"""The largest difference of two layers that count as the same: none."""


def extract(request: ExtractLora, work: Work) -> None:
    """Write the LoRA that makes `tuned` of `base`.

    Raises:
        RequestError, CheckpointError, OutputError: the checkpoints do not go together or do not differ; one cannot be read, or
            the LoRA not be written.
    """
    check_target(work.order.target, request.replace)
    with contextlib.ExitStack() as stack:
        base, tuned = (stack.enter_context(Source(work.order.files[field])) for field in ("base", "tuned"))
        extractor = _Extractor(request, base, tuned)
        work.hash_sources()
        alpha = request.alpha or float(request.rank)
        said = lora_metadata(work, extractor.base.family, request.rank, alpha, work.order.target.stem)
        said |= {"ss_sd_model_name": base.path.name, "ss_new_sd_model_hash": work.sha256(base.path)}
        if request.conv_rank:
            scale = alpha / request.rank
            said["ss_network_args"] = f'{{"conv_dim": "{request.conv_rank}", "conv_alpha": "{request.conv_rank * scale:g}"}}'
        writer = stack.enter_context(ModelWriter(work.order.part, extractor.plan(), said))
        for number, layer in enumerate(extractor.layers):
            work.step("extracting", number, len(extractor.layers))
            for name, tensor in extractor.changes(layer).items():
                writer.add(name, tensor)
                extractor.written += 1
        if not extractor.written:
            raise RequestError(f"{base.path.name} and {tuned.path.name} do not differ in what a LoRA of these options holds")
        work.notes += extractor.notes()
        work.step("writing to disk", 1, 1)
        writer.publish(work.order.target, request.replace, hash_tensors=True)


class _Extractor:
    def __init__(self, request: ExtractLora, base: Source, tuned: Source) -> None:
        self.request, self.sources, self.written = request, (base, tuned), 0
        self.base, self.tuned = (Model(source.path, source.header) for source in self.sources)
        roots = [model.family.name.partition("-")[0] for model in (self.base, self.tuned)]
        if roots[0] != roots[1]:
            raise RequestError(
                f"{tuned.path.name} is {self.tuned.family.title} and {base.path.name} is {self.base.family.title}; a LoRA is "
                "the difference of two checkpoints of one family"
            )
        theirs = self.tuned.layers
        candidates = [layer for layer in self.base.layers.values() if layer.part == "unet" or request.text]
        self.layers = [layer for layer in candidates if layer.key in theirs and theirs[layer.key].shape == layer.shape]
        self.unlike = [layer for layer in candidates if layer not in self.layers]

    def plan(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        dtype, found = STORED[FORMATS.get(self.request.dtype, FORMATS["fp32"])], {}
        for layer in self.layers:
            for name, shape in self._shapes(layer).items():
                found[f"{self.base.kohya(layer.key)}.{name}"] = (dtype, shape)
        return found

    def changes(self, layer: Layer) -> dict[str, Tensor]:
        """The tensors that this layer has in the LoRA, by name; none where it does not differ."""
        shapes, found = self._shapes(layer), {}
        stem = self.base.kohya(layer.key)
        if shapes.keys() - {"diff_b", "b_norm"}:
            change = self._difference(layer, "weight")
            if float(change.abs().max()) > SAME:
                if layer.is_norm or "diff" in shapes:
                    found["w_norm" if layer.is_norm else "diff"] = change
                else:
                    found |= self._factors(layer, change, shapes["lora_down.weight"][0])
        for name in shapes.keys() & {"diff_b", "b_norm"}:
            change = self._difference(layer, "bias")
            if float(change.abs().max()) > SAME:
                found[name] = change
        return {f"{stem}.{name}": tensor for name, tensor in found.items()}

    def _factors(self, layer: Layer, change: Tensor, rank: int) -> dict[str, Tensor]:
        scale = (self.request.alpha or self.request.rank) / self.request.rank
        up, down = low_rank(change.flatten(1) / scale, rank, self.request.clamp)
        return {
            "lora_down.weight": down.reshape(rank, *layer.shape[1:]),
            "lora_up.weight": up.reshape(layer.shape[0], rank, *[1] * (len(layer.shape) - 2)),
            "alpha": change.new_tensor(scale * rank),
        }

    def _shapes(self, layer: Layer) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what a layer may have in the file."""
        bias = (layer.part, f"{layer.place}.bias") in self.base.places and (
            layer.part,
            f"{layer.place}.bias",
        ) in self.tuned.places
        further = {("b_norm" if layer.is_norm else "diff_b"): (layer.shape[0],)} if bias and self.request.rest else {}
        if layer.is_norm:
            return {"w_norm": layer.shape} | further if self.request.rest else {}
        outside = bool(_OUTSIDE.match(layer.place)) if layer.part == "unet" else not layer.place.startswith("encoder.layers.")
        wanted = self.request.conv_rank if layer.is_spatial else self.request.rank
        if outside or not wanted:
            return {"diff": layer.shape} | further if self.request.rest else {}
        rank = min(wanted, layer.shape[0], _product(layer.shape[1:]))
        return {
            "lora_down.weight": (rank, *layer.shape[1:]),
            "lora_up.weight": (layer.shape[0], rank, *[1] * (len(layer.shape) - 2)),
            "alpha": (),
        } | further

    def _difference(self, layer: Layer, kind: str) -> Tensor:
        base, tuned = self._read(0, layer, kind), self._read(1, layer, kind)
        return tuned - base.reshape(tuned.shape)

    def _read(self, which: int, layer: Layer, kind: str) -> Tensor:
        place = (self.base, self.tuned)[which].places[(layer.part, f"{layer.place}.{kind}")]
        return view(self.sources[which].read(stored_name(place)), place)

    def notes(self) -> list[str]:
        found = [f"{layer.place} has another shape in both and is left out" for layer in self.unlike[:3]]
        for part in self.base.texts if self.request.text else ():
            name = "embeddings.token_embedding.weight"
            places = [model.places.get((part, name)) for model in (self.base, self.tuned)]
            if None not in places and self._embedding_differs(part, name):
                found.append("the checkpoints' word embeddings differ too, which no LoRA holds")
        return found

    def _embedding_differs(self, part: str, name: str) -> bool:
        layer = Layer(part, name.removesuffix(".weight"), ())
        one, other = self._read(0, layer, "weight"), self._read(1, layer, "weight")
        return one.shape != other.shape or not bool(one.equal(other))


def _product(sizes: tuple[int, ...]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found

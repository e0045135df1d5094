"""Merging checkpoints tensor by tensor: weighted sum and add difference as A1111's merger, with MBW's weights by block."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from torch import Tensor

from modules.checkpoints import keys, sizes
from modules.checkpoints.completeness import listed
from modules.checkpoints.training import training_of
from modules.errors import CheckpointError, RequestError
from modules.model_tools.blocks import block_names, block_of, weights_of
from modules.model_tools.disk import check_target
from modules.model_tools.layers import Model
from modules.model_tools.metadata import a1111_recipe, checkpoint_metadata, merge_metadata
from modules.model_tools.requests import MergeCheckpoints
from modules.model_tools.tensors import ModelWriter, Plan, Source, planned
from modules.model_tools.work import Work

_TEXT = (keys.TEXT, keys.TEXT_2, "cond_stage_model.")
_EMA = ("model_ema.", "model_ema_")
INPUT = keys.UNET + "input_blocks.0.0.weight"


def common_name(name: str) -> str:
    """A tensor's name in whatever spelling, as all files of a family have it."""
    own = keys.canonical(name)
    return keys.TEXT + own.removeprefix(keys.TEXT).removeprefix("text_model.") if own.startswith(keys.TEXT) else own


def part_of(name: str) -> str:
    """Of a common name: "unet", "vae", "text", or "" for what belongs to none."""
    if name.startswith(keys.UNET):
        return "unet"
    if name.startswith(keys.VAE):
        return "vae"
    return "text" if name.startswith((*_TEXT, "conditioner.")) else ""


def merge(request: MergeCheckpoints, work: Work) -> None:
    """Write the merge that `request` describes.

    Raises:
        RequestError, CheckpointError, OutputError: the files do not go together, one cannot be read or written; says which.
    """
    files, target = work.order.files, work.order.target
    check_target(target, request.replace)
    with contextlib.ExitStack() as stack:
        sources = {field: stack.enter_context(Source(path)) for field, path in files.items()}
        merger = _Merger(request, sources)
        work.hash_sources()
        work.notes += merger.notes
        writer = stack.enter_context(ModelWriter(work.order.part, merger.plan(), _metadata(work, merger, sources)))
        for number, name in enumerate(writer.order):
            work.step("merging", number, len(writer.order))
            writer.add(name, merger.tensor(name))
        work.step("writing to disk", len(writer.order), len(writer.order))
        writer.publish(target, request.replace)


def _metadata(work: Work, merger: _Merger, sources: Mapping[str, Source]) -> dict[str, str]:
    first = sources["a"]
    title = work.order.target.stem
    said = checkpoint_metadata(work, first.header, first.path, merger.models["a"].family, title)
    fields = a1111_recipe(work, merger.models["a"].family.concat == "mask", merger.models["a"].family.concat == "picture")
    headers = {source.path: source.header for field, source in sources.items() if field != "vae"}
    return said | merge_metadata(work, fields, headers)


class _Merger:
    """The arithmetic of one merge over open sources; refuses at once what cannot be merged."""

    def __init__(self, request: MergeCheckpoints, sources: Mapping[str, Source]) -> None:
        self.request, self.sources = request, sources
        self.notes: list[str] = []
        self.models = {field: Model(source.path, source.header) for field, source in sources.items() if field != "vae"}
        self.names = {field: {common_name(name): name for name in sources[field].header.tensors} for field in self.models}
        self._check_families()
        blocks = block_names(self.models["a"].layout.unet)
        try:
            self.weights = weights_of(request.blocks, blocks, request.multiplier)
        except ValueError as error:
            raise RequestError(str(error)) from None
        self.blocks = blocks
        self.vae = _vae_names(sources["vae"]) if "vae" in sources else {}
        self._check_tensors()

    def plan(self) -> Plan:
        a = self.sources["a"]
        return {name: planned(a, name, self.request.dtype) for own, name in self.names["a"].items() if not own.startswith(_EMA)}

    def tensor(self, name: str) -> Tensor | bytes:
        """The merged tensor that A calls `name`, in fp32; the bytes of one that holds no floating-point numbers."""
        own, a = common_name(name), self.sources["a"]
        if not a.is_float(name):
            return a.stored(name)
        if part_of(own) == "vae" and self.request.vae not in ("a", "merge"):
            theirs, place = ("b", self.names["b"].get(own)) if self.request.vae == "b" else ("vae", self.vae.get(own))
            return a.read(name) if place is None else self.sources[theirs].read(place)
        weight = self._weight(own)
        return a.read(name) if weight == 0 or not self._in_all(own) else self._blended(a.read(name), own, weight)

    def _blended(self, mine: Tensor, own: str, weight: float) -> Tensor:
        theirs = self._read("b", own)
        if self.request.method == "difference":
            change = theirs - self._read("c", own)
        else:
            change = theirs - mine[:, : theirs.shape[1]] if _narrower(theirs, mine) else theirs.reshape(mine.shape) - mine
        # Never in place: a tensor that is fp32 in the file is the mapped file itself
        if _narrower(change, mine):  # an inpainting or editing model keeps what it has in addition
            mine = mine.clone()
            mine[:, : change.shape[1]] += weight * change
            return mine
        return mine.add(change.reshape(mine.shape), alpha=weight)

    def _read(self, field: str, own: str) -> Tensor:
        return self.sources[field].read(self.names[field][own])

    def _weight(self, own: str) -> float:
        part, parts = part_of(own), self.request.parts
        if part == "vae":
            return self.weights["BASE"] if self.request.vae == "merge" else 0.0
        if part == "" or parts not in ("all", part):
            return 0.0
        return self.weights[block_of(own.removeprefix(keys.UNET), self.blocks) if part == "unet" else "BASE"]

    def _others(self) -> list[str]:
        return [field for field in ("b", "c") if field in self.names]

    def _in_all(self, own: str) -> bool:
        return all(own in self.names[field] for field in self._others())

    # ---- what cannot be merged

    def _check_families(self) -> None:
        first = self.models["a"]
        roots = {field: model.family.name.partition("-")[0] for field, model in self.models.items()}
        for field in self._others():
            if roots[field] != roots["a"]:
                raise RequestError(
                    f"{self.sources[field].path.name} is {self.models[field].family.title} and {first.path.name} is "
                    f"{first.family.title}; only checkpoints of one family can be merged"
                )
        said = {
            field: training_of(model.header, model.path).prediction or model.family.prediction
            for field, model in self.models.items()
        }
        for field in self._others():
            if said[field] != said["a"]:
                raise RequestError(
                    f"{self.sources[field].path.name} predicts {said[field]} and {first.path.name} predicts {said['a']}; "
                    "their sum would paint noise"
                )
        channels = {field: model.unet.in_channels for field, model in self.models.items()}
        if channels["b"] > channels["a"]:
            raise RequestError(
                f"{self.sources['b'].path.name} has {channels['b']} input channels (inpainting or editing) and "
                f"{first.path.name} has {channels['a']}; make the one with more channels A"
            )
        if "c" in channels and channels["c"] != channels["b"]:
            raise RequestError(
                f"b has {channels['b']} input channels and c has {channels['c']}; their difference needs equal ones"
            )

    def _check_tensors(self) -> None:
        a = self.sources["a"]
        lacking: dict[str, list[str]] = {field: [] for field in self._others()}
        for own, name in self.names["a"].items():
            if not a.is_float(name) or own.startswith(_EMA) or part_of(own) == "":
                continue
            if part_of(own) == "vae" and "vae" in self.sources:
                self._check_vae(own, name)
                continue
            for field in self._others():
                theirs = self.names[field].get(own)
                if theirs is None:
                    lacking[field] += [own] if not keys.IGNORED.match(own) else []
                    if part_of(own) == "vae" and self.request.vae == "b" and field == "b":
                        raise CheckpointError(f"{self.sources[field].path.name} has no {own!r}; take another VAE")
                else:
                    self._check_shape(field, own, a.shapes[name], self.sources[field].shapes[theirs])
        for field, names in lacking.items():
            if any(part_of(own) == "unet" for own in names):
                raise RequestError(
                    f"{self.sources[field].path.name} has not the same layers as {a.path.name}: it lacks {listed(names)}"
                )
            if names:
                self.notes.append(f"{self.sources[field].path.name} lacks {listed(names)}; there A is kept as it is")
        for field in self._others():
            further = [own for own in self.names[field] if own not in self.names["a"] and part_of(own) == "unet"]
            if further:
                raise RequestError(f"{self.sources[field].path.name} has layers that {a.path.name} has not: {listed(further)}")

    def _check_vae(self, own: str, name: str) -> None:
        vae = self.sources["vae"]
        theirs = self.vae.get(own)
        if theirs is None and keys.IGNORED.match(own):
            return
        if theirs is None:
            raise CheckpointError(f"{vae.path.name} has no {own.removeprefix(keys.VAE)!r}; choose a VAE in ldm's layout")
        self._check_shape("vae", own, self.sources["a"].shapes[name], vae.shapes[theirs])

    def _check_shape(self, field: str, own: str, mine: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        if own == INPUT and field != "vae":
            mine, theirs = (mine[0], *mine[2:]), (theirs[0], *theirs[2:])
        if not sizes.same_numbers(mine, theirs):
            raise RequestError(
                f"{self.sources[field].path.name} has {own!r} of size {_size(theirs)} and "
                f"{self.sources['a'].path.name} of size {_size(mine)}; they are not of the same form"
            )


def _narrower(one: Tensor, other: Tensor) -> bool:
    """Whether it is a first layer with fewer input channels."""
    return one.ndim == other.ndim == 4 and one.shape[1] < other.shape[1] and one.shape[0] == other.shape[0]


def _vae_names(source: Source) -> dict[str, str]:
    """The tensors of a VAE's file by their common names in a checkpoint."""
    found = {}
    for name in source.header.tensors:
        own = keys.canonical(name).removeprefix(keys.VAE)
        for pattern, replacement in keys.RENAMES["vae"]:
            own = pattern.sub(replacement, own)
        if not own.startswith(("loss.", *_EMA)):
            found[keys.VAE + own] = name
    return found


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

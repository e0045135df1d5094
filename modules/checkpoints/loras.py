"""LoRAs and their relatives for the engine: from a file to the changes of a model's layers, kept while the model is.

Files are read as checkpoints are: their headers are checked, never a pickle is opened.  What is not understood of a file is
listed, what cannot be right (no rank, not finite, made for other layers) is refused with the reason.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from modules.checkpoints.companions import BUNDLED, bundled_shapes, lora_file, lora_names, vectors_of
from modules.checkpoints.completeness import listed
from modules.checkpoints.header import Header, header_of, open_model
from modules.checkpoints.inversions import side_by_side
from modules.checkpoints.lora_names import ADAPTERS, HOOK, AdapterKind, split
from modules.checkpoints.lora_options import adjusted
from modules.checkpoints.weights import Weights
from modules.diffusion.adapters import Adapter, Delta, Dense, Layer, LowRank, blank_weight, rows_of
from modules.diffusion.blocks import resting_weight
from modules.diffusion.deltas import Decomposed, Full, Generalised, Hadamard, Kronecker, Parted, Rotation, Scaled
from modules.diffusion.networks import AdaptableNetwork, LoadedAdapter
from modules.errors import CheckpointError, UnknownName
from modules.extensions.isolation import call
from modules.hooks import HOOKS, Owned, hookimpl
from modules.prompts.compose import NetworkOptions

log = logging.getLogger(__name__)

MAX_FILE = 4 << 30
"""Bytes of a file that is read."""
KEPT, KEPT_BYTES = 16, 2 << 30
"""LoRAs that stay loaded for a model, and their bytes; the least recently used goes first."""


KEPT_DENSE = 1 << 30
"""Bytes of differences of weights that one LoRA keeps where its kind has no cheaper form; others are made at each forward."""


class Loras:
    """The LoRA folders of the models folders.  Any thread may call."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self._lock = threading.Lock()
        self._loaded: WeakKeyDictionary[object, OrderedDict[str, LoadedAdapter]] = WeakKeyDictionary()
        self._adjusted: WeakKeyDictionary[LoadedAdapter, OrderedDict[NetworkOptions, LoadedAdapter]] = WeakKeyDictionary()
        self._used: dict[str, float] = {}
        """When the LoRA of a name was asked for last, on the monotonic clock."""

    def in_memory(self) -> dict[str, tuple[int, float]]:
        """By name, the bytes of a LoRA in memory, for all models together, and when it was asked for last."""
        with self._lock:
            loaded = [one for kept in self._loaded.values() for one in kept.values()]
            self._used = {one.name: self._used.get(one.name, time.monotonic()) for one in loaded}
            found: dict[str, tuple[int, float]] = {}
            for one in loaded:
                found[one.name] = found.get(one.name, (0, 0.0))[0] + one.size, self._used[one.name]
            return found

    def knows(self, name: str) -> bool:
        """Whether a file has this name."""
        return lora_file(self._folders, name) is not None

    def adjusted(
        self, adapter: LoadedAdapter, options: NetworkOptions, networks: Mapping[str, AdaptableNetwork]
    ) -> LoadedAdapter:
        """`adapter` with these options; the same object for the same options, so that pictures share forwards.

        Raises:
            ValueError: the options are for another network.
        """
        with self._lock:
            known = self._adjusted.setdefault(adapter, OrderedDict())
            if options not in known:
                known[options] = adjusted(adapter, options, networks)
            known.move_to_end(options)
            while len(known) > KEPT:
                known.popitem(last=False)
            return known[options]

    def read(self, name: str, networks: Mapping[str, AdaptableNetwork], model: object) -> LoadedAdapter:
        """The LoRA of this name for the `networks` of `model`, by part; the same object while its file does not change.

        Raises:
            UnknownName: no file has this name.
            CheckpointError: the file cannot be used, or is for another family; the message does not name it.
        """
        path = lora_file(self._folders, name)
        if path is None:
            raise UnknownName("network", name, lora_names(self._folders))
        with open_model(path) as file:
            header = header_of(file, path)
            status = os.fstat(file.fileno())
            if status.st_size > MAX_FILE:
                raise CheckpointError(
                    f"it is no LoRA: it has {status.st_size / 1e9:.1f} GB, at most {MAX_FILE / 1e9:.1f} are read"
                )
            version = f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{path}{_kinds()}"
            with self._lock:
                self._used[path.stem] = time.monotonic()
                kept = self._loaded.setdefault(model, OrderedDict())
                if version in kept:
                    kept.move_to_end(version)
                    return kept[version]
            loaded = _Reader(file, header, path.stem, version, networks).read()
        if loaded.unmatched:
            log.warning("%s: changes no layer of this model: %s", path.name, listed(list(loaded.unmatched)))
        with self._lock:
            kept[version] = loaded
            while len(kept) > KEPT or (len(kept) > 1 and sum(one.size for one in kept.values()) > KEPT_BYTES):
                kept.popitem(last=False)
        return loaded


Tensors = Mapping[str, Tensor]


def _kinds() -> str:
    """What changes with extensions' kinds of files, "" without any."""
    others = any(not HOOKS.is_built_in(one.owner) for one in ADAPTERS.owned())
    return f"-{HOOKS.revision}" if others else ""


class _Reader:
    """One file for one model."""

    def __init__(
        self, file: BinaryIO, header: Header, name: str, version: str, networks: Mapping[str, AdaptableNetwork]
    ) -> None:
        self._file, self._header, self._weights = file, header, Weights(file, header)
        self._name, self._version, self._networks = name, version, networks
        self._dense = 0

    def read(self) -> LoadedAdapter:
        deltas: dict[str, dict[str, Delta]] = {}
        unmatched: list[str] = []
        unfit = ""
        parted: dict[tuple[str, str], list[tuple[Delta, tuple[int, int]]]] = {}
        for (part, stem), names in self._by_layer().items():
            network = self._networks.get(part)
            piece = network.pieces.get(stem) if network else None
            place = piece[0] if piece else network.stems.get(stem) if network else None
            if network is None or place is None:
                unmatched += names.values()
                continue
            layer: Layer = network.layers[place] if place in network.layers else network.norms[place]
            first, rows = piece[1:] if piece else (0, rows_of(layer))
            values = partial(_resting_rows, layer, first, rows)
            if piece:
                assert isinstance(layer, nn.Linear), "only their rows are parts"
                layer = nn.Linear(layer.in_features, rows, bias=False, device="meta")
            delta = self._delta(names, layer, values, network.dtype)
            if delta is None:
                unmatched += names.values()
            elif unfit_here := _misfit(delta, layer):
                unmatched += names.values()
                unfit = unfit or f"{next(iter(names.values()))!r}: {unfit_here}"
            elif piece:
                parted.setdefault((part, place), []).append((delta.to(network.device, network.dtype), piece[1:]))
            else:
                deltas.setdefault(part, {})[place] = delta.to(network.device, network.dtype)
        for (part, place), pieces in parted.items():
            whole = Parted(*(tuple(each) for each in zip(*pieces, strict=True)))
            deltas.setdefault(part, {}).setdefault(place, whole)
        inversions = self._inversions()
        if not deltas and not inversions:
            why = f" ({unfit})" if unfit else f": it has {listed(sorted(self._header.tensors)[:3])}"
            raise CheckpointError(f"it fits no layer of this checkpoint, whose family it is not made for{why}")
        return LoadedAdapter(
            name=self._name,
            version=self._version,
            digest=self._digest(),
            parts={part: Adapter(self._name, found) for part, found in deltas.items()},
            unmatched=tuple(unmatched),
            size=self._dense + sum(entry.end - entry.start for entry in self._header.tensors.values()),
            inversions=inversions,
        )

    def _inversions(self) -> dict[str, Tensor]:
        """Textual inversions that lie in the file."""
        found: dict[str, Tensor] = {}
        for name, shapes in bundled_shapes(self._header).items():
            tensors, vectors, _ = vectors_of(shapes, f"its embedding {name!r}")
            found[name] = side_by_side([self._weights[f"{BUNDLED}{name}.{tensor}"] for tensor in tensors], vectors)
            if not bool(found[name].isfinite().all()):
                raise CheckpointError(f"its embedding {name!r} has NaN or infinity")
        return found

    def _by_layer(self) -> dict[tuple[str, str], dict[str, str]]:
        """Names of tensors by layer, and by what they are of its change."""
        layers: dict[tuple[str, str], dict[str, str]] = {}
        for name in self._header.tensors:
            if name.startswith(BUNDLED):
                continue
            part, stem, what = split(name)
            layers.setdefault((part, stem or name), {})[what] = name
        return layers

    def _digest(self) -> str:
        """A1111's hash of a LoRA: the metadata's, or that of what is behind the header; 12 digits."""
        stored = self._header.metadata.get("sshs_model_hash", "")
        if len(stored) >= 12 and all(digit in "0123456789abcdef" for digit in stored.lower()):
            return stored[:12].lower()
        self._file.seek(self._header.data_start)
        digest = hashlib.sha256()
        while block := self._file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()[:12]

    def _delta(self, names: Mapping[str, str], layer: Layer, values: Callable[[], Tensor], dtype: torch.dtype) -> Delta | None:
        """What these tensors say of a layer, whose weight is `values`; None for what is no change that is known here."""
        tensors = {what: self._tensor(name) for what, name in names.items()}
        if bad := next((name for what, name in names.items() if not bool(tensors[what].float().isfinite().all())), None):
            raise CheckpointError(f"its tensor {bad!r} has NaN or infinity")

        def kept(delta: Delta) -> Delta:
            """The change, made once where each forward would make it anew, as long as there is room for that."""
            size = blank_weight(layer).numel() * dtype.itemsize
            if not delta.materialises(layer) or self._dense + size > KEPT_DENSE:
                return delta
            self._dense += size
            return Dense(delta)

        try:
            kind = _kind_of(tensors)
            return delta_of(tensors, values() if kind is not None and kind.entry.by_values else blank_weight(layer), kept)
        except (RuntimeError, ValueError, IndexError) as error:
            raise CheckpointError(f"its tensors for {next(iter(names.values()))!r} do not go together: {error}") from None

    def _tensor(self, name: str) -> Tensor:
        entry = self._header.tensors[name]
        if entry.dtype in ("BOOL", "U8", "I8", "I32", "I64"):  # flags and counts beside the changes
            self._file.seek(self._header.data_start + entry.start)
            number = int.from_bytes(self._file.read(min(8, entry.end - entry.start)), "little", signed=entry.dtype[0] == "I")
            return torch.tensor(float(number))
        return self._weights[name].clone()


def _resting_rows(layer: Layer, first: int, rows: int) -> Tensor:
    return resting_weight(layer)[first : first + rows]


def _kind_of(tensors: Tensors) -> Owned[AdapterKind] | None:
    return next((kind for kind in ADAPTERS.owned() if kind.entry.needs <= tensors.keys()), None)


def delta_of(tensors: Tensors, weight: Tensor, kept: Callable[[Delta], Delta] = lambda delta: delta) -> Delta | None:
    """The change of a layer of this weight that `tensors` say, by what each is of it (`lora_names.ENDINGS`).

    None for what is no change that is known here.  `kept` may keep the change in another form, before its magnitude is set.

    Raises:
        RuntimeError, ValueError, IndexError: they do not go together.
    """
    kind = _kind_of(tensors)
    found = _read(kind, tensors, weight) if kind else None
    if found is None:
        return None
    delta = kept(found)
    if (magnitude := tensors.get("dora_scale")) is None:
        return delta
    by_row = magnitude.ndim == 1 or magnitude.shape[0] != 1 or weight.shape[0] == 1
    return Decomposed(delta, magnitude, by_row)


def _read(kind: Owned[AdapterKind], tensors: Tensors, weight: Tensor) -> Delta | None:
    """The change that a kind makes of them; None where it is an extension's and failed."""
    misfits: list[Exception] = []

    def read() -> Delta | None:
        try:
            delta: Delta = kind.entry.read(tensors, weight)
        except (RuntimeError, ValueError, IndexError) as error:  # of the file
            misfits.append(error)
            return None
        return delta

    delta = call(kind.owner, HOOK, read, lambda: None)
    if misfits:
        raise misfits[0]
    return delta


def _misfit(delta: Delta, layer: Layer) -> str:
    """Why this change is not one of this layer, "" when it is."""
    if isinstance(layer, nn.GroupNorm | nn.LayerNorm) and not isinstance(delta, Full):
        return "it is for a layer with a matrix, not for a norm"
    if isinstance(delta, Full) and delta.bias is not None and delta.bias.numel() != rows_of(layer):
        return f"its bias has {delta.bias.numel()} numbers, the layer's {rows_of(layer)}"
    try:
        weight = blank_weight(layer)
        found = delta.to("meta").weight(weight)
    except (RuntimeError, ValueError, IndexError) as error:
        return str(error).split("\n", 1)[0]
    return "" if found.shape == weight.shape else f"it is for a layer of shape {tuple(found.shape)}, not {tuple(weight.shape)}"


# ---- the kinds, by the tensors that tell them


def _scale(tensors: Tensors, rank: int) -> float:
    """alpha / rank, 1 without an alpha; times LyCORIS' learned scalar."""
    if rank < 1:
        raise ValueError("its rank is 0")
    scale = float(tensors["alpha"]) / rank if "alpha" in tensors else 1.0
    return scale * (float(tensors["scalar"]) if "scalar" in tensors else 1.0)


def _lora(tensors: Tensors, weight: Tensor) -> Delta:
    down, up, mid = tensors["down"], tensors["up"], tensors.get("mid")
    if down.shape[0] != up.shape[1]:
        raise ValueError(f"ranks {down.shape[0]} and {up.shape[1]}")
    return LowRank(down, up, _scale(tensors, down.shape[0]), mid)


def _loha(tensors: Tensors, weight: Tensor) -> Delta:
    left1, right1, left2, right2 = (tensors[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    scale = _scale(tensors, right1.shape[0])
    return Hadamard(left1, right1, left2, right2, scale, tensors.get("hada_t1"), tensors.get("hada_t2"))


def _lokr(tensors: Tensors, weight: Tensor) -> Delta:
    def matrix(name: str) -> Tensor:
        if (whole := tensors.get(f"lokr_{name}")) is not None:
            return whole
        left, right = tensors[f"lokr_{name}_a"].float(), tensors[f"lokr_{name}_b"].float()
        if name == "w2" and (core := tensors.get("lokr_t2")) is not None:
            return torch.einsum("abhw,ao,bi->oihw", core.float(), left, right)
        return left @ right.flatten(1)

    try:
        w1, w2 = matrix("w1"), matrix("w2")
    except KeyError as missing:
        raise ValueError(f"{missing.args[0]} is missing") from None
    if weight.ndim == 4 and w2.ndim == 2:
        w2 = w2.reshape(w2.shape[0], weight.shape[1] // w1.shape[1], *weight.shape[2:])
    factored = next((tensors[name] for name in ("lokr_w1_b", "lokr_w2_b") if name in tensors), None)
    return Kronecker(w1, w2, 1.0 if factored is None else _scale(tensors, factored.shape[0]))


def _glora(tensors: Tensors, weight: Tensor) -> Delta:
    """Which of two matrices comes first was changed once; their shapes tell."""
    a1, a2, b1, b2 = (tensors[name] for name in ("a1", "a2", "b1", "b2"))
    new = a2.shape[0] < a2.shape[1] and a2.shape[1] == weight.shape[1]
    left, right, up, down = (a1, a2, b1, b2) if new else (a2, a1, b2, b1)
    scale = _scale(tensors, right.shape[0])
    return Generalised(left, right, LowRank(down, up, scale), scale)


def _ia3(tensors: Tensors, weight: Tensor) -> Delta:
    return Scaled(tensors["weight"].flatten(), bool(tensors["on_input"]))


def _full(tensors: Tensors, weight: Tensor) -> Full:
    diff, bias = tensors.get("diff", tensors.get("w_norm")), tensors.get("diff_b", tensors.get("b_norm"))
    return Full(diff, None if bias is None else bias.flatten())


def _replaced(tensors: Tensors, weight: Tensor) -> Delta:
    return Full(tensors["set_weight"].float().reshape(weight.shape) - weight.float().cpu(), _full(tensors, weight).bias)


def _oft(tensors: Tensors, weight: Tensor) -> Delta:
    constraint = float(tensors["alpha"]) * weight.shape[0] if "alpha" in tensors else 0.0
    return Rotation.from_skew(tensors["oft_blocks"], constraint, tensors.get("rescale"))


def _oft_made(tensors: Tensors, weight: Tensor) -> Delta:
    return Rotation(tensors["oft_diag"], tensors.get("rescale"))


class _BuiltIn:
    @hookimpl
    def adapters(self) -> tuple[AdapterKind, ...]:
        def kind(name: str, read: Callable[[Tensors, Tensor], Delta], *needs: str) -> AdapterKind:
            return AdapterKind(name, frozenset(needs), read, by_values=read is _replaced)

        return (
            kind("LoRA", _lora, "down", "up"),
            kind("LoHa", _loha, "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
            kind("LoKr", _lokr, "lokr_w1"),
            kind("LoKr in factors", _lokr, "lokr_w1_a", "lokr_w1_b"),
            kind("GLoRA", _glora, "a1", "a2", "b1", "b2"),
            kind("(IA)3", _ia3, "weight", "on_input"),
            kind("OFT", _oft, "oft_blocks"),
            kind("OFT made", _oft_made, "oft_diag"),
            kind("Weight", _replaced, "set_weight"),
            kind("Difference", _full, "diff"),
            kind("Difference of a bias", _full, "diff_b"),
            kind("Difference of a norm", _full, "w_norm"),
            kind("Difference of a norm's bias", _full, "b_norm"),
        )


HOOKS.register(_BuiltIn(), "atelier.adapters", built_in=True)

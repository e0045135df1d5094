"""Hypernetworks for the engine: from a file to what it changes of a model's attention, kept while the model is.

A file holds tensors `{width}.{0 for K, 1 for V}.linear.{N}.weight` and `.bias`, N counted over all modules of A1111's
`HypernetworkModule`, and says in its metadata which activation stands between them.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from modules.checkpoints.companions import hypernetwork_file, scan_hypernetworks
from modules.checkpoints.header import Header, header_of, open_model
from modules.checkpoints.weights import Weights
from modules.diffusion.adapters import Adapter, blank_weight
from modules.diffusion.hypernetworks import ACTIVATIONS, MLP, Step
from modules.diffusion.networks import AdaptableNetwork, LoadedAdapter
from modules.errors import CheckpointError, UnknownName

KEPT = 8
"""Hypernetworks that stay loaded for a model; the least recently used goes first."""
MAX_FILE = 1 << 30
"""Bytes of a file that is read: four widths of A1111's largest structures have half of it."""

_NAME = re.compile(r"(\d{1,5})\.([01])\.linear\.(\d{1,3})\.(weight|bias)")
_SIDES = (".to_k", ".to_v")


class Hypernetworks:
    """The `hypernetworks` folders of the models folders.  Any thread may call."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(folders)
        self._lock = threading.Lock()
        self._loaded: WeakKeyDictionary[object, OrderedDict[str, LoadedAdapter]] = WeakKeyDictionary()

    def knows(self, name: str) -> bool:
        """Whether a file has this name."""
        return hypernetwork_file(self._folders, name) is not None

    def read(self, name: str, networks: Mapping[str, AdaptableNetwork], model: object) -> LoadedAdapter:
        """The hypernetwork of this name for `model`; the same object while its file does not change.

        Raises:
            UnknownName: no file has this name.
            CheckpointError: the file cannot be used, or fits no attention of this model.
        """
        info = hypernetwork_file(self._folders, name)
        if info is None:
            raise UnknownName("hypernetwork", name, [known.name for known in scan_hypernetworks(self._folders)])
        if info.problem:
            raise CheckpointError(info.problem)
        with open_model(info.path) as file:
            header = header_of(file, info.path)
            status = info.path.stat()
            if status.st_size > MAX_FILE:
                raise CheckpointError(f"it has {status.st_size / 1e9:.1f} GB, at most {MAX_FILE / 1e9:.1f} are read")
            version = f"hypernetwork-{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{info.path}"
            with self._lock:
                kept = self._loaded.setdefault(model, OrderedDict())
                if version in kept:
                    kept.move_to_end(version)
                    return kept[version]
            mlps = _mlps(header, Weights(file, header))
        unet = networks.get("unet")
        changed = {} if unet is None else _by_place(mlps, unet)
        if not changed:
            widths = ", ".join(str(width) for width in sorted({width for width, _ in mlps})[:8])
            raise CheckpointError(
                f"it is for contexts of width {widths}, which this checkpoint has not: it is for another family"
            )
        size = sum(entry.end - entry.start for entry in header.tensors.values())
        digest = hashlib.sha256(version.encode()).hexdigest()[:12]
        loaded = LoadedAdapter(info.name, version, digest, {"unet": Adapter(info.name, {}, changed)}, size=size)
        with self._lock:
            kept[version] = loaded
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return loaded


def _by_place(mlps: Mapping[tuple[int, int], MLP], unet: AdaptableNetwork) -> dict[str, MLP]:
    """The MLP of each attention's K and V, by the width of what they are computed from."""
    moved = {key: mlp.to(unet.device, unet.dtype) for key, mlp in mlps.items()}
    changed = {}
    for place, layer in unet.layers.items():
        side = next((number for number, ending in enumerate(_SIDES) if place.endswith(ending)), None)
        if side is not None and (mlp := moved.get((blank_weight(layer).shape[1], side))):
            changed[place] = mlp
    return changed


def _mlps(header: Header, weights: Weights) -> dict[tuple[int, int], MLP]:
    """By width and side (0 for K, 1 for V).

    Raises:
        CheckpointError: tensors are missing, in other shapes, or not finite.
    """
    modules: dict[tuple[int, int], dict[int, dict[str, Tensor]]] = {}
    for name in header.tensors:
        found = _NAME.fullmatch(name)
        if not found:
            raise CheckpointError(f"it is no hypernetwork: it has a tensor {name[:60]!r}")
        tensor = weights[name].clone()
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointError(f"its tensor {name!r} has NaN or infinity")
        modules.setdefault((int(found[1]), int(found[2])), {}).setdefault(int(found[3]), {})[found[4]] = tensor
    if not modules:
        raise CheckpointError("it is no hypernetwork: it has no tensors")
    for width, side in modules:
        if (width, 1 - side) not in modules:
            raise CheckpointError(f"it has a network of width {width} for {'KV'[side]} alone")
    activation, last = _activation(header.metadata), _flag(header.metadata.get("activate_output", "True"))
    return {key: _mlp(key[0], by_number, activation, last) for key, by_number in modules.items()}


def _mlp(width: int, by_number: Mapping[int, Mapping[str, Tensor]], activation: str, activate_output: bool) -> MLP:
    """Linear layers in their order, each with the norm that stands behind it."""
    steps: list[Step] = []
    for number in sorted(by_number):
        try:
            weight, bias = by_number[number]["weight"], by_number[number]["bias"]
        except KeyError as missing:
            raise CheckpointError(f"linear.{number} of width {width} has no {missing.args[0]}") from None
        if weight.ndim == 2:
            steps.append(Step(weight, bias, activation))
        elif steps and weight.ndim == 1 and steps[-1].norm is None:
            steps[-1] = Step(steps[-1].weight, steps[-1].bias, activation, (weight, bias))
        else:
            raise CheckpointError(f"linear.{number} of width {width} is neither a linear layer nor a norm behind one")
    if not activate_output and steps:
        steps[-1] = Step(steps[-1].weight, steps[-1].bias, "linear", steps[-1].norm)
    made = MLP(tuple(steps))
    try:
        fits = made.to("meta")(torch.empty(1, 1, width, device="meta", dtype=steps[0].weight.dtype)).shape == (1, 1, width)
    except (RuntimeError, IndexError):
        fits = False
    if not fits:
        raise CheckpointError(f"its linear layers of width {width} do not go together")
    return made


def _activation(metadata: Mapping[str, str]) -> str:
    name = metadata.get("activation_func", "linear").strip().strip('"').casefold()
    name = "linear" if name in ("", "none", "null") else name
    if name not in ACTIVATIONS:
        raise CheckpointError(f"its activation {name[:40]!r} is not known here")
    return name


def _flag(text: str) -> bool:
    return text.strip().casefold() not in ("false", "0", "none", "null", "")

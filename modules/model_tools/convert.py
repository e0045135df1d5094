"""Pickles of models as safetensors: checkpoints, VAEs, LoRAs, embeddings, hypernetworks, upscalers; and checkpoints in
diffusers' layout as single files.

Runs in a child process alone (`__main__`), with `limits`: the server and the command never open a pickle.  What opens it is
torch's restricted unpickler; globals that old files name get objects without code (`pickles.INERT`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.attention.backends import first_line
from modules.errors import CheckpointError
from modules.model_tools import limits
from modules.model_tools.disk import check_target
from modules.model_tools.layers import Model
from modules.model_tools.metadata import checkpoint_metadata, recipe
from modules.model_tools.pickles import INERT, inspect
from modules.model_tools.requests import ConvertPickle
from modules.model_tools.tensors import STORED, ModelWriter, Source, planned
from modules.model_tools.work import Work

MOST_TIMES = 2
"""How many times its own size a file may become: tensors that share their numbers are written once for each name."""
_UNWRAPPED = ("state_dict", "params_ema", "params")
"""Where the weights are in a checkpoint, and in an upscaler's file."""
_HYPERNETWORK = ("activation_func", "layer_structure", "is_layer_norm", "activate_output", "name", "step")
_FURTHER = ("weight_init", "use_dropout", "dropout_structure", "sd_checkpoint", "sd_checkpoint_name", "optional_info")


class Inert:
    """Stands for an object whose class is not known: takes everything and does nothing."""

    def __new__(cls, *arguments: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        self.fields: dict[Any, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {}


@dataclass
class Contents:
    """What is in a file: `kind` in words, its tensors and texts, and how much else was left out."""

    kind: str
    tensors: dict[str, Tensor]
    texts: dict[str, str] = field(default_factory=dict)
    dropped: int = 0


def convert(request: ConvertPickle, work: Work) -> None:
    """Write the weights of the pickle, or of the folder in diffusers' layout, beside it.

    Raises:
        RequestError, CheckpointError, OutputError: it is refused or damaged, or the new file cannot be written.
    """
    path, target = work.order.files["file"], work.order.target
    check_target(target, request.replace)
    if path.is_dir():
        _convert_folder(request, work)
        return
    container = inspect(path)
    work.hash_sources()
    size = path.stat().st_size
    torch.set_num_threads(1)  # no further thread can be started from here on
    limits.limit(size)
    work.say("opening", work.HASHED)
    found = contents_of(_opened(path, container.zipped), path)
    plan = {name: (_format(name, tensor, path), tuple(tensor.shape)) for name, tensor in found.tensors.items()}
    needed = sum(tensor.numel() * tensor.element_size() for tensor in found.tensors.values())
    if needed > MOST_TIMES * size:
        raise CheckpointError(f"{path.name} of {size:,} bytes would become {needed:,} bytes; it is not a file of weights")
    texts = {"format": "pt", **found.texts, "atelier.recipe": recipe(work)}
    with ModelWriter(work.order.part, plan, texts) as writer:
        for number, name in enumerate(writer.order):
            work.step("writing", number, len(writer.order))
            writer.add(name, _bytes(found.tensors[name]))
        work.notes.append(f"{found.kind} with {len(plan)} tensors")
        if found.dropped:
            work.notes.append(f"{found.dropped} entries that are no weights were left out")
        work.step("writing to disk", 1, 1)
        writer.publish(target, request.replace)


def _convert_folder(request: ConvertPickle, work: Work) -> None:
    """Write a checkpoint in diffusers' layout as a single file in the original one; its numbers stay as they are."""
    with Source(work.order.files["file"]) as source:
        model = Model(source.path, source.header)
        model.family.check(source.header)
        work.hash_sources()
        plan = {name: planned(source, name, "keep") for name in source.header.tensors}
        said = checkpoint_metadata(work, source.header, source.path, model.family, source.path.name)
        with ModelWriter(work.order.part, plan, said) as writer:
            for number, name in enumerate(writer.order):
                work.step("writing", number, len(writer.order))
                writer.add(name, source.read(name) if source.is_float(name) else source.stored(name))
            work.notes.append(f"a {model.family.title} checkpoint with {len(plan)} tensors")
            work.step("writing to disk", 1, 1)
            writer.publish(work.order.target, request.replace)


def _opened(path: Path, zipped: bool) -> Any:
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in INERT]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except MemoryError:
        raise CheckpointError(f"{path.name} needs more memory to be opened than a file of its size may") from None
    except Exception as error:
        reason = first_line(error).partition("WeightsUnpickler error: ")
        raise CheckpointError(f"{path.name} cannot be opened safely: {(reason[2] or reason[0])[:200]}") from None


def contents_of(data: Any, path: Path) -> Contents:
    """What an opened file holds.

    Raises:
        CheckpointError: no weights are in it.
    """
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} holds no weights: it is a {type(data).__name__}, not a table of tensors")
    if "string_to_param" in data:
        return _embedding(data, path)
    if any(isinstance(key, int) and isinstance(value, list | tuple) for key, value in data.items()):
        return _hypernetwork(data, path)
    inner = next((data[name] for name in _UNWRAPPED if isinstance(data.get(name), dict)), data)
    tensors = {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name} holds no tensors")
    return Contents(
        "a table of weights", tensors, dropped=len(inner) - len(tensors) + (len(data) - 1 if inner is not data else 0)
    )


def _embedding(data: Mapping[Any, Any], path: Path) -> Contents:
    """A1111's textual inversion: one table of vectors."""
    table = data["string_to_param"]
    fields = table.fields.get("_parameters") if isinstance(table, Inert) else table
    vectors = [value for value in fields.values() if isinstance(value, Tensor)] if isinstance(fields, dict) else []
    if len(vectors) != 1 or vectors[0].ndim not in (1, 2):
        raise CheckpointError(f"{path.name} is an embedding with {len(vectors)} tables of vectors; one is expected")
    texts = {key: text for key in ("name", "step", *_FURTHER) if (text := _text(data.get(key)))}
    return Contents("an embedding", {"emb_params": vectors[0].detach()}, texts)


def _hypernetwork(data: Mapping[Any, Any], path: Path) -> Contents:
    """Two networks, for keys and values, by the width of the context: `{width}.{0|1}.linear.{N}.weight`."""
    tensors: dict[str, Tensor] = {}
    for width, pair in data.items():
        if not isinstance(width, int):
            continue
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(each, dict) for each in pair):
            raise CheckpointError(f"{path.name} is no hypernetwork: width {width} has not two networks")
        for number, network in enumerate(pair):
            for name, tensor in network.items():
                if isinstance(name, str) and isinstance(tensor, Tensor):
                    named = name.replace("linear1.", "linear.0.").replace("linear2.", "linear.1.")
                    tensors[f"{width}.{number}.{named}"] = tensor.detach()
    if not tensors:
        raise CheckpointError(f"{path.name} is a hypernetwork without weights")
    texts = {key: text for key in (*_HYPERNETWORK, *_FURTHER) if (text := _text(data.get(key)))}
    return Contents("a hypernetwork", tensors, {"activate_output": "true", **texts})


def _text(value: Any) -> str:
    """As metadata has it: texts as they are, everything else as JSON; "" for what is neither."""
    if isinstance(value, str):
        return value[:1000]
    if isinstance(value, bool | int | float | list):
        try:
            return json.dumps(value)[:1000]
        except (TypeError, ValueError):
            return ""
    return ""


def _format(name: str, tensor: Tensor, path: Path) -> str:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu" or tensor.dtype not in STORED:
        raise CheckpointError(f"{path.name} holds {name!r} as {tensor.dtype} in a form that safetensors has not")
    return STORED[tensor.dtype]


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""

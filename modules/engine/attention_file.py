"""Which attention back end was the fastest for which shape on which device, kept in one JSON file of the data folder."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from modules.diffusion.attention.measured import Ranking, Shape
from modules.locks import ProcessLock

log = logging.getLogger(__name__)

MAX_DEVICES = 4
"""Devices, or versions of the programs on one, that are remembered; the oldest go first."""

MAX_SHAPES = 2000
"""Shapes of each; the oldest go first."""

LOCK_SECONDS = 2.0
"""How long another worker's turn at the file is waited for; it takes milliseconds."""

_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+) (\d+)x(\d+) (\w+)")


class AttentionFile:
    """A `ChoiceStore` for the device that `fingerprint` names.  A file that cannot be used costs a measurement, no more."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint

    def load(self) -> Mapping[Shape, Ranking]:
        return self._loaded

    @cached_property
    def _loaded(self) -> dict[Shape, Ranking]:
        entries = self._read().get(self._fingerprint, {})
        read = {_shape(text): _ranking(entry) for text, entry in entries.items()}
        good = {shape: ranking for shape, ranking in read.items() if shape and ranking}
        if len(good) < len(entries):
            log.warning("%s: %d entries cannot be read and are ignored", self._path, len(entries) - len(good))
        return good

    def add(self, shape: Shape, ranking: Ranking) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = ProcessLock(self._path.with_name(self._path.name + ".lock"), LOCK_SECONDS)
        except OSError as error:
            log.warning("a choice of attention is not remembered: %s", error)
            return
        try:
            devices = self._read()
            entries = devices.pop(self._fingerprint, {})
            entries.pop(_text(shape), None)
            entries[_text(shape)] = [[name, round(ms, 5)] for name, ms in ranking]
            devices[self._fingerprint] = dict(list(entries.items())[-MAX_SHAPES:])
            self._write(dict(list(devices.items())[-MAX_DEVICES:]))
        except OSError as error:
            log.warning("a choice of attention is not remembered: %s", error)
        finally:
            lock.release()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.warning("%s cannot be read and is ignored: attention is measured again (%s)", self._path, error)
            return {}
        if not isinstance(content, dict) or not all(isinstance(entries, dict) for entries in content.values()):
            log.warning("%s is no list of devices and is ignored: attention is measured again", self._path)
            return {}
        return content

    def _write(self, devices: Mapping[str, Any]) -> None:
        """A temporary file is moved into place, so that no reader ever sees half of it."""
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name, suffix=".part")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(devices, file, indent=0)
            os.replace(temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _text(shape: Shape) -> str:
    return "{}x{}x{} {}x{} {}".format(*shape)


def _shape(text: str) -> Shape | None:
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    batch, queries, keys, heads, width = (int(size) for size in match.groups()[:5])
    return Shape(batch, queries, keys, heads, width, match[6]) if batch * queries * keys * heads * width else None


def _ranking(entry: Any) -> Ranking:
    """An entry as it was written; empty for anything else."""
    if not isinstance(entry, list):
        return ()
    for each in entry:
        match each:
            case [str(), int() | float() as ms] if 0 <= ms < 1e9:
                pass
            case _:
                return ()
    return tuple((name, float(ms)) for name, ms in entry)


def fingerprint(device: torch.device) -> str:
    """All that a measurement on a CUDA device depends on: its name, the driver, and what brings the kernels."""
    try:
        xformers = importlib.metadata.version("xformers")
    except importlib.metadata.PackageNotFoundError:
        xformers = "none"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return (
        f"{torch.cuda.get_device_name(device)}, driver {driver_version()}, torch {torch.__version__}, "
        f"cuDNN {cudnn}, xformers {xformers}"
    )


def driver_version() -> str:
    """The NVIDIA driver's version by its management library (NVML, nvmlSystemGetDriverVersion); "unknown" without one."""
    try:
        library = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(80)
        if library.nvmlInit_v2():
            return "unknown"
        try:
            failed = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
        finally:
            library.nvmlShutdown()
        return "unknown" if failed else text.value.decode("ascii", "replace")
    except (OSError, AttributeError):
        return "unknown"

"""From settings to a running engine: which device, number format and attention, and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from modules.checkpoints.builder import vae_dtype
from modules.checkpoints.host_memory import available
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.residence import Storage
from modules.diffusion.accelerators import AcceleratorChoice, eager
from modules.diffusion.attention import AttentionChoice, choose_attention
from modules.diffusion.compiled_unet import by_compilation, compilation_missing
from modules.diffusion.device_memory import free_memory, streaming_helps
from modules.diffusion.graphs import graphed
from modules.diffusion.kernels import KernelChoice, choose_kernels
from modules.diffusion.openvino_unet import by_openvino, openvino_missing
from modules.engine.attention_file import AttentionFile, fingerprint
from modules.engine.engine import Engine
from modules.engine.formats import FASTER, measured_bfloat16_speed
from modules.engine.messages import Hello, Message
from modules.engine.packing import FASTER as PACKING_FASTER
from modules.engine.packing import POSSIBLE, by_packing, measured_packing_speed
from modules.errors import SettingsError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


CHANGING = ("compile", "graphs", "openvino")
"""Accelerators that begin to evaluate a network while it is in use."""


@dataclass(frozen=True)
class Choices:
    """What was chosen; each with its reason in words."""

    device: torch.device
    device_reason: str
    dtype: torch.dtype
    dtype_reason: str
    attention: AttentionChoice
    kernels: KernelChoice
    accelerator: AcceleratorChoice
    small_dtype: torch.dtype | None = None
    """The number format of models that are too small to gain from `dtype`; None for the same."""
    storage: Storage = "auto"
    """Whether denoisers' weights are kept in 8 bits (`residence`)."""

    @property
    def weights(self) -> str:
        """How weights are kept, in words."""
        if self.storage == "fp8":
            return "float8_e4m3fn (asked for; the denoiser's, brought to the computing format when they are used)"
        if self.storage == "full" or not streaming_helps(self.device):
            return f"full (as they are computed with; {'asked for' if self.storage == 'full' else 'fp8 is an option'})"
        return "full (as they are computed with; in 8 bits where a denoiser does not fit otherwise)"

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose(
    device: str,
    dtype: str,
    attention: str,
    accelerator: str = "auto",
    worker: int = 0,
    workers: int = 1,
    cache_dir: Path | None = None,
    storage: Storage = "auto",
) -> Choices:
    """Resolve "auto" in each of the four settings, for worker `worker` (from 0) of `workers` on this machine.

    What was measured on this device and what accelerators keep on disk lie in `cache_dir`, or nowhere and in "data".

    Raises:
        SettingsError: what was asked for is not here.
    """
    place, place_reason = _choose_device(device, worker, workers)
    number, number_reason = _choose_dtype(dtype, place)
    return Choices(
        *(place, place_reason, number, number_reason),
        choose_attention(attention, place, _measured_before(place, cache_dir)),
        choose_kernels(place),
        choose_accelerator(accelerator, place, cache_dir or Path("data")),
        torch.float32 if dtype == "auto" and place.type == "cpu" else None,
        storage,
    )


def _measured_before(device: torch.device, cache_dir: Path | None) -> AttentionFile | None:
    if device.type != "cuda" or cache_dir is None:
        return None
    return AttentionFile(cache_dir / "attention.json", fingerprint(device))


def _choose_device(requested: str, worker: int, workers: int) -> tuple[torch.device, str]:
    if requested == "auto":
        if torch.cuda.is_available():
            device = _own_device(worker, workers)
            return device, torch.cuda.get_device_name(device)
        threads = torch.get_num_threads()
        reason = f"no CUDA device found by torch {torch.__version__}; {threads} thread{'s' * (threads != 1)}"
        return torch.device("cpu"), reason
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise SettingsError(f"device {requested!r} is unknown; choose auto, cpu or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device {requested!r} is not supported; choose auto, cpu or cuda:N")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise SettingsError(f"device {requested!r} was asked for, but torch sees {count} CUDA devices; use --device auto")
        device = _own_device(worker, workers) if device.index is None else device
    return device, "asked for"


def _own_device(worker: int, workers: int) -> torch.device:
    """The CUDA device of a worker: each has one of its own, as two on one would hold every model twice."""
    count = torch.cuda.device_count()
    if worker >= count:
        fewer = f"--workers {count}" if count > 1 else "one worker"
        raise SettingsError(
            f"{workers} workers were asked for, but torch sees {count} CUDA device{'s' * (count > 1)}; use {fewer}"
        )
    return torch.device("cuda", worker)


def _choose_dtype(requested: str, device: torch.device) -> tuple[torch.dtype, str]:
    if requested == "auto":
        if device.type == "cpu":
            return _fastest_of_cpu()
        return torch.float16, "half the memory, and what checkpoints are stored in"
    if requested not in DTYPES:
        raise SettingsError(f"dtype {requested!r} is unknown; choose auto, {', '.join(DTYPES)}")
    if requested == "float16" and device.type == "cpu":
        raise SettingsError("dtype float16 was asked for, but a CPU computes it slowly and inexactly; use auto or bfloat16")
    return DTYPES[requested], "asked for"


def _fastest_of_cpu() -> tuple[torch.dtype, str]:
    speed = measured_bfloat16_speed()
    measured = f"bfloat16 measured {speed:.1f} times as fast as float32 on this CPU"
    if speed < FASTER:
        return torch.float32, f"exact; {measured}"
    return torch.bfloat16, f"{measured}; small models compute in float32, and --dtype float32 makes all of them"


def choose_accelerator(requested: str, device: torch.device, cache: Path = Path("data")) -> AcceleratorChoice:
    """What evaluates U-Nets on `device`; the folder `cache` is for what it keeps on disk.

    Raises:
        SettingsError: `requested` is unknown, or does not run here.
    """
    if requested == "none":
        return AcceleratorChoice("none", "asked for", eager)
    if requested == "graphs" and device.type != "cuda":
        raise SettingsError(f"accelerator graphs was asked for, but {device.type} has no CUDA graphs; use --accelerator auto")
    if requested == "graphs" or (requested == "auto" and device.type == "cuda"):
        reason = "asked for" if requested == "graphs" else "where a shape comes again and a replay is no slower"
        return AcceleratorChoice("graphs", reason, graphed(device))
    if requested == "openvino":
        if missing := openvino_missing(device):
            raise SettingsError(f"accelerator openvino was asked for, but {missing}")
        return AcceleratorChoice("openvino", "asked for; each model converts while it is used", by_openvino(cache / "openvino"))
    if requested == "compile":
        if missing := compilation_missing(device):
            raise SettingsError(f"accelerator compile was asked for, but {missing}")
        accelerate = by_compilation(device, cache / "inductor")
        return AcceleratorChoice(
            "compile", "asked for; each shape compiles when it repeats, which pictures wait for", accelerate
        )
    if requested not in ("auto", "packed"):
        raise SettingsError(f"accelerator {requested!r} is unknown; choose auto, none, graphs, packed, compile or openvino")
    return _packed(requested, device)


def _packed(requested: str, device: torch.device) -> AcceleratorChoice:
    if device.type != "cpu":
        raise SettingsError(f"accelerator packed was asked for, but its layouts are a CPU's, not {device.type}'s; use auto")
    speed, _ = measured_packing_speed(torch.float32)
    found = f"a convolution measured {speed:.1f} times as fast" if speed else "oneDNN does not run here, or computes otherwise"
    if requested == "packed":
        if not speed:
            raise SettingsError(f"accelerator packed was asked for, but {found}; use --accelerator auto")
        return AcceleratorChoice("packed", f"asked for; weights in oneDNN's layouts, {found}", by_packing(faster=POSSIBLE))
    if speed < PACKING_FASTER:
        return AcceleratorChoice("none", f"packed weights do not help on this CPU: {found}", eager)
    return AcceleratorChoice("packed", f"weights in oneDNN's layouts, {found}", by_packing())


def build_engine(configuration: dict[str, Any], emit: Callable[[Message], None]) -> tuple[Engine, Choices]:
    """The engine of a `configure` message.

    It has models_dirs, cache_dir, device, dtype, attention, accelerator, exact, threads, probe, weights_storage (see
    `residence`), model_memory (GB, see `model_budget`), and which `worker` (from 0) of `workers` on this machine it is.
    """
    worker, workers = configuration.get("worker", 0), configuration.get("workers", 1)
    set_threads(workers, configuration.get("threads", 0))
    accelerator = configuration.get("accelerator", "auto")
    asked = (configuration["device"], configuration["dtype"], configuration["attention"], accelerator)
    storage = configuration.get("weights_storage", "auto")
    choices = choose(*asked, worker, workers, Path(configuration["cache_dir"]), storage)
    if configuration["exact"] and accelerator == "auto" and choices.accelerator.name in CHANGING:
        choices = replace(choices, accelerator=choose_accelerator("none", choices.device))
    if configuration["exact"] and choices.accelerator.name in CHANGING:
        raise SettingsError(
            f"--exact was asked for with --accelerator {choices.accelerator.name}, which takes over while pictures are "
            "painted, so that repeats differ in their last bits; use one of the two"
        )
    manager = ModelManager(
        [Path(folder) for folder in configuration["models_dirs"]],
        device=choices.device,
        dtype=choices.dtype,
        attend=choices.attention.attend,
        cache=Path(configuration["cache_dir"]) / "hashes.json",
        budget=model_budget(configuration.get("model_memory", 0), choices.device),
        kernels=choices.kernels.kernels,
        accelerate=choices.accelerator.accelerate,
        small_dtype=choices.small_dtype,
        storage=choices.storage,
    )
    return Engine(manager, emit, exact=configuration["exact"], probe=configuration.get("probe", False)), choices


KEPT = 0.5
"""The part of a GPU's memory in which models stay loaded: the rest is for what they compute, and for other programs."""


def model_budget(gigabytes: int, device: torch.device) -> int | None:
    """Bytes in which models stay loaded, None for one model.

    Where nothing is asked for (0), half of a GPU's memory: going back to a checkpoint takes no time, and where memory runs
    short all the same, models that nobody uses go first.
    """
    if gigabytes:
        return gigabytes * 10**9
    return int(KEPT * torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def set_threads(workers: int, threads: int = 0) -> None:
    """Have torch use `threads` in this process, or a worker's part of the cores."""
    if threads := threads or _threads(workers):
        torch.set_num_threads(threads)


def _threads(workers: int) -> int:
    """A worker's threads: its part of the cores that this process may use, where torch would count those of the whole machine.

    0 leaves torch's choice; OMP_NUM_THREADS in the environment is the user's, for each worker.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return 0
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)) // workers)
    return max(1, torch.get_num_threads() // workers) if workers > 1 else 0


def hello(choices: Choices, workers: int = 1) -> Message:
    """The engine's first message: what it runs on, each choice with its reason.

    One of several `workers` on a CPU has a part of it, and measures other costs than one alone.
    """
    shared = workers > 1 and choices.device.type == "cpu"
    return Hello(
        device=f"{choices.device} ({choices.device_reason})",
        dtype=f"{choices.dtype_name} ({choices.dtype_reason})",
        attention=f"{choices.attention.name} ({choices.attention.reason})",
        kernels=f"{choices.kernels.name} ({choices.kernels.reason})",
        accelerator=f"{choices.accelerator.name} ({choices.accelerator.reason})",
        weights=choices.weights,
        pid=os.getpid(),
        share=f"1/{workers}" if shared else "",
        room=room_of(choices, workers if shared else 1),
    ).message()


def room_of(choices: Choices, sharing: int = 1) -> dict[str, Any]:
    """What estimates need to know of the memory that this engine may take (`modules.jobs.memory.Room`), before it took any;
    `sharing` engines have the same."""
    device, small = choices.device, choices.small_dtype or choices.dtype
    free = free_memory(device) if device.type == "cuda" else available()
    return {
        "memory": (free or 0) // sharing,
        "number": choices.dtype.itemsize,
        "small_number": small.itemsize,
        "vae_number": vae_dtype(device, choices.dtype).itemsize,
        "streams": streaming_helps(device),
        "storage": choices.storage,
        "kind": device.type,
    }

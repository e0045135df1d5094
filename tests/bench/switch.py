"""Seconds to load and to switch between checkpoints in SD 1.5's and SDXL's layout, the memory that it takes at most, and where
memory stands after twenty switches; beside diffusers' `from_single_file`, each program in a process of its own.

The files have random weights in float16, in a temporary folder: SD 1.5 whole (2 GB; drawing it takes 7 GB of memory), SDXL
narrow.  `BENCH_WIDTH=all` writes SDXL whole too (7 GB; 12 GB of memory) and switches six times only, for diffusers takes half a
minute each; `BENCH_WIDTH=narrow` writes neither.  Where less memory is free than that takes, a file is narrow all the same, as
the figures say.  diffusers loads U-Net and VAE alone, with its
configurations at hand; Atelier loads the text encoders too.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from modules.checkpoints.host_memory import available
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from tests.bench import Figure
from tests.diffusion import reference
from tests.sdxl import TEXT, TEXT_2, UNET, VAE, sdxl_state
from tests.tiny import STORED, TINY_TEXT, TINY_UNET, TINY_VAE, random_state

SWITCHES, SWITCHES_WHOLE = 20, 6
"""How many, and how many where SDXL is whole."""
NAMES = ("sd15", "sdxl")
NEEDED = {"sd15": 8 * 10**9, "sdxl": 20 * 10**9}
"""Bytes of main memory that have to be free for a whole file: it is drawn, and then loaded, by either program alone."""
WIDTHS = {"narrow": (), "sd15": ("sd15",), "all": NAMES}
"""By what BENCH_WIDTH says, the files that are whole."""

WHOLE_TEXTS = (
    TextConfig(layer=2, normalised=False),
    TextConfig(
        width=1280, layers=32, heads=20, hidden=5120, projection=1280, activation="gelu", layer=2, normalised=False, pad=0
    ),
)
WHOLE_SDXL = UNetConfig(
    channels=(320, 640, 1280),
    transformer_depth=(0, 2, 10),
    middle_depth=10,
    context_dim=2048,
    heads=0,
    head_width=64,
    vector_width=2816,
)


def measure() -> Iterator[Figure]:
    """Up to 2 GB of disk for a minute, 9 GB with SDXL whole."""
    asked = os.environ.get("BENCH_WIDTH", "sd15")
    if asked not in WIDTHS:
        raise SystemExit(f"BENCH_WIDTH={asked} is unknown; choose {', '.join(WIDTHS)}")
    free = available() or 0
    whole = [name for name in WIDTHS[asked] if free >= NEEDED[name]]
    width = ", ".join(f"{name} {'whole' if name in whole else 'narrow'}" for name in NAMES)
    switches = SWITCHES_WHOLE if "sdxl" in whole else SWITCHES
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as place:
        _run(place, "make", *whole)  # in a process of its own: torch keeps some of the memory that drawing took
        found = {by: dict(json.loads(_run(place, by, str(switches)))) for by in ("diffusers", "Atelier")}
    for what, unit in (
        *(("load sd15", "s"), ("switch to sdxl", "s"), ("switch to sd15", "s")),
        *(("peak memory", "GB"), ("memory after 2 switches", "GB"), (f"memory after {switches} switches", "GB")),
    ):
        for by, said in found.items():
            yield Figure(what, said[what], unit, f"{said['device']}, {width}, median of {switches} switches", by)
        yield Figure(f"{what}, ratio", found["Atelier"][what] / max(1e-9, found["diffusers"][what]), "")


def _make(folder: Path, whole: Collection[str]) -> None:
    """Both files, and diffusers' configurations beside them."""
    small = (TINY_UNET, TINY_VAE, TINY_TEXT)
    unet, vae, text = (UNetConfig(), VAEConfig(), TextConfig()) if "sd15" in whole else small
    state = {name: t.half() if t.is_floating_point() else t for name, t in random_state(unet, vae, text).items()}
    _configure(folder / "sd15", unet, vae, state)
    _write(folder / "sd15.safetensors", state)
    del state
    unet, vae, texts = (WHOLE_SDXL, VAEConfig(), WHOLE_TEXTS) if "sdxl" in whole else (UNET, VAE, (TEXT, TEXT_2))
    state = sdxl_state(unet=unet, vae=vae, texts=texts, dtype=torch.float16)
    _configure(folder / "sdxl", unet, vae, state)
    _write(folder / "sdxl.safetensors", state)


def _configure(folder: Path, unet: UNetConfig, vae: VAEConfig, state: dict[str, torch.Tensor]) -> None:
    reference.unet(unet, state).save_config(folder / "unet")
    reference.vae(vae, state).save_config(folder / "vae")


def _write(path: Path, state: dict[str, torch.Tensor]) -> None:
    """A safetensors file, a tensor at a time: `tests.tiny.write` would hold all of it twice more."""
    header, end = {}, 0
    for name, tensor in state.items():
        dtype = next(known for known, each in STORED.items() if each == tensor.dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end := end + tensor.nbytes]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in state.values():
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def _run(folder: str, *arguments: str) -> str:
    """The last line that this file prints in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.switch", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().rpartition("\n")[2]


def _measured(folder: Path, by: str, switches: int) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    load = _ours(folder, device, dtype) if by == "Atelier" else _theirs(folder, device, dtype)
    seconds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for number in range(switches + 1):
        name = NAMES[number % 2]
        start = time.perf_counter()
        load(name)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.setdefault(f"switch to {name}" if number else f"load {name}", []).append(time.perf_counter() - start)
        if number in (2, switches):  # with the same checkpoint
            gc.collect()
            memory[f"memory after {number} switches"] = (
                torch.cuda.memory_allocated() if device.type == "cuda" else _status("VmRSS")
            ) / 1e9
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _status("VmHWM")
    return {what: statistics.median(each) for what, each in seconds.items()} | {
        "peak memory": peak / 1e9,
        **memory,
        "device": f"{device.type}, {str(dtype).removeprefix('torch.')}",
    }


def _status(line: str) -> int:
    """Bytes of main memory that this process takes (VmRSS) or took at most (VmHWM), torch itself included; what it maps counts
    where it was read.  Where there is no /proc, always the most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent took before it started this one
        lines = dict(each.split(":", 1) for each in status.read_text().splitlines())
        return int(lines[line].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _ours(folder: Path, device: torch.device, dtype: torch.dtype) -> Callable[[str], object]:
    manager = ModelManager([folder], device, dtype, sdpa, folder / "hashes.json")
    return manager.load


def _theirs(folder: Path, device: torch.device, dtype: torch.dtype) -> Callable[[str], object]:
    held: list[Any] = []

    def load(name: str) -> None:
        held.clear()
        gc.collect()
        for network, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
            told = {"config": str(folder / name), "subfolder": part, "local_files_only": True, "torch_dtype": dtype}
            held.append(network.from_single_file(str(folder / f"{name}.safetensors"), **told).to(device))

    return load


if __name__ == "__main__":
    place, task, *rest = sys.argv[1:]
    if task == "make":
        _make(Path(place), rest)
    else:
        print(json.dumps(_measured(Path(place), task, int(rest[0]))))

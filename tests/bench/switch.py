"""Seconds to load and to switch between checkpoints in SD 1.5's and SDXL's layout, and the memory that it takes at most, beside
diffusers' `from_single_file`, each program in a process of its own.

The files have random weights in float16: SD 1.5 whole, SDXL's U-Net beside narrow text encoders and a narrow VAE.  Where less
than `NEEDED` bytes of memory are free, both are narrow, as the figures say.  diffusers loads U-Net and VAE alone, with
its configurations at hand; Atelier loads the text encoders too.
"""

from __future__ import annotations

import gc
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.clip import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from tests.bench import Figure
from tests.diffusion import reference
from tests.sdxl import TEXT, TEXT_2, UNET, VAE, sdxl_state
from tests.tiny import TINY_TEXT, TINY_UNET, TINY_VAE, random_state, write

NEEDED = 24 * 10**9
TURNS = 3
NAMES = ("sd15", "sdxl")
FULL_SDXL = UNetConfig(
    channels=(320, 640, 1280),
    transformer_depth=(0, 2, 10),
    middle_depth=10,
    context_dim=TEXT.width + TEXT_2.width,
    heads=0,
    head_width=64,
    vector_width=UNET.vector_width,
)


def measure() -> Iterator[Figure]:
    """Disk: 7 GB for a minute where memory is enough for the full width."""
    full = _free() >= NEEDED
    width = "full width" if full else "narrow: too little memory"
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as place:
        _make(Path(place), full)
        found = {by: _asked(place, by) for by in ("diffusers", "Atelier")}
    for what, unit in (("load sd15", "s"), ("switch to sdxl", "s"), ("switch to sd15", "s"), ("peak memory", "GB")):
        for by, said in found.items():
            yield Figure(what, said[what], unit, f"{said['device']}, {width}, median of {TURNS} switches", by)
        yield Figure(f"{what}, ratio", found["Atelier"][what] / max(1e-9, found["diffusers"][what]), "")


def _make(folder: Path, full: bool) -> None:
    """Both files, and diffusers' configurations beside them."""
    unet, vae, text = (UNetConfig(), VAEConfig(), TextConfig()) if full else (TINY_UNET, TINY_VAE, TINY_TEXT)
    state = random_state(unet, vae, text)
    _configure(folder / "sd15", unet, vae, state)
    write(folder / "sd15.safetensors", {name: t.half() if t.is_floating_point() else t for name, t in state.items()})
    del state
    unet = FULL_SDXL if full else UNET
    state = sdxl_state(unet=unet)
    _configure(folder / "sdxl", unet, VAE, state)
    write(folder / "sdxl.safetensors", {name: t.half() if t.is_floating_point() else t for name, t in state.items()})


def _configure(folder: Path, unet: UNetConfig, vae: VAEConfig, state: dict[str, torch.Tensor]) -> None:
    reference.unet(unet, state).save_config(folder / "unet")
    reference.vae(vae, state).save_config(folder / "vae")


def _free() -> int:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0


def _asked(folder: str, by: str) -> dict[str, Any]:
    """What a process of its own measured."""
    done = subprocess.run([sys.executable, "-m", "tests.bench.switch", folder, by], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{by} failed: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout.strip().rpartition("\n")[2]))


def _measured(folder: Path, by: str) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    load = _ours(folder, device, dtype) if by == "Atelier" else _theirs(folder, device, dtype)
    seconds: dict[str, list[float]] = {}
    for number in range(2 * TURNS + 1):
        name = NAMES[number % 2]
        start = time.perf_counter()
        load(name)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.setdefault(f"switch to {name}" if number else f"load {name}", []).append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak()
    return {what: statistics.median(each) for what, each in seconds.items()} | {
        "peak memory": peak / 1e9,
        "device": f"{device.type}, {str(dtype).removeprefix('torch.')}",
    }


def _peak() -> int:
    """Bytes of main memory that this process took at most, torch itself included; what it maps counts where it was read."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent took before it started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
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
    print(json.dumps(_measured(Path(sys.argv[1]), sys.argv[2])))

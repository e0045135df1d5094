"""The full-width SD 1.5 U-Net on a CPU by each way to evaluate it, beside diffusers in float32 on the same weights.

A forward of two rows at 256x256.  Each way takes turns with diffusers, and the ratio is that of their least times, so that a
machine whose speed drifts or that others use is fair to both.  `ATELIER_BENCH_WAYS=ours,openvino` measures some ways only.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modules.checkpoints import keys
from modules.diffusion.accelerators import UNetForward, eager
from modules.diffusion.compiled_unet import compiled
from modules.diffusion.openvino_unet import ConvertedNetworks, Converter, OpenVINO
from modules.diffusion.packed import pack
from modules.diffusion.takeover import Inputs, example
from modules.diffusion.unet import UNet, UNetConfig
from tests.bench import Figure
from tests.diffusion import reference

TURNS = 5


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    """Needs about 12 GB and, with compilation, ten minutes."""
    torch.manual_seed(0)
    ours = UNet(UNetConfig()).eval().requires_grad_(False)
    theirs = reference.unet(UNetConfig(), {keys.UNET + name: tensor for name, tensor in ours.state_dict().items()})
    ours.to(memory_format=torch.channels_last)  # as the manager lays out weights
    x, timesteps, context, _ = example(ours)

    def their_step() -> Tensor:
        return theirs(x, timesteps, context).sample  # type: ignore[no-any-return]

    expected = their_step()
    with tempfile.TemporaryDirectory() as folder:
        for way, prepare in _ways(Path(folder)):
            for dtype in (torch.float32, torch.bfloat16):
                network = ours if dtype == torch.float32 else _copy(ours, dtype)
                yield from _figures(f"{way} {str(dtype).removeprefix('torch.')}", prepare, network, expected, their_step)


def _ways(folder: Path) -> Iterator[tuple[str, Callable[[UNet, Inputs], UNetForward]]]:
    wanted = os.environ.get("ATELIER_BENCH_WAYS", "ours,packed,openvino,compile").split(",")
    if "ours" in wanted:
        yield "ours", lambda unet, inputs: eager(unet)
    if "packed" in wanted:
        yield "packed", lambda unet, inputs: packed(_copy(unet, next(unet.parameters()).dtype))
    if "openvino" in wanted and importlib.util.find_spec("openvino"):
        yield "openvino", Converter(OpenVINO, ConvertedNetworks(folder))
    if "compile" in wanted:
        yield "compile", compiled


def packed(unet: UNet) -> UNet:
    """The network with its weights in oneDNN's layouts, whatever that measures."""
    pack(unet)
    return unet


def _copy(unet: UNet, dtype: torch.dtype) -> UNet:
    copy = UNet(unet.config).eval().requires_grad_(False)
    copy.load_state_dict(unet.state_dict())
    return copy.to(dtype).to(memory_format=torch.channels_last)


def _figures(
    way: str, prepare: Callable[[UNet, Inputs], UNetForward], network: UNet, expected: Tensor, their_step: Callable[[], Tensor]
) -> Iterator[Figure]:
    x, timesteps, context, vector = inputs = example(network)
    before, begun = _resident(), time.perf_counter()
    forward: Any = prepare(network, inputs)
    found = forward(x, timesteps, context, None, vector).float()
    prepared = time.perf_counter() - begun
    mine, peer = [], []
    for _ in range(TURNS):
        mine.append(_seconds(lambda: forward(x, timesteps, context, None, vector)))
        peer.append(_seconds(their_step))
    how = f"{torch.get_num_threads()} threads, least of {TURNS}, diffusers float32 {min(peer):.2f} s"
    yield Figure(f"{way}: times diffusers' speed", min(peer) / min(mine), "x", how)
    yield Figure(f"{way}: relative difference", float((found - expected).norm() / expected.norm()), "")
    yield Figure(f"{way}: preparation and first forward", prepared, "s")
    yield Figure(f"{way}: resident memory more than before", (_resident() - before) / 1e9, "GB", _peak())


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _resident() -> int:
    """Bytes of this process in memory, files that it has mapped included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> str:
    return f"the process's peak so far {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB"

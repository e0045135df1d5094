"""Whether what makes forwards fast computes what the plain network computes: fused kernels, and CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from modules.diffusion.graphs import CudaRecorder, GraphedUNet
from modules.diffusion.kernels import PLAIN, ROUNDING, differences
from modules.diffusion.unet import UNet, UNetConfig
from modules.engine.check.findings import Bench, Result, compared

REPLAYS = 5e-3
"""Relative difference of a replay: rows that are padded may be computed by another kernel."""


def kernels(bench: Bench) -> Iterator[Result]:
    """Each kernel against the plain one in float64, in each number format."""
    chosen = bench.choices.kernels
    if chosen.kernels is PLAIN:
        yield Result("kernels", f"{chosen.name} ({chosen.reason})", "good" if bench.device.type == "cpu" else "note")
        return
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            name, largest = max(differences(chosen.kernels, bench.device, dtype), key=lambda found: found[1])
            title = f"kernels, {str(dtype).removeprefix('torch.')}"
            yield compared(title, largest, ROUNDING * torch.finfo(dtype).eps, f"most in {name}")
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def graphs(bench: Bench) -> Iterator[Result]:
    """Replays of a narrow U-Net against the same network launched one by one."""
    if bench.device.type != "cuda":
        return
    config = UNetConfig(channels=(64, 128, 256, 256), context_dim=96)
    with torch.device(bench.device):
        unet = UNet(config, bench.choices.attention.attend, bench.choices.kernels.kernels)
    unet = unet.to(bench.choices.dtype).eval().requires_grad_(False)
    unet.join()
    graphed, largest = GraphedUNet(unet, CudaRecorder(bench.device)), 0.0
    for rows in (2, 2, 2, 5, 5, 5):
        x = torch.randn(rows, 4, 24, 24, device=bench.device, dtype=bench.choices.dtype)
        inputs = x, torch.full((rows,), 500.0, device=bench.device), torch.randn(rows, 77, 96, device=bench.device).to(x.dtype)
        plain = unet(*inputs).float()
        largest = max(largest, float((graphed(*inputs).float() - plain).norm() / plain.norm()))
    if graphed.replays:
        yield compared("CUDA graphs", largest, REPLAYS, f"{graphed.replays} of 6 forwards replayed")
    else:
        yield Result("CUDA graphs", "none was recorded: each was no faster, or could not be (engine.log says why)", "note")

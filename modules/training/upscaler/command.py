"""``python -m modules.training upscaler``: a small upscaler in the layout of Real-ESRGAN's compact networks.

Without options it makes the one that ships, models/ESRGAN/atelier-2x.safetensors: some minutes of one core.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from modules.diffusion.upscaler_config import CompactConfig
from modules.diffusion.upscalers import Compact
from modules.training.loop import replaced
from modules.training.upscaler.degrading import degraded, smaller
from modules.training.upscaler.drawings import Picture, drawing

MODEL = Path("models/ESRGAN/atelier-2x.safetensors")
HELD_OUT = 1_000_000
"""Drawings from this seed on are judged by, and never learnt from."""
EDGES = 0.3
"""Weight of the difference between neighbours, beside that of the pixels: edges are to be as steep as they were."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument("--out", type=Path, default=MODEL, help="file to write (default: %(default)s)")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="begin with the weights of a file of the same shape")
    parser.add_argument("--scale", type=int, default=2, choices=(1, 2, 3, 4), help="(default: %(default)s)")
    parser.add_argument("--features", type=int, default=32, help="channels (default: %(default)s)")
    parser.add_argument("--convs", type=int, default=6, help="convolutions between the first and the last (%(default)s)")
    parser.add_argument("--seconds", type=float, default=780.0, help="of training (default: %(default)s)")
    parser.add_argument("--drawings", type=int, default=2000, help="pictures to learn from (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="pieces of a step (default: %(default)s)")
    parser.add_argument("--edge", type=int, default=64, help="pixels of a piece's side (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Train, judge, and write the file."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    pictures = [drawing(seed) for seed in range(options.drawings)]
    network = new_network(CompactConfig(options.features, options.convs, options.scale))
    if options.resume:
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(options.resume).items()})
    edge = min(options.edge, pictures[0].shape[0]) // options.scale * options.scale  # what becomes smaller by a whole number
    steps = train(network, pieces(pictures, options.scale, options.batch, edge), options.seconds, options.rate)
    gains = gain(network, 40)
    words = f"{gains['clean']:+.2f} dB over Lanczos on clean, {gains['spoilt']:+.2f} dB on spoilt drawings"
    print(f"{steps} steps; {words}", file=sys.stderr)
    save(network, options.out, f"Enlarges {options.scale} times; learnt from drawings made by numbers. {words}.")


def new_network(config: CompactConfig) -> Compact:
    """Weights that begin as the nearest neighbours, which the network's residual is added to."""
    network = Compact(config)
    for layer in network.body:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, a=0.25)
            torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    last = network.body[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.zeros_(last.weight)
    return network


def pieces(pictures: list[Picture], scale: int, batch: int, edge: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end of what is given (B, 3, edge / scale, edge / scale) and what is to come out (B, 3, edge, edge)."""
    generator = np.random.default_rng(3)
    while True:
        small, large = [], []
        for _ in range(batch):
            picture = pictures[int(generator.integers(len(pictures)))]
            margin = picture.shape[0] - edge
            top, left = (int(value) * scale for value in generator.integers(0, margin // scale + 1, 2))
            piece = np.rot90(picture[top : top + edge, left : left + edge], int(generator.integers(4)))
            piece = np.ascontiguousarray(piece[:, ::-1] if generator.random() < 0.5 else piece)
            large.append(piece)
            small.append(degraded(piece, scale, generator))
        yield _tensor(small), _tensor(large)


def train(network: Compact, batches: Iterator[tuple[Tensor, Tensor]], seconds: float, rate: float) -> int:
    """Adam on the absolute differences of pixels and of neighbours, at a rate that rises quickly and falls to nothing.

    Returns the number of steps.
    """
    optimiser = torch.optim.Adam(network.parameters(), rate, betas=(0.9, 0.99))
    begun, step = time.monotonic(), 0
    while (share := (time.monotonic() - begun) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
        small, large = next(batches)
        made = network(small)
        loss = F.l1_loss(made, large) + EDGES * sum(F.l1_loss(made.diff(dim=axis), large.diff(dim=axis)) for axis in (2, 3))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"step {step}, {100 * share:.0f} %, loss {loss.item():.4f}", file=sys.stderr, flush=True)
    return step


@torch.inference_mode()
def gain(network: torch.nn.Module, count: int, scale: int = 0) -> dict[str, float]:
    """How many dB closer than Lanczos the network comes to drawings that it never saw, by their mean squared error: those that
    were only made smaller ("clean"), and those that were also blurred, noisy or compressed ("spoilt")."""
    scale = scale or int(network.config.scale)  # type: ignore[union-attr, arg-type]
    wrong = {"clean": [0.0, 0.0], "spoilt": [0.0, 0.0]}
    for seed in range(HELD_OUT, HELD_OUT + count):
        picture = drawing(seed)
        whole = picture.shape[0] // scale * scale
        picture = picture[:whole, :whole]
        given = {"clean": smaller(picture, scale)}
        given["spoilt"] = degraded(picture, scale, np.random.default_rng(seed), always=True)
        for kind, small in given.items():
            lanczos = np.asarray(Image.fromarray(small).resize(picture.shape[1::-1], Image.Resampling.LANCZOS))
            made = (network(_tensor([small]))[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
            for place, result in enumerate((made, lanczos)):
                wrong[kind][place] += float(((result.astype(np.float64) - picture) ** 2).mean())
    return {kind: 10 * math.log10(lanczos / own) for kind, (own, lanczos) in wrong.items()}


def save(network: Compact, path: Path, description: str) -> None:
    """Half-precision weights under Real-ESRGAN's names, with what the file is."""
    metadata = {
        "format": "pt",
        "modelspec.title": "Atelier 2x" if network.config.scale == 2 else f"Atelier {network.config.scale}x",
        "modelspec.description": description,
        "modelspec.license": "Apache-2.0",
        "modelspec.architecture": "SRVGGNetCompact",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        save_file({name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}, partial, metadata)


def _tensor(pictures: list[Picture]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255.0

"""Random checkpoints in Stable Diffusion 1.x layout: the real networks, only narrow, so that a step takes milliseconds.

The weights depend on the seed alone.  Use `tiny_checkpoint` where any model will do and `make_checkpoint` for a given shape.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.checkpoints.weights import DTYPES
from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig

TINY_UNET = UNetConfig(channels=(32, 64), res_blocks=1, transformer_depth=(0, 1), context_dim=32)
TINY_VAE = VAEConfig(channels=(32, 32, 32, 32), res_blocks=1)
TINY_TEXT = TextConfig(width=32, layers=2, heads=1, hidden=64)

TINY_METADATA = {
    "format": "pt",
    "modelspec.title": "Tiny",
    "atelier.native_size": "64x64",
    "atelier.steps": "4",
    "atelier.cfg_scale": "5",
    "atelier.sampler": "Euler",
    "atelier.schedule": "Karras",
    "atelier.description": "Random weights for tests.",
    "atelier.prompts": json.dumps(["a cat", "a red apple"]),
    "atelier.motifs": json.dumps(["cat", "apple"]),
}


def tiny_checkpoint(path: Path, seed: int = 0, metadata: Mapping[str, str] = TINY_METADATA) -> Path:
    """Write a narrow checkpoint of 64x64 native pixels to `path` (12 MB, fp32) and return `path`."""
    return write(path, random_state(TINY_UNET, TINY_VAE, TINY_TEXT, seed), metadata)


def make_checkpoint(
    path: Path,
    unet: UNetConfig = TINY_UNET,
    vae: VAEConfig = TINY_VAE,
    text: TextConfig = TINY_TEXT,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint of the given shape with random weights and return `path`."""
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in random_state(unet, vae, text, seed).items()
    }
    return write(path, state, metadata)


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file whose bytes depend on its content alone (the library shuffles the metadata)."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name, tensor in state.items():
        data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")
        dtype = next(name for name, dtype in STORED.items() if dtype == tensor.dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + len(data)]}
        parts.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if path.exists():  # tensors may be parts of it, which go with what they are written over
        parts = [memoryview(bytes(part)) for part in parts]
    with path.open("wb") as file:
        file.writelines([struct.pack("<Q", len(text)) + text, *parts])
    return path


STORED = {**DTYPES, "I64": torch.int64}


def random_state(
    unet: UNetConfig, vae: VAEConfig, text: TextConfig, seed: int = 0, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names in the file; no weight, bias or norm is at a trivial value.

    They are made on `device`, where other numbers come out than on another: a GPU draws the billion of SD 1.5 in no time.
    """
    if str(device) == "cpu" and max(unet.channels) <= 64:
        return {name: tensor.clone() for name, tensor in _narrow_state(unet, vae, text, seed).items()}
    return _random_state(unet, vae, text, seed, device)


@lru_cache(maxsize=4)
def _narrow_state(unet: UNetConfig, vae: VAEConfig, text: TextConfig, seed: int) -> dict[str, Tensor]:
    """Kept, as hundreds of tests ask for the same ones, each of which takes longer to draw than to copy."""
    return _random_state(unet, vae, text, seed, "cpu")


def _random_state(
    unet: UNetConfig, vae: VAEConfig, text: TextConfig, seed: int, device: torch.device | str
) -> dict[str, Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            keys.UNET: UNet(unet),
            keys.VAE: AutoencoderKL(vae),
            keys.TEXT + "text_model.": TextEncoder(text).network,
        }
    state = {
        prefix + name: drawn(name, tensor.shape, generator)
        for prefix, network in parts.items()
        for name, tensor in network.state_dict().items()
    }
    state[keys.TEXT + "text_model.embeddings.position_ids"] = torch.arange(text.positions)[None]
    return state


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """`network` with random weights of the kind that `random_state` draws."""
    generator = torch.Generator().manual_seed(seed)
    network.load_state_dict({name: drawn(name, each.shape, generator) for name, each in network.state_dict().items()})
    return network


_POOL = 2**24 + 43
"""Random numbers that large tensors share, each from its own place on; a prime, so that no two rows are alike."""


def drawn(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values at which signals keep their size from layer to layer."""
    pooled = generator.device.type == "cpu" and shape.numel() >= 2**20
    values = _from_pool(shape, generator) if pooled else torch.randn(shape, generator=generator, device=generator.device)
    if len(shape) == 1:
        return values * 0.1 + (1.0 if name.endswith("weight") else 0.0)  # the only vectors called weight are norms
    if "embedding.weight" in name:
        return values * 0.5
    return values.mul_((shape.numel() / shape[0]) ** -0.5)


def _from_pool(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Random numbers at the speed of copying: drawing the billion of SD 1.5 takes half a minute."""
    drawn = torch.empty(shape.numel())
    start, filled = int(torch.randint(_POOL, (), generator=generator)), 0
    while filled < len(drawn):
        part = _pool()[start : start + len(drawn) - filled]
        drawn[filled : filled + len(part)] = part
        start, filled = 0, filled + len(part)
    return drawn.view(shape)


@lru_cache(maxsize=1)
def _pool() -> Tensor:
    return torch.randn(_POOL, generator=torch.Generator().manual_seed(1))


def raw_safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a file with exactly this header (JSON text, or what becomes it) and these bytes behind it."""
    text = header if isinstance(header, bytes) else header.encode() if isinstance(header, str) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path

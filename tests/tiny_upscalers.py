"""Upscaler files with random weights: the real layouts, only narrow, under every name that files have for their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modules.diffusion.upscaler_config import CompactConfig, RRDBConfig
from modules.diffusion.upscalers import upscaler

TINY_RRDB = RRDBConfig(features=8, blocks=2, growth=4, doublings=2)
TINY_COMPACT = CompactConfig(features=8, convs=2, scale=2)


def state_of(config: RRDBConfig | CompactConfig, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under BasicSR's names, of a size at which results stay around the pictures."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in upscaler(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}


def tiny_upscaler(
    path: Path, config: RRDBConfig | CompactConfig = TINY_COMPACT, seed: int = 0, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write an upscaler of a few kilobytes to `path` and return `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state_of(config, seed), path, dict(metadata or {}))
    return path


def old_names(state: Mapping[str, Tensor], blocks: int, doublings: int) -> dict[str, Tensor]:
    """An RRDBNet's tensors under the names of ESRGAN's first files."""
    layers = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    layers |= {f"conv_up{number + 1}": f"model.{3 * number + 3}" for number in range(doublings)}
    layers |= {"conv_hr": f"model.{3 * doublings + 2}", "conv_last": f"model.{3 * doublings + 4}"}
    renamed = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if inner := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.(conv\d|conv1x1)", layer):
            layer = f"model.1.sub.{inner[1]}.RDB{inner[2]}.{inner[3]}" + (".0" if inner[3] != "conv1x1" else "")
        renamed[f"{layers.get(layer, layer)}.{kind}"] = tensor
    return renamed


def trunk_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same under the names in between."""
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
        name = re.sub(r"^conv_up(\d)", r"upconv\1", name).replace("conv_body", "trunk_conv").replace("conv_hr", "HRconv")
        renamed[name] = tensor
    return renamed

"""The sizes of the networks in a file, derived from the shapes of their tensors.

Nothing is looked up in a configuration file: a real SD 1.x file, one with 9 input channels and our narrow starter go through
the same lines.  The one thing that shapes do not tell is the number of U-Net heads; the family does.
"""

from __future__ import annotations

from itertools import count

from modules.checkpoints.families import Family, Shapes
from modules.diffusion.text import TextConfig
from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.errors import CheckpointError

MAX_WIDTH = 16_384
"""Channels of any layer; the widest of SD 1.x has 10240."""
NORM_GROUPS = 32


def unet_config(shapes: Shapes, family: Family) -> UNetConfig:
    """The shape of a U-Net whose tensors have these ldm names and shapes.

    Raises:
        CheckpointError: the tensors are no U-Net of the form that we build.
    """
    levels: list[list[tuple[int, int]]] = [[]]  # per resolution: (channels, transformer depth) of each residual block
    for index in count(1):
        block = f"input_blocks.{index}"
        if f"{block}.0.op.weight" in shapes:
            levels.append([])
        elif f"{block}.0.out_layers.3.weight" in shapes:
            levels[-1].append((_size(shapes, f"{block}.0.out_layers.3.weight", 0), _depth(shapes, f"{block}.1")))
        else:
            break
    if any(len(set(level)) != 1 or len(level) != len(levels[0]) for level in levels):
        raise CheckpointError(f"has a U-Net of an unknown form (blocks per level: {levels}); use a model in SD 1.x layout")

    context = next((shape for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), ())
    if len(context) != 2:
        raise CheckpointError("has a U-Net without attention to a text, so it cannot follow a prompt; use another file")
    config = UNetConfig(
        in_channels=_size(shapes, "input_blocks.0.0.weight", 1),
        out_channels=_size(shapes, "out.2.weight", 0),
        channels=tuple(level[0][0] for level in levels),
        res_blocks=len(levels[0]),
        transformer_depth=tuple(level[0][1] for level in levels),
        middle_depth=_depth(shapes, "middle_block.1"),
        context_dim=context[1],
        heads=family.heads,
    )
    _check_groups("U-Net", (_size(shapes, "input_blocks.0.0.weight", 0), *config.channels))
    if config.channels[0] != _size(shapes, "input_blocks.0.0.weight", 0):
        raise CheckpointError(
            "has a U-Net of an unknown form (its first level is wider than its input); use a model in SD 1.x layout"
        )
    return config


def vae_config(shapes: Shapes) -> VAEConfig:
    """The shape of an autoencoder; encoder and decoder mirror each other.

    Raises:
        CheckpointError: the tensors are no autoencoder of the form that we build.
    """
    levels: list[int] = []
    while f"encoder.down.{len(levels)}.block.0.conv1.weight" in shapes:
        levels.append(_size(shapes, f"encoder.down.{len(levels)}.block.0.conv1.weight", 0))
    if not levels:
        raise CheckpointError("has an autoencoder without an encoder; use a full checkpoint")
    _check_groups("autoencoder", levels)
    return VAEConfig(
        channels=tuple(levels),
        res_blocks=_number(shapes, "encoder.down.0.block.{}.conv1.weight"),
        latent_channels=_size(shapes, "decoder.conv_in.weight", 1),
        image_channels=_size(shapes, "encoder.conv_in.weight", 1),
    )


def text_config(shapes: Shapes) -> TextConfig:
    """The shape of a CLIP text encoder.  CLIP's heads are 64 wide; a narrower model has one.

    Raises:
        CheckpointError: the tensors are no CLIP text encoder.
    """
    vocabulary, width = (_size(shapes, "embeddings.token_embedding.weight", axis) for axis in (0, 1))
    return TextConfig(
        vocabulary=vocabulary,
        width=width,
        layers=_number(shapes, "encoder.layers.{}.layer_norm1.weight"),
        heads=max(1, width // 64),
        hidden=_size(shapes, "encoder.layers.0.mlp.fc1.weight", 0),
        positions=_size(shapes, "embeddings.position_embedding.weight", 0),
    )


def _depth(shapes: Shapes, transformer: str) -> int:
    """Number of transformer blocks in a spatial transformer; 0 where there is none."""
    return _number(shapes, transformer + ".transformer_blocks.{}.norm1.weight")


def _number(shapes: Shapes, pattern: str) -> int:
    """How many names `pattern` gives with 0, 1, 2, ..."""
    return next(index for index in count() if pattern.format(index) not in shapes)


def _size(shapes: Shapes, name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"lacks the tensor {name!r}; the file is incomplete, download it again")
    if len(shape) <= axis or not 1 <= shape[axis] <= (2**20 if "embedding" in name else MAX_WIDTH):
        raise CheckpointError(f"has the tensor {name!r} in the impossible shape {shape}; use another file")
    return shape[axis]


def _check_groups(part: str, widths: tuple[int, ...] | list[int]) -> None:
    for width in widths:
        if width % NORM_GROUPS:
            raise CheckpointError(
                f"has a {part} {width} channels wide, which group normalisation cannot divide by 32; use another file"
            )

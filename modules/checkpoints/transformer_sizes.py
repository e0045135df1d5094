"""The sizes of SD 3's and Flux's transformers and of T5, from the shapes of their tensors, and the tensors that they have.

As `sizes` for U-Nets: nothing is looked up, a narrow network goes through the same lines, and what is listed as usable can be
painted with.  No torch.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

from modules.checkpoints.sizes import Shapes, Tensors, linear_tensors, part_counts, size_at
from modules.errors import CheckpointError

HEAD = 64
"""Numbers of a head of SD 3, which shapes tell only where queries are normalised; a narrower network has one head."""
T5_VOCABULARY = 32_128
"""Tokens of T5 v1.1; other encoders of this form (mT5, UMT5) have many more."""


class MMDiTSizes(NamedTuple):
    """As in `diffusion.mmdit.MMDiTConfig`."""

    in_channels: int
    out_channels: int
    width: int
    heads: int
    depth: int
    context_width: int
    pooled_width: int
    hidden: int
    positions: int
    normalised: bool
    dual: int


class FluxSizes(NamedTuple):
    """As in `diffusion.flux.FluxConfig`."""

    in_channels: int
    out_channels: int
    width: int
    heads: int
    doubles: int
    singles: int
    context_width: int
    pooled_width: int
    mlp: int
    axes: tuple[int, int, int]
    guided: bool


class T5Sizes(NamedTuple):
    """As in `diffusion.t5.T5Config`."""

    vocabulary: int
    width: int
    inner: int
    hidden: int
    heads: int
    layers: int
    buckets: int


def mmdit_sizes(shapes: Shapes) -> MMDiTSizes:
    """Of SD 3's transformer.

    Raises:
        CheckpointError: the tensors are no such network.
    """
    width = size_at(shapes, "x_embedder.proj.weight", 0)
    counts = part_counts(shapes)
    depth = counts.get("joint_blocks", 0)
    first = "joint_blocks.0.x_block"
    normalised = f"{first}.attn.ln_q.weight" in shapes
    head = size_at(shapes, f"{first}.attn.ln_q.weight", 0) if normalised else min(HEAD, width)
    positions = shapes.get("pos_embed", ())
    if len(positions) != 3 or isqrt(positions[1]) ** 2 != positions[1]:
        raise CheckpointError(f"has a table of positions of the impossible shape {positions}; use another file")
    return MMDiTSizes(
        in_channels=size_at(shapes, "x_embedder.proj.weight", 1),
        out_channels=size_at(shapes, "final_layer.linear.weight", 0) // 4,
        width=width,
        heads=_heads(width, head),
        depth=depth,
        context_width=size_at(shapes, "context_embedder.weight", 1),
        pooled_width=size_at(shapes, "y_embedder.mlp.0.weight", 1),
        hidden=size_at(shapes, f"{first}.mlp.fc1.weight", 0),
        positions=isqrt(positions[1]),
        normalised=normalised,
        dual=1
        + max((number for number in range(depth) if f"joint_blocks.{number}.x_block.attn2.qkv.weight" in shapes), default=-1),
    )


def flux_sizes(shapes: Shapes) -> FluxSizes:
    """Of Flux's transformer.

    Raises:
        CheckpointError: the tensors are no such network.
    """
    width = size_at(shapes, "img_in.weight", 0)
    counts = part_counts(shapes)
    head = size_at(shapes, "double_blocks.0.img_attn.norm.query_norm.scale", 0)
    if head % 16:
        raise CheckpointError(f"has heads {head} wide, whose three coordinates cannot be told; use another file")
    return FluxSizes(
        in_channels=size_at(shapes, "img_in.weight", 1) // 4,
        out_channels=size_at(shapes, "final_layer.linear.weight", 0) // 4,
        width=width,
        heads=_heads(width, head),
        doubles=counts.get("double_blocks", 0),
        singles=counts.get("single_blocks", 0),
        context_width=size_at(shapes, "txt_in.weight", 1),
        pooled_width=size_at(shapes, "vector_in.in_layer.weight", 1),
        mlp=size_at(shapes, "double_blocks.0.img_mlp.0.weight", 0) // width,
        axes=(head // 8, head // 16 * 7, head // 16 * 7),
        guided="guidance_in.in_layer.weight" in shapes,
    )


def t5_sizes(shapes: Shapes) -> T5Sizes:
    """Of T5's encoder.

    Raises:
        CheckpointError: the tensors are no such network.
    """
    first = "encoder.block.0.layer"
    vocabulary = size_at(shapes, "shared.weight", 0)
    if vocabulary > T5_VOCABULARY:
        raise CheckpointError(f"has a T5 encoder of {vocabulary} tokens, where T5 v1.1 has {T5_VOCABULARY}; use another file")
    return T5Sizes(
        vocabulary=vocabulary,
        width=size_at(shapes, "shared.weight", 1),
        inner=size_at(shapes, f"{first}.0.SelfAttention.q.weight", 0),
        hidden=size_at(shapes, f"{first}.1.DenseReluDense.wi_0.weight", 0),
        heads=size_at(shapes, f"{first}.0.SelfAttention.relative_attention_bias.weight", 1),
        layers=part_counts(shapes).get("encoder.block", 0),
        buckets=size_at(shapes, f"{first}.0.SelfAttention.relative_attention_bias.weight", 0),
    )


def _heads(width: int, head: int) -> int:
    if width % head:
        raise CheckpointError(f"has a transformer {width} wide, which heads {head} wide do not divide; use another file")
    return width // head


# ---- from sizes to tensors


def mmdit_tensors(sizes: MMDiTSizes) -> Tensors:
    """Name and shape of every tensor of SD 3's transformer of these sizes."""
    width = sizes.width
    yield "x_embedder.proj.weight", (width, sizes.in_channels, 2, 2)
    yield "x_embedder.proj.bias", (width,)
    yield "pos_embed", (1, sizes.positions**2, width)
    for name, into in (("t_embedder", 256), ("y_embedder", sizes.pooled_width)):
        yield from linear_tensors(f"{name}.mlp.0", into, width)
        yield from linear_tensors(f"{name}.mlp.2", width, width)
    yield from linear_tensors("context_embedder", sizes.context_width, width)
    for number in range(sizes.depth):
        block = f"joint_blocks.{number}"
        yield from _stream(f"{block}.context_block", sizes, last=number == sizes.depth - 1)
        yield from _stream(f"{block}.x_block", sizes, dual=number < sizes.dual)
    yield from linear_tensors("final_layer.linear", width, sizes.out_channels * 4)
    yield from linear_tensors("final_layer.adaLN_modulation.1", width, 2 * width)


def _stream(name: str, sizes: MMDiTSizes, dual: bool = False, last: bool = False) -> Tensors:
    width = sizes.width
    for attention in ("attn", *(["attn2"] if dual else [])):
        yield from linear_tensors(f"{name}.{attention}.qkv", width, 3 * width)
        if not last:
            yield from linear_tensors(f"{name}.{attention}.proj", width, width)
        if sizes.normalised:
            yield f"{name}.{attention}.ln_q.weight", (width // sizes.heads,)
            yield f"{name}.{attention}.ln_k.weight", (width // sizes.heads,)
    if not last:
        yield from linear_tensors(f"{name}.mlp.fc1", width, sizes.hidden)
        yield from linear_tensors(f"{name}.mlp.fc2", sizes.hidden, width)
    yield from linear_tensors(f"{name}.adaLN_modulation.1", width, (2 if last else 9 if dual else 6) * width)


def flux_tensors(sizes: FluxSizes) -> Tensors:
    """Name and shape of every tensor of Flux's transformer of these sizes."""
    width, head, hidden = sizes.width, sizes.width // sizes.heads, sizes.width * sizes.mlp
    yield from linear_tensors("img_in", sizes.in_channels * 4, width)
    yield from linear_tensors("txt_in", sizes.context_width, width)
    embedded = (("time_in", 256), ("vector_in", sizes.pooled_width), *([("guidance_in", 256)] if sizes.guided else []))
    for name, into in embedded:
        yield from linear_tensors(f"{name}.in_layer", into, width)
        yield from linear_tensors(f"{name}.out_layer", width, width)
    for number in range(sizes.doubles):
        for side in ("img", "txt"):
            name = f"double_blocks.{number}.{side}"
            yield from linear_tensors(f"{name}_mod.lin", width, 6 * width)
            yield from linear_tensors(f"{name}_attn.qkv", width, 3 * width)
            yield f"{name}_attn.norm.query_norm.scale", (head,)
            yield f"{name}_attn.norm.key_norm.scale", (head,)
            yield from linear_tensors(f"{name}_attn.proj", width, width)
            yield from linear_tensors(f"{name}_mlp.0", width, hidden)
            yield from linear_tensors(f"{name}_mlp.2", hidden, width)
    for number in range(sizes.singles):
        name = f"single_blocks.{number}"
        yield from linear_tensors(f"{name}.linear1", width, 3 * width + hidden)
        yield from linear_tensors(f"{name}.linear2", width + hidden, width)
        yield f"{name}.norm.query_norm.scale", (head,)
        yield f"{name}.norm.key_norm.scale", (head,)
        yield from linear_tensors(f"{name}.modulation.lin", width, 3 * width)
    yield from linear_tensors("final_layer.linear", width, sizes.out_channels * 4)
    yield from linear_tensors("final_layer.adaLN_modulation.1", width, 2 * width)


def t5_tensors(sizes: T5Sizes) -> Tensors:
    """Name and shape of every tensor of T5's encoder of these sizes."""
    yield "shared.weight", (sizes.vocabulary, sizes.width)
    for number in range(sizes.layers):
        name = f"encoder.block.{number}.layer"
        for each in ("q", "k", "v"):
            yield f"{name}.0.SelfAttention.{each}.weight", (sizes.inner, sizes.width)
        yield f"{name}.0.SelfAttention.o.weight", (sizes.width, sizes.inner)
        if not number:
            yield f"{name}.0.SelfAttention.relative_attention_bias.weight", (sizes.buckets, sizes.heads)
        yield f"{name}.0.layer_norm.weight", (sizes.width,)
        yield f"{name}.1.DenseReluDense.wi_0.weight", (sizes.hidden, sizes.width)
        yield f"{name}.1.DenseReluDense.wi_1.weight", (sizes.hidden, sizes.width)
        yield f"{name}.1.DenseReluDense.wo.weight", (sizes.width, sizes.hidden)
        yield f"{name}.1.layer_norm.weight", (sizes.width,)
    yield "encoder.final_layer_norm.weight", (sizes.width,)

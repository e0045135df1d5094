"""What the weights of a prompt do to its encoding (A1111's emphasis modes).

It knows windows and weights, not the syntax that they come from (`modules.prompts.emphasis`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from modules.diffusion.conditioning import Conditioning
from modules.diffusion.text import EncodedWindow
from modules.diffusion.transfers import numbers
from modules.prompts.chunks import EMPTY, Chunk
from modules.request import Emphasis

Windows = tuple[Chunk, ...]


def contexts(
    texts: Sequence[Windows], encoded: Mapping[Chunk, EncodedWindow], emphasis: Emphasis, widths: Sequence[int] = ()
) -> list[Conditioning]:
    """One conditioning per text of a timeline, all of one length; equal texts share theirs.

    A1111 encodes the texts of a timeline together, and pictures depend on it: shorter texts are filled up with empty windows,
    and "Original" brings the k-th windows of all texts back to their common mean, each counted as often as it stands in
    `texts`.

    Args:
        texts: the windows of each text, at least one each.
        encoded: the encoders' output for each window without its weights (`Chunk.bare`), and for `EMPTY`.
        emphasis: "Original" or "No norm"; with the others windows carry no weights.
        widths: columns of the context by encoder, where there are several: each has a mean of its own.

    The pooled text of a conditioning is that of its first window; weights do nothing to it (A1111).
    """
    if len(widths) > 1:
        return _by_encoder(texts, encoded, emphasis, widths)
    length = max(len(windows) for windows in texts)
    filled = [windows + (EMPTY,) * (length - len(windows)) for windows in texts]
    counts = Counter(filled)
    made: dict[Windows, list[Tensor]] = {windows: [] for windows in counts}
    for k in range(length):
        plain = {windows: encoded[windows[k].bare].context for windows in counts}
        if all(windows[k].is_neutral for windows in counts):
            weighted = plain
        else:
            weighted = {windows: _multiplied(z, windows[k].multipliers) for windows, z in plain.items()}
            if emphasis == "Original":
                factor = _mean(plain, counts) / _mean(weighted, counts)
                weighted = {windows: z * factor for windows, z in weighted.items()}
        for windows, z in weighted.items():
            made[windows].append(z.to(plain[windows].dtype))
    conditionings = {
        windows: Conditioning(torch.cat(parts), vector=encoded[windows[0].bare].pooled) for windows, parts in made.items()
    }
    return [conditionings[windows] for windows in filled]


def _by_encoder(
    texts: Sequence[Windows], encoded: Mapping[Chunk, EncodedWindow], emphasis: Emphasis, widths: Sequence[int]
) -> list[Conditioning]:
    """`contexts` for each encoder's columns by themselves, put together again; equal texts share theirs."""
    columns = []
    for number, width in enumerate(widths):
        start = sum(widths[:number])
        cut = {chunk: EncodedWindow(w.context[:, start : start + width], w.pooled) for chunk, w in encoded.items()}
        columns.append(contexts(texts, cut, emphasis))
    shared: dict[Conditioning, Conditioning] = {}
    for parts in zip(*columns, strict=True):
        if parts[0] not in shared:
            shared[parts[0]] = Conditioning(torch.cat([part.context for part in parts], dim=-1), vector=parts[0].vector)
    return [shared[first] for first in columns[0]]


def _multiplied(z: Tensor, multipliers: Sequence[float]) -> Tensor:
    return z.float() * numbers(multipliers, z.device)[:, None]


def _mean(column: Mapping[Windows, Tensor], counts: Mapping[Windows, int]) -> Tensor:
    """Over all numbers of all windows, which are equally many in each."""
    return torch.stack([z.float().mean() * counts[windows] for windows, z in column.items()]).sum()

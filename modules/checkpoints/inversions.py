"""Textual inversions for the engine: which are known to a text encoder, and their vectors.

Gal et al. (2022), arXiv:2208.01618.  The files may change at any time: each pipeline reads them anew, and carries the vectors
that it found to the encoder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from modules.checkpoints.companions import EmbeddingInfo, has_embeddings, scan_embeddings
from modules.checkpoints.hashes import file_sha256
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.picture_embeddings import read_picture
from modules.checkpoints.weights import Weights
from modules.errors import CheckpointError, RequestError
from modules.prompts.chunks import NO_EMBEDDINGS, Embedding, Embeddings
from modules.prompts.tokenizer import Tokenizer


class Inversions:
    """The `embeddings` folders of the models folders; hashes are remembered in `cache`.  Any thread may call."""

    def __init__(self, folders: Sequence[Path], cache: Path) -> None:
        self._folders, self._cache = list(folders), cache
        self._lock = threading.Lock()
        self._known: tuple[object, Embeddings] = ((), NO_EMBEDDINGS)

    def __bool__(self) -> bool:
        """Whether there may be any."""
        return has_embeddings(self._folders)

    def known(self, widths: Sequence[int], tokenizer: Tokenizer, bundled: Sequence[Embedding] = ()) -> Embeddings:
        """Those with vectors as wide as the text encoders', and `bundled` ones, unless a file has such a name."""
        fitting = [info for info in scan_embeddings(self._folders) if not info.problem and info.widths == tuple(widths)]
        here = {info.name.casefold() for info in fitting}
        beside = [embedding for embedding in bundled if embedding.name.casefold() not in here]
        with self._lock:
            if self._known[0] != (fitting, beside, tokenizer.raw):
                names = [Embedding(info.name, info.vectors, info.version) for info in fitting]
                self._known = ((fitting, beside, tokenizer.raw), Embeddings([*names, *beside], tokenizer))
            return self._known[1]

    def read(self, wanted: Iterable[Embedding]) -> tuple[dict[Embedding, Tensor], dict[str, str]]:
        """Vectors (n, width) of each, those of several encoders side by side, and the first 12 digits of each file's sha256 by
        name, as A1111's "TI hashes" has them.

        Raises:
            RequestError: a file is gone, or was changed since its name was found.
        """
        files = {info.name: info for info in scan_embeddings(self._folders)}
        vectors, hashes = {}, {}
        for embedding in wanted:
            info = files.get(embedding.name)
            if info is None or info.version != embedding.version:
                raise RequestError(f"embedding {embedding.name!r} was changed just now; try again")
            try:
                vectors[embedding] = _tensor(info)
                hashes[embedding.name] = file_sha256(info.path, self._cache)[:12]
            except CheckpointError as error:
                raise RequestError(f"embedding {embedding.name!r}: {error}") from None
        return vectors, hashes


def _tensor(info: EmbeddingInfo) -> Tensor:
    if not info.tensors:
        found = read_picture(info.path)
        if found is None or found[1].shape != (info.vectors, info.width):
            raise CheckpointError("was changed just now; try again")
        return torch.from_numpy(found[1])
    with open_model(info.path) as file:
        weights = Weights(file, header_of(file, info.path))
        vectors = side_by_side([weights[name] for name in info.tensors], info.vectors)
    if not bool(vectors.isfinite().all()):
        raise CheckpointError("it has NaN or infinity")
    return vectors


def side_by_side(tensors: Sequence[Tensor], vectors: int) -> Tensor:
    """(n, sum of widths), fp32, of each encoder's vectors."""
    return torch.cat([tensor.reshape(vectors, -1).float() for tensor in tensors], dim=-1)

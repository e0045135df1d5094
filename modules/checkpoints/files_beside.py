"""Which files a transformer alone is loaded with: text encoders and an autoencoder of the models folders.  No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from modules.checkpoints import keys, text_files
from modules.checkpoints.families import recognise
from modules.checkpoints.families.transformer import TransformerFamily
from modules.checkpoints.header import Header, TensorEntry
from modules.checkpoints.sources import read_source, stamp_of
from modules.prompts.t5_tokenizer import T5Tokenizer


class FileBeside(NamedTuple):
    """A file and the part of a model that is taken from it (`keys.PARTS`); `stamp` is what its content is known by."""

    path: Path
    part: str
    stamp: tuple[int, int, int]


def files_beside(path: Path, folders: Sequence[Path]) -> tuple[FileBeside, ...]:
    """Those from which the checkpoint at `path` takes what it lacks; () for one of another family.

    Raises:
        OSError, CheckpointError: a file cannot be read.
    """
    family, lacks = _lacking(path, *stamp_of(path))
    found = []
    for part in lacks:
        if part == "vae":
            assert family is not None, "only a transformer lacks something"
            vae = text_files.find_vae_file(folders, path, family.latent.channels, family.vae_hints, family.vae_others)
            found += [FileBeside(vae, part, stamp_of(vae))] if vae is not None else []
        elif (text := text_files.find_text_file(folders, part)) is not None:
            found.append(FileBeside(text.path, part, stamp_of(text.path)))
    return tuple(found)


def t5_tokenizer_for(path: Path, folders: Sequence[Path]) -> T5Tokenizer | None:
    """The tokenizer with which T5 reads prompts for the checkpoint at `path`; None where it does not.

    Raises:
        CheckpointError: a file cannot be read.
        OSError: a file went away.
    """
    family, lacking = _lacking(path, *stamp_of(path))
    encoder = text_files.find_text_file(folders, "text_3") if "text_3" in lacking else None
    if family is None or ("text_3" in lacking and encoder is None):
        return None
    return text_files.find_tokenizer(path, encoder.path if encoder is not None else None, folders)


@lru_cache(maxsize=64)
def _lacking(path: Path, *stamp: int) -> tuple[TransformerFamily | None, tuple[str, ...]]:
    """The family of a transformer and the parts that its file lacks; `stamp` is there to read a replaced file anew."""
    header = read_source(path)
    family = recognise(header.shapes)
    if not isinstance(family, TransformerFamily):
        return None, ()
    layout = keys.layout(header.tensors)
    wanted = ("vae", *(part.part for part in family.text), "text_3")
    return family, tuple(part for part in wanted if not layout.part(part))


def with_files(header: Header, beside: Sequence[FileBeside]) -> Header:
    """A header that names the tensors of these files too, as if they lay in one; for shapes and formats, not to read them.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    tensors = dict(header.tensors)
    for file in beside:
        other = read_source(file.path)
        if file.part == "vae":
            tensors |= _named(other, keys.vae_layout(other.tensors))
        elif (kind := text_files.kind_of(other.shapes, file.path.name)) is not None:
            tensors |= text_files.as_part(other, text_files.TextFile(file.path, *kind, 0)).tensors
    return replace(header, tensors=tensors)


def _named(header: Header, places: Mapping[str, keys.Place]) -> dict[str, TensorEntry]:
    return {keys.VAE + name: header.tensors[keys.stored_name(place)] for name, place in places.items()}

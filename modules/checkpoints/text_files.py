"""What SD 3 and Flux take from other files: text encoders, their tokenizer, an autoencoder.  No torch: both processes list.

Files of a transformer alone are usual, as one T5 serves all of them.  Text encoders lie in folders `text_encoder`,
`text_encoders`, `clip` or `t5` of the models folders, autoencoders in `vae`.  What a file is, its tensors tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from modules.checkpoints import gguf, keys
from modules.checkpoints.folders import files_below, folders_below, listing
from modules.checkpoints.header import Header
from modules.checkpoints.sources import read_source, stamp_of
from modules.checkpoints.vaes import scan_vaes
from modules.errors import CheckpointError
from modules.prompts.t5_tokenizer import T5Tokenizer, of_pieces, read_tokenizer

FOLDERS = frozenset(("text_encoder", "text_encoders", "clip", "t5"))
SUFFIXES = (".safetensors", ".gguf")
TOKENIZERS = ("tokenizer.json", "spiece.model")
TOKENIZER_FOLDERS = ("tokenizer_3", "tokenizer_2", "tokenizer")
"""Of a model in diffusers' layout, in the order in which T5's is looked for."""

TITLES = {"text": "CLIP ViT-L text encoder", "text_2": "OpenCLIP ViT-bigG text encoder", "text_3": "T5 v1.1 XXL text encoder"}
USUAL = {"text": "clip_l.safetensors", "text_2": "clip_g.safetensors", "text_3": "t5xxl_fp16.safetensors"}
"""How such files are usually called."""

_T5 = "encoder.block.0.layer.0.SelfAttention.q.weight"
_CLIP = "token_embedding.weight"
_BIG_G_WIDTH = 1280
_CLIP_L_WIDTH = 768


@dataclass(frozen=True)
class TextFile:
    """A file with a text encoder: `part` is what it is of a model (`keys.PARTS`), `prefix` stands in front of its names."""

    path: Path
    part: str
    prefix: str
    size: int


def scan_text_files(folders: Sequence[Path]) -> list[TextFile]:
    """All in the models folders; of one kind the larger first, as it is the more exact."""
    found = []
    for path in files_below(folders, FOLDERS, SUFFIXES):
        try:
            described = _described(path, *stamp_of(path))
        except OSError:
            continue
        if described is not None:
            found.append(described)
    return sorted(found, key=lambda file: (-file.size, file.path.name.casefold()))


def find_text_file(folders: Sequence[Path], part: str) -> TextFile | None:
    """The one that is taken as this part of a model."""
    return next((file for file in scan_text_files(folders) if file.part == part), None)


@lru_cache(maxsize=256)
def _described(path: Path, size: int, *identity: int) -> TextFile | None:
    try:
        header = read_source(path)
    except CheckpointError:
        return None
    found = kind_of(header.shapes, path.name)
    return None if found is None else TextFile(path, *found, size)


def kind_of(shapes: Mapping[str, tuple[int, ...]], file_name: str) -> tuple[str, str] | None:
    """Which part of a model a file of a text encoder alone is, and what stands in front of its names; None for none.

    CLIP's two are told by their width, and one of another width by the file's name.
    """
    for name, shape in shapes.items():
        if name.endswith(_T5):
            return "text_3", name.removesuffix(_T5)
        if name.endswith(_CLIP) and len(shape) == 2:
            prefix = name.removesuffix(_CLIP).removesuffix("embeddings.")
            big = shape[1] == _BIG_G_WIDTH or (shape[1] != _CLIP_L_WIDTH and "clip_g" in file_name.lower())
            return ("text_2" if big else "text"), prefix
    return None


def as_part(header: Header, file: TextFile) -> Header:
    """The header of a text encoder's file, its tensors under the names that they have in a checkpoint."""
    wanted, named = keys.PARTS[file.part], {}
    for name, entry in header.tensors.items():
        own = name.removeprefix(file.prefix)
        if name.startswith(file.prefix) or own.startswith("text_projection"):
            named[wanted + own] = entry
    return replace(header, tensors=named)


def missing_text(part: str) -> str:
    """What to do about a text encoder that is nowhere: the end of a sentence."""
    return f"put a {TITLES[part]} ({USUAL[part]}) into the text_encoder folder of your models"


def find_tokenizer(model: Path, encoder: Path | None, folders: Sequence[Path]) -> T5Tokenizer | None:
    """T5's tokenizer for the checkpoint at `model` whose T5 lies at `encoder`; None where there is none.

    A model in diffusers' layout has it in a folder of its own, else it lies beside the encoder or in a folder of text encoders.
    """
    if encoder is not None and encoder.suffix.lower() == ".gguf" and (inside := _inside_gguf(encoder)) is not None:
        return inside
    for path in _tokenizer_files(model, encoder, folders):
        try:
            return read_tokenizer(path)
        except (OSError, ValueError):
            continue
    return None


def _inside_gguf(path: Path) -> T5Tokenizer | None:
    """The tokenizer in a GGUF file of T5."""
    try:
        found = _pieces(path, *stamp_of(path))
    except (OSError, CheckpointError):
        return None
    return None if found is None else of_pieces(*found)


@lru_cache(maxsize=2)
def _pieces(path: Path, *identity: int) -> tuple[list[tuple[str, float]], bytes] | None:
    return gguf.tokenizer_of(path)


def _tokenizer_files(model: Path, encoder: Path | None, folders: Sequence[Path]) -> Iterator[Path]:
    places = [model / name for name in TOKENIZER_FOLDERS] if model.is_dir() else [model.parent]
    if encoder is not None:
        places.append(encoder.parent)
    for folder in folders:
        for name in listing(folder).folders:
            if name.casefold() in FOLDERS:
                places += folders_below(folder / name)
    for place in places:
        there = listing(place).files
        yield from (place / name for name in TOKENIZERS if name in there)


def missing_tokenizer() -> str:
    """What to do about a tokenizer that is nowhere: the end of a sentence."""
    return (
        "put T5's tokenizer.json or spiece.model (from the tokenizer folder of google/t5-v1_1-xxl, or tokenizer_2 of Flux and "
        "tokenizer_3 of SD 3 in diffusers' layout) into the text_encoder folder of your models"
    )


def find_vae_file(
    folders: Sequence[Path], checkpoint: Path, channels: int, hints: Sequence[str], others: Sequence[str]
) -> Path | None:
    """The autoencoder of so many latent channels for a checkpoint without one; None where there is none.

    Those of SD 3 and Flux have equal shapes and other latents.  So one whose name has one of `hints` is taken first, and one
    whose name has one of `others` (the shortest are whole names) never.
    """
    fitting = []
    for info in scan_vaes(folders):
        if info.problem or _latent_channels(info.path, *stamp_of(info.path)) != channels:
            continue
        name = info.path.stem.lower()
        if not any(other == name if len(other) < 3 else other in name for other in others):
            fitting.append((not any(hint in name for hint in hints), name != "ae", name, info.path))
    return min(fitting)[-1] if fitting else None


@lru_cache(maxsize=256)
def _latent_channels(path: Path, *identity: int) -> int:
    header = read_source(path)
    places = keys.vae_layout(header.tensors)
    name = places.get("decoder.conv_in.weight")
    return 0 if name is None else header.tensors[keys.stored_name(name)].shape[1]

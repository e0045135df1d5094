"""The other files in the models folders: textual inversions, and the names of LoRAs.

Both processes list with it, so it needs no torch; vectors are read by `modules.checkpoints.inversions`.  It reads headers,
never pickles: a .pt or .bin is listed with what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from modules.checkpoints import keys
from modules.checkpoints.folders import files_below, listing
from modules.checkpoints.header import Header, read_header
from modules.errors import CheckpointError
from modules.prompts.chunks import CHUNK
from modules.request import clean_text

_EMBEDDING_FOLDERS = frozenset(("embeddings",))
_LORA_FOLDERS = frozenset(("lora", "loras", "lycoris", "locon"))
_PICKLES = (".pt", ".bin", ".ckpt", ".pth")
_SAFE = ".safetensors"
MAX_ALIAS = 200
"""Characters of a name that a trainer gave."""


@dataclass(frozen=True)
class EmbeddingInfo:
    """A file with a textual inversion: `vectors` of `width` numbers, in the tensor `tensor`.

    `name` is what one writes in a prompt; `version` changes with the file.  `problem` is a sentence that names the file, empty
    when it is usable.
    """

    name: str
    path: Path
    vectors: int = 0
    width: int = 0
    tensor: str = ""
    version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class LoraInfo:
    """A LoRA's file: `name` is what one writes in a prompt, or `alias`, the name that its trainer gave it ("" for none).

    `metadata` is its header's; `problem` is a sentence that names the file, empty when its header is sound.
    """

    name: str
    path: Path
    alias: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def has_embeddings(folders: Sequence[Path]) -> bool:
    """Whether there is a folder for them in a models folder: quick, so that no request waits for a disk in vain."""
    return any(_tops(folder, _EMBEDDING_FOLDERS) for folder in folders)


def scan_embeddings(folders: Sequence[Path]) -> list[EmbeddingInfo]:
    """All textual inversions in folders `embeddings` of the models folders, by name; of equal names the first counts."""
    infos: dict[str, EmbeddingInfo] = {}
    for path in files_below(folders, _EMBEDDING_FOLDERS, (_SAFE, *_PICKLES)):
        try:
            status = path.stat()
        except OSError:
            continue
        info = _embedding(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        before = infos.get(info.name.casefold())
        if before is None or (before.problem and not info.problem):
            infos[info.name.casefold()] = info
    return sorted(infos.values(), key=lambda info: info.name.casefold())


def lora_names(folders: Sequence[Path]) -> list[str]:
    """The names of LoRA files, as in `<lora:name:1>`, in folders `loras` (or `lora`, `lycoris`) of the models folders."""
    return sorted({_stem(path) for path in files_below(folders, _LORA_FOLDERS, (_SAFE,))}, key=str.casefold)


def lora_file(folders: Sequence[Path], name: str) -> Path | None:
    """The file that `<lora:name>` means, in any case; its own name goes before the one that a trainer gave it.

    Headers are read only where no file has the name.
    """
    wanted, files = name.casefold(), list(files_below(folders, _LORA_FOLDERS, (_SAFE,)))
    if own := next((path for path in files if _stem(path).casefold() == wanted), None):
        return own
    return next((info.path for info in _infos(files) if info.alias and info.alias.casefold() == wanted), None)


def scan_loras(folders: Sequence[Path]) -> list[LoraInfo]:
    """All LoRAs in the models folders, by name; headers are read once."""
    infos: dict[str, LoraInfo] = {}
    for info in _infos(files_below(folders, _LORA_FOLDERS, (_SAFE,))):
        infos.setdefault(info.name.casefold(), info)
    return sorted(infos.values(), key=lambda info: info.name.casefold())


def _infos(files: Iterable[Path]) -> Iterator[LoraInfo]:
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        yield _lora(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=32_768)
def _lora(path_text: str, *identity: int) -> LoraInfo:
    """What a file's header says; kept in memory until the file changes."""
    path = Path(path_text)
    try:
        metadata = read_header(path).metadata
    except CheckpointError as error:
        return LoraInfo(_stem(path), path, problem=str(error))
    alias = clean_text(metadata.get("ss_output_name", ""))[:MAX_ALIAS]
    return LoraInfo(_stem(path), path, alias if alias != _stem(path) else "", tuple(metadata.items()))


def text_width(checkpoint: Path) -> int:
    """How wide the text encoder of a checkpoint is, 768 for SD 1.x; 0 when the file does not say."""
    try:
        status = checkpoint.stat()
        return _text_width(str(checkpoint), status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        return 0


@lru_cache(maxsize=1024)
def _text_width(path: str, *identity: int) -> int:
    try:
        shapes = read_header(Path(path)).shapes
    except CheckpointError:
        return 0
    layout = keys.layout(shapes)
    place = layout.text.get("embeddings.token_embedding.weight", "")
    return shapes[keys.stored_name(place)][-1] if place and not layout.text_2 else 0  # one of several is not enough


def _tops(folder: Path, kinds: frozenset[str]) -> list[Path]:
    inside = listing(folder)
    return [folder / name for name in sorted((*inside.folders, *inside.files)) if name.casefold() in kinds]


def _stem(path: Path) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in clean_text(path.stem))


@lru_cache(maxsize=32_768)
def _embedding(path_text: str, *identity: int) -> EmbeddingInfo:
    """What a file holds; kept in memory until the file changes."""
    path = Path(path_text)
    name, version = _stem(path), "-".join(map(str, identity))
    if path.suffix.lower() != _SAFE:
        return EmbeddingInfo(
            name, path, problem=f"{path.name} is a pickle, which can run programs when it is read; it is not opened: "
            "look for the same embedding as .safetensors, or convert it"
        )  # fmt: skip
    try:
        tensor, vectors, width = _vectors(read_header(path), path.name)
        return EmbeddingInfo(name, path, vectors, width, tensor, version)
    except CheckpointError as error:
        return EmbeddingInfo(name, path, problem=str(error))


def _vectors(header: Header, file: str) -> tuple[str, int, int]:
    """(tensor, vectors, width).  A1111's `emb_params`, ComfyUI's `clip_l`, or the only tensor of diffusers' files."""
    shapes = header.shapes
    if "clip_g" in shapes:
        raise CheckpointError(f"{file} is an embedding for SDXL; this version paints with SD 1.x")
    named = next((name for name in ("emb_params", "clip_l") if name in shapes), "")
    tensor = named or (next(iter(shapes)) if len(shapes) == 1 else "")
    shape = shapes.get(tensor, ())
    if len(shape) not in (1, 2) or 0 in shape:
        raise CheckpointError(f"{file} is not a textual inversion: it has no tensor emb_params or clip_l of vectors")
    vectors, width = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    if vectors > CHUNK:
        raise CheckpointError(f"{file} has {vectors} vectors; at most {CHUNK} fit into a chunk")
    return tensor, vectors, width

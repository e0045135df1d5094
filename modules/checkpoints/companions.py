"""The other files in the models folders: textual inversions, hypernetworks, and the names of LoRAs.

Both processes list with it, so it needs no torch; vectors are read by `modules.checkpoints.inversions`.  It reads headers,
never pickles: a .pt or .bin is listed with what to do about it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from modules.checkpoints import keys, picture_embeddings
from modules.checkpoints.folders import files_below, listing
from modules.checkpoints.hashes import known_sha256
from modules.checkpoints.header import Header, header_of, open_model, read_header
from modules.checkpoints.sources import read_source, stamp_of
from modules.errors import CheckpointError
from modules.prompts.chunks import CHUNK
from modules.request import clean_text

FAMILIES_BY_WIDTHS = {(768,): "SD 1.x", (1024,): "SD 2.x", (768, 1280): "SDXL", (1280,): "the SDXL refiner"}
"""Families by the widths of their text encoders."""

BUNDLED = "bundle_emb."
"""How the tensors of textual inversions begin that lie in a LoRA's file."""

_OF_HYPERNETWORK = re.compile(r"[0-9]{1,5}\.[01]\.linear\.")
_EMBEDDING_FOLDERS = frozenset(("embeddings",))
_LORA_FOLDERS = frozenset(("lora", "loras", "lycoris", "locon"))
_HYPERNETWORK_FOLDERS = frozenset(("hypernetworks", "hypernetwork"))
_PICKLES = (".pt", ".bin", ".ckpt", ".pth")
_SAFE = ".safetensors"
MAX_HASHED = 2 << 30
"""Bytes of LoRAs that are read to find one by its hash."""
MAX_ALIAS = 200
"""Characters of a name that a trainer gave."""


@dataclass(frozen=True)
class EmbeddingInfo:
    """A file with a textual inversion: `vectors` of `width` numbers, over the `widths` of the text encoders that they are for,
    in the tensors `tensors` of a file or, without any, inside a picture.

    `name` is what one writes in a prompt; `version` changes with the file.  `problem` is a sentence that names the file, empty
    when it is usable.
    """

    name: str
    path: Path
    vectors: int = 0
    widths: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    version: str = ""
    problem: str = ""

    @property
    def width(self) -> int:
        """That of the text encoders' contexts side by side: 768 for SD 1.x, 2048 for SDXL."""
        return sum(self.widths)

    @property
    def family(self) -> str:
        """Which models it is for, "" where its widths do not tell."""
        return FAMILIES_BY_WIDTHS.get(self.widths, "")


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
    bundled: tuple[tuple[str, int, int], ...] = ()
    """Textual inversions in it, which are words while it is used: name, vectors, width."""


@dataclass(frozen=True)
class HypernetworkInfo:
    """A hypernetwork's file: `name` is what one writes in `<hypernet:name:1>`; `widths` are those of the contexts that it
    changes.  `problem` is a sentence that names the file, empty when it is usable."""

    name: str
    path: Path
    widths: tuple[int, ...] = ()
    problem: str = ""


def has_embeddings(folders: Sequence[Path]) -> bool:
    """Whether there is a folder for them in a models folder: quick, so that no request waits for a disk in vain."""
    return any(_tops(folder, _EMBEDDING_FOLDERS) for folder in folders)


def scan_embeddings(folders: Sequence[Path]) -> list[EmbeddingInfo]:
    """All textual inversions in folders `embeddings` of the models folders, by name; of equal names the first counts."""
    infos: dict[str, EmbeddingInfo] = {}
    for path in files_below(folders, _EMBEDDING_FOLDERS, (_SAFE, *_PICKLES, *picture_embeddings.SUFFIXES)):
        try:
            status = path.stat()
        except OSError:
            continue
        info = _embedding(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        if info is None:
            continue
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


def scan_hypernetworks(folders: Sequence[Path]) -> list[HypernetworkInfo]:
    """All hypernetworks in the models folders, by name; pickles say what to do about them."""
    infos: dict[str, HypernetworkInfo] = {}
    for path in files_below(folders, _HYPERNETWORK_FOLDERS, (_SAFE, *_PICKLES)):
        try:
            status = path.stat()
        except OSError:
            continue
        info = _hypernetwork(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
        before = infos.get(info.name.casefold())
        if before is None or (before.problem and not info.problem):
            infos[info.name.casefold()] = info
    return sorted(infos.values(), key=lambda info: info.name.casefold())


def described_hypernetwork(path: Path) -> HypernetworkInfo:
    """What `scan_hypernetworks` says of the file at `path`."""
    status = path.stat()
    return _hypernetwork(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


def hypernetwork_file(folders: Sequence[Path], name: str) -> HypernetworkInfo | None:
    """The file that `<hypernet:name>` means, in any case; A1111 before 1.4 wrote "name(hash)"."""
    known = {info.name.casefold(): info for info in scan_hypernetworks(folders)}
    return known.get(name.casefold()) or known.get(re.sub(r"\([0-9a-fA-F]{8,10}\)$", "", name).casefold())


@lru_cache(maxsize=4096)
def _hypernetwork(path_text: str, *identity: int) -> HypernetworkInfo:
    """What a file's header says; kept in memory until the file changes."""
    path = Path(path_text)
    if path.suffix.lower() != _SAFE:
        return HypernetworkInfo(
            _stem(path), path, problem=f"{path.name} is a pickle, which can run programs when it is read; it is not opened: "
            f"make a .safetensors file of it with: python3 webui.py models convert {path.name}"
        )  # fmt: skip
    try:
        widths = {int(name.split(".")[0]) for name in read_header(path).tensors if _OF_HYPERNETWORK.match(name)}
    except CheckpointError as error:
        return HypernetworkInfo(_stem(path), path, problem=str(error))
    if not widths:
        return HypernetworkInfo(
            _stem(path), path, problem=f"{path.name} is no hypernetwork: it has no tensor 768.0.linear.0.weight"
        )
    return HypernetworkInfo(_stem(path), path, tuple(sorted(widths)))


def lora_of_hash(folders: Sequence[Path], digits: str, cache: Path) -> LoraInfo | None:
    """The LoRA with this hash of 8 to 64 digits: AutoV3 (`sshs_model_hash`, or the sha256 of what is behind the header), or the
    beginning of the file's own sha256 (AutoV2) where `cache` knows that.  Files without a stored hash are read, up to
    `MAX_HASHED` bytes of them together."""
    digits = digits.strip().casefold()
    if not re.fullmatch("[0-9a-f]{8,64}", digits):
        return None
    infos = [info for info in scan_loras(folders) if not info.problem]
    for info in infos:
        stored = {key: value.casefold() for key, value in info.metadata if key in ("sshs_model_hash", "sshs_legacy_hash")}
        if any(value.startswith(digits) or (len(value) >= 8 and digits.startswith(value)) for value in stored.values()):
            return info
    if found := next((info for info in infos if known_sha256(info.path, cache).startswith(digits)), None):
        return found
    left = MAX_HASHED
    for info in infos:
        if "sshs_model_hash" in dict(info.metadata):
            continue
        try:
            status = info.path.stat()
            left -= status.st_size
            if left < 0:
                return None
            if _behind_header(str(info.path), status.st_size, status.st_mtime_ns, status.st_ino).startswith(digits):
                return info
        except (OSError, CheckpointError):
            continue
    return None


@lru_cache(maxsize=32_768)
def _behind_header(path_text: str, *identity: int) -> str:
    """kohya's hash of a file: the sha256 of what stands behind the header; kept in memory until the file changes."""
    digest = hashlib.sha256()
    with open_model(Path(path_text)) as file:
        file.seek(header_of(file, Path(path_text)).data_start)
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
        header = read_header(path)
    except CheckpointError as error:
        return LoraInfo(_stem(path), path, problem=str(error))
    metadata = header.metadata
    alias = clean_text(metadata.get("ss_output_name", ""))[:MAX_ALIAS]
    inside = []
    for name, shapes in bundled_shapes(header).items():
        with suppress(CheckpointError):
            _, vectors, widths = vectors_of(shapes, path.name)
            inside.append((name, vectors, sum(widths)))
    return LoraInfo(_stem(path), path, alias if alias != _stem(path) else "", tuple(metadata.items()), bundled=tuple(inside))


def bundled_shapes(header: Header) -> dict[str, dict[str, tuple[int, ...]]]:
    """The textual inversions in a LoRA's file by name: shapes by what stands behind `bundle_emb.<name>.`"""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor, shape in header.shapes.items():
        if tensor.startswith(BUNDLED):
            name, _, what = tensor.removeprefix(BUNDLED).partition(".")
            found.setdefault(name, {})[what] = shape
    return found


def text_width(checkpoint: Path) -> int:
    """How wide the text encoders of a checkpoint are together, 768 for SD 1.x, 2048 for SDXL; 0 when the file does not say."""
    try:
        return _text_width(str(checkpoint), *stamp_of(checkpoint))
    except OSError:
        return 0


@lru_cache(maxsize=1024)
def _text_width(path: str, *identity: int) -> int:
    try:
        shapes = read_source(Path(path)).shapes
    except CheckpointError:
        return 0
    layout = keys.layout(shapes)
    places = [part.get("embeddings.token_embedding.weight") for part in (layout.text, layout.text_2) if part]
    widths = [shapes[keys.stored_name(place)][-1] if place else 0 for place in places]
    return sum(widths) if all(widths) else 0


def _tops(folder: Path, kinds: frozenset[str]) -> list[Path]:
    inside = listing(folder)
    return [folder / name for name in sorted((*inside.folders, *inside.files)) if name.casefold() in kinds]


def _stem(path: Path) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in clean_text(path.stem))


@lru_cache(maxsize=32_768)
def _embedding(path_text: str, *identity: int) -> EmbeddingInfo | None:
    """What a file holds; kept in memory until the file changes.  None for a picture without an embedding."""
    path = Path(path_text)
    name, version = _stem(path), "-".join(map(str, identity))
    try:
        if path.suffix.lower() in picture_embeddings.SUFFIXES:
            return _in_picture(path, version)
        if path.suffix.lower() == _SAFE:
            return EmbeddingInfo(name, path, *_in_file(read_header(path).shapes, path.name), version)
    except CheckpointError as error:
        return EmbeddingInfo(name, path, problem=str(error))
    return EmbeddingInfo(
        name, path, problem=f"{path.name} is a pickle, which can run programs when it is read; it is not opened: "
        "look for the same embedding as .safetensors, or convert it"
    )  # fmt: skip


def _in_picture(path: Path, version: str) -> EmbeddingInfo | None:
    """A preview of another file (`name.preview.png`, or beside a file of the same name) is not looked into."""
    if path.stem.lower().endswith(".preview") or path.with_suffix(_SAFE).exists():
        return None
    found = picture_embeddings.read_picture(path)
    if found is None:
        return None
    vectors, width = found[1].shape
    _check_count(vectors, path.name)
    name = clean_text(found[0]).strip()[:MAX_ALIAS] or _stem(path)
    return EmbeddingInfo(name, path, vectors, (width,), (), version)


def _in_file(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
    tensors, vectors, widths = vectors_of(shapes, file)
    return vectors, widths, tensors


def vectors_of(shapes: Mapping[str, tuple[int, ...]], file: str) -> tuple[tuple[str, ...], int, tuple[int, ...]]:
    """(tensors, vectors, widths): kohya's `emb_params`, `clip_l` alone or with `clip_g` (SDXL), A1111's `string_to_param.*`, or
    the only tensor of diffusers' files.

    Raises:
        CheckpointError: it is none of them; the message names the file.
    """
    if "t5xxl" in shapes:
        raise CheckpointError(f"{file} is an embedding for SD 3; this version paints with SD 1.x and SDXL")
    if "clip_g" in shapes:
        names = [name for name in ("clip_l", "clip_g") if name in shapes]
    else:
        a1111 = [name for name in shapes if name.startswith("string_to_param.")]
        named = next((name for name in ("emb_params", "clip_l", *a1111) if name in shapes), "")
        names = [named] if named else list(shapes)
    found = [shapes[name] if len(shapes[name]) != 1 else (1, *shapes[name]) for name in names]
    if (len(names) > 1 and names[0] != "clip_l") or not found or any(len(shape) != 2 or 0 in shape for shape in found):
        raise CheckpointError(f"{file} is not a textual inversion: it has no tensor emb_params or clip_l of vectors")
    if len({shape[0] for shape in found}) > 1:
        raise CheckpointError(f"{file} has {found[0][0]} vectors for one text encoder and {found[1][0]} for the other")
    _check_count(found[0][0], file)
    return tuple(names), found[0][0], tuple(shape[1] for shape in found)


def _check_count(vectors: int, file: str) -> None:
    if vectors > CHUNK:
        raise CheckpointError(f"{file} has {vectors} vectors; at most {CHUNK} fit into a chunk")

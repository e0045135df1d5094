"""What a pickle of a model would do when it is opened, found without opening it: its container and the globals that it names.

Standard library only.  What is found here makes good messages; what protects is that the file is then opened by torch's
restricted unpickler (`weights_only=True`) in a limited process (`convert`).  Facts: pytorch `torch/_weights_only_unpickler.py`.
"""

from __future__ import annotations

import io
import pickletools
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from modules.checkpoints.header import read_header
from modules.errors import CheckpointError

MAX_PICKLE = 64 << 20
"""Bytes of pickle that are looked through; that of SD 1.5 has 0.3 MB."""
MAX_ENTRIES = 50_000
LEGACY_PICKLES = 5
"""Pickles in a row at the beginning of a file of torch before 1.6."""

_ENTRY = re.compile(
    r"[^/]+/(?:data\.pkl|data/\d{1,7}|version|byteorder|\.data/serialization_id|\.format_version|\.storage_alignment)"
)
_KNOWN = re.compile(
    r"collections\.(?:OrderedDict|Counter)|torch\._utils\._rebuild_(?:tensor|tensor_v2|tensor_v3|parameter|parameter_with_state)|"
    r"torch\.(?:cuda\.)?\w+Storage|torch\.storage\.\w+Storage|torch\.(?:float|int|uint|bfloat|bool|complex)\w*|torch\.Size|"
    r"torch\.(?:cuda\.)?\w*Tensor|torch\.nn\.parameter\.Parameter|torch\.device|torch\._tensor\._rebuild_from_type_v2|"
    r"_codecs\.encode|builtins\.(?:set|bytearray|complex)|torch\.serialization\._get_layout"
)
INERT = (
    "torch.nn.modules.container.ParameterDict",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    "numpy.ndarray",
)
"""Globals of old files that hold no weights, or hold them in plain fields: objects without any code stand for them."""
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PROGRAMS = re.compile(
    r"(?:os|posix|nt|sys|subprocess|shutil|socket|runpy|pty|ctypes|importlib|webbrowser|commands|code|pdb|timeit|pickle|"
    r"multiprocessing|asyncio|threading|urllib|http|requests|functools|operator|types|marshal|signal|tempfile|pathlib|io|site|bdb)(?:\..*)?|"
    r"builtins\.(?:eval|exec|compile|open|getattr|setattr|__import__|globals|input|breakpoint|apply|execfile)"
)


@dataclass(frozen=True)
class Container:
    """`zipped`: torch's format since 1.6, which can be memory-mapped."""

    zipped: bool


def inspect(path: Path) -> Container:
    """Refuse what is no pickle of tensors, without opening it.

    Raises:
        CheckpointError: it is damaged, packed in another way, or names what no model needs; says which.
    """
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CheckpointError(f"{path.name} is not a regular file")
            beginning = file.read(512)
            file.seek(0)
            if beginning.startswith(b"PK\x03\x04"):
                found = _zip(file, path)
            elif beginning[257:262] == b"ustar" or tarfile.is_tarfile(path):
                raise CheckpointError(f"{path.name} is a tar archive of torch before 0.2, which is not opened; save it anew")
            else:
                _check_not_safe(path)
                found = _legacy(file, path)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read ({error.strerror}); check the disk") from None
    _judge(found, path)
    return Container(beginning.startswith(b"PK\x03\x04"))


def _check_not_safe(path: Path) -> None:
    try:
        read_header(path)
    except CheckpointError:
        return
    raise CheckpointError(f"{path.name} is a safetensors file already; give it the ending .safetensors")


def _zip(file: IO[bytes], path: Path) -> set[str]:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if len(entries) > MAX_ENTRIES or len(set(names)) != len(names):
                raise CheckpointError(f"{path.name} is no model: its archive has too many entries, or two of one name")
            if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
                raise CheckpointError(f"{path.name} is a TorchScript program, not a file of weights; it is not opened")
            if odd := next((name for name in names if not _ENTRY.fullmatch(name)), ""):
                raise CheckpointError(f"{path.name} is no file of torch.save: its archive holds {odd[:80]!r}")
            if len({name.partition("/")[0] for name in names}) != 1:
                raise CheckpointError(f"{path.name} is no file of torch.save: its archive has several folders")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise CheckpointError(f"{path.name} has compressed entries, which torch.save never writes; it is not opened")
            if sum(entry.file_size for entry in entries) > size:
                raise CheckpointError(f"{path.name} claims to hold more than it does; it is not opened")
            main = next((entry for entry in entries if entry.filename.endswith("/data.pkl")), None)
            if main is None:
                raise CheckpointError(f"{path.name} is a zip archive, but none of torch.save")
            if main.file_size > MAX_PICKLE:
                raise CheckpointError(
                    f"{path.name} has a pickle of {main.file_size >> 20} MB; at most {MAX_PICKLE >> 20} are read"
                )
            return globals_of(io.BytesIO(archive.read(main)), path)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path.name} is a damaged archive ({str(error)[:80]}); download it again") from None


def _legacy(file: IO[bytes], path: Path) -> set[str]:
    data = io.BytesIO(file.read(MAX_PICKLE))
    found: set[str] = set()
    for number in range(LEGACY_PICKLES):
        try:
            found |= globals_of(data, path)
        except CheckpointError:
            if number == 0:
                raise
            break  # behind the pickles come the numbers
    return found


def globals_of(data: IO[bytes], path: Path) -> set[str]:
    """The globals that one pickle names, "module.name"; "?" for one that is put together while it is opened.

    Raises:
        CheckpointError: it is no pickle.
    """
    found: set[str] = set()
    memo: dict[int, str] = {}
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in ("GLOBAL", "INST"):
                module, _, attribute = str(argument).partition(" ")
                found.add(f"{_PYTHON_2.get(module, module)}.{attribute}")
            elif name == "STACK_GLOBAL":
                found.add(".".join(texts[-2:]) if len(texts) > 1 else "?")
            elif name in ("EXT1", "EXT2", "EXT4"):
                found.add("?")
            elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                if texts:
                    memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = texts[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                texts.append(memo.get(int(argument or 0), "?"))
            elif isinstance(argument, str):
                texts.append(argument)
            del texts[:-8]
    except (ValueError, IndexError, UnicodeError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{path.name} is not a pickle of torch.save ({str(error)[:80]}); nothing of it was opened"
        ) from None
    return found


def _judge(found: set[str], path: Path) -> None:
    unknown = sorted(name for name in found if not _KNOWN.fullmatch(name) and name not in INERT)
    if not unknown:
        return
    shown = ", ".join(name[:80] for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    if any(_PROGRAMS.fullmatch(name) for name in unknown):
        raise CheckpointError(
            f"{path.name} is refused: opening it would run programs ({shown}), which no model needs; it is probably malicious, "
            "delete it"
        )
    raise CheckpointError(
        f"{path.name} is refused: it needs code to be opened that is not known to be harmless ({shown}); it was not opened"
    )

"""Getting a model: from a repository or a link into a hidden folder, and from there, verified, under its name.

Runs in a child process (`__main__`).  The hidden folder belongs to the source: it outlives failures and restarts, and the next
run of the same source goes on with what is in it.  No torch.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from modules.checkpoints.header import read_header
from modules.errors import CheckpointError, OutputError, RequestError
from modules.locks import ProcessLock
from modules.model_tools import hub
from modules.model_tools.disk import check_space, check_target, human, move, unwritable
from modules.model_tools.fetch import Answer, Fetcher, Item, forget
from modules.model_tools.kinds import AUTO, FOLDERS, TITLES, kind_of, kinds_folder
from modules.model_tools.origins import PICKLES, PIPELINE, SAFE, WEIGHTS, Link, parse_source, safe_name
from modules.model_tools.pickles import inspect
from modules.model_tools.requests import GetModel
from modules.model_tools.work import Work

SAY_SECONDS = 0.2
_GENERIC = ("model", "diffusion_pytorch_model", "pytorch_lora_weights", "pytorch_model", "learned_embeds", "adapter_model")
"""Names that say nothing; the repository's is taken instead."""
_OTHER = (
    ".gguf",
    ".zip",
    ".7z",
    ".rar",
    ".gz",
    ".tar",
    ".onnx",
    ".msgpack",
    ".json",
    ".yaml",
    ".png",
    ".jpg",
    ".webp",
    ".html",
    ".exe",
)


def get(request: GetModel, work: Work) -> None:
    """Bring the model that is asked for into the models folders.

    Raises:
        RequestError, CheckpointError, OutputError, Unreachable: it is refused, it is not what it should be, the disk is full,
            or nobody answers.  What has come is kept, but for CheckpointError.
    """
    staging = Staging(work.order.part)
    files: list[hub.RepoFile] = []
    try:
        source = parse_source(request.source, request.file)
        if isinstance(source, Link):
            Getting(request, work, staging, Fetcher("", work.order.public_only)).link(source)
        else:
            work.say("looking", 0.0)
            found = hub.contents(source)
            files = found.chosen(source.file, request.fp16)
            getting = Getting(request, work, staging, Fetcher(hub.token(), work.order.public_only))
            if len(files) == 1:
                getting.file(found.item(files[0]), found.name)
            else:
                getting.pipeline([found.item(file) for file in files], found.name)
    except CheckpointError:
        if len(files) < 2:  # of several, only the one that is wrong went
            staging.remove()
        raise
    except OSError as error:
        raise unwritable(work.order.part, error) from None
    finally:
        staging.leave()


class Staging:
    """The hidden folder of a download, of which one process at a time makes use.

    Raises:
        RequestError: another process fetches the same.
        OutputError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        try:
            self.files.mkdir(parents=True, exist_ok=True)
            self._lock = ProcessLock(folder / "lock")
        except BlockingIOError:
            raise RequestError("this is downloaded already, by another run or program; wait for it") from None
        except OSError as error:
            raise OutputError(f"{folder.parent} cannot be written: {error.strerror}; check the folder") from None

    def at(self, path: str) -> Path:
        made = self.files / path
        made.parent.mkdir(parents=True, exist_ok=True)
        return made

    def keep_only(self, paths: set[Path]) -> None:
        """Remove what an earlier run of the same source fetched, where the source is now made of other files."""
        for path in list(self.files.rglob("*")):
            if path.is_file() and path not in paths and not path.name.startswith("."):
                path.unlink()
                forget(path)

    def remove(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)

    def leave(self) -> None:
        """Let others have it; with nothing in it, it goes."""
        empty = not self.files.exists() or not any(path.is_file() for path in self.files.rglob("*"))
        self._lock.release()
        if empty:
            shutil.rmtree(self.folder, ignore_errors=True)


class Getting:
    """One request that is carried out."""

    def __init__(self, request: GetModel, work: Work, staging: Staging, fetcher: Fetcher) -> None:
        self.request, self.work, self.staging, self.fetcher = request, work, staging, fetcher
        self.base = work.order.target.parent

    # ---- what is fetched

    def link(self, link: Link) -> None:
        path = self.staging.at("download")
        item = Item(link.url, "the file", sha256="")
        names: list[str] = []

        def begun(answer: Answer) -> None:
            name = self._named(safe_name(answer.name), "")
            self._check_free(name)
            names[:] = [name]

        self.fetcher.fetch(item, path, begun, self._progress(0, None))
        if self.request.sha256:
            self._compare(path, self.request.sha256)
        elif link.url.lower().startswith("http:"):
            self.work.notes.append("it came unencrypted and without a checksum, so nobody can say that it is what was sent")
        self._publish(path, names[0])

    def file(self, item: Item, repository: str) -> None:
        name = self._named(safe_name(item.path), repository.partition("/")[2])
        self._check_free(name)
        path = self.staging.at(safe_name(item.path))
        self.staging.keep_only({path})
        self.fetcher.fetch(item, path, lambda answer: None, self._progress(0, item.size))
        self._publish(path, name)

    def pipeline(self, items: Sequence[Item], repository: str) -> None:
        """The whole folder of a diffusers pipeline."""
        target = self._folder("checkpoints") / (self.request.output or safe_name(repository.partition("/")[2]))
        old = self._replaced(target)
        paths = {item: self.staging.at(item.path) for item in items}
        self.staging.keep_only(set(paths.values()))
        total = sum(item.size or 0 for item in items)
        there = sum(path.stat().st_size for path in paths.values() if path.exists())
        check_space(self.base, total - there)
        done = 0
        for item, path in paths.items():
            if item.size == 0:
                path.touch()
                continue
            self.fetcher.fetch(item, path, lambda answer: None, self._progress(done, total))
            if path.name.endswith(SAFE):
                self._whole(path)
            done += item.size or 0
        for path in paths.values():
            forget(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if old is not None:
            os.rename(target, old)
        os.rename(self.staging.files, target)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        self._made(target)
        self.work.notes.append(f"a diffusers pipeline of {len(items)} files")

    # ---- names

    def _named(self, there: str, repository: str) -> str:
        """The file's name here.

        Raises:
            RequestError: it is no kind of file that holds a model.
        """
        lowered = there.lower()
        if lowered.endswith(_OTHER):
            raise RequestError(f"{there} is no model file; .safetensors files are wanted, or pickles ({', '.join(PICKLES)})")
        suffix = next((each for each in WEIGHTS if lowered.endswith(each)), "")
        stem = there[: len(there) - len(suffix)]
        if repository and stem.partition(".")[0].lower() in _GENERIC:
            stem = safe_name(repository)
        return (self.request.output or stem or "model") + (suffix or SAFE)

    def _folder(self, to: str) -> Path:
        return kinds_folder(self.base, to)

    def _check_free(self, name: str) -> None:
        """Refuse a name that is taken before anything is fetched, in all folders that it may be for."""
        folders = FOLDERS if self.request.to == AUTO else (self.request.to,)
        for folder in dict.fromkeys(self._folder(to) for to in folders):
            check_target(folder / name, self.request.replace)

    def _replaced(self, target: Path) -> Path | None:
        """Where a pipeline that is replaced goes meanwhile; None where there is none."""
        check_target(target, self.request.replace)
        if not os.path.lexists(target):
            return None
        if target.is_symlink() or not (target / PIPELINE).is_file():
            raise RequestError(f"{target.name} is there and no diffusers pipeline; choose another name")
        return target.with_name(f".{target.name}.old")

    # ---- what is made of it

    def _publish(self, path: Path, name: str) -> None:
        """Check the whole file, find out where it belongs, and give it its name."""
        self.work.say("checking", 1.0)
        whole = path.with_name(name)
        if whole != path:
            os.replace(path, whole)
        kind = self._checked(whole)
        to = self.request.to if self.request.to != AUTO else kind or "checkpoints"
        if kind and to != kind:
            self.work.notes.append(f"its tensors say that it is {TITLES[kind]}; it was put into {to} as asked")
        if not kind and name.endswith(SAFE):
            self.work.notes.append("what kind of model it is was not recognised")
        target = self._folder(to) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            move(whole, target, self.request.replace)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            beside = target.with_name(f".{target.name}.part")  # that folder is on another disk
            check_space(target.parent, whole.stat().st_size)
            try:
                shutil.copyfile(whole, beside)
                with beside.open("rb") as file:
                    os.fsync(file.fileno())
                move(beside, target, self.request.replace)
            finally:
                beside.unlink(missing_ok=True)
        self.staging.remove()
        self._made(target)

    def _made(self, target: Path) -> None:
        self.work.made = target.relative_to(self.base).as_posix()

    def _checked(self, path: Path) -> str:
        """Its kind by its tensors, "" where they do not say.

        Raises:
            CheckpointError: it is no whole model file, or a pickle that would run programs.
        """
        if path.name.lower().endswith(PICKLES):
            inspect(path)
            self.work.notes.append(
                f"{path.name} is a pickle, which is never opened as it is: convert it (Convert in the Models tab's Tools, or "
                f"webui.py models convert)"
            )
            return ""
        return kind_of(read_header(path), path.name)

    def _whole(self, path: Path) -> None:
        try:
            read_header(path)
        except CheckpointError:
            path.unlink()
            raise

    def _compare(self, path: Path, wanted: str) -> None:
        import hashlib

        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != wanted.lower():
            raise CheckpointError(
                f"the file has the sha256 {digest.hexdigest()[:12]}…, and {wanted[:12].lower()}… was asked for; it was removed"
            )

    def _progress(self, before: int, total: int | None) -> Callable[[int, int | None], None]:
        """Says how far the whole is, and how fast."""
        began, first, said = time.monotonic(), -1, 0.0

        def say(done: int, size: int | None) -> None:
            nonlocal first, said
            whole, there = total or size, before + done
            first = there if first < 0 else first
            now = time.monotonic()
            if now - said < SAY_SECONDS and there != whole:
                return
            said = now
            speed = (there - first) / max(now - began, 0.1)
            of = f" of {human(whole)}" if whole else ""
            self.work.say(f"{human(there)}{of}, {human(round(speed))}/s", there / whole if whole else 0.0)

        return say

"""The save protocol, call by call: its order, and every call failing once or from then on."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.errors import OutputError
from modules.images import files, outputs
from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs, SavedImage
from tests.faults import FaultyOs
from tests.picture_files import read_pixels

JOB = "0123456789abcdef0123456789abcdef"
NOON = 1_786_000_000.0

CAUSES = {
    errno.ENOSPC: "is full; make room",
    errno.EDQUOT: "is used up; make room",
    errno.EROFS: "is on a read-only disk; make it writable",
    errno.EPERM: "no permission to write",
    errno.EACCES: "no permission to write",
    errno.ENOENT: "is gone; put it back",
    errno.EIO: "reports errors; check it",
    errno.ENXIO: "cannot be written: No such device or address",
}

Install = Callable[[FaultyOs], FaultyOs]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    def put(faulty: FaultyOs) -> FaultyOs:
        monkeypatch.setattr(files, "os", faulty)
        monkeypatch.setattr(outputs, "os", faulty)
        return faulty

    yield put
    monkeypatch.undo()


def intact(saved: SavedImage, pixels: bytes) -> bool:
    data = saved.path.read_bytes()
    return hashlib.sha256(data).hexdigest() == saved.sha256 and read_pixels(data) == (pixels, 64, 64)


def everything_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def save(folder: Outputs, pixels: bytes, info: GenerationInfo, index: int = 0) -> SavedImage:
    return folder.save(pixels, 64, 64, info, JOB, index, NOON)


def test_bytes_are_flushed_before_the_name_and_the_name_before_the_answer(
    outputs: Outputs, pixels: bytes, info: GenerationInfo, install: Install
) -> None:
    trace: list[str] = []

    def note(call: str, arguments: tuple[Any, ...], n: int) -> None:
        if call == "fsync":
            target = os.readlink(f"/proc/self/fd/{arguments[0]}")
            trace.append(f"fsync {'part' if target.endswith('.part') else Path(target).name}")
        elif call in ("mkdir", "link", "write"):
            trace.append(call)

    install(FaultyOs(after=note))
    saved = save(outputs, pixels, info)
    assert trace == ["mkdir", "fsync outputs", "write", "fsync part", "link", f"fsync {saved.path.parent.name}"]

    trace.clear()
    save(outputs, pixels, info, index=1)
    assert trace == ["write", "fsync part", "link", f"fsync {saved.path.parent.name}"]


@pytest.mark.parametrize("code", CAUSES)
@pytest.mark.parametrize("lasting", [False, True])
def test_every_call_may_fail(
    code: int, lasting: bool, tmp_path: Path, pixels: bytes, info: GenerationInfo, install: Install
) -> None:
    """The n-th call fails, or all from it on, for n = 1, 2, ...: the picture is whole and reported, or absent and explained."""
    outcomes, causes = set(), set()
    for n in range(1, 100):
        folder = Outputs(tmp_path / str(n))

        def fail(call: str, arguments: tuple[Any, ...], at: int, n: int = n) -> None:
            if at == n or (lasting and at > n):
                raise OSError(code, os.strerror(code), str(arguments[0]))

        faulty = install(FaultyOs(before=fail))
        try:
            saved = save(folder, pixels, info)
        except OutputError as error:
            outcomes.add("refused")
            causes.add(str(error))
            assert [path for path in everything_in(folder.folder) if path.suffix == ".png"] == []
        else:
            outcomes.add("saved")
            assert intact(saved, pixels)
        reached = faulty.count >= n

        # Once the disk is well again: nothing is left over, and the same picture can be saved, once.
        install(FaultyOs())
        folder.sweep()
        again = save(folder, pixels, info)
        assert intact(again, pixels)
        assert everything_in(folder.folder) == [again.path]
        if not reached:
            break
    else:
        pytest.fail("the save never got through")
    assert all(CAUSES[code] in cause and "--outputs-dir" in cause for cause in causes)
    assert outcomes == {"refused", "saved"} or (outcomes == {"saved"} and not lasting)


def test_without_hard_links_the_name_is_reserved_and_never_replaced(
    outputs: Outputs, pixels: bytes, info: GenerationInfo, install: Install
) -> None:
    """As on FAT and some network shares, again with every call failing once."""

    def no_links(call: str) -> None:
        if call == "link":
            raise OSError(errno.ENOTSUP, "Operation not supported")

    install(FaultyOs(before=lambda call, *_: no_links(call)))
    saved = save(outputs, pixels, info)
    assert intact(saved, pixels)
    assert everything_in(outputs.folder) == [saved.path]

    saved.path.write_bytes(b"another program's")
    other = save(outputs, pixels, info)
    assert saved.path.read_bytes() == b"another program's"
    assert other.path != saved.path

    for n in range(1, 40):
        before = everything_in(outputs.folder)

        def fail(call: str, arguments: tuple[Any, ...], at: int, n: int = n) -> None:
            no_links(call)
            if at == n:
                raise OSError(errno.ENOSPC, "No space left on device")

        faulty = install(FaultyOs(before=fail))
        try:
            assert intact(save(outputs, pixels, info, index=n), pixels)
        except OutputError:
            files.sweep(saved.path.parent)
            assert everything_in(outputs.folder) == before
        if faulty.count < n:
            break
    else:
        pytest.fail("the save never got through")


def test_a_folder_that_cannot_be_flushed_costs_a_warning_not_the_picture(
    outputs: Outputs, pixels: bytes, info: GenerationInfo, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    save(outputs, pixels, info)

    def fail(call: str, arguments: tuple[Any, ...], n: int) -> None:
        if call == "fsync" and os.path.isdir(f"/proc/self/fd/{arguments[0]}"):
            raise OSError(errno.EIO, "Input/output error")

    install(FaultyOs(before=fail))
    with caplog.at_level(logging.WARNING, "atelier"):
        saved = save(outputs, pixels, info, index=1)
    assert intact(saved, pixels)
    assert "could not be flushed" in caplog.text


def test_one_bad_block_is_tried_again(outputs: Outputs, pixels: bytes, info: GenerationInfo, install: Install) -> None:
    failed: list[str] = []

    def fail(call: str, arguments: tuple[Any, ...], n: int) -> None:
        if call == "fsync" and not failed and os.readlink(f"/proc/self/fd/{arguments[0]}").endswith(".part"):
            failed.append(call)
            raise OSError(errno.EIO, "Input/output error")

    install(FaultyOs(before=fail))
    saved = save(outputs, pixels, info)
    assert failed
    assert intact(saved, pixels)
    assert everything_in(outputs.folder) == [saved.path]


def test_short_writes_are_continued(
    outputs: Outputs, pixels: bytes, info: GenerationInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trickle(FaultyOs):
        def write(self, fd: int, data: memoryview) -> int:
            return os.write(fd, data[:1000])

    monkeypatch.setattr(files, "os", Trickle())
    assert intact(save(outputs, pixels, info), pixels)


def test_the_sweep_leaves_what_a_living_writer_holds(tmp_path: Path) -> None:
    dead = tmp_path / ".atelier-0123456789abcdef.part"
    dead.write_bytes(b"half")
    foreign = tmp_path / ".other-0123456789abcdef.part"
    foreign.write_bytes(b"not ours")
    with files.part(tmp_path, b"alive") as living:
        assert files.sweep(tmp_path) == 1
        assert everything_in(tmp_path) == sorted([living.path, foreign])
        living.publish(tmp_path / "x.png")
    assert everything_in(tmp_path) == sorted([foreign, tmp_path / "x.png"])


def test_a_part_that_was_swept_too_early_is_written_again(
    outputs: Outputs, pixels: bytes, info: GenerationInfo, install: Install
) -> None:
    """Between creating its file and locking it, a writer may lose it to another process's sweep."""
    stolen: list[str] = []

    def steal(call: str, arguments: tuple[Any, ...], n: int) -> None:
        if call == "open" and str(arguments[0]).endswith(".part") and not stolen:
            stolen.append(arguments[0])
            os.unlink(arguments[0])

    install(FaultyOs(after=steal))
    saved = save(outputs, pixels, info)
    assert stolen
    assert intact(saved, pixels)

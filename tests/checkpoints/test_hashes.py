"""The hash of a file is right, remembered while the file stays the same, and never lost to a bad cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modules.checkpoints import hashes
from modules.checkpoints.hashes import file_sha256, known_sha256
from modules.errors import CheckpointError
from modules.locks import ProcessLock
from modules.settings import ROOT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(5 * 2**20 + 7))  # more than one block, and no multiple of it
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hashes.json"


def test_it_is_the_sha256_of_the_file_and_is_remembered(model: Path, cache: Path) -> None:
    assert known_sha256(model, cache) == ""
    assert file_sha256(model, cache) == hashlib.sha256(model.read_bytes()).hexdigest()
    assert known_sha256(model, cache) == file_sha256(model, cache)
    assert {path.name for path in cache.parent.iterdir()} == {"hashes.json", "hashes.json.lock"}, "no temporary file stays"


def test_a_remembered_hash_is_not_computed_again(model: Path, cache: Path) -> None:
    file_sha256(model, cache)
    entries = json.loads(cache.read_text())
    entries[str(model)]["sha256"] = "0" * 64
    cache.write_text(json.dumps(entries))
    assert file_sha256(model, cache) == "0" * 64


@pytest.mark.parametrize("change", ["content", "time", "replaced"])
def test_a_changed_file_is_hashed_again(change: str, model: Path, cache: Path) -> None:
    first = file_sha256(model, cache)
    status = model.stat()
    if change == "content":
        model.write_bytes(model.read_bytes() + b"x")
    elif change == "time":
        model.write_bytes(bytes(status.st_size))
        os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    else:  # another file of the same size and time in its place, as an unpacked archive may leave it
        other = model.with_name("other")
        other.write_bytes(bytes(status.st_size))
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(model)
    assert known_sha256(model, cache) == ""
    second = file_sha256(model, cache)
    assert second == hashlib.sha256(model.read_bytes()).hexdigest() != first


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'"x"', b'{"%s": 5}', b'{"%s": {"size": 1}}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_cache_costs_time_and_is_replaced(content: bytes, model: Path, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content.replace(b"%s", str(model).encode()))
    right = hashlib.sha256(model.read_bytes()).hexdigest()
    assert file_sha256(model, cache) == right
    assert known_sha256(model, cache) == right


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    right = hashlib.sha256(model.read_bytes()).hexdigest()
    assert file_sha256(model, tmp_path / "file" / "hashes.json") == right


def test_missing_files_say_so(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors does not exist"):
        file_sha256(tmp_path / "gone.safetensors", cache)
    assert known_sha256(tmp_path / "gone.safetensors", cache) == ""


def test_a_file_that_grows_while_it_is_hashed_is_not_remembered(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.sha256

    def growing() -> object:
        with model.open("ab") as file:
            file.write(b"more")
        return real()

    monkeypatch.setattr(hashes.hashlib, "sha256", growing)
    file_sha256(model, cache)
    assert known_sha256(model, cache) == ""
    assert not cache.exists()


def test_the_cache_stays_whole_and_bounded(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "MAX_REMEMBERED", 5)
    paths = [tmp_path / f"{i}.safetensors" for i in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode())

    def work(part: list[Path]) -> None:
        for path in part:
            file_sha256(path, cache)
            json.loads(cache.read_text())  # never half written

    threads = [threading.Thread(target=work, args=(paths[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(json.loads(cache.read_text())) <= 5
    assert file_sha256(paths[0], cache) == hashlib.sha256(b"0.safetensors").hexdigest()


SCRIPT = """
import sys, time
from pathlib import Path
from modules.checkpoints import hashes

read = hashes._read

def slowly(cache):
    entries = read(cache)
    time.sleep(0.02)  # between reading and writing, where the other process's entry would be lost
    return entries

hashes._read = slowly
for name in sys.argv[2:]:
    hashes.file_sha256(Path(name), Path(sys.argv[1]))
"""


def test_two_processes_that_remember_at_once_lose_nothing(tmp_path: Path, cache: Path) -> None:
    """The engine of a server, and a command beside it."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(24)]
    for path in paths:
        path.write_bytes(path.name.encode())
    shares = [[str(path) for path in paths[i::2]] for i in range(2)]
    running = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(cache), *share], cwd=ROOT) for share in shares]
    assert [process.wait(90) for process in running] == [0, 0]
    assert [path for path in paths if not known_sha256(path, cache)] == []


def test_a_cache_that_another_holds_for_ever_costs_nothing_but_time(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "LOCK_SECONDS", 0.0)
    cache.parent.mkdir()
    held = ProcessLock(cache.with_name("hashes.json.lock"))
    assert file_sha256(model, cache) == hashlib.sha256(model.read_bytes()).hexdigest()
    assert known_sha256(model, cache) == ""
    held.release()
    file_sha256(model, cache)
    assert known_sha256(model, cache)

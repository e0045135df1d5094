"""A job list whose file is removed or replaced under a running server: it is noticed, said, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.errors import QueueError
from modules.queue.store import JobStore
from modules.request import Txt2Img

ROOT = Path(__file__).parents[2]

LIFE = """
import os, shutil, signal, sys
from pathlib import Path
from modules.queue.store import JobStore
from modules.request import Txt2Img

data, what = Path(sys.argv[1]) / "data", sys.argv[2]
path = data / "jobs.sqlite"
other = JobStore(data.parent / "other" / "jobs.sqlite")
other.add(Txt2Img(prompt="other", seed=1, checkpoint="x"), "me")
other.close()

store = JobStore(path)
print(store.add(Txt2Img(prompt="before", seed=1, checkpoint="x"), "me").id)
if what == "file":
    path.unlink()
elif what == "files":
    for file in data.glob("jobs.sqlite*"):
        file.unlink()
elif what == "folder":
    shutil.rmtree(data)
elif what == "replaced":
    os.replace(data.parent / "other" / "jobs.sqlite", path)
elif what == "restored":
    for file in data.glob("jobs.sqlite*"):
        file.unlink()
    shutil.copy(data.parent / "other" / "jobs.sqlite", path)
print(store.add(Txt2Img(prompt="after", seed=2, checkpoint="x"), "me").id)
print(store.add(Txt2Img(prompt="later", seed=3, checkpoint="x"), "me").id)
print(store.notice, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def prompts(store: JobStore) -> list[str]:
    return [job.request.prompt for job in store.unfinished()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    opened = JobStore(path)
    yield opened
    opened.close()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
@pytest.mark.parametrize("what", ["file", "files", "folder", "replaced", "restored"])
def test_nothing_that_was_accepted_is_lost_by_a_kill_afterwards(tmp_path: Path, path: Path, what: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIFE, str(tmp_path), what], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    *ids, notice = done.stdout.splitlines()
    replaced = what in ("replaced", "restored")
    assert notice.startswith(f"The job list was {'replaced' if replaced else 'removed'} while Atelier ran."), notice
    after = JobStore(path)
    assert after.notice == "", "it is whole"
    assert [job.id for job in after.unfinished()] == ids
    assert prompts(after) == ["before", "after", "later"]
    assert after._file.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    after.close()
    aside = path.with_name("jobs.sqlite.replaced-1")
    assert aside.exists() == replaced
    if replaced:
        assert aside.name in notice
        kept = JobStore(aside)
        assert prompts(kept) == ["other"], "what took its name is kept whole"
        kept.close()
    assert not list(path.parent.glob(".*.new*"))


def test_it_is_noticed_without_a_write(store: JobStore, path: Path) -> None:
    job = store.add(Txt2Img(seed=1, checkpoint="x"), "me")
    store.check_place()
    assert store.notice == ""
    path.unlink()
    store.check_place()
    assert "removed while Atelier ran" in store.notice
    assert path.exists()
    assert store.get(job.id) == job
    before = path.stat().st_ino
    store.check_place()
    assert path.stat().st_ino == before, "once"


def test_a_list_that_cannot_be_written_again_accepts_nothing_and_recovers(
    store: JobStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.add(Txt2Img(prompt="before", seed=1, checkpoint="x"), "me")
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("modules.queue.place._name", full)
        with pytest.raises(QueueError, match=r"was removed while Atelier ran .*No space left.*nothing more is accepted"):
            store.add(Txt2Img(prompt="refused", seed=1, checkpoint="x"), "me")
        assert prompts(store) == ["before"]
        assert not list(path.parent.glob(".*.new*"))
    store.add(Txt2Img(prompt="after", seed=1, checkpoint="x"), "me")
    store.close()
    after = JobStore(path)
    assert prompts(after) == ["before", "after"]
    after.close()


def test_a_removed_lock_is_taken_again(store: JobStore, path: Path) -> None:
    lock = path.with_name("jobs.sqlite.lock")
    lock.unlink()
    store.add(Txt2Img(seed=1, checkpoint="x"), "me")
    assert lock.exists()
    with pytest.raises(QueueError, match="another Atelier is using"):
        JobStore(path)


def test_after_another_atelier_took_the_place_nothing_is_accepted(store: JobStore, path: Path) -> None:
    store.add(Txt2Img(prompt="mine", seed=1, checkpoint="x"), "me")
    shutil.rmtree(path.parent)
    other = JobStore(path)
    other.add(Txt2Img(prompt="theirs", seed=1, checkpoint="x"), "me")
    with pytest.raises(QueueError, match="another Atelier has taken the job list"):
        store.add(Txt2Img(seed=1, checkpoint="x"), "me")
    assert prompts(other) == ["theirs"]
    other.close()
    store.add(Txt2Img(prompt="more", seed=1, checkpoint="x"), "me")
    assert prompts(store) == ["mine", "more"], "when it is gone, ours goes on and theirs is kept"
    assert path.with_name("jobs.sqlite.replaced-1").exists()

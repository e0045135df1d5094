"""A small App that is killed again and again: run by test_crash in a process of its own.

Each round, a child takes up the queue where the last one left it, paints (noise from the seed) and saves, and writes a line
to a pipe for everything that it acknowledges.  It dies by SIGKILL: at the n-th system call of a save or edge of a transaction,
counted from 1 and growing, or from outside after some acknowledgements.  After each death the parent, which remembers every
acknowledgement, looks at the disk.  The last child lives and finishes everything.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modules.images import files, outputs, png
from modules.images.infotext import GenerationInfo, parse_record
from modules.images.outputs import Outputs
from modules.queue.store import Job, JobStore
from modules.request import Txt2Img
from tests.faults import FaultyOs
from tests.picture_files import read_pixels

COUNT = 3
"""Pictures of each job."""


def paint(seed: int) -> bytes:
    return random.Random(seed).randbytes(16 * 16 * 3)


class Death:
    """SIGKILL at the n-th place where something happens to the disk; never when n is 0."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def child(folder: Path, death: Death, acknowledge: int, endless: bool) -> None:
    files.os = outputs.os = FaultyOs(before=death, after=death)  # type: ignore[attr-defined]
    transaction = JobStore._transaction

    @contextmanager
    def mortal(self: JobStore, durable: bool = True) -> Iterator[sqlite3.Connection]:
        death()
        with transaction(self, durable) as db:
            yield db
            death()  # all is said, nothing is committed
        death()

    JobStore._transaction = mortal  # type: ignore[method-assign, assignment]

    def tell(*words: object) -> None:
        os.write(acknowledge, (" ".join(str(word) for word in words) + "\n").encode())

    store, folder_of_pictures = JobStore(folder / "jobs.sqlite"), Outputs(folder / "outputs")
    folder_of_pictures.sweep()
    for job in store.recover():
        finish(store, folder_of_pictures, job, tell)
    while endless:
        job = store.add(Txt2Img(seed=random.Random(os.getpid()).randrange(2**31), count=COUNT, width=64, height=64), "anna")
        tell("job", job.id)
        finish(store, folder_of_pictures, job, tell)
    store.close()


def finish(store: JobStore, folder: Outputs, job: Job, tell: Any) -> None:
    store.mark_running(job.id)
    for index in set(range(COUNT)) - {picture.index for picture in job.pictures}:
        request = job.request.image(index)
        saved = folder.find(job.id, index, request.seed, job.created)
        if saved is None:
            info = GenerationInfo(request, "m", "0123456789", "Karras", "Atelier")
            saved = folder.save(paint(request.seed), 16, 16, info, job.id, index, job.created)
        store.picture_done(job.id, index, saved, request.seed)
        tell("picture", job.id, index, saved.name, saved.sha256)
    store.finish(job.id, "done")
    tell("done", job.id)


class Witness:
    """What was acknowledged, and whether the disk still agrees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: set[str] = set()
        self.done: set[str] = set()
        self.pictures: dict[tuple[str, int], tuple[str, str]] = {}
        self.found = 0

    def hear(self, line: str) -> None:
        kind, *words = line.split()
        if kind == "job":
            self.jobs.add(words[0])
        elif kind == "done":
            self.done.add(words[0])
        else:
            key = (words[0], int(words[1]))
            assert key not in self.pictures, f"{key} was acknowledged twice"
            self.pictures[key] = (words[2], words[3])

    def look(self) -> dict[str, str]:
        """Hold the disk against memory.  Returns the state of every job."""
        found: Counter[tuple[str, int]] = Counter()
        for path in (self.folder / "outputs").rglob("*.png"):
            pixels, _, _ = read_pixels(path)  # raises when torn
            record = parse_record(png.read_texts(path).texts[png.RECORD])
            assert pixels == paint(record.info.request.seed), f"{path} is not its seed's picture"
            found[record.job, record.index] += 1
        assert set(found.values()) <= {1}, f"doubled: {found}"
        self.found = len(found)

        database = self.folder / "jobs.sqlite"
        if not database.exists():
            assert not self.jobs
            return {}
        db = sqlite3.connect(database)
        states = dict(db.execute("SELECT id, state FROM jobs")) if db.execute("PRAGMA table_info(jobs)").fetchall() else {}
        rows = {(row[0], row[1]): (row[2], row[3]) for row in db.execute("SELECT * FROM pictures")} if states else {}
        db.close()
        assert self.jobs <= set(states), "an accepted job is gone"
        assert all(states[job] == "done" for job in self.done)
        for key, saved in self.pictures.items():
            assert rows[key] == saved, "an acknowledged picture has no row"
        for name, sha256 in rows.values():
            assert hashlib.sha256((self.folder / "outputs" / name).read_bytes()).hexdigest() == sha256
        return states


def one_round(folder: Path, witness: Witness, n: int, heard: int | None, endless: bool = True) -> int:
    """A life: dies at place `n`, or is killed after `heard` acknowledgements, or ends well.  Returns its exit status."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            child(folder, Death(n), write, endless)
        except BaseException as error:
            print(f"the child raised {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as acknowledged:
        for line in acknowledged:
            assert line.endswith("\n")
            witness.hear(line)
            if heard is not None:
                heard -= 1
                if heard == 0:
                    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path, rounds: int) -> None:
    witness, chance = Witness(folder), random.Random(1)
    for number in range(1, rounds + 1):
        by_itself = number % 4 != 0
        status = one_round(folder, witness, number if by_itself else 0, None if by_itself else chance.randint(1, 12))
        assert status == -signal.SIGKILL, f"round {number} ended with {status}"
        witness.look()
    assert one_round(folder, witness, 0, None, endless=False) == 0
    states = witness.look()
    assert set(states.values()) == {"done"}, states
    leftovers = [path.name for path in (folder / "outputs").rglob("*") if path.is_file() and path.suffix != ".png"]
    assert not leftovers, leftovers
    print(json.dumps({"done": len(states), "pictures": witness.found, "acknowledged": len(witness.pictures)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""The job list: what is accepted stays, in order, and ends once."""

from __future__ import annotations

import errno
import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modules.errors import LimitError, QueueError
from modules.queue import database
from modules.queue.records import Outcome
from modules.queue.store import JobStore
from modules.request import Txt2Img

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class File:
    name: str = "2026-08-14/120000-0-000-7.png"
    sha256: str = "ab" * 32
    infotext: str = "a cat 🐈\nSteps: 20"
    width: int = 64
    height: int = 32


def ask(prompt: str = "a cat", **fields: Any) -> Txt2Img:
    return Txt2Img(prompt=prompt, seed=7, checkpoint="starter", **fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[JobStore]:
    opened = JobStore(path)
    yield opened
    opened.close()


def reopened(store: JobStore, path: Path, **options: Any) -> JobStore:
    """The list as after `kill -9`: the old connection never said goodbye, and the system took its lock back."""
    store._file.abandon()
    return JobStore(path, **options)


def test_an_accepted_job_is_there_after_a_kill(store: JobStore, path: Path) -> None:
    job = store.add(ask("日本 👩🏽‍🎨\nNegative prompt: x", count=3), "anna")
    assert (job.state, job.attempts, job.error, job.pictures) == ("queued", 0, "", ())
    assert not job.over
    after = reopened(store, path)
    assert after.get(job.id) == job
    assert after.recover() == [job]
    after.close()


def test_seeds_have_64_bits(store: JobStore, path: Path) -> None:
    """SQLite's integers have a sign."""
    seeds = (0, 2**63 - 1, 2**63, 2**64 - 1)
    job = store.add(Txt2Img(seed=2**64 - 1, checkpoint="starter", count=4), "anna")
    for index, seed in enumerate(seeds):
        assert store.picture_done(job.id, index, File(), seed)
    after = reopened(store, path)
    found = after.get(job.id)
    assert found is not None
    assert (found.request.seed, tuple(picture.seed for picture in found.pictures)) == (2**64 - 1, seeds)
    after.close()


def test_a_job_goes_from_queue_to_done(store: JobStore) -> None:
    first, second = store.add(ask(), "anna"), store.add(ask(count=2), "ben")
    assert [job.id for job in store.unfinished()] == [first.id, second.id]

    running = store.mark_running(first.id)
    assert (running.state, running.attempts) == ("running", 0)
    assert running.started is not None

    assert store.picture_done(first.id, 0, File(), 7)
    done = store.finish(first.id, "done")
    assert done is not None
    assert done.over
    assert (done.state, done.error) == ("done", "")
    picture = done.pictures[0]
    assert (picture.index, picture.path, picture.sha256) == (0, File().name, File().sha256)
    assert (picture.infotext, picture.width, picture.height, picture.seed) == (File().infotext, 64, 32, 7)
    assert [job.id for job in store.unfinished()] == [second.id]


def test_a_picture_is_recorded_once_and_the_first_stands(store: JobStore) -> None:
    job = store.add(ask(count=2), "anna")
    assert store.picture_done(job.id, 1, File("first.png"), 8)
    assert not store.picture_done(job.id, 1, File("second.png"), 8)
    assert store.picture_done(job.id, 0, File("zero.png"), 7)
    assert (found := store.get(job.id)) is not None
    assert [(picture.index, picture.path) for picture in found.pictures] == [(0, "zero.png"), (1, "first.png")]


def test_a_picture_of_no_job_is_refused(store: JobStore) -> None:
    with pytest.raises(QueueError, match="FOREIGN KEY"):
        store.picture_done("none", 0, File(), 7)


@pytest.mark.parametrize("outcome", ["done", "failed", "cancelled"])
def test_a_job_ends_once(outcome: Outcome, store: JobStore) -> None:
    job = store.add(ask(), "anna")
    ended = store.finish(job.id, outcome, "because")
    assert ended is not None
    for other in ("done", "failed", "cancelled"):
        assert store.finish(job.id, other, "later") == ended
    assert store.cancel(job.id, "anna") == ended
    with pytest.raises(QueueError, match=f"cannot begin: it is {outcome}, not queued"):
        store.mark_running(job.id)


def test_only_ends_are_ends(store: JobStore) -> None:
    job = store.add(ask(), "anna")
    with pytest.raises(ValueError, match="ends as one of done, failed, cancelled, not 'running'"):
        store.finish(job.id, "running")  # type: ignore[arg-type]
    assert store.finish("none", "done") is None
    with pytest.raises(QueueError, match="it is unknown"):
        store.mark_running("none")


def test_one_cancels_and_sees_ones_own_jobs_only(store: JobStore) -> None:
    job = store.add(ask(), "anna")
    assert store.cancel(job.id, "ben") is None
    assert store.cancel("none", "anna") is None
    assert store.get(job.id, "ben") is None
    assert store.get(job.id, "anna") == job
    cancelled = store.cancel(job.id, "anna")
    assert cancelled is not None
    assert cancelled.state == "cancelled"
    assert store.cancel(job.id, "anna") == cancelled
    assert store.list_for("ben") == []
    assert store.list_for("anna") == [cancelled]


def test_lists_are_newest_first_and_limited(store: JobStore) -> None:
    ids = [store.add(ask(str(number)), "anna").id for number in range(5)]
    store.add(ask(), "ben")
    assert [job.id for job in store.list_for("anna", 3)] == ids[:1:-1]


def test_a_restart_keeps_order_places_and_pictures(store: JobStore, path: Path) -> None:
    """Fifty queued, one running with a picture, five done: as after any kill."""
    jobs = [store.add(ask(str(number), count=2), "anna") for number in range(56)]
    for job in jobs[:5]:
        store.mark_running(job.id)
        for index in range(2):
            store.picture_done(job.id, index, File(f"{job.id}{index}"), 7)
        store.finish(job.id, "done")
    store.mark_running(jobs[5].id)
    store.picture_done(jobs[5].id, 0, File(f"{jobs[5].id}0"), 7)

    after = reopened(store, path)
    waiting = after.recover()
    assert [job.id for job in waiting] == [job.id for job in jobs[5:]]
    assert {job.state for job in waiting} == {"queued"}
    assert [picture.index for picture in waiting[0].pictures] == [0]
    assert waiting[0].request == jobs[5].request
    assert all((found := after.get(job.id)) is not None and len(found.pictures) == 2 for job in jobs[:5])
    after.close()


def test_a_clock_that_jumps_changes_no_order(path: Path) -> None:
    times = iter([2e9, 1e9, 3e9, -1.0])
    store = JobStore(path, clock=lambda: next(times))
    ids = [store.add(ask(), "anna").id for _ in range(4)]
    assert [job.id for job in store.recover()] == ids
    assert [job.id for job in store.list_for("anna")] == ids[::-1]
    store.close()


def test_a_job_that_two_engines_died_over_is_given_up(store: JobStore, path: Path) -> None:
    poison, other = store.add(ask(), "anna"), store.add(ask(), "ben")
    for attempts in (0, 1):
        store.mark_running(poison.id)
        store = reopened(store, path)
        assert [(job.id, job.attempts) for job in store.recover()] == [(poison.id, attempts), (other.id, 0)]
        store.engine_died([poison.id])
    store = reopened(store, path)
    assert [job.id for job in store.recover()] == [other.id]
    assert (found := store.get(poison.id)) is not None
    assert (found.state, found.attempts) == ("failed", 2)
    assert "died twice while making this picture" in found.error
    store.close()


def test_restarts_blame_nobody(store: JobStore, path: Path) -> None:
    """However often the program itself is killed, the job waits for the next start."""
    job = store.add(ask(count=10), "anna")
    for _ in range(5):
        store.mark_running(job.id)
        store = reopened(store, path)
        assert [(waiting.id, waiting.attempts) for waiting in store.recover()] == [(job.id, 0)]
    store.close()


def test_a_finished_picture_makes_attempts_count_anew(store: JobStore) -> None:
    job = store.add(ask(count=10), "anna")
    for index in range(9):
        store.engine_died([job.id])
        store.picture_done(job.id, index, File(str(index)), 7)
    assert (found := store.get(job.id)) is not None
    assert found.attempts == 0


def test_a_job_that_only_lacked_its_last_word_is_done(store: JobStore, path: Path) -> None:
    job = store.add(ask(), "anna")
    store.mark_running(job.id)
    store.picture_done(job.id, 0, File(), 7)
    store = reopened(store, path)
    assert store.recover() == []
    assert (found := store.get(job.id)) is not None
    assert (found.state, len(found.pictures)) == ("done", 1)
    store.close()


def test_closing_puts_back_what_runs(store: JobStore, path: Path) -> None:
    job = store.add(ask(), "anna")
    for _ in range(3):
        store.mark_running(job.id)
        store.close()
        store.close()
        store = JobStore(path)
        assert [(waiting.id, waiting.state) for waiting in store.unfinished()] == [(job.id, "queued")]
    store.close()


def test_the_same_key_is_the_same_job(store: JobStore, path: Path) -> None:
    job = store.add(ask(), "anna", key="k 1")
    assert store.add(ask("another"), "anna", key="k 1") == job
    assert store.add(ask(), "ben", key="k 1").id != job.id
    assert store.add(ask(), "anna").id != store.add(ask(), "anna").id, "without a key every job is its own"
    store.finish(job.id, "done")
    store = reopened(store, path)
    again = store.add(ask(), "anna", key="k 1")
    assert (again.id, again.state) == (job.id, "done")
    assert (found := store.with_key("k 1", "anna")) is not None
    assert found.id == job.id
    assert store.with_key("k 2", "anna") is None
    store.close()


def test_limits_per_user_and_in_total(path: Path) -> None:
    store = JobStore(path, per_user=2, total=3)
    first, _ = store.add(ask(), "anna", key="k"), store.add(ask(), "anna")
    with pytest.raises(LimitError, match="you have 2 jobs in the queue, and 2 is the most"):
        store.add(ask(), "anna")
    assert store.add(ask(), "anna", key="k") == first, "asking again for what is there adds nothing"
    store.add(ask(), "ben")
    with pytest.raises(LimitError, match="3 jobs are in the queue, and 3 is the most"):
        store.add(ask(), "cleo")
    store.mark_running(first.id)
    with pytest.raises(LimitError):
        store.add(ask(), "anna")
    store.finish(first.id, "failed")
    store.add(ask(), "anna")
    with pytest.raises(LimitError):
        store.retry(first.id, "anna")
    assert len(store.unfinished()) == 3
    store.close()


def test_owners_change_seats_among_their_own(store: JobStore, path: Path) -> None:
    jobs = [store.add(ask(), user) for user in ("anna", "ben", "anna", "anna", "ben")]
    a1, b1, a2, a3, b2 = (job.id for job in jobs)
    assert store.move(a3, "anna", 0) == [a3, a1, a2]
    assert [job.id for job in store.unfinished()] == [a3, b1, a1, a2, b2]
    assert store.move(a3, "anna", 99) == [a1, a2, a3]
    assert store.move(a1, "ben", 0) is None
    assert store.move("none", "anna", 0) is None
    store.move(b2, "ben", -5)
    store = reopened(store, path)
    assert [job.id for job in store.recover()] == [a1, b2, a2, a3, b1]
    store.close()


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_what_did_not_come_to_its_end_can_be_tried_again(outcome: Outcome, store: JobStore) -> None:
    job, later = store.add(ask(count=2), "anna"), store.add(ask(), "ben")
    store.picture_done(job.id, 0, File(), 7)
    store.engine_died([job.id])
    store.finish(job.id, outcome, "because")
    assert store.retry(job.id, "ben") is None
    again = store.retry(job.id, "anna")
    assert again is not None
    assert (again.state, again.error, again.attempts, again.finished) == ("queued", "", 0, None)
    assert (again.request, [picture.index for picture in again.pictures]) == (job.request, [0])
    newest = store.add(ask(), "anna")
    assert [waiting.id for waiting in store.unfinished()] == [later.id, job.id, newest.id]
    assert store.retry(job.id, "anna") is None, "it waits already"


def test_done_is_done(store: JobStore) -> None:
    job = store.add(ask(), "anna")
    store.finish(job.id, "done")
    assert store.retry(job.id, "anna") is None


def test_one_removes_ones_own_finished_jobs_only(store: JobStore) -> None:
    job = store.add(ask(), "anna")
    assert not store.remove(job.id, "anna"), "what waits is cancelled, not removed"
    store.picture_done(job.id, 0, File(), 7)
    store.finish(job.id, "done")
    assert not store.remove(job.id, "ben")
    assert store.remove(job.id, "anna")
    assert not store.remove(job.id, "anna")
    assert store.get(job.id) is None
    assert store._file.db.execute("SELECT count(*) FROM pictures").fetchone()[0] == 0


def test_pauses_and_costs_outlive_a_restart(store: JobStore, path: Path) -> None:
    store.pause("anna", True)
    store.pause("anna", True)
    store.pause("ben", True)
    store.pause("ben", False)
    cost = ("cpu", "predict", "starter", 512, 512, 2, 0.25)
    store.keep_costs([(*cost[:-1], 9.0)])
    store.keep_costs([cost])
    store = reopened(store, path)
    assert store.paused() == {"anna"}
    assert store.costs() == [cost]
    store.close()


def test_history_is_bounded_and_what_waits_is_never_forgotten(path: Path) -> None:
    store = JobStore(path, history=3)
    waiting = store.add(ask(), "anna")
    ids = []
    for number in range(6):
        job = store.add(ask(str(number)), "anna")
        store.picture_done(job.id, 0, File(str(number)), 7)
        store.finish(job.id, "done")
        ids.append(job.id)
    assert [job.id for job in store.list_for("anna")] == [*ids[:2:-1], waiting.id]
    assert store._file.db.execute("SELECT count(*) FROM pictures").fetchone()[0] == 3
    newest = store.add(ask(), "anna")
    assert newest.position > waiting.position + 6
    store.close()


def test_the_newest_checkpoint_is_known(store: JobStore) -> None:
    assert store.latest_checkpoint() is None
    store.add(Txt2Img(seed=1, checkpoint="old"), "anna")
    store.add(Txt2Img(seed=1, checkpoint="sub/new"), "ben")
    assert store.latest_checkpoint() == "sub/new"


def test_many_threads_lose_nothing(store: JobStore) -> None:
    errors: list[BaseException] = []

    def work(user: str) -> None:
        try:
            for _ in range(20):
                job = store.add(ask(), user)
                store.mark_running(job.id)
                store.picture_done(job.id, 0, File(), 7)
                assert (done := store.finish(job.id, "done")) is not None
                assert done.state == "done"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"user{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    jobs = [job for number in range(8) for job in store.list_for(f"user{number}", 100)]
    assert len(jobs) == len({job.id for job in jobs}) == len({job.position for job in jobs}) == 160
    assert {(job.state, len(job.pictures)) for job in jobs} == {("done", 1)}


def test_a_second_process_is_refused_until_the_first_is_gone(store: JobStore, path: Path) -> None:
    with pytest.raises(QueueError, match=r"another Atelier is using \S+jobs\.sqlite: stop it"):
        JobStore(path)
    code = f"from pathlib import Path; from modules.queue.store import JobStore; JobStore(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "another Atelier is using" in done.stderr
    store.close()
    JobStore(path).close()


def test_commits_wait_for_the_disk(store: JobStore) -> None:
    """WAL with synchronous=FULL: a commit is flushed before it returns."""
    assert store._file.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store._file.db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_without_a_file_the_list_lives_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = JobStore(None)
    job = store.add(ask(), "anna")
    assert store.recover() == [job]
    store.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"\0" * 4096, b"<html>" * 1000, "middle", "cut", "one page"])
def test_a_damaged_list_is_set_aside_and_what_is_legible_lives_on(content: bytes | str, store: JobStore, path: Path) -> None:
    jobs = [store.add(ask("x" * 2000 + str(number)), "anna") for number in range(200)]
    for job in jobs[:50]:
        store.picture_done(job.id, 0, File(job.id), 7)
    store.close()
    data = path.read_bytes()
    middle = len(data) // 2
    broken = {
        "middle": data[: middle // 2] + random.Random(1).randbytes(middle) + data[middle + middle // 2 :],
        "cut": data[:middle],
        "one page": data[: 4096 * 40] + bytes(4096) + data[4096 * 41 :],
    }
    damaged = content if isinstance(content, bytes) else broken[content]
    path.write_bytes(damaged)

    after = JobStore(path)
    assert after.notice.startswith("The job list was damaged (")
    assert "jobs.sqlite.damaged-1" in after.notice
    assert path.with_name("jobs.sqlite.damaged-1").stat().st_size > 0, "nothing is thrown away"
    kept = after.recover()
    assert all(job in jobs or job.pictures for job in kept), "what was taken over is as it was"
    if content == "one page":
        assert len(after.list_for("anna", 999)) >= 190
    again = after.add(ask(), "anna") if len(kept) < 50 else kept[0]
    after.close()

    third = JobStore(path)
    assert third.notice == ""
    assert third.get(again.id) is not None
    third.close()


def test_a_list_of_a_newer_version_is_left_alone(store: JobStore, path: Path) -> None:
    store._file.db.execute("INSERT INTO migrations VALUES ('m999_from_the_future', 0)")
    store.close()
    before = path.read_bytes()
    with pytest.raises(QueueError, match=r"was made by a newer version \(it has m999_from_the_future\); use that version"):
        JobStore(path)
    assert path.read_bytes() == before


def test_a_list_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        QueueError, match=r"cannot be opened: (Not a directory|File exists); check the folder, or use --data-dir"
    ):
        JobStore(tmp_path / "file" / "jobs.sqlite")


def test_looking_ahead_leaves_nothing_behind(store: JobStore) -> None:
    store.pause("anna", True)
    store.check_writable()
    assert store.paused() == {"anna"}
    store._file.db.execute("PRAGMA query_only = ON")
    with pytest.raises(QueueError, match="cannot be written"):
        store.check_writable()
    store._file.db.execute("PRAGMA query_only = OFF")


def test_a_full_disk_refuses_the_job_and_keeps_the_list(path: Path) -> None:
    """SQLite's own page limit stands for the disk: the same error, at the same places."""
    store = JobStore(path)
    kept = store.add(ask(), "anna")
    store._file.db.execute("PRAGMA max_page_count = 12")
    accepted = [kept.id]
    refusal = ""
    while not refusal and len(accepted) < 100:
        try:
            accepted.append(store.add(ask("x" * 3000), "anna").id)
        except QueueError as error:
            refusal = str(error)
    assert refusal.endswith("cannot be written: the disk is full; make room and try again")
    assert [job.id for job in store.unfinished()] == accepted
    store._file.db.execute("PRAGMA max_page_count = 100000")
    again = store.add(ask("x" * 3000), "anna")
    store = reopened(store, path)
    assert [job.id for job in store.recover()] == [*accepted, again.id]
    store.close()


@pytest.mark.parametrize(
    ("stored", "prompt"),
    [
        ('{"prompt": "kept", "steps": 9999, "from_the_future": 1}', "kept"),
        ('{"prompt": 5}', ""),
        ("[1]", ""),
        ("{", ""),
        ('"text"', ""),
    ],
)
def test_a_request_of_another_version_is_shown_and_never_run(stored: str, prompt: str, store: JobStore, path: Path) -> None:
    bad, good = store.add(ask(), "anna"), store.add(ask(), "anna")
    store._file.db.execute("UPDATE jobs SET request = ? WHERE id = ?", (stored, bad.id))
    store = reopened(store, path)
    assert [job.id for job in store.recover()] == [good.id]
    assert (found := store.get(bad.id)) is not None
    assert found.state == "failed"
    assert "this version cannot carry out the stored request" in found.error
    assert found.request.prompt == prompt
    assert len(store.list_for("anna")) == 2
    store.close()


def test_a_closed_list_says_so(store: JobStore) -> None:
    store.close()
    with pytest.raises(QueueError, match="closed"):
        store.add(ask(), "anna")
    with pytest.raises(QueueError, match="closed"):
        store.get("x")


def test_requests_are_stored_as_plain_json(store: JobStore) -> None:
    """Anybody with the sqlite3 tool can read the list."""
    store.add(ask("plain"), "anna")
    row = store._file.db.execute("SELECT request FROM jobs").fetchone()
    assert json.loads(row["request"])["prompt"] == "plain"


def test_a_lock_file_that_cannot_be_locked_is_an_error_of_ours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(database, "ProcessLock", refuse)
    with pytest.raises(QueueError, match="cannot be opened: No locks available"):
        JobStore(path)


def test_the_list_is_an_ordinary_database(store: JobStore, path: Path) -> None:
    """A second reader, such as a person's sqlite3 or our own `verify`, is not kept out by the process lock."""
    job = store.add(ask(), "anna")
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert reader.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
    reader.close()


def test_who_reads_does_not_wait_for_a_write_that_is_being_flushed(store: JobStore) -> None:
    job = store.add(ask(), "anna")
    within, go_on = threading.Event(), threading.Event()

    def write() -> None:
        with store._transaction() as db:
            db.execute("UPDATE jobs SET error = 'half' WHERE id = ?", (job.id,))
            within.set()
            go_on.wait(60)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert within.wait(60)
    with ThreadPoolExecutor(max_workers=1) as pool:
        found = pool.submit(store.get, job.id)
        try:
            seen = found.result(30)
        finally:
            go_on.set()
    writer.join(60)
    assert seen is not None
    assert seen.error == "", "and sees what was committed before"
    after = store.get(job.id)
    assert after is not None
    assert after.error == "half"


def test_that_a_job_runs_is_not_flushed_by_itself_and_all_else_is(store: JobStore) -> None:
    """One flush fewer for each job: after a power cut it waits again, as it does after any end of the program."""
    said: list[str] = []
    job = store.add(ask(), "anna").id
    store._file.db.set_trace_callback(said.append)
    store.mark_running(job)
    assert "PRAGMA synchronous = NORMAL" in said
    said.clear()
    store.picture_done(job, 0, File(), 7, last=True)
    assert "PRAGMA synchronous = FULL" in said
    assert said.count("COMMIT") == 1, "the row and the job's end at once"
    store._file.db.set_trace_callback(None)
    found = store.get(job)
    assert found is not None
    assert (found.state, len(found.pictures)) == ("done", 1)

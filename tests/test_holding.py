"""A disk that is full, read-only or gone holds jobs, says so and lets them go on; a list that cannot be written costs none."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modules.app import App
from modules.engine.messages import Message
from modules.errors import OutputError, QueueError, RequestError
from modules.images import files
from modules.jobs import hold, saver
from modules.jobs.views import JobView
from modules.queue.store import JobStore
from modules.settings import Settings
from tests.faults import FaultyOs
from tests.picture_files import read_pixels
from tests.scripted import EagerLink, ScriptedLink
from tests.test_app import SMALL
from tests.tiny import tiny_checkpoint

PATIENCE = 90.0
"""Seconds after which a test gives up; nothing is measured."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "my data", models_dirs=(models,), outputs_dir=tmp_path / "my pictures" / "out")


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def app(settings: Settings, link: ScriptedLink, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(hold, "HOLD_SECONDS", 0.05)
    made = App(settings, link)
    made.start()
    link.hello()
    yield made
    made.close()


def until(ready: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.01)


def seen(app: App, view: JobView, user: str = "me") -> JobView:
    found = app.job(view.id, user)
    assert found is not None
    return found


def saved(app: App) -> None:
    """All that was handed to the saver by now is dealt with."""
    app.service.saver.settle(PATIENCE)


class Disk:
    """The disk of the pictures.  `fail` makes every write end in this error until `mend`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._error = 0

        def before(call: str, arguments: tuple[Any, ...], n: int) -> None:
            if self._error and call in ("open", "write"):
                raise OSError(self._error, "as the test wants it")

        monkeypatch.setattr(files, "os", FaultyOs(before=before))

    def fail(self, error: int) -> None:
        self._error = error

    def mend(self) -> None:
        self._error = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_in_the_middle_holds_all_jobs_and_they_go_on(
    app: App, link: ScriptedLink, disk: Disk, error: int
) -> None:
    views = [app.submit({**SMALL, "seed": 100 * n, "count": 2}, "me") for n in range(6)]
    tasks = link.flying()
    assert len(tasks) == 12
    disk.fail(error)
    for number, task in enumerate(tasks):
        link.done(task, bytes([number]) * (64 * 64 * 3))
    saved(app)
    for view in views:
        held = seen(app, view)
        assert (held.state, held.done, held.error) == ("running", 0, "")
        assert held.held.startswith("the picture could not be saved: ")
        assert "my pictures" not in held.held, "where the folder lies is for the log"
    assert app.engine().message == f"Nothing is begun: {held.held}"
    with pytest.raises(OutputError):
        app.submit(SMALL, "me")

    disk.mend()
    until(lambda: all(seen(app, view).over for view in views))
    assert [(seen(app, view).state, seen(app, view).done, seen(app, view).held) for view in views] == [("done", 2, "")] * 6
    assert Counter(link.tasks()) == Counter(tasks), "what was painted is not painted again"
    for number, task in enumerate(tasks):
        job, _, index = task.rpartition(".")
        path = next(p.path for view in views if view.id == job for p in seen(app, view).pictures if p.index == int(index))
        assert read_pixels(path)[0] == bytes([number]) * (64 * 64 * 3)
    assert app.engine().message == "Ready."
    app.submit(SMALL, "me")


def test_a_folder_that_vanishes_holds_until_it_is_back(app: App, link: ScriptedLink, settings: Settings) -> None:
    view, waiting = app.submit(SMALL, "me"), app.submit({**SMALL, "seed": 8}, "me")
    out, away = settings.outputs_dir, settings.outputs_dir.with_name("away")
    out.rename(away)
    link.done(f"{view.id}.0")
    saved(app)
    assert (seen(app, view).state, seen(app, view).held) == (
        "running",
        "the picture could not be saved: the folder out is gone; put it back (is its disk connected?), or choose another "
        "folder with --outputs-dir",
    )
    assert seen(app, waiting).held, "so does what waits behind it"
    away.rename(out)
    until(lambda: seen(app, view).state == "done")
    assert len(link.tasks()) == 2


def test_what_memory_does_not_hold_is_painted_again(
    app: App, link: ScriptedLink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "UNSAVED_BYTES", 2 * 64 * 64 * 3)
    view = app.submit({**SMALL, "count": 3}, "me")
    disk.fail(errno.ENOSPC)
    for index in range(3):
        link.done(f"{view.id}.{index}")
    saved(app)
    assert (seen(app, view).state, sorted(app.service.live.jobs[view.id].unsaved)) == ("running", [0, 1])
    assert link.flying() == [], "nothing is begun while the disk is full"
    disk.mend()
    until(lambda: link.flying() == [f"{view.id}.2"])
    until(lambda: seen(app, view).done == 2)
    link.done(f"{view.id}.2")
    until(lambda: seen(app, view).state == "done")


def test_an_engine_that_dies_meanwhile_blames_no_picture_that_is_finished(app: App, link: ScriptedLink, disk: Disk) -> None:
    view = app.submit(SMALL, "me")
    disk.fail(errno.ENOSPC)
    link.done(f"{view.id}.0")
    saved(app)
    for _ in range(3):
        link.died()
        link.hello()
    assert link.tasks() == []
    disk.mend()
    until(lambda: seen(app, view).state == "done")
    assert link.tasks() == []


def test_a_job_is_cancelled_while_it_is_held(app: App, link: ScriptedLink, disk: Disk) -> None:
    view, other = app.submit(SMALL, "me"), app.submit(SMALL, "you")
    disk.fail(errno.ENOSPC)
    link.done(f"{view.id}.0")
    link.done(f"{other.id}.0")
    saved(app)
    assert app.cancel(view.id, "me")
    assert (seen(app, view).state, seen(app, view).held) == ("cancelled", "")
    disk.mend()
    until(lambda: seen(app, other, "you").state == "done")
    assert seen(app, view).done == 0
    assert app.retry(view.id, "me")
    until(lambda: link.flying() == [f"{view.id}.0"])


def test_a_restart_while_it_is_held_paints_again(settings: Settings, app: App, link: ScriptedLink, disk: Disk) -> None:
    view = app.submit({**SMALL, "count": 2}, "me")
    link.done(f"{view.id}.0")
    saved(app)
    disk.fail(errno.ENOSPC)
    link.done(f"{view.id}.1")
    saved(app)
    app.close()
    disk.mend()
    later = EagerLink()
    after = App(settings, later)
    after.start()
    later.hello()
    until(lambda: seen(after, view).state == "done")
    assert later.tasks() == [f"{view.id}.1"]
    after.close()


def test_what_is_finished_is_saved_at_the_stop_if_there_is_room_by_then(
    settings: Settings, link: ScriptedLink, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(settings, link)
    app.start()
    link.hello()
    view = app.submit(SMALL, "me")
    disk.fail(errno.ENOSPC)
    link.done(f"{view.id}.0")
    saved(app)
    disk.mend()
    app.close()
    with_it = JobStore(settings.data_dir / "jobs.sqlite")
    job = with_it.get(view.id)
    assert job is not None
    assert (job.state, len(job.pictures)) == ("done", 1)
    with_it.close()


def test_a_command_does_not_wait_for_the_disk(settings: Settings, link: ScriptedLink, disk: Disk) -> None:
    """`generate` ends with the reason instead."""
    app = App(settings, link, durable=False)
    app.start()
    link.hello()
    view = app.submit(SMALL, "me")
    disk.fail(errno.ENOSPC)
    link.done(f"{view.id}.0")
    saved(app)
    assert seen(app, view).state == "failed"
    assert "is full" in seen(app, view).error
    app.close()


# ---- the job list's disk


class Refusing:
    """Lets a method of the job list fail while `on`, as on a full disk."""

    def __init__(self, app: App, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on, self.asked = False, 0
        real = getattr(app.store, method)

        def call(*arguments: Any, **options: Any) -> Any:
            self.asked += 1
            if self.on:
                raise QueueError("the job list jobs.sqlite cannot be written: the disk is full; make room and try again")
            return real(*arguments, **options)

        monkeypatch.setattr(app.store, method, call)


@pytest.fixture
def refuse(app: App, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Refusing]:
    return lambda method: Refusing(app, method, monkeypatch)


def test_a_picture_whose_row_cannot_be_written_is_held(app: App, link: ScriptedLink, refuse: Callable[[str], Refusing]) -> None:
    row = refuse("picture_done")
    view = app.submit(SMALL, "me")
    row.on = True
    link.done(f"{view.id}.0")
    saved(app)
    assert (seen(app, view).state, seen(app, view).held) == (
        "running",
        "the job list jobs.sqlite cannot be written: the disk is full; make room and try again",
    )
    row.on = False
    until(lambda: seen(app, view).state == "done")
    assert len(list(app.outputs.folder.rglob("*.png"))) == 1, "saved once"


def test_a_job_that_cannot_be_marked_as_running_is_stranded_nowhere(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing]
) -> None:
    mark = refuse("mark_running")
    mark.on = True
    views = [app.submit({**SMALL, "count": 2}, "me"), app.submit(SMALL, "me")]
    assert link.flying() == []
    assert app.service.live.dispatcher.in_flight() == [], "no place at the engine is lost"
    assert [(seen(app, view).state, bool(seen(app, view).held)) for view in views] == [("queued", True)] * 2
    mark.on = False
    order = [f"{views[0].id}.0", f"{views[0].id}.1", f"{views[1].id}.0"]
    until(lambda: link.flying() == order)


def test_a_hold_ends_when_the_list_can_be_written_and_not_before(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing], caplog: pytest.LogCaptureFixture
) -> None:
    mark, probe = refuse("mark_running"), refuse("check_writable")
    mark.on = probe.on = True
    view = app.submit(SMALL, "me")
    until(lambda: probe.asked >= 3)
    assert mark.asked == 1, "no job is begun to find out"
    assert seen(app, view).held
    assert sum("nothing is begun" in message for message in caplog.messages) == 1, "said once"
    mark.on = probe.on = False
    until(lambda: link.flying() == [f"{view.id}.0"])
    assert not seen(app, view).held


def test_an_unexpected_error_costs_that_job_alone(app: App, link: ScriptedLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request: Any) -> Any:
        raise ValueError("a mistake of ours")

    app.pause("me", True)
    view = app.submit(SMALL, "me")
    with monkeypatch.context() as patch:
        patch.setattr(app.library, "finish", broken)
        app.pause("me", False)
    assert (seen(app, view).state, seen(app, view).error) == ("failed", "the picture could not be begun: a mistake of ours")
    again = app.submit(SMALL, "me")
    assert link.flying() == [f"{again.id}.0"]


@pytest.mark.parametrize("how", ["done", "failed"])
def test_an_end_that_cannot_be_recorded_is_recorded_later(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing], how: str
) -> None:
    finish = refuse("finish")
    view = app.submit(SMALL, "me")
    if how == "done":  # cancelled while its last picture is being saved, and taken up again with nothing left to paint
        gate = threading.Event()
        app.service.saver._thread.submit(gate.wait)
        link.done(f"{view.id}.0")
        assert app.cancel(view.id, "me")
        gate.set()
        saved(app)
    finish.on = True
    if how == "done":
        assert app.retry(view.id, "me")
    else:
        link.failed(f"{view.id}.0", "NaN in the picture")
    assert (seen(app, view).state, bool(seen(app, view).held)) == ("queued" if how == "done" else "running", True)
    assert app.unfinished(view.id), "who waits for it still does"
    finish.on = False
    until(lambda: seen(app, view).state == how)
    assert not app.unfinished(view.id)
    assert app.remove(view.id, "me")


def test_a_cancel_that_cannot_be_recorded_is_refused_and_may_be_repeated(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing]
) -> None:
    finish = refuse("finish")
    view = app.submit(SMALL, "me")
    finish.on = True
    with pytest.raises(QueueError, match="disk is full"):
        app.cancel(view.id, "me")
    assert link.flying() == [f"{view.id}.0"], "it goes on"
    finish.on = False
    assert app.cancel(view.id, "me")
    assert seen(app, view).state == "cancelled"


def test_an_engine_death_that_cannot_be_recorded_strands_no_job(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing]
) -> None:
    refuse("engine_died").on = True
    view = app.submit(SMALL, "me")
    for _ in range(2):
        assert link.flying() == [f"{view.id}.0"]
        link.died()
        link.hello()
    assert (seen(app, view).state, seen(app, view).error) == (
        "failed",
        "the engine was ended by SIGKILL; it was tried twice",
    )


def test_a_removed_job_list_is_written_again_without_a_request(app: App, settings: Settings) -> None:
    view = app.submit(SMALL, "me")
    path = settings.data_dir / "jobs.sqlite"
    path.unlink()
    until(path.exists)
    until(lambda: "removed while Atelier ran" in app.notice)
    app.close()
    stored = JobStore(path)
    assert [job.id for job in stored.unfinished()] == [view.id]
    stored.close()


# ---- the same key


def test_of_many_submits_with_one_key_at_once_one_is_painted(app: App, link: ScriptedLink) -> None:
    for round_ in range(20):
        barrier, ids, errors = threading.Barrier(4), list[str](), list[Exception]()

        def submit(key: str, barrier: threading.Barrier, ids: list[str], errors: list[Exception]) -> None:
            barrier.wait(PATIENCE)
            try:
                view = app.submit({**SMALL, "seed": 5}, "me", key)
                ids.append(view.id)
                assert app.unfinished(view.id), "who waits for it must not take it for over"
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=submit, args=(str(round_), barrier, ids, errors)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert errors == []
        assert len(set(ids)) == 1
        assert link.tasks().count(f"{ids[0]}.0") == 1, "one image, sent once"
        app.cancel(ids[0], "me")


def test_a_repeated_submit_finds_the_job_in_its_place(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its record and its place in memory, a submit with the same key waits."""
    recorded, go_on, take_up = threading.Event(), threading.Event(), app.service.live.take_up

    def slow(job: Any) -> None:
        recorded.set()
        go_on.wait(PATIENCE)
        take_up(job)

    monkeypatch.setattr(app.service.live, "take_up", slow)
    with ThreadPoolExecutor(max_workers=2) as pool:
        first = pool.submit(app.submit, SMALL, "me", "mine")
        assert recorded.wait(PATIENCE)
        second = pool.submit(lambda: app.unfinished(app.submit(SMALL, "me", "mine").id))
        time.sleep(0.05)  # it must not be answered by now; where it is, it says so
        go_on.set()
        assert second.result(PATIENCE), "who waits for it must not take it for over"
        first.result(PATIENCE)


def test_the_same_key_with_other_fields_is_refused_where_that_matters(app: App) -> None:
    first = app.submit({**SMALL, "seed": -1}, "me", "mine", exact=True)
    again = dict(reversed({**SMALL, "seed": -1}.items()))
    assert app.submit(again, "me", "mine", exact=True).id == first.id, "the order of fields means nothing"
    with pytest.raises(RequestError, match="Idempotency-Key was used for another request"):
        app.submit({**SMALL, "prompt": "a dog"}, "me", "mine", exact=True)
    assert app.submit({**SMALL, "prompt": "a dog"}, "me", "mine").id == first.id
    assert len(app.jobs("me")) == 1


def test_messages_of_the_engine_are_heard_while_nothing_can_be_written(
    app: App, link: ScriptedLink, refuse: Callable[[str], Refusing]
) -> None:
    refuse("finish").on = True
    view = app.submit(SMALL, "me")
    link.say(Message("gave_up", {"cause": "torch is broken"}))
    assert app.engine().state == "failed"
    assert app.unfinished(view.id)

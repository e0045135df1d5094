"""Who looks waits for no engine and no disk; messages keep their order, and reach one engine only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modules.app import App
from modules.engine.messages import Cancel, Message, Unload
from modules.jobs.outbox import Outbox
from modules.settings import Settings
from tests.scripted import ScriptedLink

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}

PATIENCE = 60.0
"""Seconds after which something counts as stuck."""


class StuckLink(ScriptedLink):
    """An engine that reads nothing until `gate` is set, as a stopped process behind a full pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.stuck = threading.Event(), threading.Event()

    def send(self, message: Message) -> None:
        if not self.gate.is_set():
            self.stuck.set()
            self.gate.wait(PATIENCE)
        super().send(message)


@pytest.fixture
def link() -> Iterator[StuckLink]:
    link = StuckLink()
    yield link
    link.gate.set()


@pytest.fixture
def app(settings: Settings, link: StuckLink) -> Iterator[App]:
    app = App(settings, link)
    app.start()
    yield app
    link.gate.set()
    app.close()


@pytest.fixture
def soon() -> Iterator[Callable[..., Any]]:
    """Calls on another thread, so that a call that is stuck fails the test instead of hanging it."""
    pool = ThreadPoolExecutor(max_workers=8)
    yield lambda call, *arguments: pool.submit(call, *arguments).result(PATIENCE / 2)
    pool.shutdown(wait=False, cancel_futures=True)


def everything(app: App, job: str) -> list[Any]:
    """What a page asks for."""
    return [app.engine(), app.jobs("me"), app.queue("me"), app.job(job, "me"), app.preview(job, "me"), app.unfinished(job)]


def test_an_engine_that_reads_nothing_stops_nobody(app: App, link: StuckLink, soon: Callable[..., Any]) -> None:
    soon(link.hello)
    job = soon(app.submit, {**SMALL, "count": 3}, "me")
    assert link.stuck.wait(PATIENCE)
    assert len(soon(everything, app, job.id)) == 6
    other = soon(app.submit, SMALL, "you")
    soon(app.pause, "you", True)
    assert soon(app.skip, job.id, "me")
    assert soon(app.cancel, job.id, "me")
    link.gate.set()
    assert link.flying() == []
    kinds = [message.kind for message in link.sent if message.data.get("task", "").startswith(job.id)]
    assert kinds == ["submit"] * 3 + ["finish"] + ["cancel"] * 3, "in the order in which it was decided"
    assert soon(app.job, other.id, "you").state in ("queued", "running")


@pytest.mark.parametrize("record", ["finish", "mark_running", "pause", "move", "accept", "engine_died"])
def test_a_record_that_takes_long_stops_nobody_who_looks(
    app: App, link: StuckLink, soon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    link.gate.set()
    link.hello()
    app.pause("me", True)
    job = app.submit(SMALL, "me").id
    real, begun, go_on = getattr(app.store, record), threading.Event(), threading.Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        begun.set()
        go_on.wait(PATIENCE)
        return real(*arguments, **options)

    monkeypatch.setattr(app.store, record, slow)
    calls: dict[str, Callable[[], object]] = {
        "finish": lambda: app.cancel(job, "me"),
        "mark_running": lambda: app.pause("me", False),
        "pause": lambda: app.pause("me", False),
        "move": lambda: app.move(job, "me", 0),
        "accept": lambda: app.submit(SMALL, "me"),
        "engine_died": link.died,
    }
    thread = threading.Thread(target=calls[record], daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        assert len(soon(everything, app, job)) == 6
    finally:
        go_on.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_probe_of_the_disk_that_takes_long_stops_nobody_who_looks(
    app: App, link: StuckLink, soon: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    link.gate.set()
    link.hello()
    job = app.submit(SMALL, "me").id
    begun, go_on = threading.Event(), threading.Event()

    def slow(need: int = 0) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    monkeypatch.setattr(app.outputs, "check_writable", slow)
    app.service.hold.look_again()
    thread = threading.Thread(target=app.service.sender.dispatch, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        assert len(soon(everything, app, job)) == 6
    finally:
        go_on.set()
        thread.join(PATIENCE)


def test_what_a_dead_engine_did_not_take_is_not_given_to_the_next(app: App, link: StuckLink, soon: Callable[..., Any]) -> None:
    soon(link.hello)
    jobs = [soon(app.submit, {**SMALL, "seed": n}, "me").id for n in range(3)]
    assert link.stuck.wait(PATIENCE)
    died = threading.Thread(target=link.say, args=(Message("died", {"cause": "the engine did not answer"}),), daemon=True)
    died.start()
    while soon(app.engine).state != "restarting":
        pass
    link.gate.set()  # as writing to a dead process comes back
    died.join(PATIENCE)
    before = len(link.sent)
    link.hello()
    tasks = [m.data["task"] for m in link.sent[before:] if m.kind == "submit"]
    assert tasks == [f"{jobs[0]}.0"], "the first suspect, and no second time"


def test_an_outbox_keeps_the_order_of_several_threads() -> None:
    got: list[str] = []
    outbox = Outbox(lambda message: got.append(message.data["task"]))
    lock, put = threading.Lock(), list[str]()

    def several(name: str) -> None:
        for number in range(200):
            with lock:
                put.append(f"{name}{number}")
                outbox.put(Cancel(f"{name}{number}"))

    threads = [threading.Thread(target=several, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert outbox.settle(PATIENCE)
    assert got == put
    outbox.close()
    outbox.put(Cancel("late"))
    assert outbox.settle(PATIENCE)
    assert got == put


def test_an_outbox_outlives_an_error_of_the_link(caplog: pytest.LogCaptureFixture) -> None:
    got: list[str] = []

    def send(message: Message) -> None:
        if message.kind == "unload":
            raise ValueError("a mistake")
        got.append(message.kind)

    outbox = Outbox(send)
    outbox.put(Unload())
    outbox.put(Cancel("a.0"))
    assert outbox.settle(PATIENCE)
    assert got == ["cancel"]
    assert "while sending 'unload'" in caplog.text
    outbox.close()

"""An App with two real engine processes: both paint at once, one is killed in the middle of a picture, nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.app import App
from modules.engine.link import ProcessLink
from modules.engine.messages import Message
from modules.settings import Settings

PATIENCE = 240
"""Seconds after which a test gives up; nothing is measured."""
LONG: dict[str, Any] = {"prompt": "a cat", "steps": 100, "width": 64, "height": 64, "sampler": "Euler"}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    app = App(replace(settings, device="cpu", exact=True, workers=2))
    app.start()
    yield app
    app.close()


def wait(app: App, ready: Callable[[], bool]) -> None:
    """Until `ready`, which is asked whenever something changed."""
    changed = threading.Event()
    end = app.listen(changed.set)
    try:
        while not ready():
            assert changed.wait(PATIENCE), app.engine()
            changed.clear()
    finally:
        end()


def pids(app: App) -> list[int | None]:
    links = [worker.link for worker in app.service.workers.all]
    return [link.pid for link in links if isinstance(link, ProcessLink)]


def submits(app: App) -> Counter[str]:
    """How often each image is sent to either engine, from now on."""
    sent = Counter[str]()
    for worker in app.service.workers.all:
        send = worker.link.send

        def counted(message: Message, send: Callable[[Message], None] = send) -> None:
            if message.kind == "submit":
                sent[message.data["task"]] += 1
            send(message)

        worker.link.send = counted  # type: ignore[method-assign]
    return sent


def step_of(app: App, job: str) -> int:
    view = app.job(job, "me")
    assert view is not None
    assert not view.over, "it is to be caught in the middle"
    return view.step


@pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
def test_two_engines_paint_at_once_and_one_that_is_killed_loses_nothing(app: App) -> None:
    wait(app, lambda: all(worker.resident for worker in app.service.workers.all))
    sent = submits(app)
    first, second = pids(app)
    assert None not in (first, second)
    assert first != second
    jobs = [app.submit({**LONG, "seed": seed}, "me").id for seed in (7, 8)]
    assert [app.service.live.dispatcher.worker_of(job, 0) for job in jobs] == ["0", "1"]

    wait(app, lambda: step_of(app, jobs[0]) >= 2)
    os.kill(first or 0, signal.SIGSTOP)  # it stays in the middle of its picture
    wait(app, lambda: (view := app.job(jobs[1], "me")) is not None and (view.step >= 2 or view.over))
    assert step_of(app, jobs[0]) >= 2, "both are under way"
    os.kill(first or 0, signal.SIGKILL)

    wait(app, lambda: all((view := app.job(job, "me")) is not None and view.over for job in jobs))
    wait(app, lambda: len(app.service.workers.ready()) == 2)
    views = [app.job(job, "me") for job in jobs]
    assert [(view.state, view.done, view.error) for view in views if view] == [("done", 1, "")] * 2
    assert sent == {f"{jobs[0]}.0": 2, f"{jobs[1]}.0": 1}, "only what was lost is painted again"
    assert len(list(app.outputs.folder.rglob("*.png"))) == 2, "each picture once"
    third, fourth = pids(app)
    assert (third not in (first, None), fourth) == (True, second), "one was started again, the other went on"

    again = app.submit({**LONG, "seed": 7}, "me").id
    wait(app, lambda: (view := app.job(again, "me")) is not None and view.over)
    assert pixels(app, again) == pixels(app, jobs[0])
    assert {path.name for path in app.settings.data_dir.glob("engine*.log")} == {"engine.log", "engine-2.log"}


def pixels(app: App, job: str) -> bytes:
    view = app.job(job, "me")
    assert view is not None
    path: Path = view.pictures[0].path
    with Image.open(path) as image:
        return image.tobytes()

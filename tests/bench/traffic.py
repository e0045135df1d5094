"""Mixed traffic of several users: shared evaluations against one picture at a time, on the same machine in the same run.

Everybody submits at once: pictures of different samplers, steps, guidance and prompts, and the first user a large batch.  One
at a time means in the order of arrival, as a queue without sharing does it.  The starter model paints unless
`ATELIER_BENCH_MODEL` names another checkpoint of the models folder.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.bench import Figure
from tests.local import LocalLink

USERS = int(os.environ.get("ATELIER_BENCH_USERS", "4"))
PICTURES = int(os.environ.get("ATELIER_BENCH_PICTURES", "3"))
"""Of each user; the first one has four times as many, as one batch."""
STEPS = int(os.environ.get("ATELIER_BENCH_STEPS", "12"))

MIX: list[dict[str, Any]] = [
    {"sampler": "Euler", "steps": STEPS, "cfg_scale": 7.0, "prompt": "a red apple"},
    {"sampler": "DPM++ 2M", "steps": STEPS + STEPS // 2, "cfg_scale": 4.5, "prompt": "a rocket over a lake at night, " * 4},
    {"sampler": "Heun", "steps": max(2, STEPS // 2), "cfg_scale": 5.0, "prompt": "a cat"},
    {"sampler": "Euler a", "steps": STEPS, "cfg_scale": 1.0, "prompt": "a green tree"},
]


def measure() -> Iterator[Figure]:
    name = os.environ.get("ATELIER_BENCH_MODEL")
    alone, alone_seconds, _ = _run(name, shared=False)
    together, together_seconds, sharing = _run(name, shared=True)
    pictures = sum(len(waits) for waits in together.values())
    mix = f"{USERS} users, {pictures} pictures"
    yield Figure("one at a time", pictures / alone_seconds, "images/s", mix)
    yield Figure("shared", pictures / together_seconds, "images/s", mix)
    yield Figure("gain", alone_seconds / together_seconds, "x", "of the same requests in the same order")
    yield Figure("rows per forward, shared", sharing, "rows")
    for what, waits in (("one at a time", alone), ("shared", together)):
        every = sorted(wait for waits_of_user in waits.values() for wait in waits_of_user)
        yield Figure(f"latency p50, {what}", every[len(every) // 2], "s", "from submit to saved")
        yield Figure(f"latency p95, {what}", every[int(0.95 * (len(every) - 1))], "s")
        for user, waits_of_user in sorted(waits.items()):
            how = f"{len(waits_of_user)} pictures as one batch" if user == "user 0" else f"{len(waits_of_user)} single pictures"
            yield Figure(f"mean waiting of {user}, {what}", sum(waits_of_user) / len(waits_of_user), "s", how)


def _run(name: str | None, shared: bool) -> tuple[dict[str, list[float]], float, float]:
    """Waiting by user, seconds for everything, rows per forward.  Not shared: the engine holds one picture at a time."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        settings = Settings(data_dir=Path(folder) / "data", outputs_dir=Path(folder) / "outputs", exact=not shared)
        link = LocalLink(engine_configuration(settings) | {"probe": shared})
        app = App(settings, link, durable=False)
        app.start()
        try:
            _finish(app, app.submit({"checkpoint": name, "steps": 1, "seed": 1}, "warm-up").id, "warm-up")
            assert link.engine is not None
            runner = link.engine.runner
            forwards, rows, start = runner.forwards, runner.rows, time.monotonic()
            waits = _together(app, name) if shared else _in_a_row(app, name)
            seconds = time.monotonic() - start
            return waits, seconds, (runner.rows - rows) / max(1, runner.forwards - forwards)
        finally:
            app.close()


def _requests(name: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Who wants what, in the order of arrival."""
    for number in range(USERS):
        wanted = [{**MIX[0], "count": 4 * PICTURES}] if number == 0 else [MIX[(number + n) % 4] for n in range(PICTURES)]
        for n, fields in enumerate(wanted):
            yield f"user {number}", {**fields, "checkpoint": name, "seed": 1000 * number + n}


def _in_a_row(app: App, name: str | None) -> dict[str, list[float]]:
    """Each picture is begun when the one before it is finished."""
    waits: dict[str, list[float]] = {}
    start = time.monotonic()
    for user, fields in _requests(name):
        for index in range(fields.get("count", 1)):
            _finish(app, app.submit({**fields, "count": 1, "seed": fields["seed"] + index}, user).id, user)
            waits.setdefault(user, []).append(time.monotonic() - start)
    return waits


def _together(app: App, name: str | None) -> dict[str, list[float]]:
    """Everything is submitted at once, and the server does as it likes."""
    waits: dict[str, list[float]] = {}
    lock, start = threading.Lock(), time.monotonic()

    def follow(user: str, job: str) -> None:
        seen = 0
        for view in app.events(job, user):
            with lock:
                waits.setdefault(user, []).extend([time.monotonic() - start] * (view.done - seen))
            seen = view.done

    followers = [threading.Thread(target=follow, args=(user, app.submit(fields, user).id)) for user, fields in _requests(name)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    return waits


def _finish(app: App, job: str, user: str) -> None:
    *_, last = app.events(job, user)
    assert last.state == "done", last.error

"""The queue against a model of it: whatever users do, and whatever dies in between, the two agree.

Hypothesis plays users, the engine, crashes of both processes and a clock that jumps.  The App, its database and its files are
real; the engine's words come from the machine.  In the end everything is let through: what was accepted is done once, or ended
as it was said.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from modules.app import App
from modules.images import png
from modules.images.infotext import parse_record
from modules.settings import Settings
from tests.picture_files import read_pixels
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

USERS = ("ann", "bob", "cleo")
STRANGERS = st.sampled_from([0, 0, 0, 1, 2])
PIXELS = 64 * 64 * 3


def paint(seed: int) -> bytes:
    return random.Random(seed).randbytes(PIXELS)


@dataclass
class Known:
    """What the model knows of a job.  `end` is "" while it is under way; `deaths` of engines since its last picture."""

    user: str
    seed: int
    count: int
    end: str = ""
    made: set[int] = field(default_factory=set)
    deaths: int = 0


class Queue(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    models: Path

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-machine-"))
        self.settings = Settings(
            data_dir=self.folder / "data", models_dirs=(self.models,), outputs_dir=self.folder / "outputs", jobs_per_user=6
        )
        self.known: dict[str, Known] = {}
        self.order: list[str] = []
        self.paused: set[str] = set()
        self.keys: dict[tuple[str, str], str] = {}
        self.clock = 0.0
        self.start()

    def start(self) -> None:
        self.link = ScriptedLink()
        self.app = App(self.settings, self.link)
        self.app.store._clock = lambda: time.time() + self.clock
        self.app.start()
        self.link.hello()

    def saved(self) -> None:
        """Let the saver finish what it has, and what follows from it happen."""
        self.app.service.settle()

    def end(self, job: str, how: str) -> None:
        self.known[job].end = how
        self.order.remove(job)

    # ---- users

    @rule(target=jobs, user=st.sampled_from(USERS), count=st.integers(1, 3), key=st.sampled_from(["", "", "k1", "k2"]))
    def submit(self, user: str, count: int, key: str) -> Any:
        waiting = sum(self.known[job].user == user for job in self.order)
        there = self.keys.get((user, key)) if key else None
        if there is None and waiting >= 6:
            return multiple()
        seed = len(self.known) * 100
        fields = {"prompt": "x", "seed": seed, "count": count, "width": 64, "height": 64, "steps": 2}
        view = self.app.submit(fields, user, key)
        if there is not None:
            assert view.id == there, "the same key is the same job"
            return multiple()
        self.known[view.id] = Known(user, seed, count)
        self.order.append(view.id)
        if key:
            self.keys[user, key] = view.id
        return view.id

    def a_user(self, job: str, stranger: int) -> str:
        """Mostly the owner."""
        owner = USERS.index(self.known[job].user)
        return USERS[(owner + stranger) % len(USERS)]

    @rule(job=jobs, stranger=STRANGERS)
    def cancel(self, job: str, stranger: int) -> None:
        user, known = self.a_user(job, stranger), self.known[job]
        mine = known.user == user and not known.end
        assert self.app.cancel(job, user) == mine
        if mine:
            self.end(job, "cancelled")

    @rule(job=jobs, stranger=STRANGERS)
    def retry(self, job: str, stranger: int) -> None:
        user, known = self.a_user(job, stranger), self.known[job]
        if sum(self.known[other].user == user for other in self.order) >= 6:
            return
        mine = known.user == user and known.end in ("failed", "cancelled")
        assert self.app.retry(job, user) == mine
        if mine:
            known.end, known.deaths = "", 0
            self.order.append(job)
            if len(known.made) == known.count:
                self.end(job, "done")

    @rule(job=jobs, stranger=STRANGERS, to=st.integers(0, 2))
    def move(self, job: str, stranger: int, to: int) -> None:
        user = self.a_user(job, stranger)
        mine = self.known[job].user == user and job in self.order
        assert self.app.move(job, user, to) == mine
        if mine:
            theirs = [other for other in self.order if self.known[other].user == user]
            theirs.remove(job)
            theirs.insert(to, job)
            seats = iter(theirs)
            self.order = [next(seats) if self.known[other].user == user else other for other in self.order]

    @rule(user=st.sampled_from(USERS), paused=st.booleans())
    def pause(self, user: str, paused: bool) -> None:
        (self.paused.add if paused else self.paused.discard)(user)
        self.app.pause(user, paused)

    # ---- the engine

    @precondition(lambda self: self.link.flying())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.link.step(data.draw(st.sampled_from(self.link.flying())))

    @precondition(lambda self: self.link.flying())
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        self.landed(data.draw(st.sampled_from(self.link.flying())))

    def landed(self, task: str) -> None:
        job, _, index = task.rpartition(".")
        known = self.known[job]
        self.link.done(task, paint(known.seed + int(index)))
        self.saved()
        known.made.add(int(index))
        known.deaths = 0
        if len(known.made) == known.count:
            self.end(job, "done")

    @precondition(lambda self: self.link.flying())
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.link.flying()))
        self.link.failed(task, "no luck")
        self.end(task.rpartition(".")[0], "failed")

    # ---- accidents

    @rule()
    def crash_engine(self) -> None:
        for job in {task.rpartition(".")[0] for task in self.link.flying()}:
            self.known[job].deaths += 1
            if self.known[job].deaths == 2:
                self.end(job, "failed")
        self.link.died()
        self.link.hello()

    @rule(task=st.data(), in_the_middle=st.booleans())
    def crash_web(self, task: st.DataObject, in_the_middle: bool) -> None:
        """As by kill -9: the connection never says goodbye; perhaps a picture is saved and not yet recorded."""
        flying = self.link.flying()
        app = self.app
        if in_the_middle and flying:
            chosen = task.draw(st.sampled_from(flying))
            app.store.picture_done = lambda *_: (_ for _ in ()).throw(RuntimeError("killed"))  # type: ignore[method-assign]
            app.store.finish = lambda *_: None  # type: ignore[method-assign, assignment]
            job, _, index = chosen.rpartition(".")
            self.link.done(chosen, paint(self.known[job].seed + int(index)))
            self.saved()
            self.known[job].made.add(int(index))
        app.service.saver._thread.shutdown(wait=True)
        app.store._file.abandon()
        self.start()
        for job in [job for job in self.order if len(self.known[job].made) == self.known[job].count]:
            self.end(job, "done")
        if in_the_middle and flying and job in self.order:
            self.known[job].deaths = 0

    @rule()
    def restart(self) -> None:
        self.app.close()
        self.start()

    @rule(seconds=st.sampled_from([-3.2e7, 3.2e7, 2**31, 3600.0, 0.0]))
    def clock_jumps(self, seconds: float) -> None:
        self.clock = seconds

    # ---- what always holds

    @invariant()
    def the_two_agree(self) -> None:
        if not hasattr(self, "app"):
            return
        for job, known in self.known.items():
            view = self.app.job(job, known.user)
            assert view is not None, "an accepted job is gone"
            assert view.state == known.end or (not known.end and view.state in ("queued", "running")), (view.state, known)
            assert {picture.index for picture in view.pictures} == known.made
            assert all(self.app.job(job, other) is None for other in USERS if other != known.user)
        for user in USERS:
            queue = self.app.queue(user)
            assert [job.id for job in queue.jobs] == [job for job in self.order if self.known[job].user == user]
            assert queue.paused == (user in self.paused)
            assert queue.others.jobs == len(self.order) - len(queue.jobs)
        flying = self.link.flying()
        assert len(flying) == len(set(flying)), "nothing is with the engine twice"
        assert {task.rpartition(".")[0] for task in flying} <= set(self.order)

    def teardown(self) -> None:
        if not hasattr(self, "app"):
            return
        self.restart()
        self.the_two_agree()
        for user in USERS:
            self.app.pause(user, False)
        while flying := self.link.flying():
            self.landed(flying[0])
        assert self.order == [], "the queue never stops"
        self.app.close()
        self.look_at_the_disk()

    def look_at_the_disk(self) -> None:
        """Every recorded picture is there, whole, once, with the pixels of its seed; and nothing else is."""
        self.app = App(self.settings, ScriptedLink())
        recorded = set()
        for job, known in self.known.items():
            view = self.app.job(job, known.user)
            assert view is not None
            for picture in view.pictures:
                assert hashlib.sha256(picture.path.read_bytes()).hexdigest() == self.sha256(job, picture.index)
                assert read_pixels(picture.path)[0] == paint(known.seed + picture.index)
                record = parse_record(png.read_texts(picture.path).texts[png.RECORD])
                assert (record.job, record.index, picture.seed) == (job, picture.index, known.seed + picture.index)
                recorded.add(picture.path)
        assert {path for path in self.settings.outputs_dir.rglob("*") if path.is_file()} == recorded
        self.app.close()

    def sha256(self, job: str, index: int) -> str:
        found = self.app.store.get(job)
        assert found is not None
        return next(picture.sha256 for picture in found.pictures if picture.index == index)


def test_the_queue_agrees_with_its_model(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    Queue.models = tmp_path
    quick = settings(
        max_examples=20, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Queue, settings=quick)

"""Two workers share a queue: images go to both, and a death of one loses nothing and has nothing painted twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from modules.app import App
from modules.engine.costs import Call
from modules.engine.messages import Message
from modules.settings import Settings
from tests.scripted import ScriptedLink

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64, "checkpoint": "tiny"}


class Farm:
    """An App with two workers, `a` and `b`; `sent` counts how often each image was sent to either."""

    def __init__(self, settings: Settings) -> None:
        self.a, self.b = ScriptedLink(), ScriptedLink()
        self.sent = Counter[str]()
        for link in (self.a, self.b):
            link.send = self.noting(link)  # type: ignore[method-assign]
        self.app = App(settings, [self.a, self.b])
        self.app.start()

    def noting(self, link: ScriptedLink) -> Any:
        send = link.send

        def noted(message: Message) -> None:
            if message.kind == "submit":
                self.sent[message.data["task"]] += 1
            send(message)

        return noted

    def hello(self, *links: ScriptedLink, loaded: str = "tiny") -> None:
        for link in links or (self.a, self.b):
            link.hello()
            link.say(Message("loaded", {"checkpoint": loaded, "seconds": 0.0}))

    def land(self, link: ScriptedLink, task: str) -> None:
        link.done(task)
        self.app.service.settle()

    def land_all(self, *links: ScriptedLink) -> None:
        """Until nothing is in flight any more."""
        while tasks := [(link, task) for link in links or (self.a, self.b) for task in link.flying()]:
            self.land(*tasks[0])

    def state(self, job: str, user: str = "me") -> tuple[str, int]:
        view = self.app.job(job, user)
        assert view is not None
        return view.state, view.done

    def doing(self, job: str) -> str:
        view = self.app.job(job, "me")
        assert view is not None
        return view.doing

    def files(self) -> int:
        return len(list(self.app.outputs.folder.rglob("*.png")))


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    farm = Farm(settings)
    yield farm
    farm.app.close()


def test_images_go_to_both_and_each_is_painted_once(farm: Farm) -> None:
    farm.hello()
    mine, yours = farm.app.submit({**SMALL, "count": 6}, "me"), farm.app.submit({**SMALL, "count": 4}, "you")
    assert (len(farm.a.flying()), len(farm.b.flying())) == (5, 5)
    assert set(farm.a.flying()).isdisjoint(farm.b.flying())
    farm.land_all()
    assert (farm.state(mine.id), farm.state(yours.id, "you")) == (("done", 6), ("done", 4))
    assert (set(farm.sent.values()), len(farm.sent), farm.files()) == ({1}, 10, 10)


def test_each_worker_has_its_slots_and_a_freed_one_is_filled_there(farm: Farm) -> None:
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 40}, "me").id
    assert (len(farm.a.flying()), len(farm.b.flying())) == (16, 16)
    farm.land(farm.b, farm.b.flying()[0])
    assert (len(farm.a.flying()), len(farm.b.flying())) == (16, 16)
    assert farm.b.flying()[-1] == f"{job}.32"


def test_jobs_go_where_their_checkpoint_is_resident(farm: Farm) -> None:
    farm.hello(farm.a, loaded="tiny")
    farm.hello(farm.b, loaded="other")
    tiny, other = farm.app.submit({**SMALL, "count": 3}, "me").id, farm.app.submit({**SMALL, "checkpoint": "other"}, "me").id
    assert farm.a.flying() == [f"{tiny}.{index}" for index in range(3)]
    assert farm.b.flying() == [f"{other}.0"]


def test_a_worker_without_work_changes_its_checkpoint_rather_than_idle(farm: Farm) -> None:
    farm.hello(farm.a, loaded="tiny")
    farm.hello(farm.b, loaded="other")
    farm.app.submit({**SMALL, "count": 4}, "me")
    assert (len(farm.a.flying()), len(farm.b.flying())) == (4, 0), "a few are not worth it"
    farm.app.submit({**SMALL, "seed": 1, "count": 12}, "me")
    assert (len(farm.a.flying()), len(farm.b.flying())) == (8, 8)


def test_what_was_in_flight_when_a_worker_died_is_begun_again_elsewhere(farm: Farm) -> None:
    farm.hello()
    jobs = [farm.app.submit({**SMALL, "seed": 100 * n, "count": 2}, "me").id for n in range(4)]
    lost = set(farm.a.flying())
    assert len(lost) == 4
    farm.a.died()
    assert farm.app.engine().state == "ready", "one still paints"
    farm.land_all(farm.b)
    assert [farm.state(job) for job in jobs] == [("done", 2)] * 4
    assert {task for task, times in farm.sent.items() if times == 2} == lost
    assert (max(farm.sent.values()), farm.files()) == (2, 8)
    assert farm.a.tasks() == []


def test_a_worker_that_is_back_takes_part_again(farm: Farm) -> None:
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 30}, "me").id
    farm.a.died()
    farm.hello(farm.a)
    assert farm.a.flying() == [], "the job is suspected of the death, and the other worker has images of it"
    farm.land(farm.b, farm.b.flying()[0])
    assert (len(farm.a.flying()), len(farm.b.flying())) == (15, 14), "one is finished, so it was not the job"
    farm.land_all()
    assert farm.state(job) == ("done", 30)
    assert farm.files() == 30


def test_a_finished_picture_that_is_being_saved_is_not_painted_again(farm: Farm) -> None:
    """The engine is done with it, so its death concerns it no more."""
    farm.hello()
    job = farm.app.submit(SMALL, "me").id
    gate = threading.Event()
    farm.app.service.saver._thread.submit(gate.wait)
    farm.a.done(f"{job}.0")
    farm.a.died()
    assert farm.b.flying() == []
    gate.set()
    farm.app.service.settle()
    assert (farm.state(job), farm.sent[f"{job}.0"]) == (("done", 1), 1)


def test_a_poison_job_is_given_up_and_takes_no_other_along(farm: Farm) -> None:
    farm.hello()
    poison = farm.app.submit(SMALL, "me").id
    good = [farm.app.submit({**SMALL, "seed": n}, "me").id for n in range(1, 6)]
    assert f"{poison}.0" in farm.a.flying()
    deaths = 0
    for _ in range(20):
        links = [link for link in (farm.a, farm.b) if link.flying()]
        if not links:
            break
        for link in links:
            if f"{poison}.0" in link.flying():
                deaths += 1
                link.died()
                farm.hello(link)
            else:
                farm.land(link, link.flying()[0])
    assert deaths == 2
    view = farm.app.job(poison, "me")
    assert view is not None
    assert (view.state, "tried twice" in view.error) == ("failed", True)
    assert [farm.state(job) for job in good] == [("done", 1)] * 5


def test_deaths_of_both_workers_are_one_attempt_of_a_job_that_was_not_alone(settings: Settings, farm: Farm) -> None:
    """It had images with both: neither death says that it was this job."""
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 4}, "me").id
    farm.a.died()
    farm.b.died()
    assert farm.state(job) == ("running", 0)
    found = farm.app.store.get(job)
    assert found is not None
    assert found.attempts == 1
    farm.hello()
    farm.land_all()
    assert farm.state(job) == ("done", 4)


def test_a_late_answer_counts_and_the_other_worker_stops(farm: Farm) -> None:
    """Taken back by a pause, finished all the same, and begun elsewhere by then."""
    farm.hello()
    job = farm.app.submit(SMALL, "me").id
    assert farm.a.flying() == [f"{job}.0"]
    farm.app.pause("me", True)
    farm.app.submit(SMALL, "you")
    farm.app.pause("me", False)
    assert f"{job}.0" in farm.b.flying()
    farm.a.step(f"{job}.0")
    view = farm.app.job(job, "me")
    assert view is not None
    assert view.progress == 0.0, "what the first worker reports concerns it no more"
    farm.land(farm.a, f"{job}.0")
    assert farm.state(job) == ("done", 1)
    assert farm.b.tasks("cancel") == [f"{job}.0"]
    farm.land(farm.b, f"{job}.0")
    assert farm.files() == 1


def test_jobs_fail_only_when_no_worker_is_left(farm: Farm) -> None:
    farm.hello(farm.b)
    job = farm.app.submit({**SMALL, "count": 3}, "me").id
    farm.a.say(Message("gave_up", {"cause": "no such device"}))
    assert (farm.app.engine().state, farm.state(job)[0], len(farm.b.flying())) == ("ready", "running", 3)
    farm.b.died()
    farm.b.say(Message("gave_up", {"cause": "no such device"}))
    assert (farm.app.engine().state, farm.state(job)[0]) == ("failed", "failed")
    farm.app.submit(SMALL, "me")
    assert (farm.a.starts, farm.b.starts, farm.app.engine().state) == (2, 2, "restarting")


def test_of_many_submits_after_a_worker_gave_up_one_starts_it_again(farm: Farm) -> None:
    for link in (farm.a, farm.b):
        link.say(Message("gave_up", {"cause": "no such device"}))
    barrier = threading.Barrier(6)

    def submit(number: int) -> None:
        barrier.wait(60)
        farm.app.submit({**SMALL, "seed": number}, "me")

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (farm.a.starts, farm.b.starts) == (2, 2)
    assert len(farm.app.jobs("me")) == 6


def test_skip_and_cancel_reach_the_worker_that_has_the_image(farm: Farm) -> None:
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 2}, "me").id
    farm.b.step(f"{job}.1")
    assert farm.app.skip(job, "me")
    assert (farm.a.tasks("finish"), farm.b.tasks("finish")) == ([], [f"{job}.1"])
    assert farm.app.cancel(job, "me")
    assert (farm.a.tasks("cancel"), farm.b.tasks("cancel")) == ([f"{job}.0"], [f"{job}.1"])


def test_previews_are_asked_of_the_worker_that_has_the_image(farm: Farm) -> None:
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 2}, "me").id
    farm.b.step(f"{job}.1")
    farm.app.preview(job, "me")
    watched = [[m.data["tasks"] for m in link.sent if m.kind == "watch"] for link in (farm.a, farm.b)]
    assert watched == [[], [[f"{job}.1"]]]


def test_what_one_worker_loads_is_said_of_its_own_jobs(farm: Farm) -> None:
    farm.hello(farm.a, loaded="tiny")
    farm.hello(farm.b, loaded="other")
    tiny, other = farm.app.submit(SMALL, "me").id, farm.app.submit({**SMALL, "checkpoint": "other"}, "me").id
    farm.b.say(Message("loading", {"checkpoint": "other"}))
    assert (farm.doing(tiny), farm.doing(other)) == ("", "Loading other …")
    state = farm.app.engine()
    assert (state.message, [worker.message for worker in state.workers]) == ("Ready.", ["Ready.", "Loading other …"])
    farm.b.say(Message("load-failed", {"checkpoint": "other"}))
    assert farm.doing(other) == ""


def test_a_job_on_two_workers_gets_on_while_one_loads(farm: Farm) -> None:
    farm.hello()
    job = farm.app.submit({**SMALL, "count": 2}, "me").id
    farm.b.say(Message("loading", {"checkpoint": "tiny"}))
    assert farm.doing(job) == ""
    farm.a.say(Message("loading", {"checkpoint": "tiny"}))
    assert farm.doing(job) == "Loading tiny …"
    assert farm.app.engine().message == "Loading tiny …"


def test_one_worker_has_no_list_of_workers(settings: Settings) -> None:
    app = App(settings, ScriptedLink())
    app.start()
    assert app.engine().workers == ()
    app.close()


def test_each_of_several_workers_is_seen(farm: Farm) -> None:
    farm.hello(farm.b)
    farm.a.say(Message("gave_up", {"cause": "2 workers were asked for, but torch sees 1 CUDA device; use one worker"}))
    state = farm.app.engine()
    assert (state.state, state.message) == ("ready", "Ready.")
    assert [worker.state for worker in state.workers] == ["failed", "ready"]
    assert "torch sees 1 CUDA device" in state.workers[0].message


def test_unloading_reaches_all_workers_and_none_counts_as_having_a_checkpoint(farm: Farm) -> None:
    farm.hello()
    farm.app.unload()
    assert [[message.kind for message in link.sent] for link in (farm.a, farm.b)] == [["load", "unload"]] * 2
    assert [worker.resident for worker in farm.app.service.workers.all] == ["", ""]


def test_costs_of_a_shared_processor_are_not_those_of_a_whole_one(settings: Settings) -> None:
    call, measured = Call("predict", "tiny", 64, 64, 2), [["predict", "tiny", 64, 64, rows, rows * 3.0] for rows in (2, 4)]
    for share, known in (("1/2", None), ("", None), ("1/2", 6.0)):
        link = ScriptedLink()
        app = App(settings, link)
        app.start()
        link.say(Message("hello", {"device": "cpu (test)", "dtype": "float32", "attention": "sdpa", "share": share}))
        assert app.service.workers.all[0].costs.seconds(call) == known
        if share and known is None:
            link.say(Message("costs", {"costs": measured}))
        app.close()


def test_each_worker_knows_the_costs_of_its_own_device(settings: Settings, farm: Farm) -> None:
    for link, device, seconds in ((farm.a, "cuda:0", 1.0), (farm.b, "cuda:1", 3.0)):
        link.say(Message("hello", {"device": f"{device} (test)", "dtype": "float32", "attention": "sdpa"}))
        link.say(Message("loaded", {"checkpoint": "tiny", "seconds": 0.0}))
        link.say(Message("costs", {"costs": [["predict", "tiny", 64, 64, rows, rows * seconds] for rows in (2, 4)]}))
    call = Call("predict", "tiny", 64, 64, 2)
    assert [worker.costs.seconds(call) for worker in farm.app.service.workers.all] == [2.0, 6.0]
    single = farm.app.submit({**SMALL, "sampler": "Euler"}, "me")
    assert single.eta_s == pytest.approx(2 * 2.0), "one picture: two evaluations on the faster one"
    farm.app.service.forecasts.expire()
    double = farm.app.submit({**SMALL, "sampler": "Euler", "count": 2}, "me")
    assert double.eta_s == pytest.approx(4.0 + 1 / (1 / 8.0 + 1 / 24.0)), "two share it by their speeds"
    farm.app.close()

    again = Farm(settings)
    for link, device in ((again.a, "cuda:1"), (again.b, "cuda:0")):
        link.say(Message("hello", {"device": f"{device} (test)", "dtype": "float32", "attention": "sdpa"}))
    assert [worker.costs.seconds(call) for worker in again.app.service.workers.all] == [6.0, 2.0], "by device, not by place"
    again.app.close()


def test_workers_are_told_which_checkpoint_comes_next(farm: Farm) -> None:
    farm.hello()

    def told(link: ScriptedLink) -> list[list[str]]:
        return [message.data["checkpoints"] for message in link.sent if message.kind == "upcoming"]

    farm.app.submit({**SMALL, "count": 40}, "me")
    assert not told(farm.a), "all that waits is what is painted"
    other = farm.app.submit({**SMALL, "checkpoint": "other"}, "me")
    assert told(farm.a) == told(farm.b) == [["other"]]
    farm.land(farm.a, farm.a.flying()[0])
    assert told(farm.a) == [["other"]], "once"
    farm.app.cancel(other.id, "me")
    assert told(farm.a) == told(farm.b) == [["other"], []]

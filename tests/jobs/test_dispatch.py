"""Which image goes to the engine next, and what becomes of jobs when the engine dies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modules.jobs.dispatch import Dispatcher, ImageTask


def test_users_have_equally_many_in_the_air() -> None:
    dispatcher = Dispatcher(slots=4)
    dispatcher.add("A", "ann", range(10))
    dispatcher.add("B", "bob", range(10))
    assert dispatcher.take() == [ImageTask("A", 0), ImageTask("B", 0), ImageTask("A", 1), ImageTask("B", 1)]
    assert dispatcher.take() == []
    dispatcher.finished("B", 0)
    assert dispatcher.take() == [ImageTask("B", 2)]
    dispatcher.finished("A", 1)
    assert dispatcher.take() == [ImageTask("A", 2)]


def test_who_pauses_keeps_the_rest_waiting_and_takes_back_what_was_not_begun() -> None:
    dispatcher = Dispatcher(slots=3)
    dispatcher.add("A", "ann", range(4))
    dispatcher.add("B", "bob", range(1))
    assert len(dispatcher.take()) == 3
    flights = dispatcher.pause("ann", True)
    assert flights == [ImageTask("A", 0), ImageTask("A", 1)]
    dispatcher.recall(flights[1])
    dispatcher.recall(ImageTask("B", 9))
    dispatcher.finished("A", 0)
    assert dispatcher.take() == []
    assert dispatcher.in_flight() == [ImageTask("B", 0)]
    dispatcher.pause("ann", False)
    assert dispatcher.take() == [ImageTask("A", 1), ImageTask("A", 2)]


def test_a_recalled_image_that_was_finished_all_the_same_is_not_made_again() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("A", "ann", range(2))
    dispatcher.take()
    dispatcher.pause("ann", True)
    dispatcher.recall(ImageTask("A", 0))
    dispatcher.finished("A", 0)
    dispatcher.finished("A", 1)
    dispatcher.pause("ann", False)
    assert dispatcher.take() == []
    assert dispatcher.jobs() == []


def test_owners_change_seats_among_their_own() -> None:
    dispatcher = Dispatcher(slots=1)
    for job, user in (("a1", "ann"), ("b1", "bob"), ("a2", "ann"), ("a3", "ann")):
        dispatcher.add(job, user, [0])
    dispatcher.arrange(["a3", "a1", "gone", "a2"])
    assert [job for job, _ in dispatcher.jobs()] == ["a3", "b1", "a1", "a2"]
    assert dispatcher.positions() == {"a3": 0, "b1": 1, "a1": 2, "a2": 3}
    assert dispatcher.take()[0] == ImageTask("a3", 0)


def test_a_paused_suspect_holds_nobody_up() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("A", "ann", [0], suspect=True)
    dispatcher.add("B", "bob", [0])
    assert dispatcher.take() == [ImageTask("A", 0)]
    dispatcher.recall(dispatcher.pause("ann", True)[0])
    assert dispatcher.take() == [ImageTask("B", 0)]


def test_a_newcomer_finds_a_place_in_a_full_house() -> None:
    dispatcher = Dispatcher(slots=2)
    dispatcher.add("A", "ann", range(100))
    assert len(dispatcher.take()) == 2
    dispatcher.add("B", "bob", range(5))
    assert dispatcher.take() == [ImageTask("B", 0)]


def test_a_removed_job_gives_back_what_is_with_the_engine() -> None:
    dispatcher = Dispatcher(slots=2)
    dispatcher.add("A", "ann", range(3))
    dispatcher.take()
    assert dispatcher.remove("A") == [ImageTask("A", 0), ImageTask("A", 1)]
    assert dispatcher.remove("A") == []
    assert dispatcher.in_flight() == []


def test_suspects_fly_alone_and_only_the_killer_is_given_up() -> None:
    dispatcher = Dispatcher()
    dispatcher.add("good", "ann", [0, 1])
    dispatcher.add("poison", "bob", [0])
    assert len(dispatcher.take()) == 3
    assert dispatcher.lost() == (["good", "poison"], [], ["good", "poison"])

    assert dispatcher.take() == [ImageTask("good", 0)]
    assert dispatcher.take() == []
    dispatcher.finished("good", 0)
    assert dispatcher.take() == [ImageTask("poison", 0)]
    assert dispatcher.lost() == ([], ["poison"], [])

    assert dispatcher.take() == [ImageTask("good", 1)]


def test_positions() -> None:
    dispatcher = Dispatcher(slots=1)
    dispatcher.add("A", "ann", [0])
    dispatcher.add("B", "ann", [0])
    dispatcher.take()
    assert dispatcher.positions() == {"A": 0, "B": 1}


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=6), st.randoms())
def test_every_image_lands_once_whatever_dies(jobs: list[tuple[str, int]], random: object) -> None:
    """Engine deaths in between: each image lands exactly once, or its job is given up after it flew alone."""
    dispatcher = Dispatcher(slots=3)
    for number, (user, count) in enumerate(jobs):
        dispatcher.add(str(number), user, range(count))
    landed: list[ImageTask] = []
    given_up: set[str] = set()
    deaths = 0
    for _ in range(200):
        dispatcher.take()
        flying = dispatcher.in_flight()
        if not flying:
            break
        if deaths < 3 and random.random() < 0.2:  # type: ignore[attr-defined]
            deaths += 1
            given_up |= set(dispatcher.lost()[1])
        else:
            flight = random.choice(flying)  # type: ignore[attr-defined]
            dispatcher.finished(flight.job, flight.index)
            landed.append(flight)
    assert len(landed) == len(set(landed))
    for number, (_, count) in enumerate(jobs):
        if str(number) not in given_up:
            assert {f.index for f in landed if f.job == str(number)} == set(range(count))


WORKERS = ("one", "two")


def test_fairness_comes_first_and_then_the_worker_with_the_least_to_do() -> None:
    dispatcher = Dispatcher(slots=2, workers=WORKERS)
    dispatcher.add("A", "ann", range(9), checkpoint="x")
    dispatcher.add("B", "bob", range(1), checkpoint="x")
    taken = dispatcher.take(resident={"one": "x", "two": "x"})
    assert [(task.job, task.worker) for task in taken] == [("A", "one"), ("B", "two"), ("A", "one"), ("A", "two")]
    dispatcher.keep("A", 0, "one")
    assert dispatcher.take() == [], "what is being saved still has its slot"
    dispatcher.finished("A", 0)
    assert [task.worker for task in dispatcher.take()] == ["one"]


def test_a_worker_that_is_not_ready_gets_nothing() -> None:
    dispatcher = Dispatcher(slots=2, workers=WORKERS)
    dispatcher.add("A", "ann", range(9))
    assert {task.worker for task in dispatcher.take(ready=["two"])} == {"two"}
    assert dispatcher.take(ready=[]) == []


def test_while_a_suspect_is_tried_alone_the_other_worker_goes_on() -> None:
    dispatcher = Dispatcher(slots=2, workers=WORKERS)
    dispatcher.add("S", "ann", [0], suspect=True)
    dispatcher.add("T", "ann", [0], suspect=True)
    dispatcher.add("B", "bob", range(5))
    taken = dispatcher.take()
    assert [(task.job, task.worker) for task in taken] == [("S", "one"), ("B", "two"), ("B", "two")]
    assert dispatcher.take() == [], "one suspect at a time"
    assert dispatcher.lost("two") == (["B"], [], ["B"])
    assert dispatcher.take() == []
    assert dispatcher.lost("one") == ([], ["S"], [])
    assert [(task.job, task.worker) for task in dispatcher.take()] == [("T", "one")]


def test_a_suspect_waits_for_a_worker_that_is_empty() -> None:
    dispatcher = Dispatcher(slots=2, workers=WORKERS)
    dispatcher.add("A", "ann", range(4))
    assert len(dispatcher.take()) == 4
    dispatcher.add("S", "bob", [0], suspect=True)
    dispatcher.finished("A", 0)
    assert dispatcher.take() == [], "the one with the least to do takes nothing more"
    dispatcher.finished("A", 2)
    assert [(task.job, task.worker) for task in dispatcher.take()] == [("S", "one")]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=6), st.randoms())
def test_every_image_is_finished_once_by_two_workers_whichever_dies(jobs: list[tuple[str, int]], random: object) -> None:
    dispatcher = Dispatcher(slots=3, workers=WORKERS)
    for number, (user, count) in enumerate(jobs):
        dispatcher.add(str(number), user, range(count))
    finished: list[ImageTask] = []
    given_up: set[str] = set()
    deaths = 0
    for _ in range(300):
        dispatcher.take([worker for worker in WORKERS if random.random() < 0.9] or WORKERS)  # type: ignore[attr-defined]
        in_flight = dispatcher.in_flight()
        if not in_flight:
            if not dispatcher.jobs():
                break
            continue
        if deaths < 4 and random.random() < 0.2:  # type: ignore[attr-defined]
            deaths += 1
            dying = random.choice(WORKERS)  # type: ignore[attr-defined]
            alone = [task.job for task in in_flight if task.worker == dying]
            lost = dispatcher.lost(dying)
            assert not lost.given_up or alone == lost.given_up, "only what was there alone is given up"
            given_up |= set(lost.given_up)
        else:
            task = random.choice(in_flight)  # type: ignore[attr-defined]
            dispatcher.keep(task.job, task.index, task.worker)
            dispatcher.finished(task.job, task.index)
            finished.append(task)
    assert dispatcher.jobs() == []
    assert len(finished) == len(set(finished))
    for number, (_, count) in enumerate(jobs):
        if str(number) not in given_up:
            assert {task.index for task in finished if task.job == str(number)} == set(range(count))


def test_the_checkpoints_of_jobs_that_were_not_begun_are_told_in_their_order() -> None:
    dispatcher = Dispatcher(slots=2)
    for job, user, checkpoint in (
        ("A", "ann", "a"),
        ("B", "ann", "b"),
        ("C", "ann", "c"),
        ("D", "ann", "b"),
        ("E", "eve", "e"),
    ):
        dispatcher.add(job, user, range(2), checkpoint=checkpoint)
    dispatcher.pause("eve", True)
    assert dispatcher.upcoming() == ["a", "b", "c"], "eve pauses"
    assert [task.job for task in dispatcher.take()] == ["A", "A"]
    assert dispatcher.upcoming() == ["b", "c"]
    dispatcher.remove("B")
    assert dispatcher.upcoming() == ["c", "b"], "D still needs it"

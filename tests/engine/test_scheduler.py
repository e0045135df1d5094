"""The scheduler's choices, in plain data."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.diffusion.unet_denoiser import lengths_join
from modules.engine.scheduler import Shares, Waiting, WaitingLoad, admit, choose


def names(chosen: Sequence[Waiting]) -> list[str]:
    return [work.task for work in chosen]


def budget(rows: int):
    return lambda key: rows


def test_nothing_waits() -> None:
    assert choose([], budget(8)) == []


def test_the_oldest_key_wins() -> None:
    works = [Waiting("new", "u", "decode", 5), Waiting("old", "u", "predict", 2), Waiting("newer", "u", "predict", 9)]
    assert names(choose(works, budget(8))) == ["old", "newer"]


def test_users_take_turns_by_age() -> None:
    works = [Waiting(f"a{i}", "ann", "k", i) for i in range(4)] + [Waiting("b", "bob", "k", 9)]
    assert names(choose(works, budget(3))) == ["a0", "b", "a1"]


def test_rows_stay_within_the_budget_but_one_work_always_runs() -> None:
    works = [Waiting("big", "u", "k", 0, rows=9), Waiting("small", "u", "k", 1, rows=1)]
    assert names(choose(works, budget(4))) == ["big"]
    works = [Waiting("a", "u", "k", 0, rows=2), Waiting("b", "u", "k", 1, rows=3), Waiting("c", "u", "k", 2, rows=2)]
    assert names(choose(works, budget(4))) == ["a", "c"]


def test_contexts_that_cannot_be_joined_wait() -> None:
    works = [
        Waiting("a", "u", "k", 0, 2, (77, 77)),
        Waiting("b", "u", "k", 1, 2, (77 * 101, 77)),
        Waiting("c", "u", "k", 2, 2, (154, 77)),
    ]
    chosen = choose(works, budget(99), lambda lengths: math.lcm(*lengths) <= 77 * 12)
    assert names(chosen) == ["a", "c"]


def test_the_context_tokens_of_a_forward_are_bounded() -> None:
    """A prompt of 220 windows is attended to by every position: many such rows in one call would hold the device for long."""
    assert lengths_join([77] * 64)
    assert lengths_join([77 * 12, 77 * 4] * 8)
    assert lengths_join([77 * 220] * 2)
    assert not lengths_join([77 * 220] * 3)
    assert not lengths_join([77 * 12, 77] * 40)


work_lists = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["k1", "k2"]), st.integers(1, 5)), min_size=1, max_size=20
).map(lambda items: [Waiting(str(i), user, key, i, rows) for i, (user, key, rows) in enumerate(items)])


@given(work_lists, st.integers(1, 12))
def test_every_choice_is_one_key_within_budget_with_the_oldest_in_it(works: list[Waiting], rows: int) -> None:
    chosen = choose(works, budget(rows))
    keys: set[Hashable] = {work.key for work in chosen}
    assert len(keys) == 1
    assert chosen[0] is works[0]
    assert len(chosen) == 1 or sum(work.rows for work in chosen) <= rows
    assert len({work.task for work in chosen}) == len(chosen)


@given(work_lists)
def test_nobody_starves(works: list[Waiting]) -> None:
    """Serving what is chosen again and again serves everything, however small the budget."""
    left = list(works)
    for _ in works:
        chosen = choose(left, budget(1))
        left = [work for work in left if work not in chosen]
    assert left == []


class Device:
    """A pretended device: users' pictures as (key, seconds per call, evaluations), run until `until` user has none left.

    `served` lists who was in each call, with its seconds.
    """

    def __init__(self, rows: int = 4) -> None:
        self.shares, self.rows, self.tick = Shares(), rows, 0
        self.pictures: dict[str, list[int | str | float]] = {}
        self.served: list[tuple[set[str], float]] = []

    def add(self, user: str, count: int, key: str, seconds: float, evaluations: int) -> None:
        for _ in range(count):
            self.pictures[f"{user} {len(self.pictures)}"] = [key, seconds, evaluations, self.tick]

    def call(self) -> None:
        self.tick += 1
        waiting = [
            Waiting(name, name.split()[0], picture[0], int(picture[3]), rows=2) for name, picture in self.pictures.items()
        ]
        self.shares.present({w.user for w in waiting})
        batch = choose(waiting, budget(self.rows), used=self.shares.used)
        seconds = float(self.pictures[batch[0].task][1])
        rows: dict[str, int] = {}
        for work in batch:
            rows[work.user] = rows.get(work.user, 0) + work.rows
            picture = self.pictures[work.task]
            picture[2] = int(picture[2]) - 1
            picture[3] = self.tick
            if not picture[2]:
                del self.pictures[work.task]
        self.shares.charge(rows, seconds)
        self.served.append((set(rows), seconds))

    def has(self, user: str) -> bool:
        return any(name.split()[0] == user for name in self.pictures)

    def seconds_of(self, user: str) -> float:
        return sum(seconds for users, seconds in self.served if user in users)


def test_a_newcomer_waits_for_the_running_call_and_no_longer() -> None:
    """A hundred large pictures are under way; a newcomer's small one is served next, and never waits for two in a row."""
    device = Device()
    device.add("ann", 100, "large", seconds=4.0, evaluations=20)
    for _ in range(37):
        device.call()
    device.served.clear()
    device.add("bob", 1, "small", seconds=1.0, evaluations=20)
    while device.has("bob"):
        device.call()
    turns = [users for users, _ in device.served]
    assert turns[0] == {"bob"}
    assert all({"bob"} in pair for pair in itertools.pairwise(turns)), "ann never had two calls in a row"


def test_in_the_same_size_everybody_is_in_every_call() -> None:
    device = Device()
    device.add("ann", 100, "k", seconds=1.0, evaluations=20)
    device.call()
    device.served.clear()
    device.add("bob", 1, "k", seconds=1.0, evaluations=20)
    while device.has("bob"):
        device.call()
    assert [users for users, _ in device.served] == [{"ann", "bob"}] * 20, "as long as if bob were alone"


def test_device_seconds_are_shared_and_not_pictures() -> None:
    """Large pictures against small ones: each user gets half the time, though one's pictures cost nine times as much."""
    device = Device()
    device.add("ann", 40, "large", seconds=9.0, evaluations=20)
    device.add("bob", 400, "small", seconds=1.0, evaluations=20)
    for _ in range(1000):
        device.call()
    assert device.seconds_of("ann") == pytest.approx(device.seconds_of("bob"), rel=0.02)


def test_three_users_get_a_third_each_however_much_each_has_waiting() -> None:
    device = Device(rows=2)
    for user, count, seconds in (("ann", 300, 2.0), ("bob", 30, 3.0), ("cleo", 60, 5.0)):
        device.add(user, count, user, seconds, evaluations=20)
    for _ in range(600):
        device.call()
    times = [device.seconds_of(user) for user in ("ann", "bob", "cleo")]
    assert max(times) - min(times) <= 10.0, "within one call of each"


def test_staying_away_saves_nothing_up_and_leaving_pays_no_debt() -> None:
    shares = Shares()
    shares.present({"ann"})
    shares.charge({"ann": 2}, 100.0)
    shares.present({"ann", "late"})
    assert shares.used["late"] <= shares.used["ann"]
    shares.charge({"late": 2}, 500.0)
    shares.present({"ann"})
    shares.charge({"ann": 2}, 10.0)
    shares.present({"ann", "late"})
    assert shares.used["late"] == 500.0, "the debt is still there"
    shares.charge({"ann": 2}, 1000.0)
    shares.present({"ann"})
    assert set(shares.used) == {"ann"}, "who is level again is forgotten"


@pytest.mark.parametrize(
    ("loads", "busy", "now", "expected"),
    [
        ([], set(), 0.0, []),
        ([("1", "a", 0.0), ("2", "b", 1.0), ("3", "a", 2.0)], set(), 3.0, ["1", "3"]),
        ([("1", "b", 0.0), ("2", "a", 1.0)], {"a"}, 5.0, ["2"]),
        ([("1", "b", 0.0), ("2", "a", 1.0)], {"a"}, 11.0, []),
        ([("1", "b", 0.0), ("2", "a", 1.0)], set(), 11.0, ["1"]),
        ([("1", "a", 0.0)], {"a"}, 99.0, ["1"]),
    ],
    ids=[
        "nothing",
        "idle: oldest checkpoint",
        "stay on the one in use",
        "another waited too long",
        "then it goes over",
        "alone",
    ],
)
def test_admission(loads: list[tuple[str, str, float]], busy: set[str], now: float, expected: list[str]) -> None:
    admitted = admit([WaitingLoad(*load) for load in loads], busy, now, patience=10.0)
    assert [load.task for load in admitted] == expected


@pytest.mark.parametrize(
    ("loads", "busy", "now", "expected"),
    [
        ([("1", "ab", 0.0), ("2", "ba", 1.0), ("3", "a", 2.0), ("4", "bc", 3.0)], "", 3.0, ["1", "2", "3"]),
        ([("1", "a", 0.0), ("2", "ab", 1.0)], "", 3.0, ["1"]),
        ([("1", "ab", 0.0), ("2", "a", 1.0)], "a", 5.0, ["2"]),
        ([("1", "ab", 0.0), ("2", "a", 1.0)], "a", 11.0, []),
        ([("1", "ba", 0.0), ("2", "a", 1.0), ("3", "c", 2.0)], "ab", 5.0, ["1", "2"]),
    ],
    ids=["crosswise pairs go together", "half of a pair lets no pair in", "stay", "another waited too long", "the pair in use"],
)
def test_admission_to_several_checkpoints_is_to_all_or_none(
    loads: list[tuple[str, str, float]], busy: str, now: float, expected: list[str]
) -> None:
    waiting = [WaitingLoad(task, names[0], since, also=frozenset(names[1:])) for task, names, since in loads]
    assert [load.task for load in admit(waiting, set(busy), now, patience=10.0)] == expected

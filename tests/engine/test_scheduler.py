"""The scheduler's choices, in plain data."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.engine.scheduler import Waiting, WaitingLoad, admit, choose


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

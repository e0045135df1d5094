"""Measured costs: what is known, derived from it, and not made up.  Budgets: less after trouble, more in time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from modules.checkpoints.manager import ModelManager
from modules.engine import runner
from modules.engine.budgets import RECOVERY, Budgets, knee
from modules.engine.costs import MOST, Call, CostModel
from modules.engine.messages import Message
from tests.engine.conftest import Bench


def call(rows: int = 1, width: int = 512, height: int = 512, checkpoint: str = "m", work: str = "predict") -> Call:
    return Call(work, checkpoint, width, height, rows)


def test_what_was_measured_is_known_and_follows_the_machine() -> None:
    costs = CostModel()
    costs.learn(call(), 1.0)
    assert costs.seconds(call()) == 1.0
    for _ in range(50):
        costs.learn(call(), 3.0)
    assert costs.seconds(call()) == pytest.approx(3.0, rel=0.01)


def test_what_is_between_beyond_and_near_is_derived() -> None:
    costs = CostModel()
    costs.learn(call(rows=2), 1.0)
    costs.learn(call(rows=8), 2.5)
    assert costs.seconds(call(rows=4)) == pytest.approx(1.5)
    assert costs.seconds(call(rows=16)) == pytest.approx(5.0)
    assert costs.seconds(call(rows=1)) == pytest.approx(0.5)
    assert costs.seconds(call(rows=2, width=1024)) == pytest.approx(2.0)
    costs.learn(call(rows=2, width=1024), 3.0)
    assert costs.seconds(call(rows=2, width=1024, height=1024)) == pytest.approx(6.0), "from its nearest relative"


def test_what_is_unknown_is_not_made_up() -> None:
    costs = CostModel()
    assert costs.seconds(call()) is None
    costs.learn(call(checkpoint="other"), 1.0)
    costs.learn(call(work="decode"), 1.0)
    assert costs.seconds(call()) is None
    assert costs.row_seconds(call()) is None


def test_rows_share_the_largest_call_that_was_made() -> None:
    costs = CostModel()
    costs.learn(call(rows=2), 1.0)
    costs.learn(call(rows=8), 2.0)
    assert costs.row_seconds(call(rows=2)) == pytest.approx(0.5)
    assert costs.row_seconds(call(rows=8)) == pytest.approx(0.25)
    assert costs.row_seconds(call(rows=800)) == pytest.approx(0.25)


def test_costs_travel_and_do_not_grow_for_ever() -> None:
    here, there = CostModel(), CostModel()
    here.learn(call(), 1.0)
    there.put(here.take_fresh())
    assert there.seconds(call()) == 1.0
    assert here.take_fresh() == []
    for width in range(MOST + 10):
        here.learn(call(width=width), 1.0)
    assert len(here.entries) == MOST
    assert len(here.fresh) <= MOST


def test_a_budget_halves_and_recovers_only_by_full_calls() -> None:
    budgets = Budgets(lambda key: 16)
    assert budgets.rows("k") == 16
    budgets.out_of_memory("k", 16)
    budgets.out_of_memory("k", 8)
    assert (budgets.rows("k"), budgets.rows("other")) == (4, 16)
    for _ in range(10 * RECOVERY):
        budgets.went_well("k", 2)
    assert budgets.rows("k") == 4, "small calls prove nothing"
    seen = [4]
    while budgets.rows("k") < 16:
        budgets.went_well("k", budgets.rows("k"))
        if budgets.rows("k") != seen[-1]:
            seen.append(budgets.rows("k"))
    assert seen == [4, 5, 6, 7, 8, 10, 12, 15, 16]
    budgets.out_of_memory("k", 1)
    assert budgets.rows("k") == 1


def test_no_more_rows_than_bring_something() -> None:
    assert knee({1: 1.0}) == 2, "a guided picture is two rows"
    assert knee({1: 1.0, 2: 1.9, 4: 4.0, 8: 8.1}) == 2
    assert knee({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.05}) == 8


def test_loading_measures_forwards_and_tells_them(manager: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first estimate needs no picture: the model's own size is measured when it is loaded."""
    monkeypatch.setattr(runner, "PROBE_SECONDS", 1e9)
    bench = Bench(manager)
    bench.engine.probes = True
    bench.submit("a")
    while bench.engine.tasks:
        bench.engine._receive()
        with torch.inference_mode():
            bench.engine.tick()
    told = [tuple(cost) for message in bench.said if message.kind == "costs" for cost in message.data["costs"]]
    assert {cost[:5] for cost in told} >= {("predict", "tiny", 64, 64, 1), ("predict", "tiny", 64, 64, 2)}
    assert all(cost[5] > 0 for cost in told)
    (model,) = bench.engine.runner._positions
    assert 2 <= bench.engine.runner.budget(("predict", model, (4, 8, 8))) <= 256
    assert not bench.of("failed")


def test_a_model_that_was_loaded_ahead_is_measured_once_when_it_is_asked_for(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(manager)
    bench.engine.probes = True
    begun: list[str] = []
    monkeypatch.setattr(bench.engine.probe, "begin", lambda model: begun.append(model.info.name))
    manager.load("tiny")  # as the look ahead does where a budget has room for it
    for picture in ("a", "b"):
        bench.submit(picture, steps=1)
        while bench.engine.tasks:
            bench.engine._receive()
            with torch.inference_mode():
                bench.engine.tick()
    assert begun == ["tiny"]
    assert not bench.of("failed")


@pytest.mark.parametrize(("warming", "kept"), [((), {1: 5.0}), (("cpu",), {1: 0.1, 2: 0.1, 4: 0.1, 8: 0.3})])
def test_a_first_call_that_takes_long_is_a_measure_only_where_nothing_warms_up(
    bench: Bench, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, warming: tuple[str, ...], kept: dict[int, float]
) -> None:
    """The first forwards on a GPU choose attention and make plans for seconds: a budget from them would be one row's."""
    seen: set[int] = set()

    def timed(model: object, rows: list[object]) -> float:
        first = len(rows) not in seen
        seen.add(len(rows))
        return 5.0 if first else 0.1 if len(rows) <= 4 else 0.3

    monkeypatch.setattr(runner, "WARMING", warming)
    monkeypatch.setattr(bench.engine.runner, "_timed", timed)
    assert bench.engine.runner.measure(manager.load("tiny"), 8, 8) == kept


def test_memory_that_ran_out_lowers_the_budget(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = bench.engine.runner._forward, []

    def small_device(model: object, rows: list[object]) -> torch.Tensor:
        calls.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.engine.runner, "_forward", small_device)
    for index in range(5):
        bench.submit(str(index), seed=index, steps=6)
    bench.run()
    assert len(bench.of("done")) == 5
    assert 1 <= sum(rows > 4 for rows in calls) <= 2, f"it was learned at once, and not at each of 6 steps: {calls}"


def test_users_pay_for_their_rows(bench: Bench) -> None:
    for index in range(3):
        bench.submit(f"a{index}", user="ann", seed=index)
    bench.submit("b", user="bob", seed=9)
    paid = {"ann": 0, "bob": 0}
    charge = bench.engine.shares.charge

    def counted(rows: Mapping[str, int], seconds: float) -> None:
        for user, number in rows.items():
            paid[user] += number
        charge(rows, seconds)

    bench.engine.shares.charge = counted  # type: ignore[method-assign]
    bench.run()
    assert paid["ann"] == 3 * paid["bob"] > 0
    assert bench.engine.shares.used == {}


def test_costs_cross_the_wall_as_plain_data(bench: Bench) -> None:
    bench.submit("a")
    bench.run()
    costs = [message for message in bench.said if message.kind == "costs"]
    assert isinstance(costs[0], Message)
    assert all(isinstance(part, str | int | float) for message in costs for cost in message.data["costs"] for part in cost)

"""What is kept of extensions: counts, files that are damaged, and two processes at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from modules.errors import ExtensionError
from modules.extensions.states import ExtensionState, States
from modules.settings import ROOT


@pytest.fixture
def states(tmp_path: Path) -> States:
    return States(tmp_path / "data" / "extensions.json")


def test_states_outlive_their_object(states: States) -> None:
    states.switch("glow", True)
    states.change("glow", lambda state: replace(state, address="https://example.org/glow", commit="a" * 40))
    states.switch("other", False)
    again = States(states.path)
    assert again.get("glow") == ExtensionState(True, address="https://example.org/glow", commit="a" * 40)
    assert again.get("other").enabled is False
    assert again.get("third") == ExtensionState()
    again.forget("glow")
    assert sorted(states.all()) == ["other"]


def test_the_third_failure_stops_and_switching_on_forgets(states: States) -> None:
    assert [states.failed("glow", f"it was {number}").stopped for number in range(4)] == ["", "", "failed", "failed"]
    assert states.get("glow").reason == "disabled after 3 failures: it was 2"
    states.switch("glow", True)
    assert states.get("glow") == ExtensionState(True)


def test_the_second_death_in_a_row_suspends(states: States) -> None:
    states.died("glow", "killed")
    states.did_well("glow")
    assert states.died("glow", "killed").stopped == ""
    assert states.died("glow", "killed").stopped == "suspended"
    states.did_well("glow")
    assert "ended 2 times while it was in use: killed" in states.get("glow").reason


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"extensions": {"a": 5}}', '{"extensions": {"a": {"stopped": "odd"}}}', "[" * 9999]
)
def test_a_damaged_file_says_nothing_and_is_kept_aside(states: States, text: str) -> None:
    states.path.parent.mkdir()
    states.path.write_text(text)
    assert states.all() == {}
    states.switch("glow", True)
    assert states.path.with_suffix(".damaged").read_text() == text
    assert sorted(States(states.path).all()) == ["glow"]


def test_values_of_other_kinds_are_left_out(states: States) -> None:
    states.path.parent.mkdir()
    states.path.write_text(
        '{"extensions": {"a": {"enabled": "yes", "failures": "many", "address": 3, "later": 1, "deaths": 1}}}'
    )
    assert states.get("a") == ExtensionState(deaths=1)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(ExtensionError, match="cannot be changed"):
        States(tmp_path / "data" / "extensions.json").switch("glow", True)


def test_threads_and_processes_lose_no_change(states: States) -> None:
    """Twenty changes of another process and forty of two threads: all are there."""
    script = f"""
from pathlib import Path
from modules.extensions.states import States
for number in range(20):
    States(Path({str(states.path)!r})).switch(f"other{{number}}", True)
"""
    other = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
    threads = [
        threading.Thread(target=lambda part=part: [states.switch(f"own{part}{number}", True) for number in range(20)])  # type: ignore[misc]
        for part in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert other.wait(120) == 0
    assert len(states.all()) == 60

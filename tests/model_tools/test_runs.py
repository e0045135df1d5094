"""Runs of tools: durable, one by one in each lane, cancelled, killed, taken up again; and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from modules import cli
from modules.commands import models as command
from modules.errors import RequestError
from modules.model_tools.process import Outcome, ToolFailed, ToolKilled, ToolProcess
from modules.model_tools.runs import ATTEMPTS, RunView, ToolRuns
from modules.model_tools.work import Order
from modules.settings import ROOT

MERGE = {"tool": "merge", "a": "a", "b": "b", "output": "ab"}


class Scripted(ToolProcess):
    """A process that does what the test says: `ends` gives the outcome, or the error, of one order after another."""

    def __init__(self, order: Order, script: Script) -> None:
        super().__init__(order)
        self.order, self.script, self.stopped = order, script, threading.Event()

    def run(self, say: Callable[[str, float], None]) -> Outcome:
        self.script.started.append(self.order)
        say("merging", 0.5)
        self.script.reached.release()
        while not self.script.go.acquire(timeout=0.01):
            if self.stopped.is_set():
                raise ToolKilled("the process was ended by SIGKILL")
        end = self.script.ends.pop(0) if self.script.ends else Outcome(self.order.target.name, ("fine",))
        if isinstance(end, Exception):
            raise end
        return end

    def end(self) -> None:
        self.stopped.set()


class Script:
    def __init__(self) -> None:
        self.started: list[Order] = []
        self.reached, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.ends: list[Any] = []

    def __call__(self, order: Order) -> Scripted:
        return Scripted(order, self)


@pytest.fixture
def script() -> Script:
    return Script()


Make = Callable[[], ToolRuns]


@pytest.fixture
def make(models: Path, tmp_path: Path, script: Script) -> Iterator[Make]:
    """Makes runs of one data folder, one server after another."""
    made: list[ToolRuns] = []

    def new() -> ToolRuns:
        made.append(ToolRuns(tmp_path / "data" / "tools.sqlite", [models], tmp_path / "hashes.json", script))
        return made[-1]

    yield new
    for runs in made:
        runs.close()


def until(runs: ToolRuns, run: str, *states: str) -> RunView:
    end = time.monotonic() + 60
    while True:
        view = runs.run(run, "ada")
        assert view is not None
        if view.state in states:
            return view
        assert time.monotonic() < end, view
        time.sleep(0.01)


def test_runs_are_carried_out_one_by_one(make: Make, script: Script) -> None:
    runs = make()
    runs.begin()
    first = runs.start(MERGE, "ada")
    second = runs.start({**MERGE, "output": "second"}, "ada")
    assert script.reached.acquire(timeout=60)
    running = until(runs, first.id, "running")
    assert (running.progress, running.doing) == (0.5, "merging")
    assert until(runs, second.id, "queued").progress == 0
    assert len(script.started) == 1
    script.go.release(2)
    assert until(runs, second.id, "done").notes == ("fine",)
    assert until(runs, first.id, "done").file == "ab.safetensors"
    assert [run.id for run in runs.runs("ada")] == [second.id, first.id]


def test_a_download_keeps_no_other_tool_waiting(make: Make, script: Script) -> None:
    """Nor the other way round: each lane has its own order."""
    runs = make()
    runs.begin()
    downloads = [runs.start({"tool": "get", "source": f"ada/{name}"}, "ada") for name in ("one", "two")]
    assert script.reached.acquire(timeout=60)
    merges = [runs.start({**MERGE, "output": name}, "ada") for name in ("first", "second")]
    assert script.reached.acquire(timeout=60), "the merge begins while the download waits for the network"
    assert [order.request.tool for order in script.started] == ["get", "merge"]
    assert until(runs, merges[0].id, "running").doing == "merging"
    assert until(runs, downloads[0].id, "running").doing == "merging"
    assert until(runs, downloads[1].id, "queued").progress == 0
    assert runs.cancel(merges[0].id, "ada")
    assert script.reached.acquire(timeout=60)
    assert until(runs, merges[1].id, "running").progress == 0.5
    assert until(runs, downloads[0].id, "running").progress == 0.5, "the other lane's run goes on"
    script.go.release(3)
    assert {until(runs, run.id, "done").state for run in (*downloads, merges[1])} == {"done"}


def test_a_run_belongs_to_its_user(make: Make) -> None:
    runs = make()
    run = runs.start(MERGE, "ada")
    assert runs.runs("bob") == []
    assert runs.others("bob") == 1
    assert not runs.cancel(run.id, "bob")
    assert not runs.forget(run.id, "bob")
    assert not runs.forget(run.id, "ada"), "it is not over"
    assert runs.cancel(run.id, "ada")
    assert not runs.cancel(run.id, "ada")
    assert runs.forget(run.id, "ada")
    assert runs.runs("ada") == []


def test_a_restart_takes_up_what_ran_and_what_waits(make: Make, script: Script, models: Path) -> None:
    runs = make()
    runs.begin()
    first, second = runs.start(MERGE, "ada"), runs.start({**MERGE, "output": "second"}, "ada")
    assert script.reached.acquire(timeout=60)
    script.started[0].part.write_bytes(b"half")
    runs.close()
    again = make()
    assert [run.state for run in again.runs("ada")] == ["queued", "running"]
    again.begin()
    assert not script.started[0].part.exists(), "what was half-made is gone"
    script.go.release(2)
    assert until(again, first.id, "done").error == ""
    until(again, second.id, "done")
    assert [order.target.name for order in script.started] == ["ab.safetensors", "ab.safetensors", "second.safetensors"]


def test_a_killed_process_is_tried_again_but_not_for_ever(make: Make, script: Script) -> None:
    runs = make()
    runs.begin()
    script.ends = [ToolKilled("killed")] * (ATTEMPTS - 1)
    script.go.release(100)
    good = runs.start(MERGE, "ada")
    assert until(runs, good.id, "done", "failed").state == "done"
    script.ends = [ToolKilled("killed")] * 100
    bad = runs.start({**MERGE, "output": "bad"}, "ada")
    assert until(runs, bad.id, "done", "failed").error == f"killed; it was tried {ATTEMPTS} times"
    assert len(script.ends) == 100 - ATTEMPTS
    script.ends = [ToolFailed("b has NaN")]
    failed = runs.start({**MERGE, "output": "nan"}, "ada")
    assert until(runs, failed.id, "done", "failed").error == "b has NaN"
    assert script.ends == [], "what says why it failed is not tried again"


def test_a_running_one_is_cancelled_and_the_next_begins(make: Make, script: Script) -> None:
    runs = make()
    runs.begin()
    first, second = runs.start(MERGE, "ada"), runs.start({**MERGE, "output": "second"}, "ada")
    assert script.reached.acquire(timeout=60)
    assert runs.cancel(first.id, "ada")
    assert script.reached.acquire(timeout=60), "the second one began"
    script.go.release()
    until(runs, second.id, "done")
    assert until(runs, first.id, "cancelled").file == ""


def test_what_cannot_be_is_refused_at_once(make: Make, models: Path) -> None:
    runs = make()
    runs.start(MERGE, "ada")
    for fields, message in (
        (MERGE, r"another run makes ab\.safetensors already"),
        ({**MERGE, "output": "c"}, "already"),
        ({**MERGE, "output": "x", "b": "../../etc/passwd"}, "b: checkpoint .* is not here"),
        ({**MERGE, "output": "x", "multiplier": "much"}, "multiplier"),
    ):
        with pytest.raises(RequestError, match=message):
            runs.start(fields, "ada")
    assert len(runs.runs("ada")) == 1


def test_a_source_that_vanished_meanwhile_fails_the_run(make: Make, models: Path) -> None:
    runs = make()
    run = runs.start(MERGE, "ada")
    (models / "b.safetensors").unlink()
    runs.begin()
    assert "b: checkpoint 'b' is not here" in until(runs, run.id, "failed").error


def test_an_error_of_ours_ends_one_run_and_not_the_others(make: Make, script: Script) -> None:
    runs = make()
    runs.begin()
    script.ends = [ZeroDivisionError()]
    script.go.release(2)
    first, second = runs.start(MERGE, "ada"), runs.start({**MERGE, "output": "second"}, "ada")
    until(runs, second.id, "done")
    assert "ZeroDivisionError" in until(runs, first.id, "failed").error


def test_a_run_of_another_version_is_left_alone(make: Make) -> None:
    runs = make()
    run = runs.start(MERGE, "ada")
    runs._write("UPDATE runs SET request = ? WHERE id = ?", ('{"tool": "dream"}', run.id))
    assert runs.runs("ada") == []
    other = runs.start({**MERGE, "output": "second"}, "ada")
    assert [each.id for each in runs.runs("ada")] == [other.id]


# ---- real processes


def order(models: Path, tmp_path: Path, **fields: Any) -> Order:
    from modules.model_tools.places import Places
    from modules.model_tools.requests import parse

    return Places([models]).order(parse({**MERGE, **fields}), "run", tmp_path / "hashes.json")


SLOW = (
    sys.executable,
    "-c",
    "import modules.model_tools.tensors as t, time; add = t.ModelWriter.add\n"
    "def slow(self, name, tensor):\n    time.sleep(0.2); add(self, name, tensor)\n"
    "t.ModelWriter.add = slow\nfrom modules.model_tools.__main__ import main\nraise SystemExit(main())",
)
"""A tool that writes a tensor every 0.2 seconds, so that it can be met in the middle."""


def test_a_process_killed_in_the_middle_leaves_no_file(models: Path, tmp_path: Path) -> None:
    made, seen = order(models, tmp_path), threading.Event()
    process = ToolProcess(made, SLOW)
    errors: list[Exception] = []

    def run() -> None:
        try:
            process.run(lambda doing, progress: seen.set() if doing == "merging" else None)
        except ToolKilled as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert seen.wait(120)
    assert made.part.exists(), "it is in the middle"
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    thread.join(60)
    assert "SIGKILL" in str(errors[0])
    assert sorted(path.name for path in models.iterdir()) == ["a.safetensors", "b.safetensors", "c.safetensors", "loras"]


def test_a_child_whose_parent_is_killed_tidies_up(models: Path, tmp_path: Path) -> None:
    made = order(models, tmp_path)
    child = subprocess.Popen(SLOW, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(made.as_json().encode() + b"\n")
    child.stdin.flush()
    while b'"merging"' not in child.stdout.readline():
        pass
    assert made.part.exists()
    child.stdin.close()
    child.stdout.read()
    child.stdout.close()
    assert child.wait(60) == 3
    assert not made.part.exists()
    assert not made.target.exists()


def webui(tmp_path: Path, models: Path, *arguments: str) -> list[str]:
    settings = ["--data-dir", str(tmp_path / "data"), "--models-dir", str(models), "--outputs-dir", str(tmp_path / "out")]
    return [sys.executable, "-m", "modules.cli", "models", *arguments, *settings]


def test_the_command_line_makes_files(models: Path, tmp_path: Path) -> None:
    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(webui(tmp_path, models, *arguments), cwd=ROOT, capture_output=True, text=True)

    merged = done("merge", "a", str(models / "b.safetensors"), "--multiplier", "1", "--output", "new")
    assert merged.returncode == 0, merged.stderr
    assert merged.stdout == f"{models / 'new.safetensors'}: made\n"
    assert "new.safetensors: 100%" in merged.stderr
    a, b, new = (load_file(models / f"{name}.safetensors") for name in ("a", "b", "new"))
    name = "model.diffusion_model.out.2.bias"
    assert not a[name].equal(b[name])
    assert new[name].allclose(b[name], atol=1e-6)
    again = done("merge", "a", "b", "--output", "new")
    assert again.returncode == 1
    assert "there is a file new.safetensors already" in again.stderr
    forced = done("merge", "a", "b", "--multiplier", "0", "--output", "new", "--force", "--json")
    assert forced.returncode == 0
    assert json.loads(forced.stdout) == [{"file": str(models / "new.safetensors"), "notes": []}]
    assert forced.stderr == ""


def test_ctrl_c_leaves_nothing(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ctrl-C raises comes while the process works; it is ended, and its file with it."""
    monkeypatch.setattr(command, "ToolProcess", lambda order: ToolProcess(order, SLOW))

    def interrupted(self: Any, doing: str, progress: float) -> None:
        if doing == "merging":
            assert list(models.glob(".*.part"))
            raise KeyboardInterrupt

    monkeypatch.setattr(command._Progress, "say", interrupted)
    options = cli.parse(webui(tmp_path, models, "merge", "a", "b", "--output", "new")[3:])
    assert cli.run(options) == cli.INTERRUPTED
    assert sorted(path.name for path in models.iterdir()) == ["a.safetensors", "b.safetensors", "c.safetensors", "loras"]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ink", {"name": "ink"}),
        ("ink:0.5", {"name": "ink", "strength": 0.5}),
        ("in:k:0.5:-1", {"name": "in:k", "strength": 0.5, "text_strength": -1.0}),
        ("C:\\models\\ink.safetensors:2", {"name": "C:\\models\\ink.safetensors", "strength": 2.0}),
    ],
)
def test_strengths_stand_behind_a_name(text: str, fields: dict[str, Any]) -> None:
    assert command._lora(text) == fields


def test_the_commands_say_what_is_wrong(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (("extract-lora", "a", "b", "--rank", "0", "--output", "x"), "rank: input should be greater than or equal to 1"),
        (("bake", "a", "nowhere", "--output", "x"), "loras.0: LoRA 'nowhere' is not here"),
        (("convert", "nowhere.ckpt"), "file: pickle 'nowhere.ckpt' is not here"),
        (("merge", "a", "b", "--method", "difference", "--output", "x"), "needs a third checkpoint"),
    ):
        assert cli.run(cli.parse(webui(tmp_path, models, *arguments)[3:])) == 1
        assert message in capsys.readouterr().err

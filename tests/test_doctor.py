"""What the doctor finds, and above all what it says when something is missing."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modules import doctor
from modules.settings import TABLE, Settings
from tests.extensions.writing import write_extension


@pytest.fixture(autouse=True)
def torch_says(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """torch is asked for real in one test only: it takes seconds."""
    said: dict[str, object] = {"torch": "2.13.0", "cuda": "", "available": False, "chosen": {"device": "cpu (why)"}}
    monkeypatch.setattr(doctor, "_ask_torch", lambda settings: said)
    return said


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", outputs_dir=tmp_path / "outputs")


def found(settings: Settings, topic: str, problem: str = "") -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(settings, problem) if finding.topic == topic]


def report(settings: Settings, as_json: bool = False, problem: str = "") -> int:
    return doctor.run(argparse.Namespace(json=as_json, check=False), settings, problem)


def test_all_is_well(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(settings) == 0
    said = capsys.readouterr().out
    assert said.rstrip().endswith("All that is needed is here.")
    for topic in ("machine", "programs", "chosen", "settings", "folders", "checkpoints", "extensions", "for developers"):
        assert f"\n{topic}\n" in said


def test_as_json(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(settings, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is True
    assert {finding["state"] for finding in said["findings"]} <= {"good", "note"}
    assert {finding["what"] for finding in said["findings"] if finding["topic"] == "settings"} == {s.name for s in TABLE}


def test_settings_come_with_their_source(settings: Settings) -> None:
    settings = replace(settings, port=9000, sources={"port": "--port"})
    shown = {finding.what: finding.found for finding in found(settings, "settings")}
    assert shown["port"] == "9000 (--port)"
    assert shown["host"] == "127.0.0.1 (default)"


def test_no_usable_checkpoint(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "broken.safetensors").write_bytes(b"<html>404</html>")
    settings = replace(settings, models_dirs=(tmp_path / "models",))
    findings = found(settings, "checkpoints")
    assert [(finding.what, finding.state) for finding in findings] == [("broken", "note"), ("usable", "missing")]
    assert findings[0].found, "a broken file says why"
    assert str(tmp_path / "models") in findings[1].remedy
    assert report(settings) == 1
    assert "1 thing needed and missing" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (data, outputs, *_) = found(replace(settings, outputs_dir=tmp_path / "file"), "folders")
    assert data.state == "good"
    assert outputs.state == "missing"
    assert "--outputs-dir" in outputs.remedy


def test_a_models_folder_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, models_dirs=(tmp_path / "nowhere", *settings.models_dirs))
    assert [finding.found for finding in found(settings, "folders")][-1] == f"{tmp_path / 'nowhere'} does not exist"


def test_extensions_are_listed_and_not_run(settings: Settings, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", "raise SystemExit('it ran')")
    write_extension(tmp_path / "ext", "late", "raise SystemExit('it ran')", atelier=">=99")
    findings = {finding.what: finding for finding in found(replace(settings, extensions_dir=tmp_path / "ext"), "extensions")}
    assert (findings["glow"].state, findings["glow"].found) == ("good", "1.0.0, on")
    assert findings["late"].state == "note"
    assert "refused: it is for Atelier >=99" in findings["late"].found


def test_a_choice_that_this_machine_cannot_keep(settings: Settings, torch_says: dict[str, object]) -> None:
    torch_says["error"] = "device 'cuda' was asked for, but torch sees 0 CUDA devices"
    (first, *_) = found(settings, "chosen")
    assert (first.state, first.found) == ("missing", torch_says["error"])


def test_a_torch_that_does_not_start(settings: Settings, torch_says: dict[str, object]) -> None:
    torch_says.clear()
    torch_says["broken"] = "ImportError: libtorch_cpu.so: cannot open shared object file"
    (only,) = found(settings, "chosen")
    assert only.state == "missing"
    assert "libtorch_cpu.so" in only.found
    assert "python3 webui.py" in only.remedy


def test_a_gpu_that_torch_cannot_use(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cuda_driver", lambda: 12040)
    last = found(settings, "chosen")[-1]
    assert last.found == "there is an NVIDIA GPU, but torch 2.13.0 is a build for the CPU and cannot use it"
    assert "driver knows CUDA 12.4" in next(f.found for f in found(settings, "machine") if f.what == "GPU")


def test_without_the_set_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Python that has nothing: told, not failed."""
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    problem = "pip could not reach the package index; connect to the internet"
    set_up, packages = found(settings, "programs", problem)
    assert (set_up.found, set_up.state, set_up.remedy) == (problem, "missing", "python3 webui.py")
    assert "torch" in packages.found
    assert found(settings, "chosen", problem)[0].state == "note"


def test_what_only_developers_need_is_no_failure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor, "find_font", lambda name: None)
    findings = found(settings, "for developers")
    assert [finding.state for finding in findings] == ["note", "note"]
    assert [finding.remedy for finding in findings] == ["sudo apt install chromium", "sudo apt install fonts-noto-color-emoji"]


def test_torch_is_asked_in_a_process_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    said = doctor._ask_torch(replace(settings, device="cpu", weights_storage="fp8"))
    assert said["chosen"]["device"] == "cpu (asked for)"
    assert said["chosen"]["weights"].startswith("float8_e4m3fn (asked for")
    assert said["torch"].startswith("2.")


# ---- the check of the device


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Plays `modules.engine.check` by a script of Python; what it was started with goes to `asked.json`."""

    def play(script: str) -> None:
        def start(command: list[str], **options: object) -> subprocess.Popen[str]:
            (tmp_path / "asked.json").write_text(json.dumps(command))
            return started([sys.executable, "-S", "-c", "import os, sys, time\n" + script], **options)  # type: ignore[call-overload,no-any-return]

        monkeypatch.setattr(doctor.subprocess, "Popen", start)

    started = subprocess.Popen
    return play


def a_finding(what: str, state: str = "good") -> str:
    fields = {"what": what, "found": "x", "state": state, "remedy": "", "difference": 0.1, "bound": 0.2}
    return f"print({json.dumps(fields)!r}, flush=True)\n"


def check(settings: Settings, as_json: bool = False) -> int:
    return doctor.run(argparse.Namespace(json=as_json, check=True), settings)


def test_the_device_is_checked_when_that_is_asked_for(
    settings: Settings, tmp_path: Path, checking: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    checking("print('a library says hello')\n" + a_finding("attention") + a_finding("pictures", "note"))
    settings = replace(settings, device="cpu", attention="sliced")
    assert check(settings, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    found = [finding for finding in said["findings"] if finding["topic"] == "check"]
    assert [(finding["what"], finding["state"]) for finding in found] == [("attention", "good"), ("pictures", "note")]
    assert (found[0]["difference"], found[0]["bound"]) == (0.1, 0.2)
    asked = json.loads((tmp_path / "asked.json").read_text())
    assert asked[1:4] == ["-m", "modules.engine.check", "--json"]
    assert asked[4:8] == ["--device", "cpu", "--dtype", "auto"]
    assert asked[8:12] == ["--attention", "sliced", "--accelerator", "auto"]
    assert report(settings) == 0
    assert "\ncheck\n" not in capsys.readouterr().out, "not unless asked for"


def test_a_failure_of_the_check_is_the_doctor_s(
    settings: Settings, checking: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    checking(a_finding("good one") + a_finding("bad one", "missing") + "sys.exit(1)")
    assert check(settings) == 1
    said = capsys.readouterr().out
    assert " ✗ bad one      x\n" in said
    assert said.rstrip().endswith("1 finding of the check must not be; the lines marked ✗ say what helps.")
    assert check(settings, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize("code", [1, 3])
def test_a_check_that_breaks_off_says_where_and_why(
    settings: Settings, checking: Callable[[str], None], capsys: pytest.CaptureFixture[str], code: int
) -> None:
    checking(a_finding("first") + f"print('Traceback\\nlibcuda is gone', file=sys.stderr)\nsys.exit({code})")
    assert check(settings, as_json=True) == 1
    last = json.loads(capsys.readouterr().out)["findings"][-1]
    assert (last["state"], last["found"]) == ("missing", f"ended with code {code} after: first (libcuda is gone)")
    assert "--device cpu" in last["remedy"]


def test_a_check_that_hangs_is_ended_and_what_it_found_is_kept(
    settings: Settings,
    tmp_path: Path,
    checking: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hangs = tmp_path / "hangs"

    class Timer(threading.Thread):
        """Fires when the check hangs, however long that takes to begin."""

        def __init__(self, seconds: float, function: Callable[[], None]) -> None:
            super().__init__(daemon=True)
            self.seconds, self.fire = seconds, function

        def run(self) -> None:
            while not hangs.exists():
                time.sleep(0.01)
            self.fire()

        def cancel(self) -> None:
            self.join()

    monkeypatch.setattr(doctor.threading, "Timer", Timer)
    checking(a_finding("first") + f"open({str(hangs)!r}, 'w').close()\ntime.sleep(600)")
    assert check(settings, as_json=True) == 1
    *_, first, last = json.loads(capsys.readouterr().out)["findings"]
    assert last["found"] == "did not answer within 270 s and was ended; the last that it found was: first"
    assert (first["what"], last["state"]) == ("first", "missing")


def test_without_torch_nothing_is_checked(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    last = list(doctor.examine(settings, "no network", check=True))[-1]
    assert (last.state, last.remedy) == ("missing", "python3 webui.py")
    assert last.found == "cannot be checked before the set-up is made"

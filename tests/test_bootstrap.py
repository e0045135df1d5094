"""The set-up, for real: small projects with wheels of their own, real virtual environments and a real pip without a network."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from modules import bootstrap
from modules.bootstrap import environment as room
from modules.bootstrap import install, terminal
from modules.bootstrap.environment import TORCH, Environment, SetupError, fingerprint, optional, wanted
from modules.bootstrap.terminal import explain
from modules.locks import ProcessLock
from modules.settings import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def wheel(folder: Path, name: str, version: str) -> None:
    """The smallest package that pip accepts: one module with its version."""
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{name}-{version}.dist-info/RECORD"] = record
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


PROJECT = """[project]
name = "small"
dependencies = [
    "needed>=1",
]

[project.optional-dependencies]
xformers = [
    "xformers",
]
test = [
    "checker==1.0",
]
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels: all that pip can get."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in (("torch", "2.13.0"), ("needed", "1.0"), ("checker", "1.0")):
        wheel(folder, name, version)
    return folder


def project(folder: Path) -> Path:
    """A copy of the project with small dependencies, without an environment."""
    made = folder / "project"
    made.mkdir()
    shutil.copy(ROOT / "webui.py", made)
    shutil.copytree(ROOT / "modules", made / "modules", ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
    (made / "pyproject.toml").write_text(PROJECT)
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return project(tmp_path)


@pytest.fixture(scope="module")
def made(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was set up by its own webui.py; what that printed is in printed.txt."""
    folder = project(tmp_path_factory.mktemp("made"))
    (folder / "printed.txt").write_text(start(folder, shelf, "doctor", "--json").stdout)
    return folder


def start(folder: Path, shelf: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python webui.py` with a Python outside of any environment, and wheels instead of a network."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV", "ATELIER_"))
    }
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": os.devnull}
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, str(folder / "webui.py"), *arguments]
    return subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True)


# ---- one whole set-up


def test_the_first_start_sets_up_and_starts_again_inside(made: Path) -> None:
    printed = (made / "printed.txt").read_text()
    assert "Setting up in" in printed
    for step in ("environment (Python", "torch", "everything else"):
        assert f"done: {step}" in printed
    report = json.loads(printed.splitlines()[-1])
    python = next(finding["found"] for finding in report["findings"] if finding["what"] == "Python")
    assert str(made / ".venv") in python, "the doctor did not run inside"


def test_the_note_tells_what_was_installed(made: Path) -> None:
    environment = Environment(made / ".venv")
    note = environment.read_note()
    assert note["state"] == "complete"
    assert note["python"] == environment.version() == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert note["installed"][""] == fingerprint(["needed>=1"])
    asked = [str(environment.python), "-c", "import torch, needed; print(torch.VERSION, needed.VERSION)"]
    assert subprocess.run(asked, capture_output=True, text=True).stdout == "2.13.0 1.0\n"


def test_a_later_start_installs_nothing_and_needs_no_pip(made: Path, shelf: Path, tmp_path: Path) -> None:
    log = (made / "data" / "setup.log").read_bytes()
    done = start(made, tmp_path, "doctor", "--json")  # an empty shelf: pip could get nothing
    assert "Setting up" not in done.stdout
    assert json.loads(done.stdout)["version"]
    assert (made / "data" / "setup.log").read_bytes() == log


def test_extras_are_added_and_a_failure_leaves_the_rest_usable(made: Path, shelf: Path, tmp_path: Path) -> None:
    failed = start(made, tmp_path, "test")
    assert failed.returncode == 1
    assert failed.stderr.startswith("atelier: ")
    assert failed.stderr.count("\n") == 1
    assert Environment(made / ".venv").read_note()["state"] == "complete"

    note = Environment(made / ".venv").read_note()
    done = start(made, shelf, "test")
    assert "done: tools for the tests" in done.stdout
    assert Environment(made / ".venv").read_note()["installed"] == {**note["installed"], "test": fingerprint(["checker==1.0"])}


def test_a_half_made_environment_is_made_anew(bare: Path, shelf: Path) -> None:
    environment = Environment(bare / ".venv")
    environment.folder.mkdir()
    (environment.folder / "left-over").touch()
    environment.write_note(state="installing")
    done = start(bare, shelf, "doctor", "--json")
    assert "half-made" in done.stdout
    assert not (environment.folder / "left-over").exists()
    assert environment.read_note()["state"] == "complete"


def test_help_and_slips_need_no_set_up(bare: Path, shelf: Path) -> None:
    assert start(bare, shelf, "--help").stdout.startswith("usage:")
    slip = start(bare, shelf, "serve", "--prot", "1")
    assert (slip.returncode, slip.stderr.count("\n")) == (2, 1)
    assert not (bare / ".venv").exists()


def test_no_packages_to_be_had_is_one_line(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = start(bare, tmp_path_factory.mktemp("empty-shelf"), "serve")
    assert done.returncode == 1
    assert done.stderr.startswith("atelier: there is no torch for Python")
    assert done.stderr.count("\n") == 1
    assert Environment(bare / ".venv").begun(), "the next start must know that this one is not whole"


# ---- what decides


def test_the_reader_agrees_with_a_real_toml_reader() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert wanted() == project["dependencies"]
    assert wanted(["test"]) == project["dependencies"] + project["optional-dependencies"]["test"]
    for extra, requirements in project["optional-dependencies"].items():
        assert optional(extra) == requirements


def test_a_missing_list_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\nname = 'x'\n")
    with pytest.raises(SetupError, match=r"pyproject\.toml has no project\.dependencies"):
        wanted(file=file)


def test_the_version_asked_for_lies_in_the_range() -> None:
    """`torch==2.13.*` and then `torch>=2.11,<2.14`: the second step must find the first one's answer good."""
    (span,) = [requirement for requirement in wanted() if requirement.startswith("torch>")]
    low, high = (tuple(map(int, part.lstrip("><=").split("."))) for part in span.removeprefix("torch").split(","))
    asked = tuple(map(int, TORCH.removeprefix("torch==").removesuffix(".*").split(".")))
    assert low <= asked < high


@pytest.mark.parametrize("change", ["state", "installed", "python", "note", "home", "interpreter"])
def test_what_makes_an_environment_not_ready(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting from a ready one without pip in it, which is quick to make."""
    folder = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    monkeypatch.setattr(room, "groups_of", lambda extras: {"": ["a"], **{extra: ["b"] for extra in extras}})
    environment = Environment(folder)
    note = {"state": "complete", "python": environment.version(), "installed": {"": fingerprint(["a"])}}
    environment.write_note(**note)
    assert environment.ready([])
    assert not environment.ready(["test"])

    if change == "state":
        environment.write_note(**{**note, "state": "installing"})
        assert environment.begun()
    elif change == "installed":
        environment.write_note(**{**note, "installed": {"": fingerprint(["a", "c"])}})
    elif change == "python":
        environment.write_note(**{**note, "python": "3.9"})
    elif change == "note":
        environment.note.write_text("{torn")
    elif change == "home":
        (folder / "pyvenv.cfg").unlink()
        assert environment.version() is None, "this one would start itself for ever"
    else:
        environment.python.unlink()
        assert environment.version() is None
    assert not environment.ready([])


def test_an_absent_environment(tmp_path: Path) -> None:
    environment = Environment(tmp_path / ".venv")
    assert environment.version() is None
    assert environment.read_note() == {}
    assert not environment.ready([])
    assert not environment.inside()


def test_this_process_is_inside_its_own() -> None:
    assert Environment(Path(sys.prefix)).inside()


def test_a_second_start_waits_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes the lock only after the first let go, sees that all is done, and installs nothing."""
    monkeypatch.setattr(install, "LOG", tmp_path / "setup.log")
    done = threading.Event()
    monkeypatch.setattr(Environment, "ready", lambda self, extras: done.is_set())
    waiting = threading.Event()
    monkeypatch.setattr(install.time, "sleep", lambda seconds: waiting.set())
    first = ProcessLock(tmp_path / "setup.lock")
    second = threading.Thread(target=install.set_up, args=(Environment(tmp_path / ".venv"), []))
    second.start()
    assert waiting.wait(30)
    done.set()
    first.release()
    second.join(30)
    assert not second.is_alive()
    assert capsys.readouterr().out.count("waiting for it") == 1
    assert not (tmp_path / ".venv").exists()


# ---- starting again


class Starts:
    """Stands where the process would be replaced."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, Sequence[str]]] = []

    def __call__(self, python: Path, arguments: Sequence[str]) -> int:
        self.calls.append((python, arguments))
        return 7


@pytest.mark.parametrize(
    ("ready", "inside", "sets_up", "restarts"),
    [(True, True, False, False), (True, False, False, True), (False, False, True, True), (False, True, True, True)],
)
def test_when_it_sets_up_and_starts_again(
    ready: bool, inside: bool, sets_up: bool, restarts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, set_ups = Starts(), []
    monkeypatch.setattr(Environment, "ready", lambda self, extras: ready)
    monkeypatch.setattr(Environment, "inside", lambda self: inside)
    monkeypatch.setattr(bootstrap, "set_up", lambda environment, extras: set_ups.append(extras))
    monkeypatch.setattr(bootstrap, "_restart", starts)
    monkeypatch.setattr("modules.cli.run", lambda options, problem="": 5)
    assert bootstrap.main(["test", "-x"]) == (7 if restarts else 5)
    assert set_ups == [["test"]] * sets_up
    assert (
        starts.calls == [(ROOT / ".venv" / "bin" / "python", [str(ROOT / "webui.py"), "test", "-x"])] * restarts
        or os.name == "nt"
    )


def test_what_it_starts_keeps_the_bytecode_of_its_packages() -> None:
    """They are installed without any, so a process that may write none compiles Gradio and torch at each start."""
    start = "from pathlib import Path; import sys; from modules import bootstrap; "
    start += "bootstrap._restart(Path(sys.executable), ['-c', 'import sys; print(sys.dont_write_bytecode)'])"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", start], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- what is said


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        ("WARNING: Retrying ... NewConnectionError(': Temporary failure in name resolution')\nERROR: No matching", "internet"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/x'", "folder of your own"),
        ("ERROR: No matching distribution found for torch==2.13.*", "there is no torch for Python"),
        ("noise\nERROR: something new\nmore noise", "something new"),
        ("", "no output"),
    ],
)
def test_causes_in_one_line(tail: str, says: str) -> None:
    said = explain(tail.split("\n"))
    assert says in said
    assert "\n" not in said


def test_steps_without_a_terminal_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    step = terminal.Step("torch")
    step.hear("Collecting torch==2.13.*\n")
    step.hear("  Downloading https://x/torch-2.13.0-cp311-cp311-linux.whl (191.8 MB)\n")
    step.hear("  Downloading small-1.0-py3-none-any.whl (9.5 kB)\n")
    step.hear("Installing collected packages: a, b, c\n")
    step.end(True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["  torch ...", "    downloading torch, 191.8 MB", "    installing 3 packages", "  done: torch, 0 s"]


def test_an_old_python_is_told_so() -> None:
    script = (
        "import sys, runpy; sys.version_info = (3, 8, 18, 'final', 0); "
        f"runpy.run_path({str(ROOT / 'webui.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("atelier: Python 3.10 or newer is needed, this is 3.8")
    assert done.stderr.count("\n") == 1


def test_an_old_python_can_read_that_far() -> None:
    """What Python 3.4 to 3.9 cannot parse must not be in webui.py."""
    tree = ast.parse((ROOT / "webui.py").read_text(encoding="utf-8"), feature_version=(3, 7))
    too_new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Match)
    assert not [node for node in ast.walk(tree) if isinstance(node, too_new)]
    assert "from __future__" not in ast.unparse(tree)

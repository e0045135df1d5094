"""`extension` on the command line: what is shown and asked, and packages that are never changed."""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modules import cli
from modules.errors import ExtensionError
from modules.extensions import packages
from tests.extensions.test_install import zipped
from tests.extensions.writing import EMPTY, write_extension

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `extension` with these words; answers are typed where there is a terminal.  (exit code, printed, errors)."""
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)

    def run(*words: str, answers: str | None = None) -> tuple[int, str, str]:
        typed = io.StringIO(answers or "")
        monkeypatch.setattr(typed, "isatty", lambda: answers is not None, raising=False)
        monkeypatch.setattr(sys, "stdin", typed)
        folders = ["--data-dir", str(tmp_path / "data"), "--extensions-dir", str(tmp_path / "ext")]
        code = cli.run(cli.parse(["extension", *words, *folders]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_list(run: Run, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", EMPTY, title="Glow")
    write_extension(tmp_path / "ext", "late", EMPTY, atelier=">=99")
    code, out, _ = run("list")
    assert code == 0
    assert "glow 1.0.0: on; Glow" in out
    assert "late 1.0.0: refused (it is for Atelier >=99" in out
    assert "freeu 1.0.0: off" in out
    found = json.loads(run("list", "--json")[1])
    assert {one["name"]: one["state"] for one in found}["glow"] == "on"
    assert run("disable", "glow")[0] == 0
    assert "state: off" in run("show", "glow")[1]
    assert run("enable", "glow")[0] == 0
    assert "state: on" in run("show", "glow")[1]
    code, _, err = run("enable", "glwo")
    assert (code, "there is no extension 'glwo' here" in err) == (1, True)


def test_installing_shows_asks_and_installs(run: Run, tmp_path: Path) -> None:
    source = write_extension(tmp_path / "made", "glow", EMPTY, title="Glow")
    file = tmp_path / "glow.zip"
    file.write_bytes(zipped(source))
    code, _, err = run("install", str(file))
    assert (code, "Nobody can be asked here; add --yes" in err) == (2, True)
    code, out, _ = run("install", str(file), answers="n\n")
    assert code == 1
    assert "all rights of Atelier" in out
    assert "web.py" in out
    assert "Nothing was installed" in out
    assert not (tmp_path / "ext").exists()
    assert list((tmp_path / "data" / "extensions" / "staging").iterdir()) == []
    code, out, _ = run("install", str(file), answers="y\n")
    assert (code, "is installed and off" in out) == (0, True)
    code, out, _ = run("install", str(file), "--yes", "--enable")
    assert (code, "is installed and on" in out) == (0, True)
    code, _, err = run("update", "glow")
    assert (code, "came from no address" in err) == (1, True)
    assert run("remove", "glow", answers="\n")[0] == 1
    code, out, _ = run("remove", "glow", "--yes")
    assert (code, "its files are in" in out) == (0, True)
    code, _, err = run("remove", "freeu", "--yes")
    assert (code, "comes with Atelier" in err) == (1, True)


def test_deleting_leaves_nothing(run: Run, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", EMPTY)
    assert run("remove", "glow", "--delete", "--yes")[0] == 0
    assert not list(tmp_path.rglob("web.py"))


def test_texts_of_others_cannot_take_the_terminal_over(run: Run, tmp_path: Path) -> None:
    write_extension(tmp_path / "ext", "glow", EMPTY, python=["pillow"])
    (tmp_path / "ext" / "bad\x1b[31m").mkdir()
    code, out, _ = run("list")
    assert code == 0
    assert "\x1b" not in out
    assert "\\x1b[31m" in out


def test_a_new_one_is_written_and_found(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("new", "my_light")
    assert (code, "is written" in out) == (0, True)
    assert "my_light" in run("list")[1]
    assert run("new", "my_light")[0] == 1
    assert run("new", "My Light")[0] == 1


def test_options_of_extensions_are_flags_of_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    run("enable", "freeu")
    folders = ["--data-dir", str(tmp_path / "data"), "--extensions-dir", str(tmp_path / "ext")]
    options = cli.parse(["generate", "--freeu.b1", "1.3", "a cat", "--steps", "5", *folders])
    assert (options.values.prompt, options.values.steps) == ("a cat", "5")
    assert options.again
    assert not cli.parse(["generate", "a cat", *folders]).again
    with pytest.raises(SystemExit) as left:
        cli.run(cli.parse(["generate", "--help-extensions", *folders]))
    assert left.value.code == 0
    assert "--freeu.b1" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        cli.run(cli.parse(["generate", "a cat", "--freeu.nothing", "1", *folders]))
    assert left.value.code == 2
    assert "--freeu.nothing" in capsys.readouterr().err


# ---- packages


def pip(plan: list[dict[str, Any]], seen: list[list[str]]) -> Callable[[list[str], float], None]:
    """A pip that would install `plan`."""

    def run(arguments: list[str], timeout: float) -> None:
        seen.append(arguments)
        if "--report" in arguments:
            Path(arguments[arguments.index("--report") + 1]).write_text(json.dumps({"install": plan}))

    return run


def planned(name: str, version: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "version": version}}


def test_pip_is_asked_first_and_what_is_installed_is_its_constraint(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    constraints: list[str] = []

    def run(arguments: list[str], timeout: float) -> None:
        constraints.append(Path(arguments[arguments.index("--constraint") + 1]).read_text())
        pip([planned("lightbulb", "2.0")], seen)(arguments, timeout)

    monkeypatch.setattr(packages, "_pip", run)
    assert packages.install(["lightbulb>=2"]) == ["lightbulb 2.0"]
    assert [("--dry-run" in words, words[-2:]) for words in seen] == [
        (True, ["--", "lightbulb>=2"]),
        (False, ["--", "lightbulb>=2"]),
    ]
    assert f"Pillow=={importlib.metadata.version('pillow')}".casefold() in constraints[1].casefold()
    assert "--only-binary" in seen[1]


def test_what_would_change_a_package_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(packages, "_pip", pip([planned("lightbulb", "2.0"), planned("PILLOW", "99.0")], seen))
    with pytest.raises(ExtensionError, match=r"pip would change what is installed \(.*illow .* to 99\.0\)"):
        packages.install(["lightbulb>=2"])
    assert len(seen) == 1, "nothing was installed"


def test_a_package_that_is_missing_is_offered_when_it_is_switched_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_extension(tmp_path / "ext", "glow", EMPTY, python=["a-lightbulb-that-nobody-has"])
    write_extension(tmp_path / "ext", "against", EMPTY, python=["pillow<1"])
    seen: list[list[str]] = []
    monkeypatch.setattr(packages, "_pip", pip([planned("a-lightbulb-that-nobody-has", "2.0")], seen))
    code, out, err = run("enable", "glow", answers="n\n")
    assert (code, len(seen)) == (1, 1)
    assert "pip would install: a-lightbulb-that-nobody-has 2.0. No package that is installed changes." in out
    assert "without that it is refused" in err
    code, _, err = run("enable", "against", "--yes")
    assert (code, "which is not changed for an extension" in err) == (1, True)
    assert len(seen) == 1


def test_what_pip_says_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution found\n")

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(ExtensionError, match=r"pip cannot install what is needed .*: ERROR: No matching distribution found"):
        packages.would_install(["a-lightbulb-that-nobody-has"])
    assert seen[0][1:3] == ["-m", "pip"]

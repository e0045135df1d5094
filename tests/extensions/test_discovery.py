"""Which extensions are found, and why some are refused: nothing of them runs for that."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from modules.extensions import discovery
from modules.extensions.discovery import SHIPPED, discover, folders_of
from modules.settings import ROOT, Settings
from tests.extensions.writing import EMPTY, write_extension

RAISES = "raise SystemExit('it ran')"


def test_folders_are_found_and_refused_with_reasons(tmp_path: Path) -> None:
    write_extension(tmp_path, "fine", RAISES)
    write_extension(tmp_path, "renamed", EMPTY, name="other")
    write_extension(tmp_path, "later", EMPTY, atelier=">=99")
    write_extension(tmp_path, "absent", EMPTY, EMPTY)
    (tmp_path / "absent" / "web.py").unlink()
    write_extension(tmp_path, "lacking", EMPTY, python=["a-package-that-nobody-has>=2"])
    write_extension(tmp_path, "against", EMPTY, python=["pillow<1"])
    write_extension(tmp_path, "elsewhere", EMPTY, python=["a-package-that-nobody-has; sys_platform == 'none'", "pillow"])
    (tmp_path / "sd-webui-thing" / "scripts").mkdir(parents=True)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("text")
    found = discover([tmp_path, tmp_path / "none"], packages=False)
    assert {name: one.problem.partition(",")[0] for name, one in found.items()} == {
        "fine": "",
        "elsewhere": "",
        "renamed": "its extension.toml calls it 'other'; rename its folder to that",
        "later": "it is for Atelier >=99",
        "absent": "its extension.toml says web = 'web'",
        "lacking": "it needs the package a-package-that-nobody-has>=2",
        "against": "it needs the package pillow<1",
        "sd-webui-thing": "it has no extension.toml",
    }
    assert "which is not changed for an extension" in found["against"].problem
    assert "which is not installed" in found["lacking"].problem
    assert {one.source for one in found.values()} == {"folder"}


def test_the_first_folder_of_a_name_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = write_extension(tmp_path / "a", "twice", EMPTY), write_extension(tmp_path / "b", "twice", EMPTY)
    assert discover([first.parent, second.parent], packages=False)["twice"].folder == first
    assert "is not used" in caplog.text


def test_packages_are_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_extension(tmp_path / "a_test_package", "inside", RAISES)
    (tmp_path / "a_test_package" / "__init__.py").write_text(RAISES)
    (package / "__init__.py").write_text(RAISES)
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [
        importlib.metadata.EntryPoint("inside", "a_test_package.inside", discovery.GROUP),
        importlib.metadata.EntryPoint("gone", "no_such_package_here", discovery.GROUP),
    ]
    monkeypatch.setattr(discovery, "_entry_points", lambda: entries)
    found = discover([])
    assert (found["inside"].folder, found["inside"].source, found["inside"].problem) == (package, "package", "")
    assert "there is no such package" in found["gone"].problem
    assert not [name for name in sys.modules if name.startswith("a_test_package")]


def test_what_ships_is_found_wherever_others_lie(tmp_path: Path) -> None:
    found = discover(folders_of(Settings(extensions_dir=tmp_path)), packages=False)
    shipped = {name: one for name, one in found.items() if one.source == "built in"}
    assert sorted(shipped) == sorted(SHIPPED)
    assert [one.problem for one in shipped.values()] == [""] * len(SHIPPED)


def test_git_ignores_all_extensions_but_those_that_ship() -> None:
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.startswith("!/extensions/") and line.endswith("/")]
    assert "/extensions/*" in lines
    assert sorted(kept) == sorted(f"!/extensions/{name}/" for name in SHIPPED)

"""The server's settings while it runs: where values come from, what a change writes, and what takes effect at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modules.app import App
from modules.errors import OutputError, RequestError, SettingsError
from modules.preferences.server_settings import GROUPS, ServerSettings
from modules.preferences.settings_file import change_file
from modules.settings import TABLE, Settings, load
from tests.scripted import ScriptedLink

TEXT = """# mine
port = 7000 # and why
allowed_host = [
  "a.lan", # b = 3
  'c.lan'
]
trash_days=3

# the end
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(TEXT)
    return path


def running(tmp_path: Path, seen: list[Settings], **flags: Any) -> ServerSettings:
    settings = load({"data_dir": str(tmp_path), **flags}, {"ATELIER_HISTORY": "7"})
    return ServerSettings(settings, seen.append)


def row(settings: ServerSettings, name: str) -> Any:
    return next(each for each in settings.rows()[0] if each.name == name)


def test_every_setting_has_its_place() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(setting.name for setting in TABLE)


def test_rows_say_where_values_come_from(tmp_path: Path, file: Path) -> None:
    settings = running(tmp_path, [], workers="2")
    found = {name: row(settings, name) for name in ("trash_days", "history", "workers", "dtype", "port", "exact")}
    assert [found[name].source for name in found] == ["file", "environment", "command line", "default", "file", "default"]
    assert (found["trash_days"].value, found["trash_days"].default, found["trash_days"].given_by) == (3, 30, file.name)
    assert (found["history"].given_by, found["workers"].given_by) == ("$ATELIER_HISTORY", "--workers")
    assert "$ATELIER_HISTORY decides it" in found["history"].locked
    assert "who may reach the server" in found["port"].locked
    assert (found["dtype"].kind, found["exact"].kind, found["workers"].kind) == ("choice", "switch", "number")
    assert "bfloat16" in found["dtype"].choices
    assert [found["dtype"].live, found["trash_days"].live] == [False, True]


def test_a_change_is_written_and_in_force(tmp_path: Path, file: Path) -> None:
    seen: list[Settings] = []
    settings = running(tmp_path, seen)
    settings.set("output_name", "[seed] “é”")
    settings.set("trash_days", "9")
    settings.set("keep_sources", False)
    assert (seen[-1].output_name, seen[-1].trash_days, seen[-1].keep_sources) == ("[seed] “é”", 9, False)
    text = file.read_text(encoding="utf-8")
    assert text == TEXT.replace("trash_days=3", "trash_days = 9") + 'output_name = "[seed] “é”"\nkeep_sources = false\n'
    again = load({"data_dir": str(tmp_path)}, {})
    assert (again.output_name, again.trash_days, again.port) == ("[seed] “é”", 9, 7000)
    settings.reset("trash_days")
    assert "trash_days" not in file.read_text(encoding="utf-8")
    assert (seen[-1].trash_days, row(settings, "trash_days").source) == (30, "default")


def test_what_needs_a_start_says_what_it_will_have(tmp_path: Path) -> None:
    seen: list[Settings] = []
    settings = running(tmp_path, seen)
    settings.set("dtype", "float16")
    found = row(settings, "dtype")
    assert (found.value, found.has_pending, found.pending, found.source) == ("auto", True, "float16", "default")
    assert not seen
    settings.reset("dtype")
    assert not row(settings, "dtype").has_pending


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("output_name", "[sead]", r"^output_name: it must be .*\[sead\] is none; did you mean \[seed\]"),
        ("output_quality", 0, "from 1 to 100"),
        ("dtype", "float8", "one of auto, float32"),
        ("history", 5, "ATELIER_HISTORY decides"),
        ("port", 80, "who may reach the server"),
        ("outputs_dir", "/", "where files lie"),
        ("nonsense", 1, "no setting 'nonsense'"),
        ("workers", 2, "one of --workers|2 workers need a CUDA device each"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_nothing_written(
    tmp_path: Path, file: Path, name: str, value: Any, words: str
) -> None:
    seen: list[Settings] = []
    with pytest.raises(RequestError, match=words):
        running(tmp_path, seen, device="cuda:1").set(name, value)
    assert file.read_text() == TEXT
    assert not seen


def test_a_setting_of_many_lines_goes_with_all_of_them(file: Path) -> None:
    change_file(file, "allowed_host", None)
    assert file.read_text() == "# mine\nport = 7000 # and why\ntrash_days=3\n\n# the end\n"


def test_a_damaged_file_is_left_alone(tmp_path: Path, file: Path) -> None:
    settings = running(tmp_path, [])
    file.write_text("port = \n")
    rows, problem = settings.rows()
    assert "is not valid TOML" in problem
    assert all(each.locked for each in rows)
    with pytest.raises(SettingsError, match="is not valid TOML"):
        settings.set("trash_days", 4)
    assert file.read_text() == "port = \n"


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    settings = running(tmp_path, seen)

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        settings.set("trash_days", 4)
    assert (file.read_text(), seen, row(settings, "trash_days").value) == (TEXT, [], 3)
    assert list(tmp_path.iterdir()) == [file]


def test_the_app_does_at_once_what_it_is_set_to(tmp_path: Path) -> None:
    app = App(load({"data_dir": str(tmp_path / "data"), "outputs_dir": str(tmp_path / "out")}, {}), ScriptedLink())
    try:
        for name, value in (
            ("output_format", "webp"),
            ("output_quality", 70),
            ("output_name", "[seed]"),
            ("output_folder", ""),
        ):
            app.server_settings.set(name, value)
        for name, value in (("keep_sources", False), ("trash_days", 2), ("jobs_per_user", 3)):
            app.server_settings.set(name, value)
        assert (app.outputs.form.kind, app.outputs.form.quality) == ("webp", 70)
        assert (app.outputs.naming.name.text, app.outputs.naming.folder.text) == ("[seed]", "")
        assert (app.input_images.keep, app.gallery.trash_days) == (False, 2)
        assert app.settings.jobs_per_user == app.queue("me").per_user == app.scripts.per_user == 3
    finally:
        app.close()

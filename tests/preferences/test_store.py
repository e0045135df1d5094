"""Preferences and presets: each user's own, checked, and there after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.errors import LimitError, RequestError
from modules.preferences import preset_file, store
from modules.preferences.store import PreferenceStore

FIELDS = {"prompt": "a cat", "steps": 20, "hires": False, "styles": ["a"], "extensions": {"x": {"y": 1.5}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "preferences.sqlite"


def test_choices_are_each_users_own_and_stay(path: Path) -> None:
    kept = PreferenceStore(path)
    assert kept.of("me")["sound"] is False
    kept.set("me", {"sound": True, "weight_step": 0.2, "sound_volume": 80})
    kept.set("me", {"sound_volume": None})
    again = PreferenceStore(path)
    assert (again.of("me")["sound"], again.of("me")["weight_step"], again.of("me")["sound_volume"]) == (True, 0.2, 50)
    assert again.of("you")["sound"] is False


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nope": 1}, "no preference 'nope'"),
        ({"sound": 1}, "true or false"),
        ({"sound_volume": 101}, "whole number from 0 to 100"),
        ({"sound_volume": 1.5}, "whole number from 0 to 100"),
        ({"weight_step": "0.1"}, "a number from 0.01 to 1"),
        ({"weight_step": float("nan")}, "a number from 0.01 to 1"),
        ({"start_tab": "nowhere"}, "one of the last one, txt2img"),
    ],
)
def test_a_choice_that_is_none_is_refused_with_all_that_came_along(given: dict[str, Any], words: str) -> None:
    kept = PreferenceStore(None)
    with pytest.raises(RequestError, match=words):
        kept.set("me", {"title_progress": False, **given})
    assert kept.of("me")["title_progress"] is True


def test_presets_live_through_a_restart_and_others_see_what_is_shared(path: Path) -> None:
    kept = PreferenceStore(path)
    mine = kept.keep_preset("me", "txt2img", " Portrait ", FIELDS)
    other = kept.keep_preset("me", "inpaint", "Portrait", {"steps": 3})
    again = PreferenceStore(path)
    assert [(each.id, each.tab, each.name, each.mine) for each in again.presets("me")] == [
        (other, "inpaint", "Portrait", True),
        (mine, "txt2img", "Portrait", True),
    ]
    assert again.presets("me")[1].fields == FIELDS
    assert again.presets("you") == []
    assert again.change_preset("me", mine, shared=True)
    assert [(each.id, each.mine, each.shared) for each in again.presets("you")] == [(mine, False, True)]
    assert not again.change_preset("you", mine, name="Stolen")
    assert not again.delete_preset("you", mine)
    assert not again.delete_preset("admin", other, any_user=True)  # it is not shared
    assert again.delete_preset("admin", mine, any_user=True)
    assert [each.id for each in again.presets("me")] == [other]


def test_a_name_is_taken_once(path: Path) -> None:
    kept = PreferenceStore(path)
    first = kept.keep_preset("me", "txt2img", "A", FIELDS)
    second = kept.keep_preset("me", "txt2img", "B", FIELDS)
    with pytest.raises(RequestError, match="'A' already"):
        kept.keep_preset("me", "txt2img", "A", {"steps": 1})
    with pytest.raises(RequestError, match="'A' already"):
        kept.change_preset("me", second, name="A")
    assert kept.keep_preset("me", "txt2img", "A", {"steps": 1}, replace=True) == first
    assert kept.presets("me")[0].fields == {"steps": 1}
    kept.keep_preset("you", "txt2img", "A", FIELDS)


def test_one_preset_of_each_tab_is_where_a_form_starts() -> None:
    kept = PreferenceStore(None)
    first, second = (kept.keep_preset("me", "txt2img", name, {"steps": at}) for at, name in enumerate("ab", 1))
    other = kept.keep_preset("me", "inpaint", "a", {"steps": 3}, shared=True)
    assert kept.start_fields("me") == {}
    for one in (first, second, other):
        assert kept.start_with("me", one, True)
    assert kept.start_fields("me") == {"txt2img": {"steps": 2}, "inpaint": {"steps": 3}}
    assert kept.start_fields("you") == {}
    assert not kept.start_with("you", other, True)
    kept.keep_preset("me", "txt2img", "b", {"steps": 5}, replace=True)
    assert kept.start_fields("me")["txt2img"] == {"steps": 5}
    assert kept.start_with("me", second, False)
    assert list(kept.start_fields("me")) == ["inpaint"]


def test_there_is_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_PRESETS", 2)
    kept = PreferenceStore(None)
    for name in "ab":
        kept.keep_preset("me", "txt2img", name, FIELDS)
    with pytest.raises(LimitError, match="the most"):
        kept.keep_preset("me", "txt2img", "c", FIELDS)


def test_a_damaged_file_is_put_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    kept = PreferenceStore(path)
    kept.set("me", {"sound": True})
    assert kept.of("me")["sound"] is True
    assert path.with_name("preferences.sqlite.damaged").read_bytes().startswith(b"no database")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "no preset"),
        ({"atelier_preset": True}, "no preset"),
        ({"atelier_preset": 2}, "version 2"),
        ({"atelier_preset": 1, "name": "a", "tab": "extras", "fields": {"a": 1}}, "tab: it must be one of"),
        ({"atelier_preset": 1, "name": "a\n", "tab": "txt2img", "fields": {"a": 1}}, None),
        ({"atelier_preset": 1, "name": "", "tab": "txt2img", "fields": {"a": 1}}, "name: it must be"),
        ({"atelier_preset": 1, "name": "a", "tab": "txt2img", "fields": {}}, "an object of a form's fields"),
        ({"atelier_preset": 1, "name": "a", "tab": "txt2img", "fields": {"<b>": 1}}, "no field with a plain value"),
        ({"atelier_preset": 1, "name": "a", "tab": "txt2img", "fields": {"a": "x" * 300_000}}, "more than 256 kB"),
    ],
)
def test_files_are_checked(said: Any, words: str | None) -> None:
    if words is None:
        assert preset_file.read(said)[1] == "a"
        return
    with pytest.raises(RequestError, match=words):
        preset_file.read(said)


def test_what_is_written_is_read_back() -> None:
    assert preset_file.read(json.loads(preset_file.written("txt2img", "A “b”", FIELDS))) == ("txt2img", "A “b”", FIELDS)

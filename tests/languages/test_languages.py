"""The language files: complete, with nothing too much, and English where one cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from modules.languages import texts
from modules.languages.checking import faults, placeholders, tidied, write
from modules.languages.files import FOLDER, LANGUAGES, digest, language_files, read, script
from modules.languages.javascript import literals
from modules.preferences.table import BY_NAME


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    return texts.all_texts()


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_has_every_text_that_is_shown_and_no_other(name: str, shown: dict[str, str]) -> None:
    assert list(faults(read(name), shown)) == [], "python -m modules.languages says more; --write adds what is missing"


def test_texts_of_all_kinds_are_found(shown: dict[str, str]) -> None:
    found = {
        "What should the picture show?": "ui/form_sync.py",
        "Paint the mask: what is to be repainted (C)": "ui/static/canvas/canvas.html",
        "The server refused the picture: it is too large.": "ui/static/canvas/transfer.js",
        "Changing it logs out every browser but this one.": "api/page/account_pages.py",
        "not only every other one": "request/guidance.py",
        "how far the picture is, in the window's title": "preferences/table.py",
        "jobs that one user may have in the queue": "settings/table.py",
        "the margin is 0 to {1} pixels, not {2}": "scripts/matrix.py",
    }
    assert {key: shown.get(key) for key in found} == found


def test_names_and_code_are_no_texts(shown: dict[str, str]) -> None:
    assert not {"Lanczos", "DPM++ 2M", "plain prompt-area", "input, textarea, select"} & set(shown)
    assert not [key for key in shown if re.search(r"=>|</|\bvar\(", key)]


def test_the_literals_of_a_script_are_found_with_the_values_of_templates_numbered() -> None:
    source = """const a = /["'`]/; // "no"\nh("p", {}, `${n} of ${all ? `all ${m}` : "some"} done`, 'it\\'s'); /* "no" */"""
    assert [text for text, _ in literals(source)] == ["p", "all {1}", "some", "{1} of {2} done", "it's"]


def test_faults_are_named_and_put_in_order(tmp_path: Path) -> None:
    english = {"Save": "a.js", "{1} of {2}": "b.js"}
    said = list(faults({"{1} of {2}": "{1} von", "Old": "Alt"}, english))
    assert [one.split(":")[0] for one in said] == [
        "missing, of a.js",
        "nothing shows this any more",
        "other values than the English",
    ]
    write("xx", tidied({"Save": "Sichern", "Old": "Alt"}, english), tmp_path)
    assert read("xx", tmp_path) == {"Save": "Sichern", "{1} of {2}": ""}


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"Save": 1}'])
def test_a_file_that_cannot_be_read_leaves_english_and_says_so(
    content: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "de.json").write_text(content)
    assert script("de", tmp_path) == b"window.atelierLanguage(null);"
    assert "de.json" in caplog.text
    assert "stays English" in caplog.text


def test_languages_are_served_as_scripts_and_packed() -> None:
    client = TestClient(language_files())
    answer = client.get("/de.js")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert json.loads(answer.text.removeprefix("window.atelierLanguage(").removesuffix(");")) == read("de")
    assert client.get("/de.js", headers={"accept-encoding": "identity"}).text == answer.text
    assert "atelierLanguage" in client.get("/translate.js").text
    assert [client.get(path).status_code for path in ("/xx.js", "/../files.py", "/de.json")] == [404, 404, 404]


def test_setting_script_and_files_know_the_same_languages() -> None:
    known = (FOLDER / "translate.js").read_text("utf-8")
    names = re.search(r"const NAMES = \{(.*)\}", known)
    files = re.search(r"const FILES = (\[.*\])", known)
    assert names
    assert files
    pairs = re.findall(r'(\S+): "([\w-]+)"', names[1])
    assert {name for name, _ in pairs} == set(BY_NAME["language"].choices[1:])
    assert {file: name for name, file in pairs if file != "en"} == LANGUAGES
    assert set(json.loads(files[1])) == set(LANGUAGES) == {path.stem for path in FOLDER.glob("*.json")}


def test_the_digest_changes_with_what_is_served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = digest()
    for path in (*FOLDER.glob("*.json"), FOLDER / "translate.js"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("modules.languages.files.FOLDER", tmp_path)
    assert digest() == before
    (tmp_path / "de.json").write_text("{}")
    assert digest() != before


def test_placeholders_are_compared_whatever_their_order() -> None:
    assert placeholders("{2} of {1}") == placeholders("{1} von {2}")

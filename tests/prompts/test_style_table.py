"""Editing styles.csv: changed rows as A1111 writes them, all others byte for byte; wildcard files by safe names only."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.errors import OutputError, RequestError, SettingsError
from modules.prompts.style_table import read_table, write_table
from modules.prompts.styles import Style, read_styles
from modules.prompts.wildcard_files import draws, read_wildcard, remove_wildcard, write_wildcard
from modules.prompts.wildcards import Wildcards

HEAD = "name,prompt,negative_prompt\r\n"
OTHERS = '# my own,"a, b",\r\nSharp,  sharp focus,\'blurry\'\r\n\r\nLines,"one\ntwo","say ""hi"""\r\n'


def written(path: Path, text: str, encoding: str = "utf-8-sig") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "styles.csv", HEAD + OTHERS + "Photo,old,\r\n")


def edited(file: Path, style: Style, was: str = "") -> str:
    write_table(file, read_table(file).put(style, was))
    return file.read_bytes().decode("utf-8-sig")


def test_other_rows_stay_byte_for_byte(file: Path) -> None:
    assert (
        edited(file, Style("Photo", "photo of {prompt}, 35mm", "x"), "Photo")
        == HEAD + OTHERS + 'Photo,"photo of {prompt}, 35mm",x\r\n'
    )
    assert edited(file, Style("New", "n")).endswith('35mm",x\r\nNew,n,\r\n')
    write_table(file, read_table(file).without("Photo"))
    assert file.read_bytes() == ("\ufeff" + HEAD + OTHERS + "New,n,\r\n").encode()
    assert "Photo" in file.with_name("styles.csv.bak").read_text("utf-8-sig")
    assert list(read_styles(file)) == ["Sharp", "Lines", "New"]


def test_a_first_style_makes_the_file(tmp_path: Path) -> None:
    assert edited(tmp_path / "new" / "styles.csv", Style("A", "b", "c")) == HEAD + "A,b,c\r\n"


def test_of_rows_with_one_name_the_last_is_edited_and_all_are_deleted(tmp_path: Path) -> None:
    file = written(tmp_path / "styles.csv", "name,prompt,negative_prompt\na,1,\nb,2,\na,3,\n")
    assert read_table(file).styles() == [(Style("a", "3"), 2), (Style("b", "2"), 1)]
    assert "Several rows have the name a; the last of each counts." in read_table(file).notes()
    assert edited(file, Style("a", "4"), "a") == "name,prompt,negative_prompt\na,1,\nb,2,\na,4,\n"
    assert [style.name for style, _ in read_table(file).without("a").styles()] == ["b"]


def test_further_columns_and_a_missing_end_of_line_are_kept(tmp_path: Path) -> None:
    file = written(tmp_path / "styles.csv", "id,name,prompt,negative_prompt\r\n7,a,1,2\r\n8,b,3,4", "utf-8")
    assert "Further columns are kept: id." in read_table(file).notes()
    assert edited(file, Style("a", "x"), "a") == "id,name,prompt,negative_prompt\r\n7,a,x,\r\n8,b,3,4"
    assert edited(file, Style("c")) == "id,name,prompt,negative_prompt\r\n7,a,x,\r\n8,b,3,4\r\n,c,,\r\n"


def test_the_oldest_tables_get_the_columns_of_today(tmp_path: Path) -> None:
    file = written(tmp_path / "styles.csv", "name,text\n# mine,\nOld,a {prompt}\n")
    assert edited(file, Style("New", "b", "c")) == "name,prompt,negative_prompt\n# mine,\nOld,a {prompt},\nNew,b,c\n"


@pytest.mark.parametrize(("encoding", "name"), [("cp1252", "Windows-1252"), ("utf-16", "UTF-16")])
def test_old_encodings_are_read_and_said(tmp_path: Path, encoding: str, name: str) -> None:
    file = written(tmp_path / "styles.csv", HEAD + "Käse,größer,\r\n", encoding)
    assert read_styles(file) == {"Käse": Style("Käse", "größer")}
    assert any(name in note for note in read_table(file).notes())
    assert edited(file, Style("b")) == HEAD + "Käse,größer,\r\nb,,\r\n"
    assert not any(name in note for note in read_table(file).notes())


@pytest.mark.parametrize(
    ("style", "was", "words"),
    [
        (Style(" "), "", "name: it must be one line"),
        (Style("# a"), "", "does not begin with #"),
        (Style("a\nb"), "", "one line"),
        (Style("Sharp"), "", "already"),
        (Style("Sharp"), "Photo", "already"),
        (Style("x"), "Gone", "not in the file any more"),
        (Style("x", "y" * 50_001), "", "prompt: it must have at most 50,000"),
    ],
)
def test_what_makes_no_sense_is_refused(file: Path, style: Style, was: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_table(file).put(style, was)


def test_no_table_and_a_disk_that_refuses(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no column 'name'"):
        read_table(written(tmp_path / "other.csv", "a,b\n1,2\n"))
    before = file.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OutputError, match="No space left"):
        write_table(file, read_table(file).without("Photo"))
    assert file.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=15)
NAME = TEXT.map(str.strip).filter(lambda name: bool(name) and not name.startswith("#") and "\n" not in name)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NAME, TEXT.map(str.strip), TEXT.map(str.strip)), max_size=4, unique_by=lambda row: row[0]))
def test_what_is_put_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    file = tmp_path_factory.mktemp("styles") / "styles.csv"
    for row in rows:
        write_table(file, read_table(file).put(Style(*row)))
    assert list(read_styles(file).values()) == [Style(*row) for row in rows]


# ---- wildcards


@pytest.fixture
def wildcards(tmp_path: Path) -> Wildcards:
    return Wildcards(tmp_path / "wildcards")


def test_wildcard_files_are_made_changed_drawn_and_removed(wildcards: Wildcards) -> None:
    write_wildcard(wildcards, "places/city", "Rome\n# none\nOslo\n", "")
    found = read_wildcard(wildcards, "places/city")
    assert found is not None
    assert found.text == "Rome\n# none\nOslo\n"
    drawn, unknown = draws(wildcards, "in __places/city__, __nowhere__", 1, 20)
    assert set(drawn) == {"in Rome, __nowhere__", "in Oslo, __nowhere__"}
    assert unknown == ["nowhere"]
    write_wildcard(wildcards, "places/city", "Bonn\n", found.version)
    with pytest.raises(RequestError, match="changed or removed meanwhile"):
        write_wildcard(wildcards, "places/city", "Rome\n", found.version)
    with pytest.raises(RequestError, match="already"):
        write_wildcard(wildcards, "Places/CITY", "Rome\n", "")
    now = read_wildcard(wildcards, "places/city")
    assert now is not None
    remove_wildcard(wildcards, "places/city", now.version)
    assert read_wildcard(wildcards, "places/city") is None


@pytest.mark.parametrize(
    "name", ["", "../x", "/x", "a/../b", "a//b", ".hidden", "con", "a\\b", "a:b", "a__b", "x" * 181, "a ", "link/x"]
)
def test_names_lead_nowhere_else(wildcards: Wildcards, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    assert wildcards.folder is not None
    wildcards.folder.mkdir()
    (wildcards.folder / "link").symlink_to(outside)
    with pytest.raises(RequestError, match="name: "):
        write_wildcard(wildcards, name, "x", "")
    assert not list(outside.iterdir())
    assert [path.name for path in wildcards.folder.rglob("*")] == ["link"]

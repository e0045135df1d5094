"""Styles: the file as A1111 reads and writes it, applying, and finding them again in a picture's prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.errors import SettingsError
from modules.prompts.styles import Style, apply_styles, extract_styles, read_styles, write_styles

FILE = (
    "\ufeffname,prompt,negative_prompt\r\n"
    'Photo,"photo of {prompt}, 35mm","drawing, ""sketch"""\r\n'
    "# my own,,\r\n"
    "Sharp, sharp focus,blurry\r\n"
    'Lines,"one\ntwo",\r\n'
    "Kätzchen,猫,\r\n"
)
STYLES = [
    Style("Photo", "photo of {prompt}, 35mm", 'drawing, "sketch"'),
    Style("Sharp", "sharp focus", "blurry"),
    Style("Lines", "one\ntwo"),
    Style("Kätzchen", "猫"),
]


def test_a_file_of_a1111_is_read(tmp_path: Path) -> None:
    (tmp_path / "styles.csv").write_bytes(FILE.encode())
    assert list(read_styles(tmp_path / "styles.csv").values()) == STYLES


def test_what_is_written_is_what_a1111_writes(tmp_path: Path) -> None:
    """UTF-8 with a mark, CRLF behind rows, quotes only where they are needed."""
    write_styles(tmp_path / "styles.csv", STYLES)
    expected = FILE.replace("# my own,,\r\n", "").replace("Sharp, sharp", "Sharp,sharp")
    assert (tmp_path / "styles.csv").read_bytes().decode() == expected


def test_the_file_before_stays_as_bak(tmp_path: Path) -> None:
    file = tmp_path / "new" / "styles.csv"
    write_styles(file, STYLES[:1])
    write_styles(file, STYLES)
    assert list(read_styles(file.with_name("styles.csv.bak")).values()) == STYLES[:1]
    assert sorted(path.name for path in file.parent.iterdir()) == ["styles.csv", "styles.csv.bak"]


ANY = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=20)
NAMES = ANY.map(str.strip).filter(lambda name: bool(name) and not name.startswith("#"))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, st.tuples(ANY.map(str.lstrip), ANY.map(str.lstrip)), max_size=5))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, tuple[str, str]]) -> None:
    """Blanks in front of a text are the only thing that the format loses (A1111 skips them when it reads)."""
    file = tmp_path_factory.mktemp("styles") / "styles.csv"
    styles = [Style(name, *both) for name, both in texts.items()]
    write_styles(file, styles)
    assert list(read_styles(file).values()) == styles


def test_no_file_has_no_styles(tmp_path: Path) -> None:
    assert read_styles(tmp_path / "styles.csv") == {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,text\nOld,a {prompt}\n", [Style("Old", "a {prompt}")]),  # the oldest form
        ("name,prompt,negative_prompt,extra\na,b,c,d\n", [Style("a", "b", "c")]),
        ("name,prompt,negative_prompt\na\n", [Style("a")]),
        ("name,prompt,negative_prompt\na,b,c,too,many\n", [Style("a", "b", "c")]),
        ("name,prompt,negative_prompt\n\n,x,y\na,b,c\n", [Style("a", "b", "c")]),
        ("name,prompt,negative_prompt\na,b,c\na,d,e\n", [Style("a", "d", "e")]),
        ("name,prompt,negative_prompt\na,b\x00b,c\n", [Style("a", "bb", "c")]),
        ("name,prompt\n", []),
        ("", []),
    ],
)
def test_odd_files(tmp_path: Path, content: str, expected: list[Style]) -> None:
    (tmp_path / "styles.csv").write_text(content)
    assert list(read_styles(tmp_path / "styles.csv").values()) == expected


def test_files_that_are_no_styles_are_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "styles.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"no column 'name', but 'a, b'"):
        read_styles(file)
    file.write_text("name,prompt\na," + "x" * 200_000)
    with pytest.raises(SettingsError, match=r"line 1: field larger"):
        read_styles(file)
    file.write_bytes(b"name,prompt\nb\xffad,\xfe\n")
    assert len(read_styles(file)) == 1
    file.unlink()
    file.mkdir()
    with pytest.raises(SettingsError, match=r"cannot be read"):
        read_styles(file)
    with pytest.raises(SettingsError, match=r"cannot be written"):
        write_styles(file, STYLES)
    assert [path.name for path in tmp_path.iterdir()] == ["styles.csv"]


@pytest.mark.parametrize(
    ("prompt", "texts", "expected"),
    [
        ("a cat", [], "a cat"),
        (" a cat ", [], " a cat "),
        ("a cat", ["sharp"], "a cat, sharp"),
        (" a cat ", [" sharp "], "a cat, sharp"),
        ("a cat", [""], "a cat"),
        ("", ["sharp"], "sharp"),
        ("a cat", ["photo of {prompt}"], "photo of a cat"),
        ("a cat", ["{prompt} and {prompt}"], "a cat and a cat"),
        (" a cat ", ["photo of {prompt}."], "photo of  a cat ."),
        ("a cat", ["photo of {prompt}", "sharp"], "photo of a cat, sharp"),
        ("a cat", ["sharp", "photo of {prompt}"], "photo of a cat, sharp"),
        ("a {prompt}", ["x {prompt}"], "x a {prompt}"),
    ],
)
def test_applying(prompt: str, texts: list[str], expected: str) -> None:
    assert apply_styles(prompt, texts) == expected


@pytest.mark.parametrize(
    ("prompt", "negative", "styles", "left", "negative_left"),
    [
        ("a cat, sharp focus", "blurry", ("Sharp",), "a cat", ""),
        ("a cat, sharp focus", "bad, blurry", ("Sharp",), "a cat", "bad"),
        ("a cat, sharp focus", "", (), "a cat, sharp focus", ""),  # only half of the style
        ("photo of a cat, 35mm", 'drawing, "sketch"', ("Photo",), "a cat", ""),
        ("photo of a cat, 35mm, sharp focus", 'drawing, "sketch", blurry', ("Photo", "Sharp"), "a cat", ""),
        ("a cat", "", (), "a cat", ""),
        ("sharp focus", "blurry", ("Sharp",), "", ""),
        ("one\ntwo", "", ("Lines",), "", ""),
        ("a cat猫", "x", ("Kätzchen",), "a cat", "x"),
        ("photo of, 35mm", 'drawing, "sketch"', (), "photo of, 35mm", 'drawing, "sketch"'),
    ],
)
def test_extracting(prompt: str, negative: str, styles: tuple[str, ...], left: str, negative_left: str) -> None:
    found = extract_styles(prompt, negative, STYLES)
    assert (found.styles, found.prompt, found.negative_prompt) == (styles, left, negative_left)


@pytest.mark.parametrize("order", [("Photo",), ("Sharp", "Lines"), ("Photo", "Sharp"), ("Sharp", "Photo", "Lines"), ()])
def test_extracting_undoes_applying(order: tuple[str, ...]) -> None:
    known = {style.name: style for style in STYLES}
    prompt = apply_styles("a cat on a mat", (known[name].prompt for name in order))
    negative = apply_styles("bad", (known[name].negative_prompt for name in order))
    found = extract_styles(prompt, negative, known)
    assert (set(found.styles), found.prompt, found.negative_prompt) == (set(order), "a cat on a mat", "bad")
    again = apply_styles(found.prompt, (known[name].prompt for name in found.styles))
    assert again == prompt


def test_styles_that_say_nothing_are_never_found() -> None:
    assert extract_styles("a", "b", [Style("empty"), Style("empty too", "", "")]).styles == ()


def test_a_file_whose_first_lines_are_empty() -> None:
    path = Path(__file__).parent.parent / "images" / "cases" / "styles-blank-first-line.csv"
    assert read_styles(path) == {"Ink": Style("Ink", "ink drawing of {prompt}", "photo")}


@pytest.mark.parametrize("first", ["  ", ",,", '""', "\t"])
def test_a_first_line_without_names_is_reported(first: str, tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text(f"{first}\nname,prompt,negative_prompt\nInk,a,b\n")
    with pytest.raises(SettingsError, match="has no column 'name'"):
        read_styles(path)

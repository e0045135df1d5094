"""Wildcards and choices: what is drawn, by which seed, from which files, and what is left alone."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.prompts.dynamic import MAX_DRAWS, MAX_TEXT, Draw, resolve
from modules.prompts.wildcards import Wildcards
from modules.request import MAX_PROMPT

SEEDS = range(60)
NONE = Wildcards(None)


@pytest.fixture
def wildcards(tmp_path: Path) -> Wildcards:
    folder = tmp_path / "wildcards"
    (folder / "animals").mkdir(parents=True)
    (folder / "colour.txt").write_text("\ufeffred\n\n# a comment\n  blue  \n", "utf-8")
    (folder / "animals" / "pets.txt").write_text("cat\ndog\n")
    (folder / "animals" / "Wild.TXT").write_text("{big|small} fox\n")
    (folder / "scene.txt").write_text("a __colour__ __animals/pets__\n")
    (folder / "loop.txt").write_text("x __loop__\n")
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "notes.md").write_text("not a list")
    (tmp_path / "secret.txt").write_text("password\n")
    return Wildcards(folder)


def drawn(text: str, wildcards: Wildcards = NONE) -> set[str]:
    return {resolve(text, seed, wildcards).text for seed in SEEDS}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("{a|}", {"a", ""}),
        ("{|}", {""}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{{a|b} x|c}", {"a x", "b x", "c"}),
        ("{ a | b }c", {" a c", " b c"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-1$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{2$$$$a|b}", {"ab", "ba"}),
        ("{2$$ a | | b }", {"a", "b", "a, b", "b, a"}),  # blank options leave no comma behind
        ("{1$$a}", {"a"}),
        ("{0::a|b}", {"b"}),
        ("{0::a|0::b}", {"a", "b"}),
        ("{1$$0::a|1::b}", {"b"}),
        ("{x::a|b}", {"x::a", "b"}),
        ("{(a:1.2)|[b:c:.5]}", {"(a:1.2)", "[b:c:.5]"}),
        ("{[a|b]|c}", {"[a|b]", "c"}),  # the bar of an alternation is its own
        ("{a [|b}", {"a [", "b"}),
        # Left alone
        ("{a}", {"{a}"}),
        ("{}", {"{}"}),
        ("{{a}}", {"{{a}}"}),
        ("a|b", {"a|b"}),
        ("{a|b", {"{a|b"}),
        ("a|b}", {"a|b}"}),
        ("[a|b]", {"[a|b]"}),
        (r"\{a|b\}", {r"\{a|b\}"}),
        ("{a 2$$b}", {"{a 2$$b}"}),
        ("__nothing__", {"__nothing__"}),
        ("a_b __ c", {"a_b __ c"}),
        ("", {""}),
    ],
)
def test_choices(text: str, expected: set[str]) -> None:
    assert drawn(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__colour__", {"red", "blue"}),
        ("__COLOUR__", {"red", "blue"}),
        ("a __colour__ cat", {"a red cat", "a blue cat"}),
        ("__animals/pets__", {"cat", "dog"}),
        ("__animals/wild__", {"big fox", "small fox"}),
        ("__animals/*__", {"cat", "dog", "big fox", "small fox"}),
        ("__scene__", {"a red cat", "a red dog", "a blue cat", "a blue dog"}),
        ("{__colour__|green}", {"red", "blue", "green"}),
        ("{2$$__colour__}", {"red, blue", "blue, red"}),
        ("{2$$__colour__|green}", {"red, green", "blue, green", "green, red", "green, blue"}),
        ("__empty__x", {"x"}),
    ],
)
def test_wildcards(wildcards: Wildcards, text: str, expected: set[str]) -> None:
    assert drawn(text, wildcards) == expected


def test_names_are_those_of_the_folder(wildcards: Wildcards) -> None:
    assert wildcards.lists().names() == ["animals/Wild", "animals/pets", "colour", "empty", "loop", "scene"]
    assert Wildcards(None).lists().names() == []
    assert Wildcards(Path("/does/not/exist")).lists().names() == []


@pytest.mark.parametrize(
    "name", ["../secret", "..", "/etc/passwd", "./colour", "animals/../colour", "colour.txt", "animals", "notes", "*****"]
)
def test_a_name_is_never_a_path(wildcards: Wildcards, name: str) -> None:
    resolved = resolve(f"__{name}__", 1, wildcards)
    assert resolved.text == f"__{name}__"
    assert resolved.unknown == (name,)


def test_unknown_names_are_reported_once(wildcards: Wildcards) -> None:
    assert resolve("__a__ __colour__ __b__ __a__", 1, wildcards).unknown == ("a", "b")


def test_files_may_change(wildcards: Wildcards) -> None:
    assert wildcards.folder is not None
    file = wildcards.folder / "colour.txt"
    assert drawn("__colour__", wildcards) == {"red", "blue"}
    file.write_text("green\n")
    os.utime(file, ns=(1, 1))
    assert drawn("__colour__", wildcards) == {"green"}
    file.unlink()
    assert drawn("__colour__", wildcards) == {"__colour__"}
    assert set(wildcards._kept) <= {wildcards.folder / "animals" / "pets.txt"}, "nothing is kept of a file that is gone"


def test_a_file_of_any_bytes_is_a_list(wildcards: Wildcards) -> None:
    assert wildcards.folder is not None
    (wildcards.folder / "colour.txt").write_bytes(b"caf\xe9\x00\r\n\xff\xfe\n")
    assert all("\x00" not in text for text in drawn("__colour__", wildcards))


def test_the_seed_decides_and_nothing_else(wildcards: Wildcards) -> None:
    """These words are fixed for ever: a picture's template must give the same picture in ten years, on any machine."""
    text = "{a|b|c|d|e|f|g|h} {3$$1|2|3|4|5} __animals/*__"
    assert [resolve(text, seed, wildcards).text for seed in (0, 1, 2**32 - 1)] == [
        "g 2, 3, 4 dog",
        "h 5, 3, 1 cat",
        "d 5, 1, 4 cat",
    ]
    assert [Draw(0, "prompt").below(1000), Draw(1, "prompt").below(1000)] == [780, 219]


def test_prompt_and_negative_prompt_draw_apart() -> None:
    pairs = {(resolve("{a|b}", s, NONE, "prompt").text, resolve("{a|b}", s, NONE, "negative").text) for s in SEEDS}
    assert len(pairs) == 4


def test_draws_are_even_and_weights_count() -> None:
    even = Counter(resolve("{a|b|c}", seed, NONE).text for seed in range(3_000))
    assert all(900 < count < 1_100 for count in even.values())
    weighted = Counter(resolve("{3::a|1::b|0.5::c}", seed, NONE).text for seed in range(4_500))
    assert abs(weighted["a"] - 3_000) < 150
    assert abs(weighted["c"] - 500) < 100


def test_loops_end(wildcards: Wildcards) -> None:
    text = resolve("__loop__", 1, wildcards).text
    assert text.startswith("x x x")
    assert text.endswith("__loop__")
    assert len(text) < 200


def test_explosions_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("__a__ __a__ __a__ " + "long " * 1_000 + "\n")
    text = resolve("__a__", 1, Wildcards(tmp_path)).text
    assert 1_000 < len(text) <= MAX_TEXT + 5
    many = resolve("{a|b}" * (MAX_DRAWS + 100), 1, NONE).text
    assert len(many) == MAX_DRAWS


UNITS = [
    "{",
    "}",
    "{a|",
    "|",
    "[",
    "]",
    "[|",
    "{[|",
    "__",
    "__a",
    "_",
    "{a|b}",
    "__colour__",
    "{2$$__colour__}",
    "\\",
    "{1$$",
    "0::",
]
UNITS += ["{99$$a|b|c}", "__loop__", "{" * 19 + "a|b" + "}" * 19, "__" + "a" * 190 + "!", "{999$$__scene__}", "\x00", "__*__"]


@pytest.mark.parametrize("unit", UNITS)
def test_hostile_templates_are_drawn(wildcards: Wildcards, unit: str) -> None:
    text = unit * (MAX_PROMPT // len(unit))
    assert len(resolve(text, 1, wildcards).text) < MAX_TEXT + len(text)
    resolve("{" + text + "}", 1, wildcards)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*"{}|[]\\_a$: ", "2$$", "0.5::", "__x__", "{a|b}"]), max_size=40).map("".join), st.integers(0, 9)
)
def test_any_template_is_drawn(text: str, seed: int) -> None:
    once = resolve(text, seed, NONE)
    assert once == resolve(text, seed, NONE)
    assert len(once.text) <= len(text) + 2 * text.count("$$") * len(text)

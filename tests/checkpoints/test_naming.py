"""A name means the file that has it, in every way in which it may be listed or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from modules.checkpoints.files import find, scan
from modules.checkpoints.naming import by_hash, named
from modules.errors import UnknownName
from tests.tiny import tiny_checkpoint


@dataclass(frozen=True)
class Listed:
    name: str
    path: Path


def listed(*files: str) -> list[Listed]:
    return [Listed(file.rpartition(".")[0], Path("models", file)) for file in files]


STRANGE = listed(
    "foo [deadbeef].safetensors",
    "foo.safetensors",
    "blank .safetensors",
    "blank.safetensors",
    "sub/dream.safetensors",
    "sub/deep/dream.safetensors",
    "Dream.safetensors",
    "a\\b.safetensors",
    "a/b.safetensors",
    "v1.5 (2).safetensors",
)


@pytest.mark.parametrize("info", STRANGE, ids=lambda info: info.name)
@pytest.mark.parametrize("form", ["{}", "{}.safetensors", "{}.safetensors [0123456789]"])
def test_every_listed_name_means_its_own_file_whatever_stands_beside_it(info: Listed, form: str) -> None:
    assert named(STRANGE, form.format(info.name)) == info


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("sub\\dream.safetensors [0123456789]", "sub/dream"),
        ("sub\\\\deep\\\\dream.safetensors [0123456789]", "sub/deep/dream"),
        ("sub_deep_dream", "sub/deep/dream"),
        ("FOO [DEADBEEF]", "foo [deadbeef]"),
        ("foo.safetensors [deadbeef00]", "foo"),
        ("foo [deadbeef].safetensors [0123456789]", "foo [deadbeef]"),
        ("  v1.5 (2)  ", "v1.5 (2)"),
        ("elsewhere/V1.5 (2).ckpt", "v1.5 (2)"),
    ],
)
def test_spellings_of_other_programs(wanted: str, name: str) -> None:
    found = named(STRANGE, wanted)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("wanted", ["", " ", "fo", "drea", "[deadbeef]", "other.safetensors [0123456789]"])
def test_a_part_of_a_name_is_no_name(wanted: str) -> None:
    assert named(STRANGE, wanted) is None


def test_a_hash_is_taken_alone_or_from_a_title() -> None:
    known = {"foo": "0123456789abcdef"}
    for wanted in ("01234567", "0123456789", " 0123456789ABCDEF ", "gone.safetensors [0123456789]"):
        assert by_hash(STRANGE, wanted, lambda info: known.get(info.name, "")) == STRANGE[1]
    for wanted in ("0123456", "foo", "", "012345678g"):
        assert by_hash(STRANGE, wanted, lambda info: known.get(info.name, "")) is None


def test_a_broken_file_is_found_with_its_problem_and_never_replaced_by_a_neighbour(tmp_path: Path) -> None:
    whole = tiny_checkpoint(tmp_path / "dream_v2.safetensors").read_bytes()
    (tmp_path / "dream.safetensors").write_bytes(whole[: len(whole) // 2])
    for wanted in ("dream", "Dream.safetensors", "dream.safetensors [0123456789]"):
        assert "the download is incomplete" in find([tmp_path], wanted).problem
    assert find([tmp_path], "dream_v2").problem == ""
    with pytest.raises(UnknownName):
        find([tmp_path], "dream_v")


def test_strange_names_on_the_disk_are_found_as_they_are_listed(tmp_path: Path) -> None:
    for name in ("foo [deadbeef].safetensors", "blank .safetensors", "two  blanks.safetensors", "[x].safetensors"):
        tiny_checkpoint(tmp_path / name)
    infos = scan([tmp_path])
    assert [find([tmp_path], info.name) for info in infos] == infos

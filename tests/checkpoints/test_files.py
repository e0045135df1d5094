"""Scanning and naming: what is listed, under which name, with which defaults, and how a name is found again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modules.checkpoints import files
from modules.checkpoints.files import Defaults, file_sha256, find, scan
from modules.errors import UnknownName
from tests.checkpoints.corpus import BAD_CHECKPOINTS, BAD_HEADERS, NOT_CHECKPOINTS, NOT_SAFETENSORS
from tests.tiny import TINY_METADATA, tiny_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def put(tiny_file: Path, *places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_file, place)


def names(*folders: Path) -> list[str]:
    return [info.name for info in scan(folders)]


# ---- what is listed


def test_names_are_paths_without_suffix_and_sorted(folder: Path, tiny_file: Path) -> None:
    put(
        tiny_file,
        *(folder / name for name in ("b.safetensors", "sub/deep/A.SAFETENSORS", "v1.5-pruned.safetensors", "Ü ß.safetensors")),
    )
    assert names(folder) == ["b", "sub/deep/A", "v1.5-pruned", "Ü ß"]


def test_hidden_foreign_and_companion_files_are_not_listed(folder: Path, tiny_file: Path) -> None:
    put(tiny_file, *(folder / n for n in (".x.safetensors", ".git/y.safetensors", "Lora/z.safetensors", "VAE/v.safetensors")))
    put(tiny_file, folder / "notes.txt", folder / "a.safetensors.part", folder / "Stable-diffusion/model.safetensors")
    assert names(folder) == ["Stable-diffusion/model"]


def test_links_are_followed_and_circles_end(folder: Path, tiny_file: Path, tmp_path: Path) -> None:
    put(tiny_file, tmp_path / "elsewhere/far.safetensors", folder / "near.safetensors")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(folder)
    (folder / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    listed = {info.name: info.problem for info in scan([folder])}
    assert listed.keys() == {"link/far", "near", "gone"}
    assert "is it a link to a file that is gone?" in listed["gone"]


def test_several_folders_give_unique_names_and_nothing_twice(tmp_path: Path, tiny_file: Path) -> None:
    put(tiny_file, *(tmp_path / n for n in ("one/m.safetensors", "two/m.safetensors", "two/m.ckpt", "one/inner/n.safetensors")))
    assert names(tmp_path / "one", tmp_path / "two", tmp_path / "one/inner", tmp_path / "one") == [
        "inner/n",
        "m",
        "m (2)",
        "m (3)",
    ]


def test_missing_and_unreadable_folders_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert scan([tmp_path / "missing", tmp_path / "file"]) == []


def test_names_that_no_json_could_carry_are_made_printable(folder: Path, tiny_file: Path) -> None:
    put(tiny_file, folder / "line\nbreak.safetensors", Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9.safetensors")))
    listed = scan([folder])
    assert {info.name for info in listed} == {"line\ufffdbreak", "latin-\ufffd"}
    json.dumps([info.name for info in listed]).encode("utf-8")
    assert [find([folder], info.name).path for info in listed] == [info.path for info in listed]


@pytest.mark.parametrize("kind", {**NOT_SAFETENSORS, **BAD_HEADERS, **NOT_CHECKPOINTS, **BAD_CHECKPOINTS})
def test_unusable_files_are_listed_with_the_reason(kind: str, folder: Path, tiny_file: Path) -> None:
    make, message = {**NOT_SAFETENSORS, **BAD_HEADERS, **NOT_CHECKPOINTS, **BAD_CHECKPOINTS}[kind]
    make(folder / "bad.safetensors", tiny_file)
    put(tiny_file, folder / "good.safetensors")
    bad, good = scan([folder])
    assert message in bad.problem
    assert bad.problem.startswith("bad.safetensors ") or bad.problem.startswith("bad.safetensors:")
    assert (bad.family, good.family, good.problem) == ("", "sd1", "")


def test_a_ckpt_is_listed_with_the_way_out(folder: Path, tiny_file: Path) -> None:
    NOT_SAFETENSORS["new pickle"][0](folder / "old.ckpt", tiny_file)
    assert "only safetensors are read; convert it to .safetensors" in scan([folder])[0].problem


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    folder: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(b"")
    assert "is empty" in scan([folder])[0].problem
    put(tiny_file, folder / "a.safetensors")
    reads: list[Path] = []
    real = files.read_source
    monkeypatch.setattr(files, "read_source", lambda path: reads.append(path) or real(path))
    assert [scan([folder])[0].problem for _ in range(3)] == ["", "", ""]
    assert reads == [path]


# ---- what a file says about itself


def test_the_files_own_settings_are_its_defaults(tiny_file: Path) -> None:
    info = scan([tiny_file.parent])[0]
    assert (info.title, info.family, info.description) == ("Tiny", "sd1", "Random weights for tests.")
    assert info.defaults == Defaults(64, 64, 4, 5.0, "Euler", "Karras")
    assert (info.prompts, info.motifs) == (("a cat", "a red apple"), ("cat", "apple"))


def test_a_file_that_says_nothing_gets_its_familys_defaults(folder: Path) -> None:
    tiny_checkpoint(folder / "mute.safetensors", metadata={})
    info = scan([folder])[0]
    assert (info.title, info.defaults) == ("mute", Defaults(512, 512, 20, 7.0, "DPM++ 2M", "Karras"))
    assert (info.description, info.prompts, info.motifs) == ("", (), ())


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("native_size", ["", "128", "0x0", "100x100", "99999x64", "4096x4096", "axb", "64x64x64", "-64x64", "64 x 64"]),
        ("steps", ["", "0", "-3", "151", "1e9", "nan", "many", "inf"]),
        ("cfg_scale", ["", "-1", "51", "nan", "inf", "seven"]),
        ("sampler", ["", "No such", "euler\n"]),
        ("schedule", ["", "No such", "karras "]),
        ("prompts", ["", "[", "{}", '"a"', "5", "[1, null, {}]", "[" * 5000]),
        ("motifs", ["null", "[[[]]]"]),
    ],
)
def test_malformed_settings_are_ignored(key: str, values: list[str]) -> None:
    family = Defaults()
    for value in values:
        said = {f"atelier.{key}": value}
        assert files._defaults(said, family) == family
        assert files._texts(said.get("atelier.prompts") or said.get("atelier.motifs"), 100) == ()


def test_texts_of_a_file_are_cleaned_and_bounded(folder: Path) -> None:
    prompts = json.dumps(["a\x00b", "", "   ", "x" * 10_000, *["y"] * 1000])
    metadata = {**TINY_METADATA, "modelspec.title": " A\nB\x07 " + "t" * 999, "atelier.prompts": prompts}
    tiny_checkpoint(folder / "a.safetensors", metadata=metadata)
    info = scan([folder])[0]
    assert info.title.startswith("A B tt")
    assert len(info.title) == 200
    assert info.prompts[:2] == ("ab", "x" * 500)
    assert len(info.prompts) == 100


# ---- finding


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("Photo/v1.5", "Photo/v1.5"),
        ("photo/V1.5", "Photo/v1.5"),
        ("photo\\v1.5", "Photo/v1.5"),
        ("v1.5", "Photo/v1.5"),
        ("V1.5.safetensors", "Photo/v1.5"),
        ("  v1.5 ", "Photo/v1.5"),
        ("elsewhere/v1.5", "Photo/v1.5"),
        ("a/same", "a/same"),
        ("Same", "Same"),
        ("same", "Same"),
    ],
)
def test_a_name_is_found_in_the_spellings_that_people_use(wanted: str, found: str, folder: Path, tiny_file: Path) -> None:
    put(
        tiny_file,
        *(folder / n for n in ("Photo/v1.5.safetensors", "a/same.safetensors", "b/same.safetensors", "Same.safetensors")),
    )
    assert find([folder], wanted).name == found


@pytest.mark.parametrize("wanted", ["", "nothing", "twin", "twin.safetensors", "[", "0123456789", "../a/twin", "a\x00b"])
def test_unknown_and_ambiguous_names_are_refused_with_what_is_there(wanted: str, folder: Path, tiny_file: Path) -> None:
    put(tiny_file, folder / "a/twin.safetensors", folder / "b/twin.safetensors")
    with pytest.raises(UnknownName, match="a/twin, b/twin"):
        find([folder], wanted)


def test_a_hash_finds_its_file_once_it_is_known(folder: Path, tiny_file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hashes.json"
    put(tiny_file, folder / "a.safetensors", folder / "b.safetensors")
    (folder / "b.safetensors").write_bytes(tiny_file.read_bytes() + b"more")
    digest = file_sha256(folder / "b.safetensors", cache)
    assert find([folder], digest[:10], cache).name == "b"
    assert find([folder], f"renamed.safetensors [{digest[:10]}]", cache).name == "b"
    assert find([folder], f"a.safetensors [{digest[:10]}]", cache).name == "a", "a name that fits goes before the hash"
    with pytest.raises(UnknownName):
        find([folder], digest[:7], cache)
    with pytest.raises(UnknownName):
        find([folder], digest[:10])


def test_listing_models_needs_no_torch() -> None:
    """The web process lists models."""
    code = "import sys, modules.checkpoints.files; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0

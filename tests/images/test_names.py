"""Pictures under names that a pattern makes: never replaced, found again after a crash, and inside of the outputs folder."""

from __future__ import annotations

import io
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from modules.images.infotext import GenerationInfo
from modules.images.names import naming_of
from modules.images.outputs import Outputs
from modules.images.zips import stream_zip
from tests.test_naming import FACTS

JOB, OTHER = "0123456789abcdef", "fedcba9876543210"
FIRST = replace(FACTS, job=JOB, index=0, count=1)


def test_names_that_are_taken_get_job_and_number(tmp_path: Path, pixels: bytes, info: GenerationInfo) -> None:
    outputs = Outputs(tmp_path, naming=naming_of("[seed]-[prompt_spaces]", "[model_name]/[steps]"))
    saved = outputs.save(pixels, 64, 64, info, JOB, 0, FIRST.when, FIRST)
    assert saved.name == "model/20/8-photo of a Cat, on_ a mat.png"
    assert outputs.resolve(saved.name) == saved.path
    other = outputs.save(pixels, 64, 64, info, OTHER, 2, FIRST.when, replace(FIRST, job=OTHER))
    assert other.name == "model/20/8-photo of a Cat, on_ a mat-fedcba98-002.png"
    for job, index, there in ((JOB, 0, saved), (OTHER, 2, other)):  # a replay, whose bytes differ
        again = replace(info, facts={"seconds": "3"})
        assert outputs.save(pixels, 64, 64, again, job, index, FIRST.when, replace(FIRST, job=job)) == there
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_a_crash_before_the_row_finds_the_picture_where_the_name_is_known(
    tmp_path: Path, pixels: bytes, info: GenerationInfo
) -> None:
    outputs = Outputs(tmp_path, naming=naming_of("[seed]", "[date]/[steps]"))
    saved = outputs.save(pixels, 64, 64, info, JOB, 0, FIRST.when, FIRST)
    assert outputs.find(JOB, 0, 7, FIRST.when, FIRST) == saved
    assert outputs.find(JOB, 1, 7, FIRST.when, FIRST) is None
    outputs.naming = naming_of("[prompt]", "")
    assert outputs.find(JOB, 0, 7, FIRST.when, FIRST) is None


def test_a_running_number_goes_on_from_the_largest_and_is_given_once(
    tmp_path: Path, pixels: bytes, info: GenerationInfo
) -> None:
    """As A1111 counts, in each folder, by several threads of several programs."""
    programs = [Outputs(tmp_path, naming=naming_of("[counter]-[seed]", "[steps]")) for _ in range(2)]
    (tmp_path / "20").mkdir()
    (tmp_path / "20" / "00041-of another program.jpg").touch()
    (tmp_path / "20" / "notes 99999.txt").touch()

    def save(number: int) -> str:
        facts = replace(FIRST, job=f"{number}{JOB}")
        return programs[number % 2].save(pixels, 64, 64, info, f"{number}{JOB}", 0, time.time(), facts).name

    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(save, range(12)))
    assert sorted(names) == [f"20/{number:05d}-8.png" for number in range(42, 54)]
    programs[0].naming = naming_of("[counter][seed]", "")
    first = programs[0].save(pixels, 64, 64, info, JOB, 0, time.time(), FIRST)
    assert first.name == "00000-8.png", "digits of the seed are told from the number's"


def test_a_picture_with_a_running_number_is_found_after_a_crash(tmp_path: Path, pixels: bytes, info: GenerationInfo) -> None:
    naming, when = naming_of("[counter]-[seed]", "[date]"), time.time()
    facts = replace(FIRST, when=when)
    saved = Outputs(tmp_path, naming=naming).save(pixels, 64, 64, info, JOB, 0, when, facts)
    again = Outputs(tmp_path, naming=naming)
    assert again.find(JOB, 0, 8, when, facts) == saved
    assert again.find(JOB, 1, 8, when, facts) is None
    assert again.save(pixels, 64, 64, replace(info, facts={"seconds": "3"}), JOB, 0, when, facts) == saved
    other = again.save(pixels, 64, 64, info, OTHER, 0, when, replace(facts, job=OTHER))
    assert other.path.name == "00001-8.png"


def test_nothing_leads_out_of_the_outputs(tmp_path: Path, pixels: bytes, info: GenerationInfo) -> None:
    folder, outside = tmp_path / "outputs", tmp_path / "outside"
    outside.mkdir()
    outputs = Outputs(folder, naming=naming_of("[prompt]", "[model_name]"))
    (folder / "away").symlink_to(outside)
    (folder / "file").touch()
    day = f"{Outputs(tmp_path / 'usual').save(pixels, 64, 64, info, JOB, 0, FIRST.when).path.parent.name}"
    for number, (model, expected) in enumerate(
        [("../../x", "x"), ("sources", "sources_"), ("away", day), ("file", day), (".hidden", "_.hidden")]
    ):
        facts = replace(FIRST, model_name=model, prompt="../../../evil")
        saved = outputs.save(pixels, 64, 64, info, f"{number}{JOB}", 0, FIRST.when, facts)
        assert saved.path.parent == folder / expected
        assert saved.path.resolve().is_relative_to(folder)
    assert list(outside.iterdir()) == []


def test_an_empty_name_is_the_usual_one_and_an_empty_folder_the_outputs(
    tmp_path: Path, pixels: bytes, info: GenerationInfo
) -> None:
    usual = Outputs(tmp_path / "usual").save(pixels, 64, 64, info, JOB, 0, FIRST.when).path.name
    outputs = Outputs(tmp_path / "outputs", naming=naming_of("[none]", ""))
    assert outputs.save(pixels, 64, 64, info, JOB, 0, FIRST.when, FIRST).name == usual


def test_pictures_without_facts_keep_the_usual_place(tmp_path: Path, pixels: bytes, info: GenerationInfo) -> None:
    usual = Outputs(tmp_path / "usual").save(pixels, 64, 64, info, JOB, 0, FIRST.when).name
    outputs = Outputs(tmp_path / "outputs", naming=naming_of("[seed]", "[model_name]"))
    assert outputs.save(pixels, 64, 64, info, JOB, 0, FIRST.when).name == usual


def test_the_sweep_reaches_the_folders_of_a_pattern(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path, naming=naming_of("[seed]", "a/[seed]"))
    left = [tmp_path / folder / ".atelier-0123456789abcdef.part" for folder in ("a/7", "sources", ".trash")]
    for path in left:
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1, 1))
    assert outputs.sweep() == 1
    assert [path.exists() for path in left] == [False, True, True]


def test_equal_names_of_several_folders_are_all_in_a_zip(tmp_path: Path) -> None:
    pictures = []
    for folder, name in (("a", "7.png"), ("b", "7.png"), ("c", "7.PNG")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(folder)
        pictures.append((name, tmp_path / folder / name))
    with zipfile.ZipFile(io.BytesIO(b"".join(stream_zip(pictures, FIRST.when)))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "7.png": b"a",
            "7 (2).png": b"b",
            "7 (3).PNG": b"c",
        }

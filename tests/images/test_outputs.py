"""The outputs folder: names, replays, races, full and vanished disks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modules.errors import OutputError, RequestError
from modules.images import png
from modules.images.infotext import GenerationInfo, parse, parse_record
from modules.images.outputs import Outputs
from tests.images.conftest import make_info
from tests.picture_files import read_pixels

ROOT = Path(__file__).parents[2]
JOB = "0123456789abcdef0123456789abcdef"
NOON = 1_786_000_000.0
MAX_SIZED = 64 * 64 * 3


def pngs(outputs: Outputs) -> list[Path]:
    return sorted(outputs.folder.rglob("*.png"))


def test_a_picture_lies_in_its_days_folder_with_its_record(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    saved = outputs.save(pixels, 64, 64, info, JOB, 3, NOON)
    assert re.fullmatch(r"2026-08-0\d/\d{6}-01234567-003-7\.png", saved.name)
    assert saved.path == outputs.folder / saved.name
    assert outputs.resolve(saved.name) == saved.path
    assert (saved.width, saved.height) == (64, 64)
    assert hashlib.sha256(saved.path.read_bytes()).hexdigest() == saved.sha256
    texts = png.read_texts(saved.path).texts
    assert texts["parameters"] == saved.infotext
    assert parse(saved.infotext)["Prompt"] == "a cat"
    record = parse_record(texts["atelier"])
    assert (record.job, record.index, record.info.request) == (JOB, 3, info.request)


def test_a_replay_finds_its_own_picture_and_makes_no_second(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    assert outputs.find(JOB, 0, 7, NOON) is None
    first = outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    # Another run of the same program may have other facts to tell, and so other bytes.
    again = outputs.save(pixels, 64, 64, replace(info, facts={"seconds": "3"}), JOB, 0, NOON)
    assert again == first
    assert outputs.find(JOB, 0, 7, NOON) == first
    assert outputs.find(JOB, 1, 7, NOON) is None
    assert pngs(outputs) == [first.path]


def test_another_jobs_name_is_respected(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    """Two jobs whose ids begin alike, in the same second, with the same seed."""
    other = JOB[:8] + "f" * 24
    first = outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    second = outputs.save(bytes(MAX_SIZED), 64, 64, info, other, 0, NOON)
    assert first.path != second.path
    assert read_pixels(first.path)[0] == pixels
    assert outputs.find(other, 0, 7, NOON) == second
    assert outputs.save(bytes(MAX_SIZED), 64, 64, info, other, 0, NOON) == second
    assert len(pngs(outputs)) == 2


@pytest.mark.parametrize("there", [b"", b"a note", "torn"])
def test_a_file_that_is_not_this_picture_is_left_alone(
    there: bytes | str, outputs: Outputs, pixels: bytes, info: GenerationInfo
) -> None:
    path = outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path
    content = there if isinstance(there, bytes) else path.read_bytes()[:-100]
    path.write_bytes(content)
    saved = outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    assert path.read_bytes() == content
    assert read_pixels(saved.path)[0] == pixels


def test_a_thousand_taken_names_are_no_obstacle(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    folder = outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path.parent
    for number in range(1000):
        for job in (JOB[:8], JOB):
            (folder / f"{number:06d}-{job}-001-7.png").touch()
    clock = outputs.save(pixels, 64, 64, info, JOB, 2, NOON).path.name[:6]
    for job in (JOB[:8], JOB):
        (folder / f"{clock}-{job}-001-7.png").touch()
    assert read_pixels(outputs.save(pixels, 64, 64, info, JOB, 1, NOON).path)[0] == pixels


@pytest.mark.parametrize("job", ["", "../../etc", "-rf", "CON", "a/b\\c", "\u202egnp", "日本" * 100, "x" * 400, ".", "a\0b"])
def test_no_job_id_leads_out_of_the_folder(job: str, outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    saved = outputs.save(pixels, 64, 64, info, job, 0, NOON)
    assert saved.path.parent.parent == outputs.folder
    assert re.fullmatch(r"\d{6}-[0-9A-Za-z]+-000-7\.png", saved.path.name)
    assert outputs.save(pixels, 64, 64, info, job, 1, NOON).path != saved.path


def test_pictures_without_a_job_are_never_taken_for_each_other(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    names = {outputs.save(pixels, 64, 64, info, "", 0, NOON).name for _ in range(5)}
    assert len(names) == len(pngs(outputs)) == 5


def test_too_much_metadata_costs_the_metadata_not_the_picture(outputs: Outputs, pixels: bytes) -> None:
    info = make_info(prompt="🖼" * 32_768, negative_prompt='"' * 32_768)
    info = replace(info, extras={"Notes": "n" * 800_000}, facts={"log": "l" * 800_000})
    saved = outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    found = png.read_texts(saved.path)
    assert parse_record(found.texts["atelier"]).info.request == info.request
    assert parse(saved.infotext)["Prompt"] == info.request.prompt


def test_four_processes_that_want_the_same_names_lose_nothing(tmp_path: Path) -> None:
    """Fixed temporary names lose a sixth of these saves, look-then-write a quarter (measured in other programs)."""
    count = 50
    jobs = [JOB[:8] + str(number) * 24 for number in range(4)]
    command = [sys.executable, "-m", "tests.images.racer", str(tmp_path / "outputs")]
    racers = [
        subprocess.Popen(
            [*command, job, str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for job in jobs
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    saved: dict[str, str] = {}
    for racer in racers:  # all are at the line
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        out, err = racer.communicate(timeout=120)
        assert racer.returncode == 0, err
        lines = [line.split() for line in out.splitlines()]
        assert len(lines) == count
        for name, sha256 in lines:
            assert name not in saved
            saved[name] = sha256
    outputs = Outputs(tmp_path / "outputs")
    assert {path.relative_to(outputs.folder).as_posix() for path in outputs.folder.rglob("*") if path.is_file()} == set(saved)
    for name, sha256 in saved.items():
        assert hashlib.sha256(outputs.resolve(name).read_bytes()).hexdigest() == sha256


def test_a_full_and_a_read_only_disk_are_explained(tmp_path: Path) -> None:
    """On a real file system of 96 KiB, in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here (unshare -rm): a real full disk cannot be made")
    done = subprocess.run(
        [unshare, "-rm", sys.executable, "-m", "tests.images.smalldisk", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "mount:" in done.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    full, check, read_only = done.stdout.splitlines()
    assert re.fullmatch(
        r"FULL [4-7] the picture could not be saved: the disk of \S+ is full; make room, or .*--outputs-dir", full
    )
    assert "is full: 1.0 MB are needed, 0.0 MB are free; make room" in check
    assert "is on a read-only disk; make it writable" in read_only


def test_a_folder_that_vanished_is_not_made_up_again(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    shutil.rmtree(outputs.folder)
    with pytest.raises(OutputError, match=r"the folder outputs is gone; put it back"):
        outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    with pytest.raises(OutputError, match=r"the folder outputs is gone"):
        outputs.check_writable()
    assert outputs.sweep() == 0
    outputs.folder.mkdir()
    assert outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path.is_file()


def test_a_days_folder_that_was_removed_is_made_again(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    shutil.rmtree(outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path.parent)
    assert outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path.is_file()


def test_a_file_in_place_of_a_folder_is_reported(tmp_path: Path, pixels: bytes, info: GenerationInfo) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is not a folder"):
        Outputs(tmp_path / "file")
    with pytest.raises(OutputError, match="is not a folder"):
        Outputs(tmp_path / "file" / "below")
    outputs = Outputs(tmp_path / "good")
    day = outputs.save(pixels, 64, 64, info, JOB, 0, NOON).path.parent
    shutil.rmtree(day)
    day.touch()
    with pytest.raises(OutputError, match=r"2026-08-0\d is not a folder"):
        outputs.save(pixels, 64, 64, info, JOB, 0, NOON)


def test_looking_ahead_leaves_nothing_behind_and_counts_the_need(outputs: Outputs) -> None:
    outputs.check_writable(need=1000)
    assert list(outputs.folder.iterdir()) == []
    with pytest.raises(OutputError, match=r"is full: \d+\.\d MB are needed"):
        outputs.check_writable(need=1 << 60)


def test_the_sweep_takes_leftovers_and_nothing_else(outputs: Outputs, pixels: bytes, info: GenerationInfo) -> None:
    saved = outputs.save(pixels, 64, 64, info, JOB, 0, NOON)
    day = saved.path.parent
    for folder in (outputs.folder, day):
        (folder / ".atelier-0123456789abcdef.part").write_bytes(b"half")
    reserved = day / f"010203-{JOB}-000-7.png"
    reserved.touch()
    os.utime(reserved, (NOON - 1e6, NOON - 1e6))
    fresh = day / f"010204-{JOB}-000-7.png"
    fresh.touch()
    own = day / "notes.png"
    own.touch()
    os.utime(own, (NOON - 1e6, NOON - 1e6))
    elsewhere = outputs.folder / "my folder" / ".atelier-0123456789abcdef.part"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    assert outputs.sweep() == 3
    assert {path for path in outputs.folder.rglob("*") if path.is_file()} == {saved.path, fresh, own, elsewhere}


def test_a_named_file_is_written_and_never_replaced(
    tmp_path: Path, outputs: Outputs, pixels: bytes, info: GenerationInfo
) -> None:
    target = tmp_path / "mine.png"
    outputs.check_target(target)
    saved = outputs.save_as(target, pixels, 64, 64, info)
    assert saved.path == target
    assert read_pixels(target)[0] == pixels
    with pytest.raises(OutputError, match=r"mine\.png exists and is not overwritten; use another name"):
        outputs.check_target(target)
    with pytest.raises(OutputError, match=r"mine\.png exists and is not overwritten"):
        outputs.save_as(target, bytes(MAX_SIZED), 64, 64, info)
    assert read_pixels(target)[0] == pixels
    assert sorted(tmp_path.iterdir()) == [target, outputs.folder]
    with pytest.raises(OutputError, match=r"the folder nowhere is gone"):
        outputs.check_target(tmp_path / "nowhere" / "deep" / "mine.png")
    with pytest.raises(OutputError, match="too long"):
        outputs.save_as(tmp_path / ("日" * 100), pixels, 64, 64, info)
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError, match=r"link\.png exists"):
        outputs.check_target(link)


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "2026-08-14/../../secret.txt", "link.png", "", ".", "x\0y", "gone.png", "a" * 5000]
)
def test_no_name_leads_out_of_the_folder(name: str, outputs: Outputs) -> None:
    secret = outputs.folder.parent / "secret.txt"
    secret.write_text("CANARY")
    (outputs.folder / "link.png").symlink_to(secret)
    with pytest.raises(RequestError, match="not in the outputs folder"):
        outputs.resolve(name)


def test_the_wrong_number_of_pixels_is_refused(outputs: Outputs, info: GenerationInfo) -> None:
    with pytest.raises(ValueError, match="12288 bytes, 3 were given"):
        outputs.save(bytes(3), 64, 64, info, JOB, 0)
    assert pngs(outputs) == []

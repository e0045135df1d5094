"""The index: filled by saving and by scanning, the same when it is made again, and no file ends a scan."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from modules.gallery import index as indexing
from modules.gallery import trash
from modules.gallery.edits import Change
from modules.gallery.gallery import Gallery
from modules.gallery.index import _COUNT, _PAGE, _SIDES
from modules.gallery.notes import Note, Remembered
from modules.gallery.schema import UNKNOWN, Written
from modules.gallery.search import LAST, Search
from modules.gallery.sorting import SORTS
from tests.gallery.conftest import NOON, SECONDS, lose_index, names, painted
from tests.images import foreign

Opened = Callable[..., Gallery]


def test_pages_follow_each_other_without_gaps_in_every_order(outputs: Path, open_gallery: Opened) -> None:
    for number in range(7):
        painted(outputs / f"{'bAé'[number % 3]}{number}.png", "a fox", seed=number, age=number % 5)  # some at the same moment
    gallery = open_gallery()
    ids = gallery.ids("", None)
    gallery.edit(ids[1:3], None, Change(rating=4))
    whole = {sort: names(gallery, "fox", sort) for sort in SORTS}
    assert whole["oldest"] == whole["newest"][::-1]
    assert sorted(whole["rating"]) == sorted(whole["newest"])
    assert whole["rating"][:2] == whole["newest"][1:3]
    assert whole["name"] == ["A1.png", "A4.png", "b0.png", "b3.png", "b6.png", "é2.png", "é5.png"]
    for sort, wanted in whole.items():
        found, cursor = [], ""
        while True:
            page = gallery.page("fox", None, sort, cursor, 2)
            found += [entry.path for entry in page.entries]
            cursor = page.next
            if not cursor:
                break
        assert found == wanted, sort


def test_pictures_are_sorted_by_their_sizes(outputs: Path, open_gallery: Opened) -> None:
    for width, height in ((30, 40), (100, 8), (64, 64), (8, 100)):
        Image.new("RGB", (width, height)).save(outputs / f"{width}.png")
    gallery = open_gallery()
    largest = names(gallery, sort="largest")
    assert (largest[0], largest[1], set(largest[2:])) == ("64.png", "30.png", {"100.png", "8.png"})
    assert names(gallery, sort="smallest") == largest[::-1]


def test_the_index_made_again_says_the_same(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    for number in range(4):
        painted(outputs / "2026-08-14" / f"{number}.png", f"fox {number} <lora:ink:1>", seed=number, age=number, Model="m")
    (outputs / "bad.jpg").write_bytes(b"\xff\xd8 no more")
    gallery = open_gallery()
    gallery.edit(gallery.ids("seed:1", None), None, Change(True, 3, ("a tag",), (), ("album",)))
    gallery.discard(gallery.ids("seed:2", None), None)
    before = gallery.page("", None).entries, gallery.page("is:trash", None).entries, gallery.facets(None)
    assert len(before[0]) == 4
    assert len(before[1]) == 1
    gallery.close()
    lose_index(tmp_path / "data")
    again = open_gallery()
    assert (again.page("", None).entries, again.page("is:trash", None).entries, again.facets(None)) == before


@pytest.mark.parametrize("harm", ["text", "middle", "version", "gone", "tables"])
def test_a_damaged_index_is_put_aside_and_made_again(tmp_path: Path, outputs: Path, open_gallery: Opened, harm: str) -> None:
    for number in range(30):
        painted(outputs / f"{number}.png", f"fox {number} " + "words " * 50, seed=number)
    gallery = open_gallery()
    gallery.edit(gallery.ids("seed:3", None), None, Change(rating=5))
    wanted = gallery.page("", None, limit=100).entries
    gallery.close()
    path = tmp_path / "data" / "gallery.sqlite"
    if harm == "text":
        path.write_text("this is no database, and it is longer than a page's head" * 100)
    elif harm == "middle":
        data = bytearray(path.read_bytes())
        data[4096 : len(data) - 4096] = b"\xa5" * (len(data) - 8192)
        path.write_bytes(data)
    elif harm == "version":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    elif harm == "gone":
        lose_index(tmp_path / "data")
    else:
        with sqlite3.connect(path) as db:
            db.execute("DROP TABLE words")
        db.close()
    again = open_gallery()
    again.page("fox", None)  # what is noticed only by looking is noticed now
    again.rescan(SECONDS)
    assert again.page("", None, limit=100).entries == wanted
    assert path.with_name("gallery.sqlite.damaged").exists() == (harm != "gone")


def test_the_index_may_vanish_while_it_is_open(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    lose_index(tmp_path / "data")
    assert names(gallery) == []
    gallery.rescan(SECONDS)
    assert names(gallery, "fox") == ["a.png"]


def test_pictures_that_come_change_move_and_go_are_followed(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "day" / "a.png", "fox", seed=1)
    painted(outputs / "day" / "b.png", "dog", seed=2)
    gallery = open_gallery()
    gallery.edit(gallery.ids("fox", None), None, Change(favourite=True))
    (outputs / "day" / "a.png").rename(outputs / "moved.png")
    painted(outputs / "day" / "b.png", "cat", seed=3, age=9)
    painted(outputs / "new" / "deep" / "c.webp.png", "owl", seed=4)
    gallery.rescan(SECONDS)
    assert set(names(gallery)) == {"moved.png", "day/b.png", "new/deep/c.webp.png"}
    assert names(gallery, "is:favourite") == ["moved.png"]  # what was written goes with the bytes
    assert names(gallery, "dog") == []
    assert names(gallery, "cat") == ["day/b.png"]
    for path in (outputs / "new" / "deep").iterdir():
        path.unlink()
    (outputs / "new" / "deep").rmdir()
    gallery.rescan(SECONDS)
    assert names(gallery, "owl") == []


def test_a_folder_that_cannot_be_read_keeps_its_pictures(
    outputs: Path, open_gallery: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted(outputs / "a" / "1.png", "fox")
    painted(outputs / "2.png", "dog")
    gallery = open_gallery()
    real = os.scandir

    def scandir(place: object) -> object:
        if str(place).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(place)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "scandir", scandir)
    gallery.rescan(SECONDS)
    assert set(names(gallery)) == {"a/1.png", "2.png"}
    assert "'a' could not be read" in gallery.state().problem


# ---- other programs' and bad files


def _bomb(side: int = 60000) -> bytes:
    """A PNG that says it has so many pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_pictures_of_other_programs_are_found_by_what_they_say(outputs: Path, open_gallery: Opened) -> None:
    text = "a fox <lora:ink:1>\nSteps: 20, Sampler: Euler a, Seed: 77, Size: 64x48, Model: dreams"
    made = {
        "comfy.png": foreign.comfyui(),
        "invoke.png": foreign.invokeai(),
        "fooocus.jpg": foreign.fooocus_jpeg(),
        "novel.png": foreign.novelai(),
        "swarm.png": foreign.swarm(),
        "hidden.png": foreign.hide(text),
        "civitai.jpeg": foreign.commented("JPEG", text),
        "a1111.webp": foreign.commented("WEBP", text),
        "plain.jpg": foreign.commented("JPEG", ""),
    }
    for name, data in made.items():
        (outputs / name).write_bytes(data)
    gallery = open_gallery()
    entries = {entry.path: entry.said for entry in gallery.page("", None).entries}
    assert set(entries) == set(made)
    assert not [said.broken for said in entries.values() if said.broken]
    named = {path for path, said in entries.items() if said.prompt and said.seed and said.program}
    assert named == set(made) - {"plain.jpg"}
    assert set(names(gallery, "seed:77 lora:ink model:dreams sampler:euler fox")) == {
        "hidden.png",
        "civitai.jpeg",
        "a1111.webp",
    }
    assert entries["a1111.webp"].kind == "WEBP"


def test_bad_files_are_shown_as_broken_with_the_reason_and_end_nothing(
    tmp_path: Path, outputs: Path, open_gallery: Opened
) -> None:
    good = painted(outputs / "good.png", "fox").read_bytes()
    (outputs / "bomb.png").write_bytes(_bomb())
    (outputs / "torn.png").write_bytes(good[:-20])
    (outputs / "page.jpg").write_text("<html><script>alert(1)</script></html>")
    (outputs / "empty.webp").touch()
    os.utime(outputs / "empty.webp", (NOON, NOON))
    flipped = bytearray(good)
    flipped[good.index(b"IDAT") + 6] ^= 0xFF
    (outputs / "flipped.png").write_bytes(flipped)
    with (outputs / "huge.png").open("wb") as file:
        file.truncate(200 << 20)
    (outputs / "note.txt").write_text("no picture")
    (outputs / ".hidden.png").write_bytes(good)
    gallery = open_gallery()
    broken = {entry.path: entry.said.broken for entry in gallery.page("is:broken", None).entries}
    assert set(broken) == {"bomb.png", "torn.png", "page.jpg", "empty.webp", "flipped.png", "huge.png"}
    assert "60000x60000" in broken["bomb.png"]
    assert "cut short" in broken["torn.png"]
    assert "not a picture" in broken["page.jpg"]
    assert "200 MiB" in broken["huge.png"]
    assert "empty" in broken["empty.webp"]
    assert names(gallery, "-is:broken") == ["good.png"]
    for entry in gallery.page("is:broken", None).entries:
        assert gallery.thumbnail(entry) is None


def test_grids_are_no_broken_files_however_large(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "grid.png", "a grid", size=(9000, 16))
    (outputs / "larger.png").write_bytes(_bomb(20000))
    gallery = open_gallery()
    larger, grid = sorted(gallery.page("", None).entries, key=lambda entry: entry.said.width, reverse=True)
    assert (grid.said.prompt, grid.said.broken, larger.said.broken) == ("a grid", "", "")
    thumbnail = gallery.thumbnail(grid)
    assert thumbnail is not None
    assert Image.open(io.BytesIO(thumbnail)).width == 320
    assert gallery.thumbnail(larger) is None  # hundreds of megabytes to be decoded
    assert names(gallery, "is:broken") == []
    found = gallery.read(grid)
    assert found is not None
    assert found.prompt == "a grid"


def test_what_only_decoding_shows_is_marked_when_it_is_seen(outputs: Path, open_gallery: Opened) -> None:
    whole = painted(outputs / "a.png", "fox", size=(64, 64)).read_bytes()
    at = whole.index(b"IDAT")
    length = struct.unpack(">I", whole[at - 4 : at])[0]
    junk = b"IDAT" + b"\x00" * length
    (outputs / "a.png").write_bytes(whole[:at] + junk + struct.pack(">I", zlib.crc32(junk)) + whole[at + 8 + length :])
    gallery = open_gallery()
    [entry] = gallery.page("fox", None).entries
    assert entry.said.broken == ""
    assert gallery.thumbnail(entry) is None
    assert names(gallery, "is:broken") == ["a.png"]


def test_links_lead_nowhere(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    secret = painted(tmp_path / "elsewhere" / "secret.png", "secret")
    painted(outputs / "day" / "a.png", "fox")
    (outputs / "link.png").symlink_to(secret)
    (outputs / "folder").symlink_to(secret.parent)
    (outputs / "loop").symlink_to(outputs)
    os.mkfifo(outputs / "pipe.png")
    gallery = open_gallery()
    assert names(gallery) == ["day/a.png"]
    [entry] = gallery.page("", None).entries
    (outputs / "day").rename(outputs / "real")  # put a link in the place of what is known
    (outputs / "day").symlink_to(outputs / "real")
    assert gallery.file(entry) is None
    assert gallery.discard([entry.id], None) == []
    assert secret.exists()


def test_a_file_that_is_replaced_is_not_served_as_the_one_before(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox", seed=1)
    gallery = open_gallery()
    [entry] = gallery.page("", None).entries
    painted(outputs / "a.png", "another", seed=2, age=50)
    assert gallery.file(entry) is None
    assert gallery.thumbnail(entry) is None


def test_pictures_that_others_were_painted_from_are_left_out(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "sources" / f"{'a' * 64}.png", "")
    painted(outputs / "other" / "sources" / "b.png", "")
    assert names(open_gallery()) == ["other/sources/b.png"]


def test_the_data_folder_may_lie_in_the_outputs(outputs: Path) -> None:
    painted(outputs / "a.png", "fox")
    gallery = Gallery(outputs / "data", outputs)
    try:
        for _ in range(2):
            gallery.rescan(SECONDS)
            assert names(gallery) == ["a.png"]
            assert gallery.thumbnail(gallery.page("", None).entries[0])
        assert list((outputs / "data").rglob("*.jpg"))
    finally:
        gallery.close()


# ---- saving


def test_a_saved_picture_is_found_at_once_and_is_its_users(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    gallery = open_gallery()
    painted(outputs / "2026-08-14" / "101010-abc-000-5.png", "fox", seed=5)
    gallery.saved("2026-08-14/101010-abc-000-5.png", "ada")
    gallery.rescan(SECONDS)
    [entry] = gallery.page("fox", frozenset(("ada",))).entries
    assert (entry.owner, entry.said.seed) == ("ada", "5")
    assert names(gallery, owners=frozenset(("bob",))) == []
    gallery.close()
    lose_index(tmp_path / "data")  # and the job list has forgotten the job
    assert [one.owner for one in open_gallery().page("", None).entries] == ["ada"]


def test_a_picture_that_a_scan_finds_first_becomes_its_users(outputs: Path, open_gallery: Opened) -> None:
    """Its file is there before the saver reports it; until then nobody knows whose it is."""
    name = "2026-08-14/101010-abc-000-5.png"
    painted(outputs / name, "fox", seed=5)
    gallery = open_gallery()
    [entry] = gallery.page("", None).entries
    assert entry.owner == UNKNOWN
    gallery.saved(name, "ada")
    gallery.rescan(SECONDS)
    assert names(gallery, owners=frozenset(("ada",))) == [name]


def test_a_scan_does_not_forget_whose_picture_was_saved_while_it_ran(outputs: Path, open_gallery: Opened) -> None:
    name = "2026-08-14/101010-abc-000-5.png"
    opened: list[Gallery] = []

    def owned() -> dict[str, tuple[str, str]]:
        """The scan has found the file, and asks; only then it is reported."""
        opened[0].saved(name, "ada")
        opened[0]._take_saved()
        return {}

    opened.append(open_gallery(scan=False, owned=owned))
    painted(outputs / name, "fox", seed=5)
    opened[0].rescan(SECONDS)
    assert [entry.owner for entry in opened[0].page("", None).entries] == ["ada"]


def test_what_changes_behind_a_scan_is_seen_by_the_next_that_is_asked_for(outputs: Path, open_gallery: Opened) -> None:
    asked: list[Gallery] = []

    def owned() -> dict[str, tuple[str, str]]:
        """The scan has compared all files."""
        if asked:
            painted(outputs / "a.png", "cat", seed=2, age=99)
            asked.pop().rescan(0.0)
        return {}

    painted(outputs / "a.png", "fox", seed=1)
    gallery = open_gallery(owned=owned)
    painted(outputs / "b.png", "dog", seed=3)
    asked.append(gallery)
    gallery.rescan(SECONDS)
    assert names(gallery, "cat") == ["a.png"]


# ---- changes at the same time


def test_of_two_changes_at_a_time_both_count(outputs: Path, open_gallery: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    ids = gallery.ids("", None)
    keep, others = gallery.notes.keep, []

    def keep_slowly(notes: Iterable[Note], durable: bool = True) -> None:
        if not others:
            others.append(threading.Thread(target=gallery.edit, args=(ids, None, Change(rating=4)), daemon=True))
            others[0].start()
            others[0].join(0.3)  # it ends here only where it does not wait for this one
        keep(notes, durable)

    monkeypatch.setattr(gallery.notes, "keep", keep_slowly)
    gallery.edit(ids, None, Change(favourite=True))
    others[0].join(SECONDS)
    assert names(gallery, "is:favourite rating:4") == ["a.png"]


def test_a_rating_does_not_bring_a_discarded_picture_back(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    [before] = gallery.page("", None).entries
    gallery.discard([before.id], None)
    gallery.index.write([(before, Written(rating=5))])  # it was asked for before that
    gallery.index.mark_broken(before, "it is damaged")
    assert names(gallery) == []
    assert gallery.count("is:trash is:broken rating:5", None) == 1


def test_a_scan_may_find_a_discarded_picture_before_that_is_recorded(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    [entry] = gallery.page("", None).entries
    path = trash.discard(outputs, entry.path, trash.new_token(NOON))
    gallery.index.put(gallery._scan.entries([path], Remembered(), {}))
    gallery.index.move(entry, path, NOON)
    assert (names(gallery), names(gallery, "is:trash")) == ([], [path])
    gallery.index.forget([path])
    gallery.index.move(entry, path, NOON)  # it is not in the index any more
    assert names(gallery, "is:trash") == []


def test_owners_come_from_the_job_list_and_what_nobody_knows_is_nobodys(outputs: Path, open_gallery: Opened) -> None:
    ours = painted(outputs / "2026-08-14" / "101010-abc-000-5.png", "fox", seed=5)
    painted(outputs / "2026-08-14" / "101010-abd-000-6.png", "owl", seed=6)
    painted(outputs / "other.png", "dog", seed=7)
    digest = hashlib.sha256(ours.read_bytes()).hexdigest()
    gallery = open_gallery(owned=lambda: {"2026-08-14/101010-abc-000-5.png": ("ada", digest), "other.png": ("ada", "00" * 32)})
    assert {entry.said.prompt: entry.owner for entry in gallery.page("", None).entries} == {
        "fox": "ada",
        "owl": UNKNOWN,
        "dog": "",
    }
    assert len(names(gallery, owners=frozenset(("ada", "")))) == 2
    assert set(names(gallery, owners=frozenset(("ada",)))) == {"2026-08-14/101010-abc-000-5.png"}
    assert names(gallery, owners=frozenset()) == []


def test_equal_pictures_of_two_users_stay_apart(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    for name, user in (("a.png", "ada"), ("b.png", "bob")):
        painted(outputs / name, "same")
        gallery = open_gallery()
        gallery.index.forget([name])
        gallery.saved(name, user)
        gallery.rescan(SECONDS)
    gallery.close()
    lose_index(tmp_path / "data")
    (outputs / "b.png").rename(outputs / "c.png")
    owners = {entry.path: entry.owner for entry in open_gallery().page("", None).entries}
    assert owners == {"a.png": "ada", "c.png": UNKNOWN}


# ---- what is written down


def test_a_damaged_line_of_the_notes_costs_itself_alone(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    for number in range(3):
        painted(outputs / f"{number}.png", "fox", seed=number)
    gallery = open_gallery()
    for number in range(3):
        gallery.edit(gallery.ids(f"seed:{number}", None), None, Change(rating=number + 1))
    gallery.close()
    notes = tmp_path / "data" / "gallery-notes.jsonl"
    lines = notes.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\n"
    notes.write_bytes(b"".join(lines) + b'{"sha256": "cut off')
    lose_index(tmp_path / "data")
    gallery = open_gallery()
    assert {entry.path: entry.written.rating for entry in gallery.page("", None).entries} == {
        "0.png": 1,
        "1.png": 0,
        "2.png": 3,
    }
    gallery.edit(gallery.ids("seed:1", None), None, Change(rating=5))
    lose_index(tmp_path / "data")
    assert names(open_gallery(), "rating:5") == ["1.png"]


def test_the_notes_are_written_anew_when_most_lines_are_out_of_date(
    tmp_path: Path, outputs: Path, open_gallery: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modules.gallery.notes.SPARE_LINES", 3)
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    for rating in (1, 2, 3, 4, 5, 4):
        gallery.edit(gallery.ids("", None), None, Change(rating=rating))
    assert len(gallery.notes.read()) == 1
    [line] = (tmp_path / "data" / "gallery-notes.jsonl").read_text().splitlines()
    assert json.loads(line)["rating"] == 4


# ---- speed, as plans


def test_no_page_reads_more_than_it_shows(outputs: Path, open_gallery: Opened) -> None:
    """The full-text index answers in the order of the ids, and pictures are looked up by them: no scan, no sorting."""
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    match = Search(('prompt : "fo" *',), ("prompt : dog",)).match(frozenset(("ada", "")))
    asked = {_PAGE.format(order): (match, 0, LAST, 60) for order in ("DESC", "ASC")} | {_COUNT: (match, 0, LAST)}
    asked |= {_SIDES: (), indexing._NAMES.format("model"): ("ada",), indexing._FOLDERS: (), indexing._OWNERS: ()}
    with gallery.index._reader() as db:
        for query, values in asked.items():
            plan = [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", values)]
            assert not [step for step in plan if "B-TREE" in step], (query, plan)
            scans = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE INDEX" not in step]
            assert not [step for step in scans if "pictures" in step or "labels" in step or step == "SCAN p"], (query, plan)
            virtual = [step for step in plan if "VIRTUAL TABLE INDEX" in step]
            assert all(step.endswith(":M8><") for step in virtual), plan  # by a match, within bounds of the rowid

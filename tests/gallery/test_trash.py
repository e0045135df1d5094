"""The trash: files move there and back byte for byte, and go for good only when that is asked for or due."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modules.errors import OutputError, RequestError
from modules.gallery import trash
from modules.gallery.edits import Change
from modules.gallery.gallery import Gallery
from tests.gallery.conftest import SECONDS, lose_index, names, painted

Opened = Callable[..., Gallery]


def _files(outputs: Path) -> dict[str, bytes]:
    return {path.relative_to(outputs).as_posix(): path.read_bytes() for path in outputs.rglob("*") if path.is_file()}


def test_the_trash_is_undone_byte_for_byte(outputs: Path, open_gallery: Opened) -> None:
    for number in range(3):
        painted(outputs / "2026-08-14" / f"{number}.png", "fox", seed=number)
    gallery, before = open_gallery(), _files(outputs)
    chosen = gallery.ids("-seed:1", None)
    gallery.edit(chosen[:1], None, Change(favourite=True))
    assert sorted(gallery.discard(chosen, None)) == sorted(chosen)
    assert names(gallery) == ["2026-08-14/1.png"]
    assert gallery.count("is:trash fox", None) == 2
    assert set(_files(outputs).values()) == set(before.values())
    assert not (outputs / "2026-08-14" / "0.png").exists()
    gallery.rescan(SECONDS)  # the scan knows the trash for what it is
    assert gallery.count("is:trash", None) == 2
    assert gallery.count("", None) == 1
    assert sorted(gallery.restore(chosen, None)) == sorted(chosen)
    assert _files(outputs) == before
    assert not (outputs / ".trash").exists()
    assert gallery.count("", None) == 3
    assert gallery.count("is:trash", None) == 0
    assert gallery.count("is:favourite", None) == 1


def test_pictures_from_the_deepest_folder_are_found_in_the_trash(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs.joinpath(*"abcdefghijklmnop", "a.png"), "fox")
    painted(outputs.joinpath(*"abcdefghijklmnopq", "a.png"), "too deep")
    gallery = open_gallery()
    assert gallery.count("", None) == 1
    gallery.discard(gallery.ids("", None), None)
    gallery.rescan(SECONDS)
    assert gallery.count("is:trash fox", None) == 1


def test_the_trash_is_known_without_any_record(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "day" / "a.png", "fox")
    gallery, before = open_gallery(), _files(outputs)
    gallery.discard(gallery.ids("", None), None)
    gallery.close()
    lose_index(tmp_path / "data")
    (tmp_path / "data" / "gallery-notes.jsonl").unlink(missing_ok=True)
    again = open_gallery()
    again.restore(again.ids("is:trash", None), None)
    assert _files(outputs) == before


def test_a_name_that_is_taken_meanwhile_is_not_replaced(outputs: Path, open_gallery: Opened) -> None:
    first = painted(outputs / "a.png", "fox", seed=1).read_bytes()
    gallery = open_gallery()
    gone = gallery.discard(gallery.ids("", None), None)
    second = painted(outputs / "a.png", "dog", seed=2).read_bytes()
    gallery.restore(gone, None)
    found = _files(outputs)
    assert found.pop("a.png") == second
    assert list(found.values()) == [first]
    assert gallery.count("fox", None) == 1


def test_what_cannot_be_moved_stays_and_says_so(outputs: Path, open_gallery: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    painted(outputs / "a.png", "fox")
    gallery, before = open_gallery(), _files(outputs)
    monkeypatch.setattr("os.link", _refuse)
    with pytest.raises(OutputError, match=r"a\.png could not be put into the trash: Read-only file system"):
        gallery.discard(gallery.ids("", None), None)
    assert _files(outputs) == before
    assert names(gallery) == ["a.png"]


def _refuse(*_: object) -> None:
    raise OSError(30, "Read-only file system")


def test_the_trash_is_emptied_when_asked_and_when_due(outputs: Path, open_gallery: Opened) -> None:
    now = 1_800_000_000.0
    for number in range(4):
        painted(outputs / f"{number}.png", "fox", seed=number)
    gallery = open_gallery(clock=lambda: now, trash_days=30)
    ids = {number: gallery.ids(f"seed:{number}", None)[0] for number in range(4)}
    gallery.discard([ids[0], ids[1]], None)
    assert gallery.empty(None, [ids[0], ids[3]]) == 1  # one that is not in the trash is not deleted
    assert set(_files(outputs)) >= {"2.png", "3.png"}
    assert len(_files(outputs)) == 3
    now += 31 * 86_400
    gallery.discard([ids[2]], None)
    gallery._forget_old()  # as its thread does every hour
    assert gallery.count("is:trash", None) == 1
    assert len(_files(outputs)) == 2
    assert gallery.empty(None) == 1
    assert set(_files(outputs)) == {"3.png"}
    never = open_gallery(clock=lambda: now, trash_days=0)
    never.discard([ids[3]], None)
    now += 9e8
    never._forget_old()
    assert never.count("is:trash", None) == 1


def test_a_file_that_cannot_be_deleted_keeps_no_other_in_the_trash(
    outputs: Path, open_gallery: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000.0
    for number in range(3):
        painted(outputs / f"{number}.png", "fox", seed=number)
    gallery = open_gallery(clock=lambda: now)
    gallery.discard(gallery.ids("", None), None)
    now += 31 * 86_400
    destroy = trash.destroy

    def refuse_one(outputs: Path, path: str) -> None:
        if path.endswith("/1.png"):
            raise OutputError("1.png could not be deleted: Operation not permitted")
        destroy(outputs, path)

    monkeypatch.setattr(trash, "destroy", refuse_one)
    gallery._forget_old()
    assert [path.rpartition("/")[2] for path in names(gallery, "is:trash")] == ["1.png"]


def test_what_was_written_down_goes_with_the_picture(tmp_path: Path, outputs: Path, open_gallery: Opened) -> None:
    for number in range(2):
        painted(outputs / f"{number}.png", "fox", seed=number)
    gallery = open_gallery()
    gallery.edit(gallery.ids("", None), None, Change(add_tags=("secret",)))
    data = (outputs / "0.png").read_bytes()
    gallery.discard(gallery.ids("seed:0", None), None)
    gallery.empty(None)
    (outputs / "1.png").unlink()  # by the job list, which says so
    gallery.forget(["1.png"])
    assert len(gallery.notes.read()) == 0
    (outputs / "0.png").write_bytes(data)
    gallery.rescan(SECONDS)
    assert [entry.written.tags for entry in gallery.page("", None).entries] == [()]
    gallery.edit(gallery.ids("", None), None, Change(rating=2))
    gallery.close()
    lose_index(tmp_path / "data")
    assert names(open_gallery(), "rating:2") == ["0.png"]


def test_nobody_touches_what_is_not_theirs(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery(scan=False)
    gallery.saved("a.png", "ada")
    gallery.rescan(SECONDS)
    ada, bob = frozenset(("ada",)), frozenset(("bob",))
    [one] = gallery.ids("", ada)
    assert gallery.entry(one, bob) is None
    assert gallery.edit([one], bob, Change(rating=1)) == []
    assert gallery.discard([one], bob) == []
    assert gallery.discard([one], ada) == [one]
    assert gallery.restore([one], bob) == []
    assert gallery.empty(bob) == 0
    assert gallery.empty(bob, [one]) == 0
    assert gallery.facets(bob)["trash"] == 0
    assert gallery.restore([one], ada) == [one]


@pytest.mark.parametrize(
    "path",
    ["a.png", ".trash/a.png", ".trash/x/a.png", ".trash/20260814T142530Z-3f2a9c1d", ".trash/29999999T142530Z-3f2a9c1d/a"],
)
def test_only_what_was_put_there_by_us_is_in_the_trash(path: str) -> None:
    assert trash.origin_of(path) is None


def test_labels_must_make_sense(outputs: Path, open_gallery: Opened) -> None:
    painted(outputs / "a.png", "fox")
    gallery = open_gallery()
    ids = gallery.ids("", None)
    for bad in ("", "  ", "x" * 61, 'a "b"'):
        with pytest.raises(RequestError, match="1 to 60 characters"):
            gallery.edit(ids, None, Change(add_tags=(bad,)))
    with pytest.raises(RequestError, match="can have 50"):
        gallery.edit(ids, None, Change(add_tags=tuple(map(str, range(51)))))
    [entry] = gallery.edit(ids, None, Change(add_tags=("Red", "RED", " blue\n sky ")))
    assert entry.written.tags == ("blue sky", "Red")
    [entry] = gallery.edit(ids, None, Change(remove_tags=("rED",)))
    assert entry.written.tags == ("blue sky",)

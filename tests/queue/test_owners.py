"""One user for each data folder without accounts, and the pages of the list."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from PIL import Image

from modules.app import App
from modules.images.outputs import SavedImage
from modules.images.uploads import Uploads
from modules.queue.owners import OWNER
from modules.queue.store import JobStore
from modules.request import Txt2Img
from modules.settings import Settings
from tests.scripted import ScriptedLink


def saved(name: str) -> SavedImage:
    return SavedImage(Path(name), name, "0" * 64, "text", 64, 64)


def test_the_jobs_of_all_browsers_go_to_one_user_and_those_of_accounts_stay(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    mine = [store.add(Txt2Img(prompt=who), f"browser-{who}", "same key").id for who in ("ann", "bob")]
    account = store.add(Txt2Img(), "account-7").id
    program = store.add(Txt2Img(), "local").id
    store.pause("browser-ann", True)
    assert sorted(store.merge_owners()) == ["browser-ann", "browser-bob"]
    assert [job.id for job in store.list_for(OWNER)] == mine[::-1]
    assert [job.id for job in store.list_for("account-7") + store.list_for("local")] == [account, program]
    newer = store.with_key("same key", OWNER)
    assert newer is not None
    assert newer.id == mine[1], "of two jobs with the same key the newer one keeps it"
    assert store.paused() == {OWNER}
    assert store.merge_owners() == []
    store.close()


@pytest.mark.parametrize(("accounts", "found"), [(False, 1), (True, 0)])
def test_only_without_accounts_an_old_list_is_handed_over(tmp_path: Path, accounts: bool, found: int) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    store.add(Txt2Img(prompt="old"), "browser-0123")
    store.close()
    source = Uploads(tmp_path / "sources").keep_image(Image.new("RGB", (64, 64)), "browser-0123").id
    settings = Settings(data_dir=tmp_path, outputs_dir=tmp_path / "out", require_token=accounts)
    app = App(settings, ScriptedLink())
    assert len(app.store.list_for(OWNER)) == found
    assert (app.upload_path(source, OWNER) is not None) == bool(found)
    app.close()


def test_a_page_takes_as_many_statements_however_many_jobs_it_has(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    jobs = [store.add(Txt2Img(prompt=f"star {number}"), OWNER).id for number in range(30)]
    for job in jobs:
        for index in (1, 0):
            store.picture_done(job, index, saved(f"{job}-{index}.png"), 1)
    said: list[str] = []
    store._file.reader.set_trace_callback(said.append)
    page = store.list_for(OWNER, 30)
    store._file.reader.set_trace_callback(None)
    assert [words.split()[0] for words in said] == ["BEGIN", "SELECT", "SELECT", "ROLLBACK"], "two queries, of one state"
    assert [job.id for job in page] == jobs[::-1]
    assert all([picture.index for picture in job.pictures] == [0, 1] for job in page)
    assert [job.id for job in store.list_for(OWNER, 2, jobs[2])] == [jobs[1], jobs[0]]
    store.close()


def test_words_of_prompts_are_found_whatever_their_case(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    fox = store.add(Txt2Img(prompt="Ein ÜBERMÜTIGER Fuchs 100%_"), OWNER).id
    store.add(Txt2Img(prompt="a lake", negative_prompt="fuchs"), OWNER)
    store.add(Txt2Img(prompt="fuchs"), "local")
    for words in ("fuchs", "FUCHS übermütiger", "0%_"):
        assert [job.id for job in store.list_for(OWNER, words=words)] == [fox], words
    assert store.list_for(OWNER, words="fuchs lake") == []
    damaged = sqlite3.connect(tmp_path / "jobs.sqlite")
    damaged.execute("UPDATE jobs SET request = 'no json' WHERE id = ?", (fox,))
    damaged.commit()
    damaged.close()
    assert store.list_for(OWNER, words="fuchs") == []
    store.close()


def test_deleting_takes_files_and_records_of_ones_own_finished_jobs(tmp_path: Path) -> None:
    app = App(Settings(data_dir=tmp_path / "data", outputs_dir=tmp_path / "out"), ScriptedLink())
    (tmp_path / "out").mkdir(exist_ok=True)
    job = app.store.add(Txt2Img(prompt="x", count=2), OWNER).id
    files = [tmp_path / "out" / f"{index}.png" for index in range(2)]
    for index, path in enumerate(files):
        path.write_bytes(b"picture")
        app.store.picture_done(job, index, saved(path.name), 1)
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"not ours")
    assert not app.delete(job, OWNER), "it is not over"
    app.store.finish(job, "done")
    assert not app.delete(job, "another"), "it is not theirs"
    assert app.delete(job, OWNER, 0)
    assert [path.exists() for path in files] == [False, True]
    assert not app.delete(job, OWNER, 0)
    files[1].unlink()
    files[1].symlink_to(outside)
    assert app.delete(job, OWNER), "a file that is gone, or a link in its place, is forgotten"
    assert outside.exists()
    assert app.store.get(job) is None
    app.close()

"""Job lists, sources and pictures of the version that named pictures by the fields `source` and `mask`: files that it wrote."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from modules.app import App
from modules.errors import RequestError
from modules.images.infotext_record import parse_record
from modules.images.reading import read_picture
from modules.images.recipe import read_record
from modules.queue.store import JobStore
from modules.request import Img2Img, parse_request, parse_stored
from modules.settings import Settings
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

CASES = Path(__file__).parents[1] / "cases" / "before_roles"
INIT = "78cdb97a34fb2dcc880fc5012ff262621776b43bc93377d315c7245d0ec70259"
MASK = "8c079f9e80696e93fd7e5ce820121c51a43f9fb5b630e6a8e43da12a5daaad27"
BOTH = {"init": INIT, "mask": MASK}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder as that version left it: two jobs done, two that wait (their owner had paused), and their pictures."""
    kept = tmp_path / "data" / "sources" / hashlib.sha256(b"me").hexdigest()[:32]
    kept.mkdir(parents=True)
    shutil.copy(CASES / "jobs.sqlite", tmp_path / "data")
    for file in (CASES / "sources").iterdir():
        shutil.copy(file, kept)
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    return Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "outputs")


def test_its_job_list_is_read_with_pictures_by_role(tmp_path: Path) -> None:
    shutil.copy(CASES / "jobs.sqlite", tmp_path)
    store = JobStore(tmp_path / "jobs.sqlite")
    pictures = [getattr(job.request, "pictures", None) for job in reversed(store.list_for("me"))]
    assert pictures == [None, BOTH, BOTH, {"init": INIT}]
    assert store.refers(MASK, "me")
    assert not store.refers(MASK, "another user")
    store.close()
    db = sqlite3.connect(tmp_path / "jobs.sqlite")
    stored = [json.loads(text) for (text,) in db.execute("SELECT request FROM jobs ORDER BY position")]
    assert [fields.get("pictures") for fields in stored] == pictures
    assert not any({"source", "mask"} & fields.keys() for fields in stored)
    db.close()


def test_its_jobs_go_on(settings: Settings) -> None:
    link = ScriptedLink()
    app = App(settings, link)
    app.start()
    link.hello()
    app.pause("me", False)
    app.service.sender.settle(60)
    sent = [message.data for message in link.sent if message.kind == "submit"]
    assert [data["pictures"] for data in sent] == [
        {"init": ["RGB", 64, 64], "mask": ["RGB", 64, 64]},
        {"init": ["RGB", 64, 64]},
    ]
    assert [data["request"]["pictures"] for data in sent] == [BOTH, {"init": INIT}]
    app.close()


def test_its_pictures_tell_the_same_request() -> None:
    record = read_record(CASES / "inpainted.png")
    request = record.info.request
    assert isinstance(request, Img2Img)
    assert (request.pictures, request.denoising_strength, request.mask_blur_x) == (BOTH, 0.6, 2)
    found = read_picture((CASES / "inpainted.png").read_bytes(), "it")
    assert (found.fields["source"], found.fields["mask"]) == (INIT, MASK)
    assert parse_request(found.fields) == request


def test_a_record_of_one_pass_from_words_is_written_as_it_was() -> None:
    """To the byte, the time it took apart: older versions go on reading it."""
    from modules.images.containers import read_container
    from modules.images.infotext_record import render_record
    from modules.images.metadata import record_of

    text = record_of(read_container((CASES / "words.png").read_bytes(), "it"))
    record = parse_record(text)
    assert render_record(record.info, record.job, record.index) == text


@pytest.mark.parametrize(
    "fields",
    [
        {"source": INIT, "mask": MASK},
        {"pictures": BOTH},
        {"source": INIT, "pictures": BOTH},
        {"pictures": {"init": INIT}, "mask": MASK},
    ],
)
def test_both_ways_of_naming_pictures_are_one_request(fields: dict[str, Any]) -> None:
    expected = parse_request({"pictures": BOTH, "seed": 1})
    assert parse_request({**fields, "seed": 1}) == expected
    assert parse_stored({**fields, "seed": 1, "raw_text": False}) == expected
    assert expected.model_dump(mode="json")["pictures"] == BOTH


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": INIT, "pictures": {"init": MASK}}, "source and pictures.init name two pictures"),
        ({"pictures": {}}, "there is no init"),
        ({"pictures": {"mask": MASK}}, "there is no init"),
        ({"pictures": {"init": "cat.png"}}, r"pictures\.init: must be the id of a picture"),
        ({"pictures": {"init": INIT, "control": MASK}}, r"pictures\.control: must be ids of pictures by role \(init, mask\)"),
        ({"pictures": 3}, "pictures: must be ids of pictures by role"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        parse_request(fields)

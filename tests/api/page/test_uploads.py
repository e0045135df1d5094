"""The routes by which pictures come in and are looked at again."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image
from starlette.testclient import TestClient

PNG = {"content-type": "image/png"}


def picture(size: tuple[int, int] = (20, 10), **save: object) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, str(save.pop("format", "PNG")), **save)
    return buffer.getvalue()


def test_a_picture_goes_in_and_comes_back(client: TestClient) -> None:
    answer = client.post("/internal/sources", content=picture(), headers=PNG)
    assert answer.status_code == 201
    said = answer.json()
    assert (said["width"], said["height"]) == (20, 10)
    back = client.get(f"/internal/sources/{said['id']}")
    assert (back.status_code, back.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(back.content)) as kept, Image.open(io.BytesIO(picture())) as sent:
        assert kept.tobytes() == sent.tobytes()
    same = client.get(f"/internal/sources/{said['id']}", headers={"if-none-match": back.headers["etag"]})
    assert same.status_code == 304


def test_another_users_picture_does_not_exist(browser_of: Callable[[], TestClient]) -> None:
    ann, bob = browser_of(), browser_of()
    source = ann.post("/internal/sources", content=picture(), headers=PNG).json()["id"]
    assert bob.get(f"/internal/sources/{source}").status_code == 404
    assert ann.get(f"/internal/sources/{source}").status_code == 200
    assert ann.get("/internal/sources/" + "0" * 64).status_code == 404
    assert ann.get("/internal/sources/..%2f..%2fjobs.sqlite").status_code == 404


@pytest.mark.parametrize(
    ("data", "kind", "status", "words"),
    [
        (b"", "image/png", 422, "picture"),
        (b"no picture", "image/png", 422, "picture"),
        (picture()[:60], "image/png", 422, "picture"),
        (picture(), "text/html", 415, "content type"),
        (picture(), "", 415, "content type"),
    ],
)
def test_what_cannot_be_kept_is_answered_in_words(client: TestClient, data: bytes, kind: str, status: int, words: str) -> None:
    answer = client.post("/internal/sources", content=data, headers={"content-type": kind} if kind else {})
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "Traceback" not in answer.text


def flat(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, 128).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def test_sizes_up_to_the_limit_are_kept_and_above_it_refused_in_words(client: TestClient) -> None:
    """8192 a side and 33,554,432 pixels, which is 8192x4096, as the README and /api/v1/limits say."""
    limits = client.get("/api/v1/limits").json()
    assert (limits["source_side"], limits["source_pixels"]) == (8192, 8192 * 4096)
    answer = client.post("/internal/sources", content=flat((8192, 4096)), headers=PNG)
    assert (answer.status_code, answer.json()["width"], answer.json()["height"]) == (201, 8192, 4096)
    for size in ((8192, 4097), (8193, 8)):
        answer = client.post("/internal/sources", content=flat(size), headers=PNG)
        assert answer.status_code == 422
        assert f"{size[0]}x{size[1]}" in answer.json()["error"]

"""`alwayson_scripts: {"ADetailer": ...}` by HTTP: details are painted again behind the pictures of the call."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from modules.hooks import HOOKS, hookimpl
from modules.images.infotext import parse
from modules.pixels.regions import Box
from modules.scripts.detectors import Detector
from tests.api.a1111.conftest import SMALL


class Middle:
    """An extension whose detector finds a face in the middle of every picture."""

    @hookimpl
    def detectors(self) -> list[Detector]:
        return [Detector("Face in the middle", lambda image: [Box(24, 24, 40, 40)])]


@pytest.fixture
def faces() -> Iterator[None]:
    with HOOKS.registered(Middle(), "middle"):
        yield


def call(api: TestClient, *args: Any, **more: Any) -> Any:
    return api.post("/sdapi/v1/txt2img", json={**SMALL, **more, "alwayson_scripts": {"ADetailer": {"args": list(args)}}})


def pixels(text: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(int)


@pytest.mark.usefixtures("faces")
def test_details_of_the_calls_pictures_are_painted_again(api: TestClient) -> None:
    plain = api.post("/sdapi/v1/txt2img", json={**SMALL, "n_iter": 2}).json()
    unit = {"ad_model": "face_yolov8n.pt", "ad_denoising_strength": 0.9, "ad_use_steps": True, "ad_steps": 3}
    answer = call(api, True, False, {**unit, "ad_confidence": 0.5, "ad_mask_k": 1}, {"ad_model": "None"}, n_iter=2)
    assert answer.status_code == 200, answer.text
    found, info = answer.json(), json.loads(answer.json()["info"])
    assert len(found["images"]) == 2
    assert info["all_seeds"] == [5, 6]
    assert [parse(text)["Steps"] for text in info["infotexts"]] == ["3", "3"]
    assert any("face_yolov8n.pt" in note and "Face in the middle" in note for note in info["notes"])
    assert any("ad_confidence" in note for note in info["notes"])
    for before, after in zip(plain["images"][-2:], found["images"], strict=True):
        changed = np.abs(pixels(before) - pixels(after)).max(axis=2)
        assert changed[26:38, 26:38].max() > 4
        changed[8:56, 8:56] = 0  # the box, grown by 4 pixels, and its blurred edge
        assert changed.max() == 0, "what is no detail stays, to the byte"


@pytest.mark.usefixtures("faces")
def test_it_is_listed_and_what_it_cannot_do_is_refused_in_words(api: TestClient) -> None:
    assert "adetailer" in api.get("/sdapi/v1/scripts").json()["txt2img"]
    infos = [one for one in api.get("/sdapi/v1/script-info").json() if one["name"] == "adetailer"]
    assert infos[0]["args"][2]["value"]["ad_denoising_strength"] == 0.4
    for args, words in (
        ([True, False, {"ad_model": "hand_yolov8n.pt"}], "there is no detector 'hand_yolov8n.pt' here (Face in the middle)"),
        ([True, False, {"ad_model": "face", "ad_x_offset": 8}], "ad_x_offset: masks are not moved here"),
        ([True, False, {"ad_model": "face", "ad_restore_face": True}], "face restoration is not built"),
        ([True, True, {"ad_model": "face"}], "script_name 'Detail pass'"),
        ([True, False, {"ad_model": "face", "ad_denoising_strength": 3}], "the denoising strength is 0 to 1, not 3"),
        ([True, False, {"ad_model": "face", "ad_use_steps": True, "ad_steps": 900}], "steps: must be"),
    ):
        refused = call(api, *args)
        assert refused.status_code == 422, args
        assert words in refused.json()["detail"], args
    assert call(api, False, {"ad_model": "gone"}).status_code == 200, "switched off"
    scripted = call(api, True, {"ad_model": "face"}, script_name="Prompt matrix", script_args=[])
    assert "leave script_name out" in scripted.json()["detail"]

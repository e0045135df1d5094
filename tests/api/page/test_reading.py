"""`/internal/read`: what a picture says, in the names of this instance; nothing is kept, nothing is a 500."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from modules.images.infotext import GenerationInfo
from modules.images.outputs import Outputs
from modules.request import Img2Img, Txt2Img, parse_request
from tests.images import foreign
from tests.ui.fake_app import FakeApp

PNG = {"content-type": "image/png"}


def read(client: TestClient, data: bytes | str, **headers: str) -> dict[str, Any]:
    kind = "text/plain" if isinstance(data, str) else "image/png"
    answer = client.post("/internal/read", content=data, headers={"content-type": kind, **headers})
    assert answer.status_code == 200, answer.text
    return answer.json()


PROGRAMS = {
    "A1111": foreign.png(parameters=foreign.A1111),
    "Forge": foreign.commented("JPEG", foreign.FORGE),
    "SD.Next": foreign.commented("AVIF", foreign.SDNEXT),
    "ComfyUI": foreign.comfyui(),
    "InvokeAI": foreign.invokeai(),
    "Fooocus": foreign.fooocus_jpeg(),
    "NovelAI": foreign.hide(json.dumps(foreign.NAI)),
    "Draw Things": foreign.draw_things(),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_fields_of_every_program_can_be_asked_for(program: str, client: TestClient) -> None:
    found = read(client, PROGRAMS[program])
    assert found["program"] == program
    assert found["prompt"]
    assert parse_request(found["fields"])
    assert {"styles", "eta", "variation_strength", "apg"} <= found["fields"].keys(), "what it does not say is said to be off"
    assert found["missing"][0]["kind"] == "checkpoint" if program != "SD.Next" else found["missing"] == []


def test_what_is_missing_is_named_with_its_hash(client: TestClient) -> None:
    assert read(client, PROGRAMS["A1111"])["missing"] == [
        {"kind": "checkpoint", "name": "v1-5-pruned", "hash": "6ce0161689"},
        {"kind": "lora", "name": "fur", "hash": "0123456789ab"},
        {"kind": "embedding", "name": "bad_hands", "hash": "abcdef012345"},
    ]


def test_a_checkpoint_is_found_by_its_hash_before_its_name(client: TestClient, app: FakeApp, tmp_path: Any) -> None:
    file = tmp_path / "other.safetensors"
    file.write_bytes(b"weights")
    status = file.stat()
    known = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino, "sha256": "6ce0161689" + "0" * 54}
    app.settings.data_dir.mkdir(exist_ok=True)
    (app.settings.data_dir / "hashes.json").write_text(json.dumps({str(file): known}))
    named = replace(app.models[0], name="v1-5-pruned")
    app.models = [named, replace(app.models[0], name="renamed", path=file)]
    found = read(client, PROGRAMS["A1111"])
    assert found["checkpoint"] == found["fields"]["checkpoint"] == "renamed"
    app.models = [named]
    assert read(client, PROGRAMS["A1111"])["checkpoint"] == "v1-5-pruned"


def test_samplers_get_our_names(client: TestClient) -> None:
    text = "a\nSteps: 20, Sampler: k_dpmpp_2m SGM Uniform, Seed: 1, Size: 512x512"
    fields = read(client, text)["fields"]
    assert (fields["sampler"], fields["schedule"]) == ("DPM++ 2M", "SGM Uniform")
    found = read(client, "a\nSteps: 20, Sampler: Warp Drive, Schedule type: Wobbly, Seed: 1")
    assert "sampler" not in found["fields"]
    assert "the sampler 'Warp Drive' is not here" in found["notes"]


def test_our_own_picture_comes_back_complete(client: TestClient, app: FakeApp) -> None:
    client.get("/health")
    source = client.post("/internal/sources", content=foreign.png(), headers=PNG).json()["id"]
    request = Img2Img(prompt="a", seed=5, width=64, height=64, source=source, mask="a" * 64, denoising_strength=0.5)
    info = GenerationInfo(request, "tiny", "0123456789", "Karras", "Atelier 0.1.0")
    saved = Outputs(app.settings.outputs_dir).save(bytes(64 * 64 * 3), 64, 64, info, "job", 0)
    found = read(client, saved.path.read_bytes())
    assert found["fields"]["source"] == source
    assert "mask" not in found["fields"]
    assert "the picture's mask is not kept here (any more)" in found["notes"]
    assert found["fields"]["denoising_strength"] == 0.5


def test_another_users_upload_is_not_there(browser_of: Any, app: FakeApp) -> None:
    owner, other = browser_of(), browser_of()
    source = owner.post("/internal/sources", content=foreign.png(), headers=PNG).json()["id"]
    text = f"a\nSteps: 20, Seed: 1, Denoising strength: 0.5, Source hash: {source}"
    assert read(owner, text)["fields"]["source"] == source
    assert "source" not in read(other, text)["fields"]


def test_a_photo_and_words_say_nothing(client: TestClient) -> None:
    for data in (foreign.png(), "just a prompt"):
        found = read(client, data)
        assert (found["program"], found["fields"], found["missing"]) == ("", {}, [])


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(40), foreign.png()[:80], foreign.png().replace(b"IDAT", b"IDAX")])
def test_what_is_no_picture_is_a_sentence(client: TestClient, data: bytes) -> None:
    answer = client.post("/internal/read", content=data, headers=PNG)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(("the picture", "The picture"))


def test_nothing_is_kept(client: TestClient, app: FakeApp) -> None:
    def files() -> set[Any]:
        return {path for path in app.settings.data_dir.parent.rglob("*") if path.is_file()}

    before = files()
    read(client, PROGRAMS["A1111"])
    assert files() == before
    assert Txt2Img.model_fields["private"].default is False

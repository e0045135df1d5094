"""The prompt tools' routes: they tell what the App understands, and refuse what is no request in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from tests.tiny import write
from tests.ui.fake_app import FakeApp

CHECK = "/internal/prompt/check"
NONE: dict[str, Any] = {"wildcards": [], "styles": [], "embeddings": [], "loras": [], "lora_words": {}, "classes": {}}


@pytest.fixture
def data(app: FakeApp) -> Path:
    """The data folder with two wildcards and two styles."""
    folder: Path = app.settings.data_dir
    (folder / "wildcards" / "sky").mkdir(parents=True)
    (folder / "wildcards" / "animal.txt").write_text("a fox\n", "utf-8")
    (folder / "wildcards" / "sky" / "dusk.txt").write_text("violet\n", "utf-8")
    (folder / "styles.csv").write_text(
        'name,prompt,negative_prompt\nPhoto,"photo of {prompt}, 35mm",blurry\nInk,ink drawing,\n'
    )
    return folder


def check(client: TestClient, **fields: Any) -> Any:
    answer = client.post(CHECK, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_check_tells_tokens_weights_and_texts_over_time(client: TestClient) -> None:
    found = check(client, prompt="a (big:1.3) [dog:fox:0.5]", negative_prompt="rain", steps=10, sampler="Euler")
    assert (found["tokens"], found["limit"], found["negative_tokens"]) == (3, 75, 1)
    [side] = found["sides"]
    assert [(stage["first"], stage["last"], stage["text"]) for stage in side["stages"]] == [
        (1, 6, "a (big:1.3) dog"),
        (7, 10, "a (big:1.3) fox"),
    ]
    assert side["stages"][0]["pieces"][1] == {"text": "big", "weight": 1.3}


def test_check_applies_styles_and_wildcards(client: TestClient, data: Path) -> None:
    found = check(client, prompt="__animal__, __nope__", styles=["Photo"], seed=-1)
    assert found["prompt"] == "photo of a fox, __nope__, 35mm"
    assert found["negative_prompt"] == "blurry"
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith("__nope__: there is no wildcard file")
    assert "is not here" in check(client, styles=["Gone"])["notes"][0]


def test_check_looks_only_at_what_matters(client: TestClient) -> None:
    assert check(client, prompt="a cat", width="nonsense", checkpoint="gone", foo=1)["tokens"] == 2


def test_a_second_pass_is_read_where_it_says_something_else(client: TestClient) -> None:
    hires = {"width": 512, "height": 512, "steps": 8}
    asked = {"steps": 4, "sampler": "Euler"}
    assert check(client, prompt="a cat", **asked, hires=hires)["second"] is None
    assert check(client, prompt="a cat", **asked)["second"] is None
    ranged = check(client, prompt="a [cat:dog:1.5]", **asked, hires=hires)
    assert [stage["text"] for stage in ranged["sides"][0]["stages"]] == ["a cat"]
    stages = [(stage["first"], stage["last"], stage["text"]) for stage in ranged["second"]["sides"][0]["stages"]]
    assert stages == [(1, 5, "a cat"), (6, 8, "a dog")], "1 to 2 are the second pass"
    own = check(client, prompt="a cat", **asked, hires={**hires, "prompt": "a (dog:1.3) <lora:gone:1>"})
    assert own["notes"] == []
    assert own["second"]["prompt"] == "a (dog:1.3) <lora:gone:1>"
    assert "no network of the name 'gone' is here" in own["second"]["notes"][0]
    assert {"text": "dog", "weight": 1.3} in own["second"]["sides"][0]["stages"][0]["pieces"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "x" * 33_000}, "at most 32,768 characters"),
        ({"prompt": 7}, "prompt: must be"),
        ({"steps": 0}, "steps: must be a whole number from 1 to 150"),
        ({"sampler": "Gone"}, "sampler 'Gone' is not here"),
    ],
)
def test_nonsense_is_refused_in_words(client: TestClient, fields: dict[str, Any], words: str) -> None:
    answer = client.post(CHECK, json=fields)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_only_json_of_a_sensible_size_is_read(client: TestClient) -> None:
    assert client.post(CHECK, content=b"{}", headers={"content-type": "text/plain"}).status_code == 422
    assert client.post(CHECK, content=b"[]", headers={"content-type": "application/json"}).status_code == 422
    assert client.post(CHECK, json={"prompt": "x" * (2 << 20)}).status_code == 413
    assert client.post(CHECK, json={}, headers={"origin": "http://evil.test"}).status_code == 403
    assert client.get(CHECK).status_code == 405


def test_every_character_comes_back_as_it_was(client: TestClient) -> None:
    text = "</script><b>é 猫 🐈 \u2028 ${x} {{x}}"
    assert check(client, prompt=text, emphasis="None", comments=False)["sides"][0]["stages"][0]["text"].startswith("</script>")
    lone = client.post(CHECK, content=b'{"prompt": "a\\ud800b"}', headers={"content-type": "application/json"})
    assert lone.json()["prompt"] == "ab"


def test_names_are_those_in_the_folder_now(client: TestClient, data: Path) -> None:
    found = client.get("/internal/prompt/names").json()
    assert found == {**NONE, "wildcards": ["animal", "sky/dusk"], "styles": ["Photo", "Ink"]}
    (data / "wildcards" / "animal.txt").unlink()
    (data / "styles.csv").write_text("nothing,of,this\n1,2,3\n")
    found = client.get("/internal/prompt/names").json()
    assert found == {**NONE, "wildcards": ["sky/dusk"]}


def test_without_styles_and_wildcards_there_are_no_names(client: TestClient) -> None:
    found = client.get("/internal/prompt/names").json()
    assert found == NONE


def test_classes_are_offered_by_checkpoint(client: TestClient, app: FakeApp) -> None:
    """Of a checkpoint that is told a class; a list of motifs makes no text-to-image checkpoint one."""
    painter = replace(app.checkpoints()[0], name="cin", family="ldm-class", motifs=("tench", "goldfish"))
    text = replace(painter, name="text", family="sd1")
    layout = replace(painter, name="layout", family="ldm-layout", motifs=())
    app.models = [painter, text, layout]
    assert client.get("/internal/prompt/names").json()["classes"] == {"cin": ["tench", "goldfish"]}
    listed = client.get("/internal/checkpoints").json()
    assert [(each["prompt"], each["takes"]) for each in listed] == [("class", ""), ("text", ""), ("boxes", "")]


@pytest.mark.parametrize("path", ["/internal/checkpoints", "/api/v1/models"])
def test_a_checkpoint_says_which_samplers_and_schedules_make_no_sense_with_it(
    path: str, client: TestClient, app: FakeApp
) -> None:
    usual = replace(app.checkpoints()[0], family="sd1")
    app.models = [usual, replace(usual, name="flux", family="flux"), replace(usual, name="gone", family="an extension's")]
    plain, flux, unknown = client.get(path).json()
    for each in (plain, unknown):
        assert (each["unfit"], each["unguided"], each["defaults"]["distilled_cfg_scale"]) == ([], "", None)
    assert flux["defaults"]["distilled_cfg_scale"] == 3.5
    assert "distilled CFG scale" in flux["unguided"]
    instead = {(one["field"], name): one["instead"] for one in flux["unfit"] for name in one["names"]}
    assert instead["sampler", "DDIM"] == "Euler"
    assert instead["schedule", "Karras"] == "Simple"
    assert ("sampler", "Euler") not in instead


def test_embeddings_and_loras_are_offered_by_name(client: TestClient, app: FakeApp, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for folder in ("embeddings/old", "Lora"):
        (models / folder).mkdir(parents=True)
    write(models / "embeddings" / "ink.safetensors", {"emb_params": torch.zeros(2, 768)})
    (models / "embeddings" / "old" / "bad.pt").write_bytes(b"\x80\x02}")
    write(models / "Lora" / "cats_v2.safetensors", {"lora_unet_x.lora_down.weight": torch.zeros(4, 4)})
    app.catalogue.folders = [models]
    found = client.get("/internal/prompt/names").json()
    assert (found["embeddings"], found["loras"]) == (["ink"], ["cats_v2"])
    notes = check(client, prompt="bad <lora:cats_v2:1> <lora:dogs:1>")["notes"]
    assert len(notes) == 2
    assert "no network of the name 'dogs' is here" in notes[0]
    assert "bad.pt is a pickle, which can run programs" in notes[1]

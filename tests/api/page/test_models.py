"""The Models tab's routes, over real files: what is listed, shown, searched, edited, and who may."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from tests.tiny import tiny_checkpoint, write
from tests.ui.fake_app import FakeApp

LIST = "/internal/models"

KOHYA = {
    "ss_base_model_version": "sd_v1",
    "ss_sd_model_name": "anything-v3.safetensors",
    "ss_network_module": "networks.lora",
    "ss_network_dim": "8",
    "ss_network_alpha": "4.0",
    "ss_resolution": "(512, 768)",
    "ss_steps": "1200",
    "ss_epoch": "10",
    "ss_num_train_images": "240",
    "ss_training_started_at": "1690000000.5",
    "ss_tag_frequency": json.dumps({"5_ink": {"ink": 40, "1girl": 12}, "1_more": {"ink": 2, "tree": "many", "sky": 7}}),
    "sshs_model_hash": "ab" * 32,
    "modelspec.author": "Ada <b>",
    "modelspec.license": "CC0",
}


def lora(path: Path, width: int = 768, **metadata: str) -> Path:
    """A LoRA of one layer of cross-attention with text `width` wide."""
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{stem}.lora_down.weight": torch.zeros(2, width), f"{stem}.lora_up.weight": torch.zeros(64, 2)}
    return write(path, {**tensors, f"{stem}.alpha": torch.tensor(2.0)}, metadata)


def picture(path: Path, kind: str = "PNG", size: tuple[int, int] = (900, 600)) -> None:
    Image.new("RGB", size, (200, 30, 30)).save(path, kind)


@pytest.fixture
def models(app: FakeApp, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "models"
    folder.mkdir()
    app.catalogue.folders = [folder]
    yield folder
    app.model_library.close()


@pytest.fixture
def listed(client: TestClient) -> Callable[..., Any]:
    """A page of the list, once all files are read."""

    def ask(**query: Any) -> Any:
        end = time.monotonic() + 20
        while True:
            answer = client.get(LIST, params=query)
            assert answer.status_code == 200, answer.text
            if not answer.json()["unread"]:
                return answer.json()
            assert time.monotonic() < end
            time.sleep(0.02)

    return ask


def names(page: Any) -> list[str]:
    return [item["name"] for item in page["items"]]


def test_all_kinds_are_listed_by_folder(models: Path, listed: Callable[..., Any]) -> None:
    tiny_checkpoint(models / "sub" / "tiny.safetensors") if (models / "sub").mkdir() is None else None
    lora(models / "Lora" / "style" / "ink.safetensors", **KOHYA)
    lora(models / "Lora" / "pose.safetensors")
    for folder, file in (("VAE", "v"), ("hypernetworks", "h"), ("ControlNet", "c"), ("ESRGAN", "e"), ("upscalers", "u")):
        (models / folder).mkdir()
        write(models / folder / f"{file}.safetensors", {"a": torch.zeros(1)})
    (models / "embeddings").mkdir()
    write(models / "embeddings" / "worst.safetensors", {"emb_params": torch.zeros(3, 768)})
    page = listed()
    assert page["total"] == 9
    assert page["kinds"] == {
        "checkpoint": 1, "vae": 1, "lora": 2, "embedding": 1, "hypernetwork": 1, "controlnet": 1, "upscaler": 2
    }  # fmt: skip
    assert listed(kind="lora")["folders"] == [{"path": "Lora", "count": 2}, {"path": "Lora/style", "count": 1}]
    cards = {item["name"]: item for item in page["items"]}
    assert cards["sub/tiny"]["kind"] == "checkpoint"
    assert (cards["sub/tiny"]["family"], cards["sub/tiny"]["file"]) == ("SD 1.x", "sub/tiny.safetensors")
    assert cards["sub/tiny"]["insert"] == ""
    ink = cards["ink"]
    assert (ink["file"], ink["folder"], ink["family"]) == ("Lora/style/ink.safetensors", "Lora/style", "SD 1.x")
    assert (ink["insert"], ink["weight"], ink["hash"]) == ("<lora:ink:1>", None, "ab" * 6)
    assert ink["base_model"] == "anything-v3.safetensors"
    assert ink["size"] == (models / "Lora" / "style" / "ink.safetensors").stat().st_size
    assert cards["worst"]["insert"] == "worst"
    assert cards["h"]["insert"] == "<hypernet:h:1>"
    for name in ("h", "c", "e", "u"):
        assert "not used by this version yet" in cards[name]["problem"]
    assert (ink["problem"], ink["fits"], ink["preview"], ink["loaded"], ink["favourite"]) == ("", "", "", "", False)
    assert names(listed(folder="Lora/style")) == ["ink"]
    assert names(listed(folder="Lora")) == ["ink", "pose"]
    assert names(listed(folder="Lo")) == []

"""A models folder with some files in it, as the running test's App sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tiny import TINY_TEXT, tiny_checkpoint, write
from tests.ui.fake_app import FakeApp

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
INK = {
    "ss_base_model_version": "sd_v1",
    "ss_network_dim": "8",
    "ss_tag_frequency": json.dumps({"5_ink": {"ink style": 40, "1girl": 12, "hat": 3}}),
}


WIDTH = TINY_TEXT.width


def lora(path: Path, width: int = WIDTH, **metadata: str) -> Path:
    """One layer of cross-attention with text `width` numbers wide: as the tests' checkpoint has it, and 2048 in SDXL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{LAYER}.lora_down.weight": torch.zeros(2, width), f"{LAYER}.lora_up.weight": torch.zeros(64, 2)}
    return write(path, {**tensors, f"{LAYER}.alpha": torch.tensor(2.0)}, metadata)


@pytest.fixture(scope="package")
def stickers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "stickers.safetensors")


@pytest.fixture
def models(app: FakeApp, tmp_path: Path, stickers: Path) -> Iterator[Path]:
    """The checkpoint `stickers`; LoRAs `ink` (with a picture, trigger words and a weight), `wool`, `huge` of another family and
    `torn`; the embedding `bad_hands`."""
    folder = tmp_path / "models"
    loras = folder / "loras"
    lora(loras / "style" / "ink.safetensors", **INK)
    (loras / "style" / "ink.json").write_text(json.dumps({"activation text": "inkstyle, bold", "preferred weight": 0.8}))
    Image.new("RGB", (64, 96), (30, 60, 200)).save(loras / "style" / "ink.png")
    lora(loras / "wool.safetensors")
    lora(loras / "huge.safetensors", 2048)
    (loras / "torn.safetensors").write_bytes(lora(loras / "torn.safetensors").read_bytes()[:60])
    (folder / "embeddings").mkdir()
    write(folder / "embeddings" / "bad_hands.safetensors", {"emb_params": torch.zeros(3, WIDTH)})
    (folder / "stickers.safetensors").symlink_to(stickers)
    (folder / "big").mkdir()
    (folder / "big" / "landscapes.safetensors").symlink_to(stickers)
    app.catalogue.folders = [folder]
    yield folder
    app.model_library.close()


def to_models(page: Any, *names: str) -> Any:
    """The Models tab, with cards of these names in it."""
    page.click("#tab_models")
    for name in names:
        page.wait_for_selector(f".model-card .card-name:text-is('{name}')")
    return page


def card_of(page: Any, name: str) -> Any:
    return page.locator(f".model-card:has(.card-name:text-is('{name}'))")


def wait_prompt(page: Any, text: str, tab: str = "txt2img", field: str = "prompt") -> None:
    box = f"#{tab}_{field} textarea"
    page.wait_for_function("([box, text]) => document.querySelector(box).value === text", arg=[box, text])

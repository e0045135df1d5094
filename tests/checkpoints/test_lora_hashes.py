"""LoRAs of recipes, found by their hashes where no file has their names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.catalogue import Catalogue
from modules.checkpoints import companions
from modules.checkpoints.companions import lora_of_hash
from modules.checkpoints.hashes import file_sha256
from modules.images.reading import read_text
from modules.prompts.library import Library
from tests.tiny import write

STORED = "0123456789abcdef" * 4
TEXT = "a <lora:My style:0.7> cat <lora:here:1><lyco:My style>\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, {}"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "loras").mkdir()
    return tmp_path


def lora(models: Path, name: str, value: float = 0.0, **metadata: str) -> Path:
    return write(
        models / "loras" / f"{name}.safetensors", {"lora_unet_x.lora_down.weight": torch.full((2, 2), value)}, metadata
    )


def behind_header(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def found(models: Path, text: str) -> tuple[dict[str, Any], list[str]]:
    read = read_text(text)
    catalogue = Catalogue([models], Library(None), lambda: None)
    return catalogue.recipes.loras(read.fields, read.lora_hashes, models / "hashes.json")


@pytest.mark.parametrize("kind", ["stored", "behind the header", "AutoV2", "whole sha256"])
def test_a_file_is_found_by_every_hash_that_programs_write(models: Path, kind: str) -> None:
    lora(models, "other", 1.0)
    path = lora(models, "renamed", 2.0, **({"sshs_model_hash": STORED} if kind == "stored" else {}))
    sha256 = file_sha256(path, models / "hashes.json")
    digits = {
        "stored": STORED[:12],
        "behind the header": behind_header(path)[:12],
        "AutoV2": sha256[:10],
        "whole sha256": sha256,
    }
    info = lora_of_hash([models], digits[kind].upper(), models / "hashes.json")
    assert info is not None
    assert info.name == "renamed"


@pytest.mark.parametrize("digits", ["", "0123456", "not a hash", "f" * 12, "0" * 65])
def test_what_is_no_hash_of_a_file_here_finds_none(models: Path, digits: str) -> None:
    lora(models, "other", sshs_model_hash=STORED)
    assert lora_of_hash([models], digits, models / "hashes.json") is None


def test_no_more_is_read_than_a_bound(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lora(models, "renamed")
    monkeypatch.setattr(companions, "MAX_HASHED", 10)
    assert lora_of_hash([models], behind_header(path)[:12], models / "hashes.json") is None


def test_a_recipe_gets_the_name_that_the_file_has_here_and_says_so(models: Path) -> None:
    lora(models, "renamed, v2", sshs_model_hash=STORED)
    lora(models, "here")
    fields, notes = found(models, TEXT.format(f'Lora hashes: "My style: {STORED[:12]}, here: {"f" * 12}"'))
    assert fields["prompt"] == "a <lora:renamed, v2:0.7> cat <lora:here:1><lyco:renamed, v2>"
    assert notes == ["LoRA 'My style' is 'renamed, v2' here, by its hash"]


def test_a_name_that_is_here_stays_and_an_unknown_hash_too(models: Path) -> None:
    lora(models, "renamed", sshs_model_hash=STORED)
    lora(models, "My style")
    text = TEXT.format(f'Lora hashes: "My style: {STORED[:12]}, here: {"e" * 12}"')
    assert found(models, text) == (read_text(text).fields, [])


def test_the_words_of_a_second_pass_too(models: Path) -> None:
    lora(models, "renamed", sshs_model_hash=STORED)
    more = (
        f'Denoising strength: 0.5, Hires upscale: 2, Hires prompt: "<lora:My style:1>", Lora hashes: "My style: {STORED[:12]}"'
    )
    fields, _ = found(models, TEXT.format(more))
    assert fields["hires"]["prompt"] == "<lora:renamed:1>"

"""Textual inversions in every container: tensors of several encoders, A1111's names, pictures, and LoRAs that bring some."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.catalogue import Catalogue
from modules.checkpoints.companions import EmbeddingInfo, scan_embeddings, scan_loras, text_width
from modules.checkpoints.inversions import Inversions
from modules.errors import RequestError
from modules.prompts.chunks import Embedding
from modules.prompts.library import Library
from modules.prompts.tokenizer import Tokenizer
from tests.sdxl import sdxl_checkpoint
from tests.tiny import tiny_checkpoint, write


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "embeddings").mkdir()
    return tmp_path


def only(models: Path) -> EmbeddingInfo:
    (info,) = scan_embeddings([models])
    return info


def read(models: Path, widths: tuple[int, ...], name: str) -> torch.Tensor:
    """The vectors that the engine reads for a word."""
    shelf, tokenizer = Inversions([models], models / "hashes.json"), Tokenizer()
    found = shelf.known(widths, tokenizer).match(tokenizer.encode(name), 0)
    assert found is not None
    return shelf.read([found[0]])[0][found[0]]


VECTORS = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
WIDE = torch.randn(3, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("tensors", "widths", "expected"),
    [
        ({"string_to_param.*": VECTORS}, (8,), VECTORS),
        ({"string_to_param.*": VECTORS, "other": torch.zeros(1)}, (8,), VECTORS),
        ({"emb_params": VECTORS}, (8,), VECTORS),
        ({"<ink>": VECTORS[0]}, (8,), VECTORS[:1]),
        ({"clip_g": WIDE, "clip_l": VECTORS}, (8, 12), torch.cat([VECTORS, WIDE], dim=1)),
        ({"clip_g": WIDE}, (12,), WIDE),
    ],
    ids=["a1111", "a1111 with more", "kohya", "diffusers", "sdxl", "refiner"],
)
def test_tensors_in_a_file(models: Path, tensors: dict[str, torch.Tensor], widths: tuple[int, ...], expected: Any) -> None:
    write(models / "embeddings" / "ink.safetensors", tensors)
    info = only(models)
    assert (info.vectors, info.widths, info.problem) == (len(expected), widths, "")
    assert torch.equal(read(models, widths, "ink"), expected)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(3, 12)}, "has 2 vectors for one text encoder and 3 for the other"),
        ({"clip_l": torch.zeros(2, 8), "clip_g": torch.zeros(2, 12), "t5xxl": torch.zeros(2, 16)}, "is an embedding for SD 3"),
        ({"a": torch.zeros(2, 8), "b": torch.zeros(2, 8)}, "is not a textual inversion"),
        ({"emb_params": torch.zeros(0, 8)}, "is not a textual inversion"),
    ],
    ids=["counts", "SD 3", "two", "none"],
)
def test_what_is_no_embedding_says_why(models: Path, tensors: dict[str, torch.Tensor], problem: str) -> None:
    write(models / "embeddings" / "ink.safetensors", tensors)
    assert only(models).problem.startswith(f"ink.safetensors {problem}")


def test_an_embedding_with_nan_is_refused_when_it_is_read(models: Path) -> None:
    write(models / "embeddings" / "ink.safetensors", {"emb_params": torch.full((1, 8), float("nan"))})
    with pytest.raises(RequestError, match="embedding 'ink': it has NaN"):
        read(models, (8,), "ink")


# ---- pictures


def stored(vectors: Any = VECTORS, name: Any = "ink wash") -> dict[str, Any]:
    tensor = {"TORCHTENSOR": vectors.tolist() if isinstance(vectors, torch.Tensor) else vectors}
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": tensor}, "name": name, "step": 7}


def with_text(path: Path, data: Any, text: str | None = None) -> None:
    info = PngInfo()
    info.add_text("sd-ti-embedding", text or base64.b64encode(json.dumps(data).encode()).decode())
    Image.new("RGB", (16, 16), "red").save(path, pnginfo=info)


def with_strips(path: Path, data: Any, **options: Any) -> None:
    """Written from the format's description: low and high half bytes left and right of the picture, behind black columns."""
    packed = np.frombuffer(zlib.compress(json.dumps(data).encode(), 9), np.uint8)
    height = 64
    width = -(-len(packed) // (height * 3))
    halves = []
    for half in (packed & 15, packed >> 4):
        block, state = np.zeros(height * width * 3, np.uint8), 0
        block[: len(half)] = half
        for number in range(len(block)):
            state = (1664525 * state + 1013904223) % 2**32
            block[number] ^= (state % 255) & 15
        halves.append(block.reshape(height, width, 3) | 0x40)  # what is drawn there
    picture = np.full((height, 40, 3), 200, np.uint8)
    black = np.zeros((height, 1, 3), np.uint8)
    Image.fromarray(np.concatenate([halves[0], black, picture, black, halves[1]], axis=1)).save(path, **options)


@pytest.mark.parametrize("kind", ["text", "png strips", "webp strips"])
def test_pictures_with_an_embedding_inside(models: Path, kind: str) -> None:
    if kind == "text":
        with_text(models / "embeddings" / "a.png", stored())
    elif kind == "png strips":
        with_strips(models / "embeddings" / "a.png", stored())
    else:
        with_strips(models / "embeddings" / "a.webp", stored(), lossless=True)
    info = only(models)
    assert (info.name, info.vectors, info.widths, info.problem) == ("ink wash", 3, (8,), "")
    assert torch.equal(read(models, (8,), "ink wash"), VECTORS)


def test_pictures_that_are_previews_or_have_nothing_inside_are_not_listed(models: Path) -> None:
    folder = models / "embeddings"
    write(folder / "ink.safetensors", {"emb_params": VECTORS})
    with_text(folder / "ink.png", stored(name="other"))
    with_text(folder / "lines.preview.png", stored(name="other"))
    Image.new("RGB", (64, 64), "red").save(folder / "red.png")
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    striped = np.full((64, 90, 3), 77, np.uint8)
    striped[:, [30, 60]] = 0
    Image.fromarray(striped).save(folder / "striped.png")
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "text.webp").write_bytes(b"hello")
    assert [info.name for info in scan_embeddings([models])] == ["ink"]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"string_to_param": {"*": {"TORCHTENSOR": [[1.0], [1.0, 2.0]]}}}, "no textual inversion inside that can be read"),
        ({"string_to_param": {}}, "no textual inversion inside that can be read"),
        ([1, 2], "no textual inversion inside that can be read"),
        (stored([[1.0, float("nan")]]), "NaN or infinity"),
        (stored([[1.0]] * 76), "has 76 vectors; at most 75"),
        (stored("x"), "no textual inversion inside"),
    ],
    ids=["ragged", "empty", "list", "nan", "many", "text"],
)
def test_a_damaged_embedding_in_a_picture_says_so(models: Path, data: Any, problem: str) -> None:
    with_text(models / "embeddings" / "a.png", data)
    info = only(models)
    assert problem in info.problem
    assert "a.png" in info.problem


def test_base64_that_is_none(models: Path) -> None:
    with_text(models / "embeddings" / "a.png", None, "e30")
    assert "a.png has a damaged embedding inside" in only(models).problem


# ---- those of a LoRA


def test_embeddings_in_a_lora_are_listed_and_known_to_the_prompt_check(models: Path) -> None:
    tiny_checkpoint(models / "tiny.safetensors")
    (models / "loras").mkdir()
    write(
        models / "loras" / "style.safetensors",
        {
            "bundle_emb.inkling.string_to_param.*": torch.zeros(2, 32),
            "bundle_emb.wide.emb_params": torch.zeros(2, 768),
            "bundle_emb.odd.clip_l": torch.zeros(0, 32),
        },
    )
    (info,) = scan_loras([models])
    assert info.bundled == (("inkling", 2, 32), ("wide", 2, 768))
    catalogue = Catalogue([models], Library(None), lambda: None)
    with_it = catalogue.prompts.check({"prompt": "inkling wide <lora:style:1>", "checkpoint": "tiny"})
    assert with_it.networks == ("<lora:style:1>", "inkling (2 vectors)")
    assert catalogue.prompts.check({"prompt": "inkling wide", "checkpoint": "tiny"}).networks == ()


def test_a_file_goes_before_a_bundled_embedding_of_its_name(models: Path) -> None:
    write(models / "embeddings" / "ink.safetensors", {"emb_params": VECTORS})
    shelf, tokenizer = Inversions([models], models / "hashes.json"), Tokenizer()
    known = shelf.known((8,), tokenizer, [Embedding("INK", 1, "lora"), Embedding("other", 2, "lora")])
    assert known.match(tokenizer.encode("ink"), 0)[0].vectors == 3  # type: ignore[index]
    assert known.match(tokenizer.encode("other"), 0)[0].version == "lora"  # type: ignore[index]


def test_sdxl_s_text_encoders_are_as_wide_as_both(models: Path) -> None:
    sdxl_checkpoint(models / "xl.safetensors")
    assert text_width(models / "xl.safetensors") == 64 + 128

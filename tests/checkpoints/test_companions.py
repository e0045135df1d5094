"""Textual inversions and LoRAs in the models folders: found by header, never by pickle, and read exactly."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from modules.catalogue import Catalogue
from modules.checkpoints.companions import has_embeddings, lora_names, scan_embeddings, text_width
from modules.checkpoints.inversions import Inversions
from modules.errors import RequestError
from modules.prompts.chunks import Embedding
from modules.prompts.library import Library
from modules.prompts.tokenizer import Tokenizer
from tests.tiny import tiny_checkpoint, write


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "Embeddings" / "more").mkdir(parents=True)
    return folder


def put(models: Path, name: str, **tensors: torch.Tensor) -> Path:
    return write(models / "Embeddings" / f"{name}.safetensors", tensors)


class Mine:
    """Unpickling this would leave a file behind."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return Path.touch, (self.proof,)


def test_every_form_of_file_is_known_by_its_header(models: Path) -> None:
    put(models, "a1111", emb_params=torch.zeros(3, 768))
    put(models, "comfy", clip_l=torch.zeros(2, 768))
    put(models, "more/diffusers", **{"<concept>": torch.zeros(768)})
    put(models, "xl", clip_l=torch.zeros(2, 768), clip_g=torch.zeros(2, 1280))
    put(models, "long", emb_params=torch.zeros(76, 768))
    put(models, "lora", a=torch.zeros(4, 4), b=torch.zeros(4, 4))
    (models / "Embeddings" / "torn.safetensors").write_bytes(b"\xff" * 40)
    (models / "Embeddings" / ".hidden.safetensors").write_bytes(b"")
    infos = {info.name: info for info in scan_embeddings([models])}
    assert set(infos) == {"a1111", "comfy", "diffusers", "xl", "long", "lora", "torn"}
    usable = {name: (info.vectors, info.width) for name, info in infos.items() if not info.problem}
    assert usable == {"a1111": (3, 768), "comfy": (2, 768), "diffusers": (1, 768), "xl": (2, 2048)}
    assert [infos[name].family for name in ("a1111", "xl", "torn")] == ["SD 1.x", "SDXL", ""]
    for name, words in {
        "long": "76 vectors",
        "lora": "no tensor emb_params",
        "torn": "torn.safetensors",
    }.items():
        assert words in infos[name].problem
    assert all(info.path.name in info.problem for info in infos.values() if info.problem)


def test_a_pickle_is_never_opened(models: Path, tmp_path: Path) -> None:
    proof = tmp_path / "was here"
    for ending in ("pt", "bin"):
        (models / "Embeddings" / f"evil_{ending}.{ending}").write_bytes(pickle.dumps(Mine(proof)))
    infos = scan_embeddings([models])
    assert [info.name for info in infos] == ["evil_bin", "evil_pt"]
    assert all("is a pickle, which can run programs" in info.problem for info in infos)
    assert not proof.exists()


def test_a_readable_file_goes_before_a_pickle_of_the_same_name(models: Path) -> None:
    (models / "Embeddings" / "ink.pt").write_bytes(b"")
    put(models, "more/ink", emb_params=torch.zeros(2, 768))
    (info,) = scan_embeddings([models])
    assert (info.vectors, info.problem) == (2, "")


def test_loras_are_listed_by_their_file_names(models: Path, tmp_path: Path) -> None:
    for path in ("loras/b.safetensors", "Lora/sub/A.safetensors", "loras/c.pt", "other/d.safetensors"):
        (models / path).parent.mkdir(parents=True, exist_ok=True)
        (models / path).write_bytes(b"")
    assert lora_names([models, tmp_path / "missing"]) == ["A", "b"]


def test_vectors_are_those_of_the_file_and_change_with_it(models: Path, tmp_path: Path) -> None:
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    path = put(models, "ink", emb_params=vectors.half())
    put(models, "wide", emb_params=torch.zeros(1, 768))
    shelf = Inversions([models], tmp_path / "hashes.json")
    assert shelf
    tokenizer = Tokenizer()
    (token,) = tokenizer.encode("ink")
    found, length = shelf.known((32,), tokenizer).match([token], 0) or (None, 0)
    assert found is not None
    assert (found.name, found.vectors, length) == ("ink", 2, 1)
    assert shelf.known((32,), tokenizer).match(tokenizer.encode("wide"), 0) is None, "of another width"
    assert shelf.known((32,), tokenizer) is shelf.known((32,), tokenizer)
    read, hashes = shelf.read([found])
    assert torch.equal(read[found], vectors.half().float())
    assert hashes == {"ink": hashlib.sha256(path.read_bytes()).hexdigest()[:12]}

    put(models, "ink", emb_params=vectors * 2)
    os.utime(path, ns=(1, 1))
    with pytest.raises(RequestError, match="'ink' was changed just now"):
        shelf.read([found])
    (again, _) = shelf.known((32,), tokenizer).match([token], 0) or (None, 0)
    assert again is not None
    assert torch.equal(shelf.read([again])[0][again], vectors * 2)


def test_no_folder_is_no_embeddings(tmp_path: Path) -> None:
    assert not has_embeddings([tmp_path, tmp_path / "missing"])
    assert not Inversions([tmp_path], tmp_path / "hashes.json")


def test_the_prompt_check_knows_what_fits_the_checkpoint(models: Path) -> None:
    tiny_checkpoint(models / "tiny.safetensors")
    assert text_width(models / "tiny.safetensors") == 32
    assert text_width(models / "missing.safetensors") == 0
    put(models, "ink", emb_params=torch.zeros(2, 32))
    put(models, "wash", emb_params=torch.zeros(4, 768))
    catalogue = Catalogue([models], Library(None), lambda: None)
    for checkpoint in ("tiny", None):
        made = catalogue.prompts.check({"prompt": "ink, wash", "checkpoint": checkpoint})
        assert made.tokens == 2 + 1 + len(Tokenizer().encode("wash"))
        assert made.networks == ("ink (2 vectors)",)
        (note,) = made.notes
        assert "'wash' is skipped: it has vectors of 768 numbers, this checkpoint takes 32" in note


def test_embeddings_of_one_name_are_told_apart_by_their_files() -> None:
    assert Embedding("ink", 2, "1") != Embedding("ink", 2, "2")

"""Textual inversions in pictures: on both encoders of SDXL, and words that a LoRA brings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modules.diffusion.text import TextEncoder
from modules.prompts.chunks import Chunk, Embedding, Insert
from modules.prompts.tokenizer import Tokenizer
from tests.engine.test_loras import apart, bench, changes, lora_file
from tests.sdxl import sdxl_checkpoint
from tests.tiny import tiny_checkpoint, write


def test_a_pair_for_sdxl_reaches_both_encoders(tmp_path: Path) -> None:
    """Against token embeddings that were changed in both encoders' tables: the word "cat" stands for other vectors there."""
    sdxl_checkpoint(tmp_path / "xl.safetensors")
    (tmp_path / "embeddings").mkdir()
    drawn = torch.Generator().manual_seed(3)
    pair = {"clip_l": torch.randn(1, 64, generator=drawn), "clip_g": torch.randn(1, 128, generator=drawn)}
    write(tmp_path / "embeddings" / "inkling.safetensors", pair)
    on = bench(tmp_path)
    encoders = list(on.manager.load("xl").prompts.encoders)  # type: ignore[attr-defined]
    (cat,) = Tokenizer().encode("cat")
    on.submit("word", prompt="a inkling", checkpoint="xl")
    on.submit("plain", prompt="a cat", checkpoint="xl")
    on.run()
    assert on.of("done")["word"].data["extras"]["TI hashes"].startswith("inkling: ")
    for encoder, vectors in zip(encoders, pair.values(), strict=True):
        assert isinstance(encoder, TextEncoder)
        table = encoder.network.embeddings.token_embedding.weight
        table.data = table.data.clone()
        table.data[cat] = vectors[0]
    on.submit("table", prompt="a  cat", checkpoint="xl")
    on.engine.runner.forget(lambda model: False)
    on.run()
    assert apart(on.pixels("word"), on.pixels("table")) <= 1
    assert apart(on.pixels("word"), on.pixels("plain")) > 3, "the test can fail"


def test_pictures_with_bundled_words_painted_together_equal_those_alone(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    path = lora_file(tmp_path / "loras" / "ink.safetensors", changes(1))
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(4))
    save_file({**load_file(path), "bundle_emb.inkling.string_to_param.*": vectors}, path)
    (tmp_path / "embeddings").mkdir()
    write(tmp_path / "embeddings" / "other.safetensors", {"emb_params": vectors})
    prompts = {
        "with": "a inkling <lora:ink:0.01>",
        "file": "a other <lora:ink:0.01>",
        "without": "a inkling",
        "unused": "a cat <lora:ink:0.01>",
    }
    on = bench(tmp_path)
    for name, prompt in prompts.items():
        on.submit(name, user=name, prompt=prompt)
    on.run()
    for name, prompt in prompts.items():
        assert apart(on.pixels(name), on.alone(prompt=prompt)) <= 1, name
    assert apart(on.pixels("with"), on.pixels("file")) <= 1, "the same vectors, from a file of their own"
    assert apart(on.pixels("with"), on.pixels("without")) > 3, "without the LoRA it is a word like any other"
    extras = {name: on.of("done")[name].data["extras"] for name in prompts}
    assert extras["with"]["TI hashes"] == "inkling: ink"
    assert "TI hashes" not in extras["unused"]
    assert "TI hashes" not in extras["without"]
    assert "notes" not in on.of("done")["with"].data["facts"]


def test_a_file_with_nothing_but_bundled_words_is_used(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    (tmp_path / "loras").mkdir()
    write(tmp_path / "loras" / "words.safetensors", {"bundle_emb.inkling.emb_params": torch.ones(1, 32)})
    on = bench(tmp_path)
    on.submit("a", prompt="a inkling <lora:words:1>")
    on.run()
    assert on.of("done")["a"].data["extras"]["TI hashes"] == "inkling: words"


@pytest.mark.parametrize("count", [1, 2])
def test_vectors_are_cut_between_encoders(tmp_path: Path, count: int) -> None:
    sdxl_checkpoint(tmp_path / "xl.safetensors")
    encoders = bench(tmp_path).manager.load("xl").prompts.encoders  # type: ignore[attr-defined]
    word = Embedding("a", count)
    vectors = torch.randn(count, 64 + 128)
    window = Chunk.of([0] * count, inserts=[Insert(1, word)])
    (both,) = encoders.encode_chunks([window], vectors={word: vectors})
    (first,) = encoders.first.encode_chunks([window], vectors={word: vectors[:, :64]})
    torch.testing.assert_close(both.context[:, :64], first.context)

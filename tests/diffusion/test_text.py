"""The text encoder: windows of any number, clip skip, and nothing of transformers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modules.diffusion.clip import TextConfig
from modules.diffusion.text import BATCH, TextEncoder
from modules.prompts.chunks import WINDOW, Chunk, Embedding, Embeddings, chunk

CONFIG = TextConfig(width=64, layers=3, heads=1, hidden=128)


@pytest.fixture(scope="module")
def encoder() -> Iterator[TextEncoder]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        yield TextEncoder(CONFIG).requires_grad_(False).eval()
    torch.set_num_threads(threads)


def windows(text: str, encoder: TextEncoder) -> tuple[Chunk, ...]:
    return chunk(text, encoder.tokenizer).windows


def close(one: Tensor, two: Tensor) -> bool:
    return torch.allclose(one, two, atol=1e-5)


def contexts(encoder: TextEncoder, chunks: Sequence[Chunk], *args: Any, **options: Any) -> list[Tensor]:
    return [window.context for window in encoder.encode_chunks(chunks, *args, **options)]


def test_a_window_is_77_tokens(encoder: TextEncoder) -> None:
    (context,) = contexts(encoder, windows("a cat", encoder))
    assert context.shape == (WINDOW, CONFIG.width)
    assert context.isfinite().all()


def test_a_prompt_of_30_000_characters_is_encoded_whole(encoder: TextEncoder) -> None:
    text = "a small red apple, " * 1579
    assert len(text) > 30_000
    parts = windows(text, encoder)
    encoded = contexts(encoder, parts)
    assert len(encoded) == len(parts) > 100
    assert all(close(encoded[i], contexts(encoder, [parts[i]])[0]) for i in (0, BATCH - 1, BATCH, len(parts) - 1))


def test_windows_are_encoded_as_if_alone_and_in_their_order(encoder: TextEncoder) -> None:
    """More windows than one forward takes, with repetitions."""
    parts = [windows(f"picture {i % 23}", encoder)[0] for i in range(3 * BATCH)]
    together = contexts(encoder, parts)
    for i in (0, 1, 22, 23, BATCH, 3 * BATCH - 1):
        assert close(together[i], contexts(encoder, [parts[i]])[0])
    assert not close(together[0], together[1])
    assert contexts(encoder, []) == []


def test_equal_windows_are_encoded_once(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    real = encoder.network.forward
    monkeypatch.setattr(encoder.network, "forward", lambda tokens, ctx: rows.append(len(tokens)) or real(tokens))
    a, b = windows("a", encoder)[0], windows("b", encoder)[0]
    contexts(encoder, [a, b, a, a, b])
    assert rows == [2]


def test_a_token_sees_only_what_stands_before_it(encoder: TextEncoder) -> None:
    """CLIP's causal mask: with another last word the encoding of the first words stays."""
    one, two = (contexts(encoder, windows(text, encoder))[0] for text in ("a red apple", "a red car"))
    assert close(one[:3], two[:3])
    assert not close(one[3], two[3])


def test_clip_skip_takes_an_earlier_layer_and_normalises_it(encoder: TextEncoder) -> None:
    part = windows("a cat", encoder)
    hidden = encoder.network(torch.tensor([part[0].tokens]))
    assert len(hidden) == CONFIG.layers + 1
    for skip in (1, 2, 3):
        expected = encoder.network.final_layer_norm(hidden[-skip])[0]
        assert close(contexts(encoder, part, clip_skip=skip)[0], expected)
    assert not close(contexts(encoder, part, clip_skip=1)[0], contexts(encoder, part, clip_skip=2)[0])


def test_skipping_more_layers_than_there_are_takes_the_first(encoder: TextEncoder) -> None:
    part = windows("a cat", encoder)
    assert torch.equal(contexts(encoder, part, clip_skip=12)[0], contexts(encoder, part, clip_skip=3)[0])


def test_an_embedding_stands_where_its_name_is_written(encoder: TextEncoder) -> None:
    """Vectors that are those of "red apple" are "red apple", in one row of a batch and not in the others."""
    table = encoder.network.embeddings.token_embedding
    known = Embeddings([Embedding("ink", 2)], encoder.tokenizer)
    (named,) = chunk("a ink on a mat", encoder.tokenizer, embeddings=known).windows
    (written,) = chunk("a red apple on a mat", encoder.tokenizer).windows
    ink = Embedding("ink", 2)
    vectors = {ink: table(torch.tensor(encoder.tokenizer.encode("red apple")))}
    with_name, plain, again = contexts(encoder, [named, written, named], vectors=vectors)
    assert close(with_name, plain)
    assert torch.equal(with_name, again)

    other = contexts(encoder, [written, named], vectors={ink: vectors[ink] * -1.0})
    assert close(other[0], plain)
    assert close(other[1][:2], plain[:2])
    assert not close(other[1][2], plain[2])
    assert close(contexts(encoder, [written])[0], plain), "nothing is left behind in the encoder"


def test_an_embedding_that_is_not_here_is_an_error(encoder: TextEncoder) -> None:
    (named,) = chunk("ink", encoder.tokenizer, embeddings=Embeddings([Embedding("ink", 2)], encoder.tokenizer)).windows
    with pytest.raises(KeyError, match="ink"):
        contexts(encoder, [named])
    contexts(encoder, windows("a cat", encoder))


def test_building_it_on_the_meta_device_loses_nothing(encoder: TextEncoder) -> None:
    with torch.device("meta"):
        other = TextEncoder(CONFIG)
    other.load_state_dict(encoder.state_dict(), assign=True)
    part = windows("a cat", encoder)
    assert torch.equal(contexts(other.eval(), part)[0], contexts(encoder, part)[0])


def test_no_encoder_brings_transformers_in() -> None:
    """In a process of its own.  Its import takes seconds of every engine's start, and it could ask a hub."""
    code = (
        "import sys\n"
        "from modules.checkpoints.manager import ModelManager\n"
        "from modules.diffusion.clip import TextConfig\n"
        "from modules.diffusion.text import TextEncoder\n"
        "TextEncoder(TextConfig(width=32, layers=1, heads=1, hidden=32))\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'transformers', 'huggingface_hub', 'diffusers'}))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

"""Prompts that change and prompts of several sides, in an engine with others: the same pictures as alone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.conftest import Bench
from tests.tiny import write

STRONG = {"cfg_scale": 15.0, "schedule": "Uniform"}
"""Settings under which the tiny network, which knows nothing, obeys its prompt visibly and late into the run."""

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "a cat", "seed": 1},
    "switched": {"prompt": "a [cat:dog:2]", "seed": 2, "steps": 5},
    "alternating": {"prompt": "[cat|dog|a red apple] on a mat", "seed": 3, "steps": 6},
    "negative": {"prompt": "a cat", "negative_prompt": "[blue:(green:1.4):.5]", "seed": 4, "steps": 4},
    "sides": {"prompt": "a cat AND a dog :0.5 AND [red:blue:1] :-0.3", "seed": 5},
    "unguided sides": {"prompt": "a cat :0.5 AND a dog :0.5", "seed": 6, "cfg_scale": 1.0},
    "long": {"prompt": "[cat:" + "a very long tale of a dog, " * 20 + ":1] BREAK (red:1.5)", "seed": 7},
    "sides of two lengths": {"prompt": "a cat AND " + "a very long tale, " * 30, "seed": 8},
    "second order": {"prompt": "[cat:dog:.5] AND [red|blue]", "sampler": "Heun", "steps": 4, "seed": 9},
    "no norm": {"prompt": "a (cat:1.6)", "emphasis": "No norm", "seed": 10},
    "clip skip": {"prompt": "a ((cat)) [in:on:2] a hat", "clip_skip": 2, "seed": 11},
}


def test_batched_is_alone(bench: Bench) -> None:
    for name, fields in REQUESTS.items():
        bench.submit(name, user=name, **STRONG | fields)
    bench.run()
    assert set(bench.of("done")) == set(REQUESTS)
    for name, fields in REQUESTS.items():
        difference = np.abs(bench.pixels(name) - bench.alone(**STRONG | fields)).max()
        assert difference <= 1, f"{name}: {difference}/255 from the same request alone"
    assert bench.engine.runner.rows > 2 * bench.engine.runner.forwards, "forwards were not shared"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a [cat:dog:1]", "a cat"),
        ("a [cat:dog:1]", "a dog"),
        ("a [cat|dog]", "a dog"),
        ("a cat AND a dog", "a cat"),
        ("a (cat:1.5)", "a cat"),
        ("a cat BREAK a dog", "a cat a dog"),
    ],
)
def test_the_words_reach_the_picture(bench: Bench, one: str, other: str) -> None:
    assert np.abs(bench.alone(prompt=one, steps=5, **STRONG) - bench.alone(prompt=other, steps=5, **STRONG)).max() > 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a [cat:dog:1.0]", "a cat"),
        ("a [cat:dog:0]", "a dog"),
        ("a cat <lora:ink:1>", "a cat "),
        ("a (cat:1.0)", "a cat"),
        ("a cat AND a dog :0", "a cat"),
        ("a cat :0.5 AND a cat :0.5", "a cat"),
    ],
)
def test_the_same_said_otherwise_is_the_same_picture(bench: Bench, one: str, other: str) -> None:
    assert np.abs(bench.alone(prompt=one, steps=5, **STRONG) - bench.alone(prompt=other, steps=5, **STRONG)).max() <= 1


def test_a_prompt_that_asks_too_much_fails_in_words_and_alone(bench: Bench) -> None:
    bench.submit("too much", prompt="[a|b|c|d|e|f] " + "x, " * 10_000, steps=20)
    bench.submit("fine", seed=2)
    bench.run()
    assert "shorten the prompt" in bench.of("failed")["too much"].data["error"]
    assert set(bench.of("done")) == {"fine"}


def test_a_textual_inversion_paints_what_its_vectors_mean(bench: Bench, tiny_models: Path) -> None:
    """With the vectors of "red apple" under another name, that name paints one, in a batch as alone, and is recorded."""
    model = bench.manager.load("tiny")
    ids = torch.tensor(model.prompts.encoders.tokenizer.encode("red apple"))
    network: Any = model.prompts.encoders.first.network
    (tiny_models / "embeddings").mkdir()
    try:
        file = write(tiny_models / "embeddings" / "zqx.safetensors", {"emb_params": network.embeddings.token_embedding(ids)})
        write(tiny_models / "embeddings" / "wide.safetensors", {"emb_params": torch.zeros(1, 768)})
        requests = {
            "written": {"prompt": "a (red apple:1.3) on a table"},
            "named": {"prompt": "a (ZQX:1.3) on a table"},
            "in the negative": {"negative_prompt": "zqx"},
            "edited": {"prompt": "[cat:zqx:2]"},
            "skipped": {"prompt": "wide"},
        }
        for name, fields in requests.items():
            bench.submit(name, **fields)
        bench.run()
        assert np.abs(bench.pixels("named") - bench.pixels("written")).max() <= 1
        for name, fields in requests.items():
            assert np.abs(bench.pixels(name) - bench.alone(**fields)).max() <= 1, name
        digits = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        said = {name: message.data["extras"].get("TI hashes") for name, message in bench.of("done").items()}
        expected = dict.fromkeys(requests) | dict.fromkeys(("named", "in the negative", "edited"), f"zqx: {digits}")
        assert said == expected
    finally:
        shutil.rmtree(tiny_models / "embeddings")
    bench.submit("gone", prompt="a (zqx:1.3) on a table")
    bench.run()
    assert np.abs(bench.pixels("gone") - bench.pixels("named")).max() > 1, "without the file it is a word again"

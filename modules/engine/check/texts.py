"""Encoded texts: our text encoder on the device, in each number format, against transformers' on the processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from modules.diffusion.clip import TextConfig
from modules.diffusion.text import TextEncoder
from modules.engine.check.findings import Bench, Result, compared, name_of
from modules.prompts.chunks import chunk

CONFIG = TextConfig(width=256, layers=4, heads=4, hidden=1024)
TEXTS = ("", "a red apple on a table, oil painting", "many words, " * 20)
BOUNDS = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Of the difference, by the size of the expected."""


def encoder(bench: Bench) -> Iterator[Result]:
    """An encoder of CLIP ViT-L's form with random weights, only narrower."""
    torch.manual_seed(0)
    ours = TextEncoder(CONFIG).eval()
    windows = [window for text in TEXTS for window in chunk(text, ours.tokenizer).windows]
    expected = _theirs(ours)(torch.tensor([window.tokens for window in windows]))
    for dtype in bench.dtypes:
        ours.to(bench.device, dtype)
        contexts = torch.stack([each.context for each in ours.encode_chunks(windows)]).float().cpu()
        difference = float((contexts - expected).norm() / expected.norm())
        yield compared(
            f"text encoder {name_of(dtype)}", difference, BOUNDS[dtype], f"{len(windows)} windows", "--dtype float32"
        )
        ours.to("cpu", torch.float32)


def _theirs(ours: TextEncoder) -> Any:
    """transformers' encoder with the same weights: windows (B, 77) to contexts (B, 77, D)."""
    from transformers import CLIPTextConfig, CLIPTextModel  # seconds, which only this check waits for

    network: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=CONFIG.vocabulary,
            hidden_size=CONFIG.width,
            intermediate_size=CONFIG.hidden,
            num_hidden_layers=CONFIG.layers,
            num_attention_heads=CONFIG.heads,
            hidden_act=CONFIG.activation,
        )
    )
    network.eval().load_state_dict({name: tensor.clone() for name, tensor in ours.network.state_dict().items()})

    def encode(tokens: Tensor) -> Tensor:
        hidden: Tensor = network(tokens).last_hidden_state
        return hidden

    return encode

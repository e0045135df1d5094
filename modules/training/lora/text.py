"""Captions as the text encoder of SD 1.x reads them: one window of 77 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.adapters import Adapter
from modules.diffusion.clip_prompts import CLIPPrompts
from modules.diffusion.forward import context_for
from modules.diffusion.text import TextEncoder
from modules.prompts.chunks import WINDOW
from modules.prompts.tokenizer import BOS, EOS, Tokenizer

Weighted = Sequence[tuple[Adapter, float]]
"""Adapters with how much of each."""

LONGEST = WINDOW - 2
"""Tokens of a caption that are read; the rest is cut off."""


def token_windows(texts: Sequence[str], tokenizer: Tokenizer | None = None) -> Tensor:
    """Token ids (B, 77) of texts as they stand: no weights, no emphasis, cut off behind `LONGEST` tokens.

    >>> token_windows(["a red apple"])[0, :5].tolist()
    [49406, 320, 736, 3055, 49407]
    """
    tokenizer = tokenizer or Tokenizer()
    windows = torch.full((len(texts), WINDOW), EOS)
    windows[:, 0] = BOS
    for window, text in zip(windows, texts, strict=True):
        ids = tokenizer.encode(text)[:LONGEST]
        window[1 : 1 + len(ids)] = torch.tensor(ids, dtype=window.dtype)
    return windows


def text_encoder(model: ModelHandle) -> TextEncoder:
    """The text encoder of a loaded SD 1.x checkpoint."""
    return cast(CLIPPrompts, model.prompts).encoders.first


def encoded(model: ModelHandle, texts: Sequence[str], adapters: Weighted = ()) -> Tensor:
    """Contexts (B, 77, D), without a graph, with `adapters` on the encoder; equal texts are encoded once."""
    distinct = list(dict.fromkeys(texts))
    encoder = text_encoder(model)
    with torch.no_grad():
        ctx = context_for([adapters] * len(distinct), [()] * len(distinct), None, model.device)
        contexts, _ = encoder(token_windows(distinct, encoder.tokenizer), 1, ctx)
    return cast(Tensor, contexts[[distinct.index(text) for text in texts]])

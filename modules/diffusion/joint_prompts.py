"""Prompts of models with CLIP and T5 text encoders (SD 3, Flux): a `networks.PromptEncoder`.

SD 3 attends to CLIP's encodings, filled up with zeros to T5's width, and T5's behind them; Flux to T5's alone.  The pooled
texts of CLIP are the network's vector.  T5 reads a text whole, without windows, filled up to the length of training.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modules.diffusion.clip_prompts import CLIPPrompts, CLIPTexts
from modules.diffusion.conditioning import Conditioning, number_features
from modules.diffusion.emphasis import contexts
from modules.diffusion.networks import LoadedAdapter, Strengths
from modules.diffusion.t5 import T5Text
from modules.diffusion.text import EncodedWindow
from modules.prompts.chunks import Chunk
from modules.prompts.t5_tokenizer import END, MAX_TOKENS, PAD, T5Tokenizer, weighted_tokens
from modules.request import Emphasis, Txt2Img

GUIDANCE = "guidance"
"""The number of a network's vector that is the distilled guidance scale, times 1000."""


@dataclass(frozen=True)
class T5Chunk(Chunk):
    """A text as T5 takes it: its tokens with the end mark and the padding, and their weights."""

    @property
    def bare(self) -> T5Chunk:
        return self if self.is_neutral else T5Chunk(self.tokens, (1.0,) * len(self.tokens))


def t5_chunk(text: str, tokenizer: T5Tokenizer, emphasis: Emphasis, shortest: int) -> tuple[T5Chunk, int]:
    """The text filled up to at least `shortest` tokens, and how many of its tokens are left out."""
    tokens, weights = weighted_tokens(text, tokenizer, emphasis)
    left_out = max(0, len(tokens) - MAX_TOKENS)
    tokens, weights = [*tokens[:MAX_TOKENS], END], [*weights[:MAX_TOKENS], 1.0]
    padding = max(0, shortest - len(tokens))
    return T5Chunk((*tokens, *[PAD] * padding), (*weights, *[1.0] * padding)), left_out


@dataclass(frozen=True, eq=False)
class JointPrompts:
    """The encoders of a model, and what its network expects of them.

    `clip` are those of CLIP that are there, None for none; `columns` are the first columns of the context and of the pooled
    text, by encoder of `clip`, in order.  `t5` has a tokenizer or is not there.  The network attends to contexts
    `context_width` wide and, where `clip_in_context`, to CLIP's; its pooled text is `pooled_width` wide.  T5's part of the
    context has at least `t5_tokens`, which are zeros where it is not there.  `guided`: the vector ends with the features of
    the distilled guidance scale.  `absent` names the encoders that are not there.
    """

    clip: CLIPPrompts | None
    columns: Sequence[tuple[int, int]]
    t5: T5Text | None
    tokenizer: T5Tokenizer | None
    context_width: int
    pooled_width: int
    clip_in_context: bool
    t5_tokens: int
    device: torch.device
    guided: bool = False
    absent: tuple[str, ...] = ()
    t5_parts: tuple[str, ...] = ("text_3",)
    """What adapters call T5."""

    def tokenise(self, texts: Sequence[str], request: Txt2Img, bundled: Sequence[LoadedAdapter] = ()) -> JointTexts:
        """Windows for CLIP, and whole texts for T5; as `CLIPPrompts.tokenise`."""
        clip = None if self.clip is None else self.clip.tokenise(texts, request, bundled)
        found, left_out = {}, 0
        if self.tokenizer is not None:
            for text in texts:
                found[text], beyond = t5_chunk(text, self.tokenizer, request.emphasis, self.t5_tokens)
                left_out = max(left_out, beyond)
        said = {"Text encoders": "without " + " and ".join(self.absent)} if self.absent else {}
        if left_out:
            said["T5 tokens left out"] = str(left_out)
        return JointTexts(self, request, clip, found, said)

    def encode(
        self, pieces: Sequence[Hashable], clip_skip: int, vectors: Mapping[object, Tensor], adapters: Strengths = ()
    ) -> list[EncodedWindow]:
        made: dict[Hashable, EncodedWindow] = {}
        long = [piece for piece in pieces if isinstance(piece, T5Chunk)]
        if long and self.t5 is not None:
            on = [(each.parts[part], strength) for each, strength in adapters for part in self.t5_parts if part in each.parts]
            encoded = self.t5.encode([piece.tokens for piece in long], on)
            made |= dict(zip(long, map(EncodedWindow, encoded), strict=True))
        short = [piece for piece in pieces if isinstance(piece, Chunk) and not isinstance(piece, T5Chunk)]
        if short and self.clip is not None:
            made |= dict(zip(short, self.clip.encode(short, clip_skip, vectors, adapters), strict=True))  # type: ignore[arg-type]
        return [made[piece] for piece in pieces]


@dataclass(frozen=True, eq=False)
class JointTexts:
    """The `networks.Tokenised` texts of one image."""

    prompts: JointPrompts
    request: Txt2Img
    clip: CLIPTexts | None
    t5: Mapping[str, T5Chunk]
    own_said: Mapping[str, str] = field(default_factory=dict)

    @property
    def pieces(self) -> tuple[Chunk, ...]:
        return (*(() if self.clip is None else self.clip.pieces), *dict.fromkeys(chunk.bare for chunk in self.t5.values()))

    @property
    def vectors(self) -> Mapping[object, Tensor]:
        return {} if self.clip is None else self.clip.vectors  # type: ignore[return-value]

    @property
    def said(self) -> Mapping[str, str]:
        return {**({} if self.clip is None else self.clip.said), **self.own_said}

    def conditionings(
        self, sides: Sequence[Sequence[str]], negative: Sequence[str], encoded: Mapping[Chunk, EncodedWindow]
    ) -> list[tuple[Conditioning, ...]]:
        """Texts that are equal share theirs."""
        made: list[tuple[Conditioning, ...]] = []
        for timeline in (*sides, negative):
            short: Sequence[Conditioning | None] = [None] * len(timeline)
            if self.clip is not None:
                windows = [self.clip.windows[text] for text in timeline]
                short = contexts(windows, encoded, self.request.emphasis, self.clip.prompts.encoders.widths)
            long: Sequence[Conditioning | None] = [None] * len(timeline)
            if self.t5:
                long = contexts([(self.t5[text],) for text in timeline], encoded, self.request.emphasis)
            shared: dict[str, Conditioning] = {}
            for text, clip, t5 in zip(timeline, short, long, strict=True):
                if text not in shared:
                    shared[text] = self._joined(clip, t5)
            made.append(tuple(shared[text] for text in timeline))
        return made

    def _joined(self, clip: Conditioning | None, t5: Conditioning | None) -> Conditioning:
        prompts = self.prompts
        parts = []
        if prompts.clip_in_context:
            parts.append(self._clip_context(clip))
        zeros = torch.zeros(prompts.t5_tokens, prompts.context_width, device=prompts.device)
        parts.append(zeros if t5 is None else t5.context)
        dtype = parts[-1].dtype if t5 is not None else parts[0].dtype
        conditioning = Conditioning(torch.cat([part.to(dtype) for part in parts]), vector=self._pooled(clip))
        if not prompts.guided:
            return conditioning
        scale = 1000.0 * self.request.distilled_cfg_scale
        return conditioning.with_numbers(number_features([scale], prompts.device), [(GUIDANCE, scale)])

    def _clip_context(self, clip: Conditioning | None) -> Tensor:
        """CLIP's encodings in their columns; zeros elsewhere and for encoders that are not there."""
        prompts = self.prompts
        if clip is None or prompts.clip is None:
            return torch.zeros(77, prompts.context_width, device=prompts.device)
        context = clip.context.new_zeros(clip.tokens, prompts.context_width)
        start = 0
        for (column, _), width in zip(prompts.columns, prompts.clip.encoders.widths, strict=True):
            context[:, column : column + width] = clip.context[:, start : start + width]
            start += width
        return context

    def _pooled(self, clip: Conditioning | None) -> Tensor:
        prompts = self.prompts
        pooled = torch.zeros(prompts.pooled_width, device=prompts.device)
        if clip is None or clip.vector is None or prompts.clip is None:
            return pooled
        start = 0
        for (_, column), width in zip(prompts.columns, prompts.clip.encoders.pooled_widths, strict=True):
            pooled[column : column + width] = clip.vector[start : start + width].float()
            start += width
        return pooled

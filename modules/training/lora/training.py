"""The training loop of an adapter: cached latents, AdamW, a state file from which a stopped run goes on with the same numbers.

Every step draws its pictures, timesteps and noise from the seed and its own number alone.
"""

from __future__ import annotations

import io
import math
import pickle
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.attention import sdpa
from modules.diffusion.forward import ForwardContext, context_for
from modules.diffusion.unet import UNet
from modules.diffusion.unet_denoiser import UNetDenoiser
from modules.errors import NotFinite, RequestError
from modules.training.lora.data import Example, Size, epoch, load
from modules.training.lora.files import write_whole
from modules.training.lora.network import TEXT, UNET, TrainedAdapter
from modules.training.lora.objective import Objective
from modules.training.lora.text import encoded, text_encoder, token_windows

Say = Callable[[str], None]

NARROW, FEW = 64, 1 << 20
"""On a CPU heads narrower than `NARROW` attend by the formula where there are at most `FEW` scores a head."""


@dataclass(frozen=True)
class Recipe:
    """How to train; `rate` and `text_rate` are the peaks of learning rates, `bf16` autocasts to bfloat16."""

    steps: int = 1000
    batch: int = 4
    rate: float = 1e-4
    text_rate: float = 5e-5
    warmup: int = 50
    min_snr: float = 5.0
    dropout: float = 0.1
    noise_offset: float = 0.0
    seed: int = 0
    bf16: bool = False

    def factor(self, step: int) -> float:
        """Of the learning rates at a step: linear warm-up, then half a cosine to 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


@dataclass(frozen=True, eq=False)
class Latents:
    """The examples as latents (C, h, w) on the CPU, in the examples' order, and the sizes of their pictures."""

    examples: Sequence[Example]
    latents: Sequence[Tensor]
    sizes: Sequence[Size]

    @property
    def groups(self) -> list[list[int]]:
        """Indices by size, each as often as its example is repeated."""
        groups: dict[Size, list[int]] = defaultdict(list)
        for index, (example, size) in enumerate(zip(self.examples, self.sizes, strict=True)):
            groups[size] += [index] * example.repeats
        return list(groups.values())

    def batches_per_epoch(self, batch: int) -> int:
        return sum(-(-len(group) // batch) for group in self.groups)


def encode(model: ModelHandle, examples: Sequence[Example], choices: Sequence[Size], bf16: bool, say: Say) -> Latents:
    """The examples' pictures, each brought to one of the sizes `choices`, through the autoencoder.

    Raises:
        RequestError: a picture cannot be read.
    """
    latents, sizes = [], []
    for number, example in enumerate(examples):
        picture = load(example.path, choices)
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad(), autocast(model, bf16):
            latents.append(model.latent.encode(pixels)[0].float().cpu())
        sizes.append((picture.shape[1], picture.shape[0]))
        if (number + 1) % 100 == 0:
            say(f"encoded {number + 1} of {len(examples)} pictures")
    return Latents(examples, latents, sizes)


def autocast(model: ModelHandle, bf16: bool) -> AbstractContextManager[Any]:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)


@dataclass(eq=False)
class Trainer:
    """`adapter` of `model` in training on `data`.

    `facts` are what a state file must agree with to be gone on with, by what a user calls them.
    """

    model: ModelHandle
    adapter: TrainedAdapter
    data: Latents
    recipe: Recipe
    state: Path
    facts: dict[str, str] = field(default_factory=dict)
    say: Say = print
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.unet: UNet = cast(UNetDenoiser, self.model.denoiser).unet
        prepare_attention(self.unet, self.model.device)
        self.objective = Objective.of(self.model.noise, self.recipe.min_snr, self.model.device)
        groups = [{"params": self.adapter.parameters(UNET), "lr": self.recipe.rate, "peak": self.recipe.rate}]
        if text := self.adapter.parameters(TEXT):
            groups.append({"params": text, "lr": self.recipe.text_rate, "peak": self.recipe.text_rate})
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self._contexts: dict[str, Tensor] = {}
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    # ---- one step

    def loss(self, step: int) -> Tensor:
        """The mean loss of the batch of this step, with its graph."""
        recipe, device = self.recipe, self.model.device
        rand, generator = random.Random(f"{recipe.seed} {step}"), torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        members = self._members(step)
        captions = ["" if rand.random() < recipe.dropout else self.data.examples[index].caption for index in members]
        latents = torch.stack([self.data.latents[index] for index in members])
        noise = torch.randn(latents.shape, generator=generator)
        if recipe.noise_offset:
            noise = noise + recipe.noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=generator)
        timesteps = torch.randint(0, len(self.objective.alphas), (len(members),), generator=generator)
        latents, noise, timesteps = (each.to(device) for each in (latents, noise, timesteps))
        noised = self.objective.noised(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with autocast(self.model, recipe.bf16):
            predicted = self.unet(noised, timesteps.float(), self._context(captions), self._asked(UNET, len(members)))
        return self.objective.errors(predicted, latents, noise, timesteps).mean()

    def _members(self, step: int) -> list[int]:
        number, place = divmod(step, self.data.batches_per_epoch(self.recipe.batch))
        if self._epoch[0] != number:
            rand = random.Random(f"{self.recipe.seed} epoch {number}")
            self._epoch = number, epoch(self.data.groups, self.recipe.batch, rand)
        return self._epoch[1][place]

    def _context(self, captions: Sequence[str]) -> Tensor:
        if TEXT in self.adapter.parts:
            encoder = text_encoder(self.model)
            windows = token_windows(captions, encoder.tokenizer)
            return cast(Tensor, encoder(windows, 1, self._asked(TEXT, len(captions)))[0])
        for caption in captions:
            if caption not in self._contexts:
                self._contexts[caption] = encoded(self.model, [caption])[0]
        return torch.stack([self._contexts[caption] for caption in captions])

    def _asked(self, part: str, rows: int) -> ForwardContext | None:
        return context_for([[(self.adapter.parts[part], 1.0)]] * rows, [()] * rows, None, self.model.device)

    # ---- all of them

    def run(self, stop_at: int | None = None, say_every: int = 20, save_every: float = 120.0) -> list[float]:
        """Train to the recipe's last step, or to `stop_at`, and save at the end and every `save_every` seconds; the losses of
        this call's steps.

        Raises:
            NotFinite: a loss is NaN or infinite; the state of before is in the file.
        """
        losses: list[float] = []
        before, began, first = self.seconds, time.monotonic(), self.step
        saved = began
        end = self.recipe.steps if stop_at is None else min(stop_at, self.recipe.steps)
        while self.step < end:
            losses.append(self._one())
            self.step += 1
            self.seconds = before + time.monotonic() - began
            if self.step % say_every == 0 or self.step == end:
                recent = losses[-say_every:]
                left = (self.recipe.steps - self.step) * (self.seconds - before) / (self.step - first) / 60
                self.say(
                    f"step {self.step} of {self.recipe.steps}, loss {sum(recent) / len(recent):.4f}, "
                    f"rate {self.optimiser.param_groups[0]['lr']:.1e}, {left:.1f} minutes left"
                )
            if self.step == end or time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        return losses

    def _one(self) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * self.recipe.factor(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.step)
        value = loss.item()
        if not math.isfinite(value):
            raise NotFinite(f"step {self.step + 1}: the loss is {value}; train again with a lower --rate")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([p for group in self.optimiser.param_groups for p in group["params"]], 1.0)
        self.optimiser.step()
        return value

    # ---- the state file

    def save(self) -> None:
        held = io.BytesIO()
        torch.save(
            {
                "facts": self.facts,
                "step": self.step,
                "seconds": self.seconds,
                "adapter": self.adapter.state(),
                "optimiser": self.optimiser.state_dict(),
            },
            held,
        )
        write_whole(self.state, held.getvalue())

    def resume(self) -> bool:
        """Take up the state that an earlier run left; False where there is none.

        Raises:
            RequestError: the file is of another training, or cannot be read.
        """
        if not self.state.exists():
            return False
        try:
            state = torch.load(self.state, map_location=self.model.device, weights_only=True)
            different = [name for name, value in self.facts.items() if state["facts"].get(name) != value]
            if not different:
                self.adapter.load(state["adapter"])
                self.optimiser.load_state_dict(state["optimiser"])
                self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (OSError, RuntimeError, ValueError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise RequestError(
                f"--resume: {self.state} cannot be read ({type(error).__name__}); train again without it"
            ) from None
        if different:
            was = ", ".join(f"{name} {state['facts'].get(name, 'none')} instead of {self.facts[name]}" for name in different)
            raise RequestError(
                f"--resume: {self.state} is of a training with {was}; use the same options, or leave out --resume"
            )
        return True


def prepare_attention(unet: UNet, device: torch.device) -> None:
    """On a CPU, let narrow heads attend by the textbook formula: with 12 channels a step takes four fifths of the time."""
    if device.type == "cpu":
        for module in unet.modules():
            if hasattr(module, "attend"):
                module.attend = _narrow  # type: ignore[assignment]


def _narrow(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.shape[-1] >= NARROW or q.shape[1] * k.shape[1] > FEW:
        return sdpa(q, k, v)
    scores = torch.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k)
    return torch.einsum("bhqk,bkhd->bqhd", F.softmax(scores, -1).to(v.dtype), v)

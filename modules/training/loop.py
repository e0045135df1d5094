"""The training loop that all stages share: learning rate by budget, moving average, log lines, resumable state.

It knows parameters and a loss, nothing of pictures or text. Every step draws its randomness from its own number
(`rng`, `generator`), so a run that was stopped and resumed takes the very steps that an unbroken one takes.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[int, float], Tensor]
"""step and the used share of the budget -> scalar loss, with its graph."""


@dataclass(frozen=True)
class Budget:
    """How long to train: seconds of training (over all resumed runs), or steps where they are given.

    Time is the natural unit on a GPU that is lent by the minute or a machine that is shared: the learning rate follows the
    share of the budget that is used up, so it always arrives at its floor, however fast the steps were.
    """

    seconds: float = math.inf
    steps: int | None = None

    def used(self, step: int, spent: float) -> float:
        """The share that is used up, 1.0 or more when training is over."""
        return step / self.steps if self.steps is not None else spent / self.seconds


@dataclass(frozen=True)
class Rate:
    """Learning rate: linear warm-up over `warmup` steps, then a cosine down to `floor` of the peak at the budget's end."""

    peak: float
    warmup: int = 100
    floor: float = 0.01

    def at(self, step: int, used: float) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, used)))
        return self.peak * min(1.0, (step + 1) / self.warmup) * (self.floor + (1 - self.floor) * cosine)


class Trainer:
    """A network in training: its weights, their moving average and the optimiser, kept in one file between runs."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, rate: Rate, file: Path, ema: float = 0.999, title: str = ""
    ) -> None:
        self.network, self.optimiser, self.rate, self.file, self.ema = network, optimiser, rate, file, ema
        self.title = title
        self.step, self.spent = 0, 0.0
        self.caution = 1.0  # of the learning rate; halves each time that the loss was no number
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.restart_average()

    def restart_average(self) -> None:
        """Begin the moving average, and what is fallen back to, at the present weights."""
        self._floats = {name: value for name, value in self.network.state_dict().items() if value.is_floating_point()}
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self._sound = {name: value.clone() for name, value in self.average.items()}

    def resume(self) -> bool:
        """Take up the state that an earlier run left in `file`; False where there is none."""
        if not self.file.exists():
            return False
        state = torch.load(self.file, weights_only=True, map_location=self.parameters[0].device)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.spent, self.caution = (state[k] for k in ("average", "step", "spent", "caution"))
        self._sound = {name: value.clone() for name, value in self.average.items()}
        return True

    def save(self) -> None:
        """Write the state beside its final name first: a run that is killed while writing loses nothing."""
        state: dict[str, Any] = {"step": self.step, "spent": self.spent, "caution": self.caution, "average": self.average}
        state |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        with replaced(self.file) as partial:
            torch.save(state, partial)

    def run(
        self,
        loss_of: Loss,
        budget: Budget,
        stop_at: int | None = None,
        every: int = 50,
        save_every: float = 60.0,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        """Train until the budget is used up (or step `stop_at` is reached); a line every `every` steps, a file now and then.

        `at_end` is called once, when the budget is used up, before the state is saved.
        """
        first = self.step
        losses: list[Tensor] = []
        began, saved, spent_before = time.monotonic(), time.monotonic(), self.spent
        self.network.train()
        while (used := budget.used(self.step, self.spent)) < 1 and self.step != stop_at:
            losses.append(self._step(loss_of, used))
            self.step += 1
            if self.step % every == 0:
                self._report(losses, used)
                losses.clear()
            self.spent = spent_before + time.monotonic() - began
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        if at_end is not None and self.step > first and budget.used(self.step, self.spent) >= 1:
            at_end()
        self.save()

    def _step(self, loss_of: Loss, used: float) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = self.caution * self.rate.at(self.step, used)
        self.optimiser.zero_grad(set_to_none=True)
        loss = loss_of(self.step, used)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self._move_average()
        return loss.detach()

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.ema, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_([self.average[name] for name in self._floats], list(self._floats.values()), 1 - decay)

    def _report(self, losses: list[Tensor], used: float) -> None:
        mean = torch.stack(losses).mean().item()
        rate = self.optimiser.param_groups[0]["lr"]
        print(
            f"{datetime.now():%H:%M:%S} {self.title} step {self.step} {used:6.1%} {self.spent:.0f} s loss {mean:.4f} "
            f"rate {rate:.1e}",
            flush=True,
        )
        if math.isfinite(mean):
            torch._foreach_copy_(list(self._sound.values()), list(self.average.values()))
        else:
            self._fall_back()

    def _fall_back(self) -> None:
        """After a loss that is no number: the last average from before, half the rate, no momentum."""
        print(f"{self.title}: the loss is no number; back to earlier weights at half the rate", flush=True)
        self.network.load_state_dict(self._sound)
        torch._foreach_copy_(list(self.average.values()), list(self._sound.values()))
        self.optimiser.state.clear()
        self.caution *= 0.5


def rng(seed: int, step: int) -> random.Random:
    """Python's generator for one step."""
    return random.Random(f"{seed} {step}")


def generator(seed: int, step: int, device: torch.device | None = None) -> torch.Generator:
    """torch's generator for one step; its numbers differ between kinds of devices."""
    return torch.Generator(device or "cpu").manual_seed(seed * 1_000_003 + step)


def fingerprint(network: nn.Module, *more: str) -> str:
    """Names what a state belongs to: the weights that training began from, and what else it depends on."""
    digest = hashlib.sha256()
    for value in network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    for text in more:
        digest.update(f"{text}\0".encode())
    return digest.hexdigest()[:12]


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `file` when it is complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    yield partial
    os.replace(partial, file)

"""The training loop that both stages share: learning rate by budget, moving average, log lines, resumable state.

It knows parameters and a loss, nothing of pictures or text. Every step draws its randomness from its own number
(`rng`, `generator`), so a run that was stopped and resumed takes the very steps that an unbroken one takes.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modules.training import parallel

Loss = Callable[[int], Tensor]
"""step -> scalar loss, with its graph."""


@dataclass(frozen=True)
class Budget:
    """How long to train: seconds of training (over all resumed runs), or steps where they are given.

    Time is the natural unit on a shared machine: the learning rate follows the share of the budget that is used up, so it
    always arrives at its floor, however fast the steps were.
    """

    seconds: float = math.inf
    steps: int | None = None

    def used(self, step: int, spent: float) -> float:
        """The share that is used up, 1.0 or more when training is over."""
        return step / self.steps if self.steps else spent / self.seconds


def seconds_until(clock: str) -> float:
    """Seconds from now to the next time that a wall clock shows `clock`, as HH:MM."""
    now = datetime.now()
    hour, minute = (int(part) for part in clock.split(":"))
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (then - now if then > now else then + timedelta(days=1) - now).total_seconds()


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
        self, network: nn.Module, optimiser: torch.optim.Optimizer, rate: Rate, file: Path, ema: float = 0.999
    ) -> None:
        self.network, self.optimiser, self.rate, self.file, self.ema = network, optimiser, rate, file, ema
        self.step, self.spent = 0, 0.0
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def resume(self) -> bool:
        """Take up the state that an earlier run left in `file`; False where there is none."""
        if not self.file.exists():
            return False
        state = torch.load(self.file, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.step, self.spent = state["average"], state["step"], state["spent"]
        return True

    def save(self) -> None:
        """Write the state beside its final name first: a run that is killed while writing loses nothing."""
        if parallel.rank():
            return
        state: dict[str, Any] = {"step": self.step, "spent": self.spent, "average": self.average}
        state |= {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        write_atomically(state, self.file)

    def run(
        self, loss_of: Loss, budget: Budget, stop_at: int | None = None, every: int = 50, save_every: float = 180.0
    ) -> None:
        """Train until the budget is used up (or step `stop_at` is reached); a line every `every` steps, a file now and then."""
        losses: list[Tensor] = []
        began, saved, spent_before = time.monotonic(), time.monotonic(), self.spent
        self.network.train()
        while (used := budget.used(self.step, self.spent)) < 1 and self.step != stop_at:
            losses.append(self._step(loss_of, used))
            self.step += 1
            self.spent = self._agreed(spent_before + time.monotonic() - began)
            if self.step % every == 0:
                self._report(losses, used)
                losses.clear()
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def _step(self, loss_of: Loss, used: float) -> Tensor:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate.at(self.step, used)
        self.optimiser.zero_grad(set_to_none=True)
        loss = loss_of(self.step)
        loss.backward()  # type: ignore[no-untyped-call]
        parallel.average(self._shared())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self._move_average()
        return loss.detach()

    def _shared(self) -> list[Tensor]:
        """What workers average in a step: gradients, and statistics that follow the data."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        return gradients + [b for b in self.network.buffers() if b.is_floating_point()]

    def _agreed(self, spent: float) -> float:
        """The workers' mean: they must come to the same learning rate and stop at the same step."""
        clock = torch.tensor([spent], dtype=torch.float64)
        parallel.average([clock])
        return clock.item()

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.ema, (self.step + 1) / (self.step + 10))
        floats = [(name, value) for name, value in self.network.state_dict().items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name, _ in floats], [value for _, value in floats], 1 - decay)

    def _report(self, losses: list[Tensor], used: float) -> None:
        if parallel.rank():
            return
        mean = torch.stack(losses).mean().item()
        rate = self.optimiser.param_groups[0]["lr"]
        print(
            f"{datetime.now():%H:%M:%S} step {self.step} {used:6.1%} {self.spent:.0f} s loss {mean:.4f} rate {rate:.1e}",
            flush=True,
        )


def rng(seed: int, step: int) -> random.Random:
    """Python's generator for one step."""
    return random.Random(f"{seed} {step}")


def generator(seed: int, step: int) -> torch.Generator:
    """torch's generator for one step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def write_atomically(state: dict[str, Any], file: Path) -> None:
    """`torch.save` under a temporary name, then a rename."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, file)

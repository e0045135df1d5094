"""This program as it is measured: from submit to saved, alone or with many users."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

from modules.app import App
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.bench._device.kernels import busy, device_kernels
from tests.bench._device.plan import Plan
from tests.local import LocalLink

USERS = 8
MIX = ("Euler", "DPM++ 2M", "Heun", "Euler a")
"""Samplers of the users in turn; Heun evaluates twice a step and gets half the steps."""

SEEDS = itertools.count(1)


class Program:
    """This program without its page: an App whose engine runs in a thread of this process."""

    def __init__(self, plan: Plan, settings: Settings, checkpoint: str) -> None:
        self.plan, self.checkpoint = plan, checkpoint
        self.link = LocalLink(engine_configuration(settings) | {"probe": True})
        self._settled = False
        self.app = App(settings, self.link, durable=False)
        self.app.start()

    def close(self) -> None:
        self.app.close()

    def paint(self, user: str = "user", **fields: Any) -> None:
        """One picture of the plan's size, from submit to saved."""
        wanted = {
            "checkpoint": self.checkpoint,
            "prompt": "a red apple on a table, photograph",
            "negative_prompt": "blurry",
            "width": self.plan.side,
            "height": self.plan.side,
            "steps": self.plan.steps,
            "cfg_scale": 7.0,
            "sampler": "Euler",
            "schedule": "Automatic",
            "seed": next(SEEDS),
        }
        *_, last = self.app.events(self.app.submit(wanted | fields, user).id, user)
        self._settled = self._settled or self._settle()
        if last.state != "done":
            raise RuntimeError(f"the picture failed: {last.error}")

    def _settle(self) -> bool:
        """Wait until the engine has measured its forwards behind the first picture: nothing else may be measured meanwhile."""
        while self.link.engine is not None and self.link.engine.measuring:
            time.sleep(0.01)
        return True

    def device_seconds(self) -> tuple[float, float]:
        """Those of one picture in which the device had something to do: its kernels, or on a CPU the calls of the runner.

        And those from submit to saved of the same picture, which profiling makes longer on CUDA.
        """
        if self.plan.cuda:
            began = time.perf_counter()
            kernels = device_kernels(self.paint, self.plan)
            return busy(kernels), time.perf_counter() - began
        assert self.link.engine is not None
        runner, spent = self.link.engine.runner, []
        run = runner.run

        def measured(ops: Sequence[Any]) -> list[Any]:
            began = time.perf_counter()
            try:
                return run(ops)
            finally:
                spent.append(time.perf_counter() - began)

        runner.run = measured  # type: ignore[method-assign]
        began = time.perf_counter()
        try:
            self.paint()
        finally:
            runner.run = run  # type: ignore[method-assign]
        return sum(spent), time.perf_counter() - began

    def mixed(self, number: int) -> None:
        """The picture that user `number` wants."""
        sampler = MIX[number % len(MIX)]
        steps = max(1, self.plan.steps // 2) if sampler == "Heun" else self.plan.steps
        self.paint(f"user {number}", sampler=sampler, steps=steps, prompt=f"{number} red apples on a table")

    def one_by_one(self) -> None:
        for number in range(USERS):
            self.mixed(number)

    def at_once(self) -> None:
        failed: list[BaseException] = []

        def user(number: int) -> None:
            try:
                self.mixed(number)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

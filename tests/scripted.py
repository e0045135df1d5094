"""An engine link without an engine: the test says what the engine would."""

from __future__ import annotations

import threading
from collections.abc import Callable

from modules.engine.messages import Message
from modules.jobs.worker import Worker

PATIENCE = 60.0
"""Seconds after which a test gives up on a message that is not handed over."""


class ScriptedLink:
    """An engine link whose messages the test says itself."""

    def __init__(self) -> None:
        self._sent: list[Message] = []
        self._settle: Callable[[], object] = lambda: None
        self.starts = 0
        self.restarts: list[str] = []
        self.say: Callable[[Message], None] = lambda message: None

    @property
    def sent(self) -> list[Message]:
        """What was sent to the engine, all that is on its way included."""
        self._settle()
        return self._sent

    def start(self, on_message: Callable[[Message], None]) -> None:
        self.say, self.starts = on_message, self.starts + 1
        worker = getattr(on_message, "__self__", None)  # whose outbox hands messages over on a thread
        if isinstance(worker, Worker):
            self._settle = lambda: worker.settle(PATIENCE)

    def send(self, message: Message) -> None:
        self._sent.append(message)

    def close(self) -> None:
        """Nothing runs."""

    def restart(self, why: str) -> bool:
        self.restarts.append(why)
        self.sent.clear()
        self.say(Message("died", {"cause": why, "asked": True}))
        return True

    def hello(self) -> None:
        self.say(Message("hello", {"device": "cpu (test)", "dtype": "float32 (test)", "attention": "sdpa (test)"}))

    def tasks(self, kind: str = "submit") -> list[str]:
        return [message.data["task"] for message in self.sent if message.kind == kind]

    def done(self, task: str, pixels: bytes = bytes(64 * 64 * 3)) -> None:
        data = {"task": task, "width": 64, "height": 64, "schedule": "Karras", "model_name": "tiny", "model_hash": "0" * 10}
        self.sent.append(Message("landed", {"task": task}))
        self.say(Message("done", data, pixels))

    def failed(self, task: str, error: str) -> None:
        self.sent.append(Message("landed", {"task": task}))
        self.say(Message("failed", {"task": task, "error": error, "trace": ""}))

    def died(self, cause: str = "the engine was ended by SIGKILL") -> None:
        self.sent.clear()
        self.say(Message("died", {"cause": cause}))

    def step(self, task: str, step: int = 1, steps: int = 2, stage: int = 0, stages: int = 1) -> None:
        said = {"task": task, "step": step, "steps": steps, "stage": stage, "stages": stages}
        self.say(Message("progress", said))

    def flying(self) -> list[str]:
        """The tasks that an engine would have now."""
        have: list[str] = []
        for message in self.sent:
            if message.kind == "submit":
                have.append(message.data["task"])
            elif message.kind in ("cancel", "landed") and message.data["task"] in have:
                have.remove(message.data["task"])
        return have


class EagerLink(ScriptedLink):
    """Paints black at once."""

    def send(self, message: Message) -> None:
        super().send(message)
        if message.kind == "submit":
            threading.Thread(target=self.done, args=(message.data["task"],), daemon=True).start()

"""The engine in a thread of this process, behind the same interface as the one in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from modules.engine.engine import Engine
from modules.engine.messages import Message
from modules.engine.setup import build_engine, hello


class LocalLink:
    """An `EngineLink` without a process: quick to start, and open to tests through `engine`."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        self.configuration = configuration
        self.engine: Engine | None = None
        self._thread: threading.Thread | None = None

    def start(self, on_message: Callable[[Message], None]) -> None:
        self.engine, choices = build_engine(self.configuration, on_message)
        on_message(hello(choices))
        self._thread = threading.Thread(target=self.engine.run, daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        if self.engine is not None:
            self.engine.inbox.put(message)

    def restart(self, why: str) -> bool:
        return False

    def close(self) -> None:
        self.send(Message("stop"))
        if self._thread is not None:
            self._thread.join(timeout=30)
            assert not self._thread.is_alive(), "the engine did not stop"

"""What is known of each extension from run to run: on or off, failures, where it came from.  One JSON file in the data folder.

Any thread and any process may change it (the server, and the command line beside it); each change reads the file anew under a
lock and replaces it whole.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from modules.errors import ExtensionError
from modules.locks import ProcessLock

log = logging.getLogger("atelier")

FILE_NAME = "extensions.json"
PATIENCE = 10.0
"""Seconds that another process may take to change the file."""
FAILURES = 3
"""An extension that raised so often is disabled."""
DEATHS = 2
"""An extension that was in use when the engine died so often is suspended."""


@dataclass(frozen=True)
class ExtensionState:
    """`enabled` is what a user said, None for nothing yet; `failures` count what it raised and `deaths` those of the engine in
    which it was in use, since it was enabled or last did well; `stopped` is "failed" or "suspended" where that ended it, with
    the `reason`.  `address`, `commit` and `sha256` (of all files) are those that it was installed from and with."""

    enabled: bool | None = None
    failures: int = 0
    deaths: int = 0
    stopped: str = ""
    reason: str = ""
    address: str = ""
    commit: str = ""
    sha256: str = ""


class States:
    """See the module.

    Args:
        path: the file; its folder is made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def all(self) -> dict[str, ExtensionState]:
        """The states by name; a file that is damaged says nothing, and is kept aside by the next change."""
        return self._read()[0]

    def get(self, name: str) -> ExtensionState:
        return self.all().get(name, ExtensionState())

    def change(self, name: str, change: Callable[[ExtensionState], ExtensionState]) -> ExtensionState:
        """Replace a state by `change` of it; on disk when this returns.

        Raises:
            ExtensionError: the file cannot be written; nothing has changed.
        """
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock = ProcessLock(self.path.with_suffix(".lock"), PATIENCE)
            except OSError as error:
                raise ExtensionError(f"{self.path.name} cannot be changed: {error.strerror or error}") from None
            try:
                states, damaged = self._read()
                changed = change(states.get(name, ExtensionState()))
                states[name] = changed
                if damaged:
                    os.replace(self.path, self.path.with_suffix(".damaged"))
                self._write({key: each for key, each in states.items() if each != ExtensionState()})
            except OSError as error:
                raise ExtensionError(f"{self.path.name} cannot be written: {error.strerror or error}") from None
            finally:
                lock.release()
        return changed

    def switch(self, name: str, enabled: bool) -> ExtensionState:
        """A user switched it: what it did before is forgotten."""
        fresh = {"failures": 0, "deaths": 0, "stopped": "", "reason": ""}
        return self.change(name, lambda state: replace(state, enabled=enabled, **fresh))  # type: ignore[arg-type]

    def failed(self, name: str, reason: str) -> ExtensionState:
        """It raised once more; with the third time it is stopped."""

        def count(state: ExtensionState) -> ExtensionState:
            if state.stopped:
                return state
            failures = state.failures + 1
            if failures < FAILURES:
                return replace(state, failures=failures, reason=reason)
            return replace(state, failures=failures, stopped="failed", reason=f"disabled after {failures} failures: {reason}")

        return self.change(name, count)

    def died(self, name: str, cause: str) -> ExtensionState:
        """The engine died while it was in use; with the second time in a row it is stopped."""

        def count(state: ExtensionState) -> ExtensionState:
            if state.stopped:
                return state
            deaths = state.deaths + 1
            if deaths < DEATHS:
                return replace(state, deaths=deaths)
            reason = f"suspended, as the engine ended {deaths} times while it was in use: {cause}"
            return replace(state, deaths=deaths, stopped="suspended", reason=reason)

        return self.change(name, count)

    def did_well(self, name: str) -> None:
        """A picture was made with it: deaths before were not its own."""
        if self.get(name).deaths and not self.get(name).stopped:
            self.change(name, lambda state: replace(state, deaths=0) if not state.stopped else state)

    def forget(self, name: str) -> None:
        self.change(name, lambda state: ExtensionState())

    def _read(self) -> tuple[dict[str, ExtensionState], bool]:
        """The states, and whether there is a file that could not be understood."""
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(name): _state(each) for name, each in said["extensions"].items()}, False
        except FileNotFoundError:
            return {}, False
        except OSError as error:
            log.error("%s cannot be read: %s", self.path.name, error.strerror or error)
            return {}, False
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.error("%s is damaged (%s); extensions are as new", self.path.name, error)
            return {}, True

    def _write(self, states: dict[str, ExtensionState]) -> None:
        shown = {name: {key: value for key, value in asdict(state).items() if value not in ("", 0, None) or value is False}
                 for name, state in sorted(states.items())}  # fmt: skip
        text = json.dumps({"version": 1, "extensions": shown}, indent=1, ensure_ascii=False)
        handle, part = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise


def _state(said: Any) -> ExtensionState:
    """
    Raises:
        ValueError, TypeError: it is no state.
    """
    if not isinstance(said, dict):
        raise TypeError("a state is an object")
    known = {each.name: type(getattr(ExtensionState(), each.name)) for each in fields(ExtensionState)}
    kept = {key: value for key, value in said.items() if key in known and isinstance(value, known[key])}
    if isinstance(said.get("enabled"), bool):
        kept["enabled"] = said["enabled"]
    if kept.get("stopped", "") not in ("", "failed", "suspended"):
        raise ValueError(f"there is no state {kept['stopped']!r}")
    return ExtensionState(**kept)

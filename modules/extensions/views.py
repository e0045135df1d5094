"""What users see of an extension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["on", "off", "failed", "suspended", "refused"]


@dataclass(frozen=True)
class ExtensionView:
    """An extension as it is now.

    `state` is "on", "off" (switched off, or new and not switched on yet), "failed" (it was disabled after failures, or a half
    cannot be loaded), "suspended" (the engine died twice while it was in use), or "refused" (it cannot be used as it is);
    `reason` says why in a sentence, "" where there is nothing to say.  `source` is "built in", "folder", "package" or the
    address that it came from; `needs` are its requirements with what is found here; `hooks` those that its loaded halves have.
    `needs_restart`: a part of what was changed waits for the program's next start.
    """

    name: str
    title: str
    version: str
    description: str
    state: State
    reason: str
    halves: tuple[str, ...]
    source: str
    needs: tuple[str, ...]
    needs_restart: bool
    hooks: tuple[str, ...]

"""The exception tree.  Messages say what was asked, what was found and what to do.

AtelierError                 everything that we raise on purpose
├── SettingsError            a flag, a settings file or an environment variable makes no sense here
├── RequestError             a request cannot be carried out as it stands (HTTP 422)
│   └── UnknownName          a sampler, schedule or checkpoint that is not here; offers what is
├── LimitError               there are too many jobs; try again later (HTTP 429)
├── CheckpointError          a file is not a usable checkpoint; the loaded model stays loaded
├── GenerationError          one image failed while it was made
│   ├── OutOfMemory          the device has not enough memory, even for this image alone
│   ├── NotFinite            NaN or infinity in a latent or a picture
│   └── ExtensionFailed      an extension raised, and says that the picture fails then
├── EngineError              the engine process died or does not answer
├── QueueError               the job list cannot be opened, read or written
├── PluginError              an extension adds what cannot stand beside what is there
├── EditFailed               an edit of skip connections raised within a network
├── ExtensionError           an extension cannot be found, installed, switched on or removed
└── OutputError              a finished picture could not be written
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn


class AtelierError(Exception):
    """Base of all errors raised on purpose; `str(error)` is fit to be shown to a user."""


class SettingsError(AtelierError):
    """A setting makes no sense on this machine."""


class RequestError(AtelierError):
    """A request cannot be carried out as it stands."""


class UnknownName(RequestError):
    """A name that nothing here carries."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        close = difflib.get_close_matches(name, choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        super().__init__(f"{kind} {name!r} is not here{hint} Known: {', '.join(choices) or 'none'}.")


class LimitError(AtelierError):
    """There are too many jobs already.  `retry_after` is in how many seconds there may be a place."""

    def __init__(self, message: str, retry_after: float = 30.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CheckpointError(AtelierError):
    """A file is not a usable checkpoint."""


class GenerationError(AtelierError):
    """One image failed while it was made."""


class OutOfMemory(GenerationError):
    """The device has not enough memory, even for this image alone."""


class NotFinite(GenerationError):
    """NaN or infinity in a latent or a picture."""


class ExtensionFailed(GenerationError):
    """An extension raised while a picture was made, and says that such pictures fail."""


class EngineError(AtelierError):
    """The engine process died or does not answer."""


class QueueError(AtelierError):
    """The job list cannot be opened, read or written."""


class PluginError(AtelierError):
    """An extension adds what cannot stand beside what is there; without it all works."""


class EditFailed(AtelierError):
    """The `edit` of some rows' skip connections raised `error` (`diffusion.forward.SkipEdit`)."""

    def __init__(self, edit: object, error: Exception) -> None:
        self.edit, self.error = edit, error
        super().__init__(f"{type(edit).__name__} failed at a skip connection: {type(error).__name__}: {error}")

    def again(self) -> NoReturn:
        """Raise what the edit raised."""
        raise self.error


class ExtensionError(AtelierError):
    """An extension cannot be found, read, installed, switched on or removed."""


class OutputError(AtelierError):
    """A finished picture could not be written."""


_PLACES = tuple(f"{place}{os.sep}" for place in (Path(__file__).resolve().parents[1], Path.home()) if len(place.parts) > 1)
_FOLDERS = re.compile(
    r"""(?<![\w/:."'])(?:/[^\s/:;,'"()]+)+/([^\s/:;,'"()]+)"""  # /two/parts at least
    r"""|\b[A-Za-z]:\\(?:[^\s\\:;,'"()]+\\)*([^\s\\:;,'"()]+)"""
)


def without_folders(text: str) -> str:
    """A message as people elsewhere may read it: names of files and folders stay, where they lie does not.

    >>> without_folders("the disk of /srv/house/outputs is full; see http://127.0.0.1/docs, or use --outputs-dir")
    'the disk of outputs is full; see http://127.0.0.1/docs, or use --outputs-dir'
    >>> without_folders(r"C:\\Users\\ada\\data cannot be read")
    'data cannot be read'
    """
    for place in _PLACES:
        text = text.replace(place, "")
    return _FOLDERS.sub(lambda match: match[1] or match[2], text)

"""Each caller's own options, on top of A1111's defaults: reading what is set, keeping it, and what it means for a call.

There, options are one global dictionary with paths and code in it, which any caller may write; that was its worst hole.  Here
a value belongs to the user who set it, touches no setting of the server, and a name that A1111 has not either is refused.
`option_table` lists them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from modules.api.a1111.option_calls import Call
from modules.api.a1111.option_table import (
    CHECKPOINT,
    CHECKPOINT_HASH,
    EXPLANATIONS,
    KEPT,
    OPTIONS,
    SERVER,
    UNBUILT,
)
from modules.errors import OutputError, RequestError
from modules.request import Img2Img, Txt2Img

__all__ = ["CHECKPOINT", "CHECKPOINT_HASH", "OPTIONS", "Chosen", "OwnOptions", "option_fields", "option_notes", "read_options"]

log = logging.getLogger("atelier")

MAX_USERS = 2_000
"""Users whose options are kept; who set theirs longest ago goes first."""

_HASH = re.compile(r"[0-9a-f]*")

_SERVERS = re.compile(
    r"(outdir|directories|notification|temp_|clean_temp|filename|grid_zip|font|api_|ui_|localization|gradio).*|.*(_dir|_path|_paths|_folder|_pattern|_file)"
)
"""Names of options of the server, extensions' too: files, folders, and how it is run."""


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `given` sets, checked; null sets nothing, nor do the server's options at A1111's defaults.

    The checkpoint's hash is a fact, and passed over: clients send all options back that they were sent.

    Raises:
        HTTPException: 403, an option of the server's files and ways, which nobody sets over the API.
        RequestError: there is no such option here, or not with that value.
    """
    read: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or name in EXPLANATIONS or (name in SERVER and value == SERVER[name]):
            continue
        if name == CHECKPOINT_HASH and isinstance(value, str) and _HASH.fullmatch(value):
            continue
        option = OPTIONS.get(name)
        if option is None:
            shown = name[:80]
            if name == CHECKPOINT_HASH or name in SERVER or _SERVERS.fullmatch(name):
                raise HTTPException(403, f"option {shown!r} belongs to the server and cannot be set over the API")
            raise RequestError(f"option {shown!r} is not known here; GET /sdapi/v1/options lists those that are")
        try:
            read[name] = option.read(value)
        except ValueError as error:
            given_text = repr(value)[:60]
            raise RequestError(f"option {name}: {error}; {given_text} was given") from None
    return read


def option_notes(values: Mapping[str, Any], overridden: Iterable[str], call: Call) -> list[str]:
    """What is to be said of options that are not built: sentences for the answer's `info`.

    Args:
        values: the options that hold for the call and are set.
        overridden: names of those that the call itself sets.
        call: that they hold for.

    Raises:
        RequestError: one of them would change the picture.
    """
    notes = []
    for name, value in values.items():
        option = UNBUILT.get(name)
        unbuilt = option.unbuilt if option else None
        if option is None or unbuilt is None or value == option.default or value in unbuilt.same or not unbuilt.matters(call):
            continue
        if not unbuilt.noted:
            raise RequestError(
                f"option {name}: {unbuilt.what}, and {value!r} is set; "
                f"send {option.default!r} in override_settings or to /sdapi/v1/options"
            )
        notes.append(f"option {name}: {unbuilt.what}")
    idle = [name for name in overridden if name in KEPT and values[name] != KEPT[name].default]
    if idle:
        notes.append(f"options without effect on a picture here: {', '.join(idle)}")
    return notes


def option_fields(values: Mapping[str, Any], image: bool) -> dict[str, Any]:
    """The request's fields that these options set away from their defaults; `image` for a picture from a picture."""
    known = (Img2Img if image else Txt2Img).model_fields
    return {
        option.field: option.meaning(values[name])
        for name, option in OPTIONS.items()
        if option.field in known and name in values
    }


class Chosen(dict[str, Any]):
    """Options that were set; of the others, `[]` gives the default, while `in` and `get` say that they were not."""

    def __missing__(self, name: str) -> Any:
        return OPTIONS[name].default


class OwnOptions:
    """Each user's options, in one JSON file that is replaced whole.  Any thread may call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._users: dict[str, dict[str, Any]] | None = None

    def of(self, user: str) -> Chosen:
        """What this user has set."""
        with self._lock:
            return Chosen(self._all().get(user, {}))

    def set(self, user: str, values: Mapping[str, Any]) -> None:
        """Add to what this user has set.  On disk when it returns.

        Raises:
            OutputError: it cannot be written; nothing has changed.
        """
        if not values:
            return
        with self._lock:
            users = dict(self._all())
            mine = {**users.pop(user, {}), **values}
            users[user] = {name: value for name, value in mine.items() if value != OPTIONS[name].default}
            users = dict(list(users.items())[-MAX_USERS:])
            self._write(users)
            self._users = users

    def _all(self) -> dict[str, dict[str, Any]]:
        if self._users is None:
            self._users = self._read()
        return self._users

    def _read(self) -> dict[str, dict[str, Any]]:
        """What the file says and this version understands; a damaged file is set aside."""
        try:
            said = json.loads(self._path.read_bytes())
            if not isinstance(said, dict):
                raise ValueError("it is no object")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            log.warning("the options of the API's users cannot be read (%s); they begin anew", error)
            with suppress(OSError):
                os.replace(self._path, self._path.with_name(self._path.name + ".bad"))
            return {}
        return {str(user): _understood(values) for user, values in said.items() if isinstance(values, dict)}

    def _write(self, users: dict[str, dict[str, Any]]) -> None:
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8") as file:
                json.dump(users, file, indent=0)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._path)
        except OSError as error:
            raise OutputError(f"the options could not be kept: {error.strerror or error}") from None


def _understood(values: dict[str, Any]) -> dict[str, Any]:
    understood: dict[str, Any] = {}
    for name, value in values.items():
        with suppress(RequestError, HTTPException):
            understood |= read_options({name: value})
    return understood

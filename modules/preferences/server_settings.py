"""The server's settings while it runs: what each is and comes from, and changing those that may be changed from the page.

A change goes into the settings file, so that the next start has it; some take effect at once, the others say that they need a
start.  Where files lie and who may reach the server is never set over HTTP: whoever takes over an administrator's session would
get the machine with it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from modules.errors import RequestError, SettingsError, without_folders
from modules.preferences.settings_file import change_file
from modules.settings import BY_NAME, FILE_NAME, TABLE, OneOf, Setting, Settings, check_workers, read_file

GROUPS: dict[str, tuple[str, ...]] = {
    "Saving pictures": ("output_format", "output_quality", "output_name", "output_folder", "keep_sources", "trash_days"),
    "Queue": ("jobs_per_user", "jobs_in_total", "history"),
    "Computing": ("device", "workers", "dtype", "attention", "accelerator", "model_memory", "weights_storage", "exact"),
    "Start": ("browser", "hide_tab", "extensions", "safe_mode"),
    "Folders": ("data_dir", "models_dir", "outputs_dir", "extensions_dir"),
    "Network": (
        *("host", "port", "listen", "require_token", "allowed_host", "trusted_proxy", "cors_origin"),
        *("tls_cert", "tls_key", "tls_self_signed"),
    ),
}
"""All settings, in the order of the page."""

LIVE = frozenset((*GROUPS["Saving pictures"], *GROUPS["Queue"]))
"""What takes effect at once."""

FURTHER = "Further"
"""Of a setting that `GROUPS` does not name: it is shown and not set over HTTP."""

LOCKED = {"Folders": "where files lie", "Network": "who may reach the server", FURTHER: "how the server runs"}

_NAMED = {name: group for group, names in GROUPS.items() for name in names}
GROUP_OF = {**_NAMED, **{setting.name: FURTHER for setting in TABLE if setting.name not in _NAMED}}

Kind = Literal["switch", "choice", "number", "text", "list"]


@dataclass(frozen=True)
class Row:
    """One setting for the page.

    `source` is where the value comes from: default, file, environment or command line; `given_by` the flag, variable or file by
    name.  `locked` says why it cannot be changed here, "" where it can.  `pending` is the value that the next start will have,
    where that is another one.
    """

    name: str
    group: str
    help: str
    kind: Kind
    choices: tuple[str, ...]
    value: Any
    default: Any
    source: str
    given_by: str
    locked: str
    live: bool
    has_pending: bool = False
    pending: Any = None


class ServerSettings:
    """Any thread may call.

    Args:
        settings: those in force.
        apply: called with other settings when one of `LIVE` changed; must not raise.
    """

    def __init__(self, settings: Settings, apply: Callable[[Settings], None]) -> None:
        self.settings, self._apply = settings, apply
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        return self.settings.file or self.settings.data_dir / FILE_NAME

    def rows(self) -> tuple[list[Row], str]:
        """All settings in the order of `GROUPS`, and what is wrong with the settings file, "" when nothing is."""
        with self._lock:
            in_file, problem = self._in_file()
            return [self._row(BY_NAME[name], in_file, problem) for name in GROUP_OF], problem

    def set(self, name: str, value: Any) -> None:
        """Write `value` to the settings file, and have it take effect where that is possible now.

        Raises:
            RequestError: there is no such setting, it cannot be changed here, or not to this value.
            SettingsError: the file is damaged.
            OutputError: it cannot be written; nothing has changed.
        """
        self._change(name, value)

    def reset(self, name: str) -> None:
        """Take the setting out of the file, so that it has its default.  Raises as `set`."""
        self._change(name, None)

    # ---- inside

    def _change(self, name: str, value: Any) -> None:
        with self._lock:
            setting = BY_NAME.get(name)
            if setting is None:
                raise RequestError(f"there is no setting {name[:60]!r}")
            if why := self._locked(setting):
                raise RequestError(f"{name}: {why}")
            changed, kept = self._value(setting, value)
            try:
                check_workers(replace(self.settings, **{setting.field: changed}))
            except SettingsError as error:
                raise RequestError(f"{name}: {error}") from None
            change_file(self.path, name, kept)
            if name in LIVE:
                sources = {key: source for key, source in self.settings.sources.items() if key != setting.field}
                if kept is not None:
                    sources[setting.field] = str(self.path)
                self.settings = replace(self.settings, **{setting.field: changed}, sources=sources)
                self._apply(self.settings)

    def _value(self, setting: Setting, value: Any) -> tuple[Any, bool | int | str | None]:
        """The value, and what stands in the file for it."""
        if value is None:
            return getattr(Settings(), setting.field), None
        try:
            read = setting.read(value, self.path.parent)
        except ValueError as error:
            raise RequestError(f"{setting.name}: it must be {error}") from None
        return read, read if isinstance(read, (bool, int, str)) else str(read)

    def _in_file(self) -> tuple[dict[str, Any], str]:
        try:
            return read_file(self.path, required=False), ""
        except SettingsError as error:
            return {}, str(error)

    def _source(self, setting: Setting) -> str:
        given_by = self.settings.source(setting.field)
        if given_by.startswith("--"):
            return "command line"
        return "environment" if given_by.startswith("$") else "default" if given_by == "default" else "file"

    def _locked(self, setting: Setting) -> str:
        source, given_by = self._source(setting), self.settings.source(setting.field)
        if what := LOCKED.get(GROUP_OF[setting.name]):
            return f"it decides {what}, which is set in the file, by {setting.variable} or by {setting.flag} only"
        if source in ("command line", "environment"):
            return f"{given_by} decides it; start without that to set it here"
        return ""

    def _row(self, setting: Setting, in_file: dict[str, Any], problem: str) -> Row:
        value, default = getattr(self.settings, setting.field), getattr(Settings(), setting.field)
        source, locked = self._source(setting), self._locked(setting)
        coming = value
        if not problem and source in ("default", "file"):
            coming = default
            if setting.name in in_file:
                try:
                    coming = setting.read(in_file[setting.name], self.path.parent)
                except ValueError:
                    coming = in_file[setting.name]  # the next start says what is wrong with it
        return Row(
            name=setting.name,
            group=GROUP_OF[setting.name],
            help=setting.help,
            kind=_kind(setting, default),
            choices=setting.read.choices if isinstance(setting.read, OneOf) else (),
            value=_json(value),
            default=_json(default),
            source=source,
            given_by="" if source == "default" else without_folders(self.settings.source(setting.field)),
            locked=locked or ("the settings file is damaged" if problem else ""),
            live=setting.name in LIVE,
            has_pending=coming != value,
            pending=_json(coming) if coming != value else None,
        )


def _kind(setting: Setting, default: Any) -> Kind:
    if setting.is_switch:
        return "switch"
    if isinstance(setting.read, OneOf):
        return "choice"
    return "list" if isinstance(default, tuple) else "number" if isinstance(default, int) else "text"


def _json(value: Any) -> Any:
    """A value as answers have it: of a folder its name alone, as no answer says where files lie."""
    if isinstance(value, (tuple, list)):
        return [_json(each) for each in value]
    if isinstance(value, Path):
        return value.name
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)

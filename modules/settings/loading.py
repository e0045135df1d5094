"""Where the value of a setting comes from: default, file, environment, command line."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modules.errors import SettingsError
from modules.settings.settings import Settings
from modules.settings.table import BY_NAME, PREFIX, TABLE, Setting

FILE_VARIABLE = PREFIX + "SETTINGS"
"""Names the settings file, as --settings does."""


FILE_NAME = "settings.toml"
"""Looked for in the data folder when no file is named."""


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: str | None = None,
) -> Settings:
    """The settings of this run.

    Args:
        flags: setting name -> value from the command line; None means "not given".
        environment: os.environ unless given.
        file: what --settings names.

    Raises:
        SettingsError: one line: which setting, what was given, where, what is allowed.
    """
    environment = os.environ if environment is None else environment
    here = Path.cwd()
    given = {name: (value, here, _shown(name)) for name, value in (flags or {}).items() if value is not None}
    set_there = {
        setting.name: (environment[setting.variable], here, f"${setting.variable}")
        for setting in TABLE
        if environment.get(setting.variable)
    }
    nearest = {**set_there, **given}

    # The file lies in the data folder, so that folder is settled first; a file may still move it for the rest.
    named = file or environment.get(FILE_VARIABLE) or ""
    folder = _value(BY_NAME["data_dir"], *nearest["data_dir"]) if "data_dir" in nearest else Settings.data_dir
    path = here / Path(named).expanduser() if named else folder / FILE_NAME
    in_file = {name: (value, path.parent, str(path)) for name, value in read_file(path, required=bool(named)).items()}

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (value, base, source) in {**in_file, **nearest}.items():
        setting = BY_NAME[name]
        values[setting.field] = _value(setting, value, base, source)
        sources[setting.field] = source
    settings = Settings(**values, sources=sources, file=path)
    check_workers(settings)
    return settings


def check_workers(settings: Settings) -> None:
    """Raises SettingsError when several workers are asked for on one named CUDA device."""
    if settings.workers > 1 and settings.device.startswith("cuda:"):
        raise SettingsError(
            f"{settings.source('workers')}: {settings.workers} workers need a CUDA device each, and device {settings.device} "
            "is one; use --device cuda, and CUDA_VISIBLE_DEVICES to choose among the devices, or --workers 1"
        )


def read_file(path: Path, required: bool = True) -> dict[str, Any]:
    """What a settings file says, by setting name; empty when there is none and none is `required`.

    Raises:
        SettingsError: it cannot be read, is not TOML, or has a key that is no setting.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # a dependency there, so not at hand before the set-up, which reads flags but no files
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise SettingsError(f"settings file {path} does not exist") from None
        return {}
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is not valid TOML: {error}") from None
    for key in content:
        if key not in BY_NAME:
            raise SettingsError(f"settings file {path}: unknown setting {key!r}{_near(key, BY_NAME)}")
    return content


def unknown_variables(environment: Mapping[str, str] | None = None) -> list[str]:
    """A sentence for each ATELIER_ variable that sets nothing: most likely a slip of the pen."""
    environment = os.environ if environment is None else environment
    known = [*(setting.variable for setting in TABLE), FILE_VARIABLE]
    strays = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [f"environment variable {name} is no setting of ours{_near(name, known)}" for name in strays]


def _value(setting: Setting, value: Any, base: Path, source: str) -> Any:
    try:
        return setting.read(value, base)
    except ValueError as error:
        raise SettingsError(f"{source}: {setting.name} {_brief(value)} cannot be used; it must be {error}") from None


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _shown(name: str) -> str:
    return BY_NAME[name].flag


def _near(name: str, known: Iterable[str]) -> str:
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(choices)}"

"""A1111's options, as far as a caller may set them: a typed list of names, and each user's own values on top of the defaults.

There, options are one global dictionary with paths and code in it, which any caller may write; that was its worst hole.  Here
a value belongs to whoever set it, touches no setting of the server, and a name that is not in `OPTIONS` is refused.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from starlette.exceptions import HTTPException

from modules.errors import OutputError, RequestError
from modules.request import MAX_SEED, Emphasis

log = logging.getLogger("atelier")

MAX_USERS = 2_000
"""Users whose options are kept; who set theirs longest ago goes first."""

CHECKPOINT = "sd_model_checkpoint"
CHECKPOINT_HASH = "sd_checkpoint_hash"

_HASH = re.compile(r"[0-9a-f]*")

Read = Callable[[Any], Any]


def _choice(*choices: Any) -> Read:
    def read(value: Any) -> Any:
        if isinstance(value, bool) is not any(isinstance(choice, bool) for choice in choices) or value not in choices:
            raise ValueError(f"must be {' or '.join(map(repr, choices))}")
        return value

    return read


def _whole(low: int, high: int) -> Read:
    def read(value: Any) -> int:
        number = _real(low, high)(value)
        if number != int(number):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(number)

    return read


def _real(low: float, high: float) -> Read:
    def read(value: Any) -> float:
        with suppress(ValueError, OverflowError):
            if isinstance(value, int | float | str) and not isinstance(value, bool) and len(str(value)) <= 40:
                number = float(value)
                if math.isfinite(number) and low <= number <= high:
                    return number
        raise ValueError(f"must be a number from {low} to {high}")

    return read


def _switch(value: Any) -> bool:
    if value not in (True, False, 0, 1):
        raise ValueError("must be true or false")
    return bool(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1_000:
        raise ValueError("must be a name")
    return value


@dataclass(frozen=True)
class Option:
    """`field` is the request's field that it sets, "" for none; `meaning` turns its value into the field's."""

    default: Any
    read: Read
    field: str = ""
    meaning: Callable[[Any], Any] = lambda value: value


ZERO_SNR = "Zero Terminal SNR"

OPTIONS: dict[str, Option] = {
    CHECKPOINT: Option("", _name),
    "sd_vae": Option("Automatic", _choice("Automatic", "None")),
    "CLIP_stop_at_last_layers": Option(1, _whole(1, 12), "clip_skip"),
    "samples_format": Option("png", _choice("png", "jpg", "jpeg", "webp", "avif")),
    "jpeg_quality": Option(80, _whole(1, 100)),
    "webp_lossless": Option(False, _switch),
    "return_grid": Option(True, _switch),
    "enable_pnginfo": Option(True, _switch, "private", lambda value: not value),
    "emphasis": Option("Original", _choice(*get_args(Emphasis)), "emphasis"),
    "enable_prompt_comments": Option(True, _switch, "comments"),
    "use_old_scheduling": Option(False, _switch, "old_prompt_editing"),
    "randn_source": Option("CPU", _choice("CPU", "GPU", "NV"), "rng"),
    "eta_noise_seed_delta": Option(0, _whole(0, MAX_SEED), "ensd"),
    "eta_ancestral": Option(1.0, _real(0, 1)),
    "eta_ddim": Option(0.0, _real(0, 1)),
    "s_churn": Option(0.0, _real(0, 100), "s_churn"),
    "s_tmin": Option(0.0, _real(0, 1000), "s_tmin"),
    "s_tmax": Option(0.0, _real(0, 1000), "s_tmax"),
    "s_noise": Option(1.0, _real(0, 2), "s_noise"),
    "sigma_min": Option(0.0, _real(0, 100), "sigma_min"),
    "sigma_max": Option(0.0, _real(0, 10_000), "sigma_max"),
    "rho": Option(0.0, _real(0, 100), "rho"),
    "beta_dist_alpha": Option(0.6, _real(0.01, 10), "beta_alpha"),
    "beta_dist_beta": Option(0.6, _real(0.01, 10), "beta_beta"),
    "sd_noise_schedule": Option("Default", _choice("Default", ZERO_SNR), "zero_snr", lambda value: value == ZERO_SNR),
    "sgm_noise_multiplier": Option(False, _switch, "sgm_noise_multiplier"),
    "always_discard_next_to_last_sigma": Option(False, _switch, "discard_penultimate"),
    "skip_early_cond": Option(0.0, _real(0, 1), "skip_early_cfg"),
    "s_min_uncond": Option(0.0, _real(0, 15), "ngms"),
    "s_min_uncond_all": Option(False, _switch, "ngms_all_steps"),
    "img2img_fix_steps": Option(False, _switch, "fix_steps"),
    "img2img_color_correction": Option(False, _switch, "color_correction"),
    "initial_noise_multiplier": Option(1.0, _real(0, 1.5), "noise_multiplier"),
    "img2img_extra_noise": Option(0.0, _real(0, 1), "extra_noise"),
    "inpainting_mask_weight": Option(1.0, _real(0, 1), "conditioning_mask_strength"),
    # What this program does in one way only; a client that asks for that very way is right.
    "samples_save": Option(True, _choice(True)),
    "grid_save": Option(False, _choice(False)),
    "live_previews_enable": Option(True, _choice(True)),
    "sd_hypernetwork": Option("None", _choice("None", "")),
    "sd_lora": Option("None", _choice("None", "")),
}
"""What may be set, by A1111's names."""

IMAGE_FIELDS = ("fix_steps", "color_correction", "noise_multiplier", "extra_noise", "conditioning_mask_strength")
"""Fields that only a picture from a picture has."""

_SERVERS = re.compile(
    r"(outdir|directories|notification|temp_|clean_temp|filename|grid_zip|font|api_|ui_|localization|gradio).*|.*(_dir|_path|_paths|_folder|_pattern|_file)"
)
"""Options of the server: files, folders, and how it is run."""


def read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `given` sets, checked; null sets nothing.

    The checkpoint's hash is a fact, and passed over: clients send all options back that they were told.

    Raises:
        HTTPException: 403, an option of the server's files and ways, which nobody sets over the API.
        RequestError: there is no such option here, or not with that value.
    """
    read: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or (name == CHECKPOINT_HASH and isinstance(value, str) and _HASH.fullmatch(value)):
            continue
        option = OPTIONS.get(name)
        if option is None:
            shown = name[:80]
            if name == CHECKPOINT_HASH or _SERVERS.fullmatch(name):
                raise HTTPException(403, f"option {shown!r} belongs to the server and cannot be set over the API")
            raise RequestError(f"option {shown!r} is not known here; GET /sdapi/v1/options lists those that are")
        try:
            read[name] = option.read(value)
        except ValueError as error:
            given_text = repr(value)[:60]
            raise RequestError(f"option {name}: {error}; {given_text} was given") from None
    return read


def option_fields(values: Mapping[str, Any], image: bool) -> dict[str, Any]:
    """The request's fields that these options set away from their defaults; `image` for a picture from a picture."""
    return {
        option.field: option.meaning(values[name])
        for name, option in OPTIONS.items()
        if option.field and name in values and (image or option.field not in IMAGE_FIELDS)
    }


class Chosen(dict[str, Any]):
    """Options that were set; of the others, `[]` tells the default, while `in` and `get` say that they were not."""

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

"""What a person may set, in one table, and where a value comes from: defaults < file < environment < command line.

The flags, the environment's names, the help texts, the checks and the table in the README all come from `TABLE`.  This file
knows no devices: "auto" stays "auto" here, and `modules.engine.setup` decides with a reason what that means on this machine.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.errors import SettingsError
from modules.naming import DEFAULT_FOLDER, DEFAULT_NAME, Pattern, folder_pattern, name_pattern

ROOT = Path(__file__).resolve().parents[1]
"""The project's folder."""

PREFIX = "ATELIER_"
FILE_VARIABLE = PREFIX + "SETTINGS"
"""Names the settings file, as --settings does."""

MAX_WORKERS = 64
"""Engine processes of one server."""

FILE_NAME = "settings.toml"
"""Looked for in the data folder when no file is named."""


@dataclass(frozen=True)
class Settings:
    """All settings of one run.  Paths are absolute; `models_dirs` always ends with the project's own models folder.

    `sources` says where each value came from, in words: "default", the file's path, "$ATELIER_PORT" or "--port".  `file` is
    the settings file, whether it is there or not.
    """

    data_dir: Path = ROOT / "data"
    models_dirs: tuple[Path, ...] = (ROOT / "models",)
    outputs_dir: Path = ROOT / "outputs"
    extensions_dir: Path = ROOT / "extensions"
    extensions: bool = True
    safe_mode: bool = False
    hidden_tabs: tuple[str, ...] = ()
    device: str = "auto"
    workers: int = 1
    dtype: str = "auto"
    attention: str = "auto"
    accelerator: str = "auto"
    model_memory: int = 0
    weights_storage: str = "auto"
    exact: bool = False
    browser: bool = True
    host: str = "127.0.0.1"
    port: int = 7860
    listen: bool = False
    require_token: bool = False
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_self_signed: bool = False
    jobs_per_user: int = 50
    jobs_in_total: int = 200
    history: int = 1000
    output_format: str = "png"
    output_quality: int = 90
    output_name: str = DEFAULT_NAME
    output_folder: str = DEFAULT_FOLDER
    keep_sources: bool = True
    trash_days: int = 30
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    file: Path | None = field(default=None, compare=False, repr=False)

    def source(self, name: str) -> str:
        return self.sources.get(name, "default")

    @property
    def extensions_off(self) -> str:
        """The flag by which no extension is loaded, "" where they are."""
        return "--safe-mode" if self.safe_mode else "" if self.extensions else "--no-extensions"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where to listen.  Of several, the later ones are IPv6's, which not every machine has."""
        if self.listen:
            return "0.0.0.0", "::"
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host,)

    @property
    def loopback_only(self) -> bool:
        """Whether no other machine can reach the port."""
        return not self.listen and (self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback)

    @property
    def needs_accounts(self) -> bool:
        """Whether accounts are needed: other machines can connect, directly or through a proxy, or it was asked for."""
        return self.require_token or bool(self.trusted_proxies) or not self.loopback_only

    @property
    def tls(self) -> bool:
        return self.tls_self_signed or self.tls_cert is not None


@dataclass(frozen=True)
class Setting:
    """One line of the table.

    `name` is the key in the settings file; `attribute` is the field of `Settings`.  `read` turns what was given (text from flag
    and environment, a TOML value from a file) into the value, or raises ValueError with the rest of "NAME must be …".
    """

    name: str
    read: Callable[[Any, Path], Any]
    help: str
    default: str
    metavar: str = ""
    attribute: str = ""
    repeatable: bool = False

    @property
    def field(self) -> str:
        return self.attribute or self.name

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        return not self.metavar

    @property
    def flag(self) -> str:
        """As it is shown to people: switches show the form that changes the default."""
        dashed = self.name.replace("_", "-")
        return f"--no-{dashed}" if self.is_switch and self.default == "true" else f"--{dashed}"


# ---- readers: (value, folder that relative paths start from) -> value


def _folder(value: Any, base: Path) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a folder")
    return Path(os.path.normpath(base / Path(value).expanduser()))


def _folders(value: Any, base: Path) -> tuple[Path, ...]:
    """Folders, and last the project's own, so that the starter checkpoint is always at hand."""
    if isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part]
    if not isinstance(value, list):
        raise ValueError("a folder or a list of folders")
    return tuple(dict.fromkeys([*(_folder(part, base) for part in value), ROOT / "models"]))


@dataclass(frozen=True)
class OneOf:
    """Reads one of several words."""

    choices: tuple[str, ...]

    def __call__(self, value: Any, _: Path) -> str:
        if value not in self.choices:
            raise ValueError(f"one of {', '.join(self.choices)}")
        return str(value)


def _one_of(*choices: str) -> OneOf:
    return OneOf(choices)


def _device(value: Any, _: Path) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("auto, cpu, cuda or cuda:N")
    return value


def _count(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ValueError("a whole number from 1 to 999999")
    return int(text)


def _whole(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError("a whole number from 0 to 999999")
    return int(text)


def _workers(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def _percent(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise ValueError("a whole number from 1 to 100")
    return int(text)


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _switch(value: Any, _: Path) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ValueError("true or false")


def _port(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("a number from 0 to 65535 (0 takes any free port)")
    return int(text)


def _host(value: Any, _: Path) -> str:
    if value == "localhost":
        return "localhost"
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("an IP address of this machine such as 127.0.0.1, or localhost") from None
    return str(value)


def _file(value: Any, base: Path) -> Path:
    try:
        return _folder(value, base)
    except ValueError:
        raise ValueError("a file") from None


def _each(read: Callable[[str], str], what: str) -> Callable[[Any, Path], tuple[str, ...]]:
    """Several values: a list, or a text with commas between them."""

    def read_all(value: Any, _: Path) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise ValueError(what)
        try:
            return tuple(dict.fromkeys(read(part.strip()) for item in parts for part in item.split(",")))
        except (AttributeError, ValueError):
            raise ValueError(what) from None

    return read_all


def _pattern(parse: Callable[[str], Pattern]) -> Callable[[Any, Path], str]:
    def read(value: Any, _: Path) -> str:
        if not isinstance(value, str):
            raise ValueError("a pattern such as [seed]")
        parse(value)
        return value

    return read


def _host_name(text: str) -> str:
    if re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,253}", text):
        return text.lower()
    return str(ipaddress.IPv6Address(text.strip("[]")))


def _tab(text: str) -> str:
    if text == "txt2img" or not re.fullmatch("[a-z][a-z0-9_]*", text):
        raise ValueError
    return text


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def _origin(text: str) -> str:
    """As browsers write it, so that it can be compared as text."""
    match = re.fullmatch(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", text)
    if match is None:
        raise ValueError
    default = {"http": ":80", "https": ":443"}[match[1]]
    return text.lower().removesuffix(default)


TABLE: tuple[Setting, ...] = (
    Setting("data_dir", _folder, "where queue, logs and caches live", "data", "DIR"),
    Setting(
        "models_dir",
        _folders,
        "a folder with checkpoints, searched with its sub-folders; may be given several times; "
        "the project's own models folder is always searched too",
        "models",
        "DIR",
        attribute="models_dirs",
        repeatable=True,
    ),
    Setting("outputs_dir", _folder, "where pictures are saved, in a folder per day", "outputs", "DIR"),
    Setting(
        "extensions_dir",
        _folder,
        "where extensions lie, a folder each; those that come with the program are always found",
        "extensions",
        "DIR",
    ),
    Setting("extensions", _switch, "load the extensions that are switched on", "true"),
    Setting(
        "safe_mode",
        _switch,
        "start without extensions and accelerators, to find out what keeps the program from starting; changes nothing",
        "false",
    ),
    Setting(
        "hide_tab",
        _each(_tab, "the name of a tab other than txt2img, such as img2img, models or settings"),
        "a tab that the page is built without, by the name in its address (inpaint in #inpaint); it opens the sooner; may be "
        "given several times",
        "",
        "NAME",
        attribute="hidden_tabs",
        repeatable=True,
    ),
    Setting("device", _device, "what computes: auto, cpu, cuda or cuda:N", "auto", "DEVICE"),
    Setting(
        "workers",
        _workers,
        "engine processes that generate at the same time: with CUDA one on each device, else they divide the processor's cores",
        "1",
        "N",
    ),
    Setting(
        "dtype",
        _one_of("auto", "float32", "float16", "bfloat16"),
        "number format of the networks: auto, float32, float16 or bfloat16",
        "auto",
        "DTYPE",
    ),
    Setting(
        "attention",
        _one_of("auto", "xformers", "sdpa", "sliced"),
        "how attention is computed: auto, xformers (NVIDIA only), sdpa (torch) or sliced (least memory)",
        "auto",
        "NAME",
    ),
    Setting(
        "accelerator",
        _one_of("auto", "none", "graphs", "compile", "openvino"),
        "what evaluates the network: auto, none (torch's kernels one by one), graphs (CUDA), compile or openvino (CPU)",
        "auto",
        "NAME",
    ),
    Setting(
        "model_memory",
        _whole,
        "GB of memory in which models stay loaded, the least recently used going first; 0 is half of a GPU's, else one model",
        "0",
        "GB",
    ),
    Setting(
        "weights_storage",
        _one_of("auto", "full", "fp8"),
        "how a denoiser's weights are kept: full, fp8 (8 bits, half the memory, brought to the computing format when used), or "
        "auto (fp8 where a GPU cannot hold them otherwise); weights quantised in files stay so unless it is full",
        "auto",
        "NAME",
    ),
    Setting("exact", _switch, "run every picture alone, so that it repeats bit for bit whatever else is running", "false"),
    Setting("browser", _switch, "open the page in a browser when it is ready", "true"),
    Setting(
        "host", _host, "address of this machine to serve at; one that others can reach needs accounts", "127.0.0.1", "ADDRESS"
    ),
    Setting("port", _port, "port to serve at; 0 takes any free one", "7860", "PORT"),
    Setting("listen", _switch, "let other machines in: serve at all addresses, to those who have an account", "false"),
    Setting("require_token", _switch, "ask for an account or an API token on this machine too", "false"),
    Setting(
        "allowed_host",
        _each(_host_name, "a host name or an address without a port"),
        "a further name or address under which browsers reach this server; may be given several times",
        "",
        "NAME",
        attribute="allowed_hosts",
        repeatable=True,
    ),
    Setting(
        "trusted_proxy",
        _each(_network, "an IP address or a network such as 10.0.0.0/8"),
        "address or network of a reverse proxy whose X-Forwarded-For and -Proto are believed; may be given several times",
        "",
        "ADDRESS",
        attribute="trusted_proxies",
        repeatable=True,
    ),
    Setting(
        "cors_origin",
        _each(_origin, "an origin such as https://example.org or http://127.0.0.1:8000, with nothing behind it"),
        "origin of another site's page that may call the API; may be given several times",
        "",
        "ORIGIN",
        attribute="cors_origins",
        repeatable=True,
    ),
    Setting("tls_cert", _file, "certificate (PEM, with its chain) to serve https with; needs the key too", "", "FILE"),
    Setting("tls_key", _file, "private key (PEM, not encrypted) of the certificate", "", "FILE"),
    Setting("tls_self_signed", _switch, "serve https with a certificate made here; its fingerprint is printed", "false"),
    Setting("jobs_per_user", _count, "jobs that one user may have in the queue", "50", "N"),
    Setting("jobs_in_total", _count, "jobs that may be in the queue altogether", "200", "N"),
    Setting("history", _count, "finished jobs that are remembered; pictures stay on disk whatever this says", "1000", "N"),
    Setting("output_format", _one_of("png", "jpeg", "webp", "avif"), "format that pictures are saved in", "png", "NAME"),
    Setting("output_quality", _percent, "quality of JPEG, WebP and AVIF, 1 to 100; a WebP of 100 is lossless", "90", "N"),
    Setting(
        "output_name",
        _pattern(name_pattern),
        "how picture files are called, with A1111's tags as in [seed]-[prompt_spaces]; [counter] before them is its running "
        "number; a name that is taken gets the job's id and the picture's number behind it",
        DEFAULT_NAME,
        "PATTERN",
    ),
    Setting(
        "output_folder",
        _pattern(folder_pattern),
        "the folder below the outputs that pictures are saved in, with the same tags, and / between folders",
        DEFAULT_FOLDER,
        "PATTERN",
    ),
    Setting(
        "keep_sources",
        _switch,
        "keep the pictures and masks that others were painted from in the folder sources of the outputs, so that those can be "
        "painted again",
        "true",
    ),
    Setting(
        "trash_days",
        _whole,
        "days after which pictures in the gallery's trash are deleted for good; 0 keeps them until it is emptied",
        "30",
        "DAYS",
    ),
)

BY_NAME = {setting.name: setting for setting in TABLE}


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

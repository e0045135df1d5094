"""The table of all settings, from which flags, variables, help texts, checks and the README's table come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.naming import DEFAULT_FOLDER, DEFAULT_NAME, folder_pattern, name_pattern
from modules.settings import readers

PREFIX = "ATELIER_"


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


TABLE: tuple[Setting, ...] = (
    Setting("data_dir", readers.folder, "where queue, logs and caches live", "data", "DIR"),
    Setting(
        "models_dir",
        readers.folders,
        "a folder with checkpoints, searched with its sub-folders; may be given several times; "
        "the project's own models folder is always searched too",
        "models",
        "DIR",
        attribute="models_dirs",
        repeatable=True,
    ),
    Setting("outputs_dir", readers.folder, "where pictures are saved, in a folder per day", "outputs", "DIR"),
    Setting(
        "extensions_dir",
        readers.folder,
        "where extensions lie, a folder each; those that come with the program are always found",
        "extensions",
        "DIR",
    ),
    Setting("extensions", readers.switch, "load the extensions that are switched on", "true"),
    Setting(
        "safe_mode",
        readers.switch,
        "start without extensions and accelerators, to find out what keeps the program from starting; changes nothing",
        "false",
    ),
    Setting(
        "hide_tab",
        readers.each(readers.tab, "the name of a tab other than txt2img, such as img2img, models or settings"),
        "a tab that the page is built without, by the name in its address (inpaint in #inpaint); it opens the sooner; may be "
        "given several times",
        "",
        "NAME",
        attribute="hidden_tabs",
        repeatable=True,
    ),
    Setting("device", readers.device, "what computes: auto, cpu, cuda or cuda:N", "auto", "DEVICE"),
    Setting(
        "workers",
        readers.workers,
        "engine processes that generate at the same time: with CUDA one on each device, else they divide the processor's cores",
        "1",
        "N",
    ),
    Setting(
        "dtype",
        readers.one_of("auto", "float32", "float16", "bfloat16"),
        "number format of the networks: auto, float32, float16 or bfloat16",
        "auto",
        "DTYPE",
    ),
    Setting(
        "attention",
        readers.one_of("auto", "xformers", "sdpa", "sliced"),
        "how attention is computed: auto, xformers (NVIDIA only), sdpa (torch) or sliced (least memory)",
        "auto",
        "NAME",
    ),
    Setting(
        "accelerator",
        readers.one_of("auto", "none", "graphs", "packed", "compile", "openvino"),
        "what evaluates the network: auto, none (torch's kernels one by one), graphs (CUDA), packed (CPU), compile or openvino "
        "(CPU)",
        "auto",
        "NAME",
    ),
    Setting(
        "model_memory",
        readers.whole,
        "GB of memory in which models stay loaded, the least recently used going first; 0 is half of a GPU's, else one model",
        "0",
        "GB",
    ),
    Setting(
        "weights_storage",
        readers.one_of("auto", "full", "fp8"),
        "how a denoiser's weights are kept: full, fp8 (8 bits, half the memory, brought to the computing format when used), or "
        "auto (fp8 where a GPU cannot hold them otherwise); weights quantised in files stay so unless it is full",
        "auto",
        "NAME",
    ),
    Setting(
        "exact", readers.switch, "run every picture alone, so that it repeats bit for bit whatever else is running", "false"
    ),
    Setting("browser", readers.switch, "open the page in a browser when it is ready", "true"),
    Setting(
        "host",
        readers.host,
        "address of this machine to serve at; one that others can reach needs accounts",
        "127.0.0.1",
        "ADDRESS",
    ),
    Setting("port", readers.port, "port to serve at; 0 takes any free one", "7860", "PORT"),
    Setting("listen", readers.switch, "let other machines in: serve at all addresses, to those who have an account", "false"),
    Setting("require_token", readers.switch, "ask for an account or an API token on this machine too", "false"),
    Setting(
        "allowed_host",
        readers.each(readers.host_name, "a host name or an address without a port"),
        "a further name or address under which browsers reach this server; may be given several times",
        "",
        "NAME",
        attribute="allowed_hosts",
        repeatable=True,
    ),
    Setting(
        "trusted_proxy",
        readers.each(readers.network, "an IP address or a network such as 10.0.0.0/8"),
        "address or network of a reverse proxy whose X-Forwarded-For and -Proto are believed; may be given several times",
        "",
        "ADDRESS",
        attribute="trusted_proxies",
        repeatable=True,
    ),
    Setting(
        "cors_origin",
        readers.each(readers.origin, "an origin such as https://example.org or http://127.0.0.1:8000, with nothing behind it"),
        "origin of another site's page that may call the API; may be given several times",
        "",
        "ORIGIN",
        attribute="cors_origins",
        repeatable=True,
    ),
    Setting("tls_cert", readers.file, "certificate (PEM, with its chain) to serve https with; needs the key too", "", "FILE"),
    Setting("tls_key", readers.file, "private key (PEM, not encrypted) of the certificate", "", "FILE"),
    Setting("tls_self_signed", readers.switch, "serve https with a certificate made here; its fingerprint is printed", "false"),
    Setting("jobs_per_user", readers.count, "jobs that one user may have in the queue", "50", "N"),
    Setting("jobs_in_total", readers.count, "jobs that may be in the queue altogether", "200", "N"),
    Setting(
        "history", readers.count, "finished jobs that are remembered; pictures stay on disk whatever this says", "1000", "N"
    ),
    Setting("output_format", readers.one_of("png", "jpeg", "webp", "avif"), "format that pictures are saved in", "png", "NAME"),
    Setting(
        "output_quality", readers.percent, "quality of JPEG, WebP and AVIF, 1 to 100; a WebP of 100 is lossless", "90", "N"
    ),
    Setting(
        "output_name",
        readers.pattern(name_pattern),
        "how picture files are called, with A1111's tags as in [seed]-[prompt_spaces]; [counter] before them is its running "
        "number; a name that is taken gets the job's id and the picture's number behind it",
        DEFAULT_NAME,
        "PATTERN",
    ),
    Setting(
        "output_folder",
        readers.pattern(folder_pattern),
        "the folder below the outputs that pictures are saved in, with the same tags, and / between folders",
        DEFAULT_FOLDER,
        "PATTERN",
    ),
    Setting(
        "keep_sources",
        readers.switch,
        "keep the pictures and masks that others were painted from in the folder sources of the outputs, so that those can be "
        "painted again",
        "true",
    ),
    Setting(
        "trash_days",
        readers.whole,
        "days after which pictures in the gallery's trash are deleted for good; 0 keeps them until it is emptied",
        "30",
        "DAYS",
    ),
)

BY_NAME = {setting.name: setting for setting in TABLE}

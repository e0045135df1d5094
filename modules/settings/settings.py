"""The settings of one run."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modules.naming import DEFAULT_FOLDER, DEFAULT_NAME

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""


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

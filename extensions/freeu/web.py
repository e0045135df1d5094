"""The web half: page, command line and both APIs know the options."""

from __future__ import annotations

from modules.hooks import hookimpl
from modules.request import RequestExtension

from .options import OPTIONS


class Plugin:
    @hookimpl
    def request_extensions(self) -> list[RequestExtension]:
        return [OPTIONS]

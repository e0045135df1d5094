"""The service of extensions without folders: what lies here is what a test puts there; plugins are really registered."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from modules.errors import ExtensionError
from modules.extensions.manifest import Manifest
from modules.extensions.service import ExtensionView, Need, Proposal
from modules.hooks import HOOKS

GLOW = ExtensionView(
    name="glow", title="Glow", version="1.0.0", description="Light where there was none.", state="off", reason="",
    halves=("web", "engine"), source="folder", needs=(), needs_restart=False, hooks=("request_extensions",),
)  # fmt: skip
PROPOSAL = Proposal(
    token="",
    manifest=Manifest("bloom", "Bloom", "2.1.0", "Flowers in every corner.", python=("pillow>=10", "flowers>=3"), web="web"),
    address="https://example.org/someone/bloom.git",
    commit="0123abc",
    sha256="f" * 64,
    files=(("extension.toml", 312), ("web.py", 2048)),
    needs=(
        Need("pillow>=10", "met", "pillow>=10: 12.0 is installed"),
        Need("flowers>=3", "missing", "it needs the package flowers>=3, which is not installed"),
    ),
    warnings=("it adds a route",),
)


class FakeExtensions:
    """Keeps the promises of `modules.extensions.service.Extensions` that page and routes rely on."""

    def __init__(self) -> None:
        self.views: dict[str, ExtensionView] = {}
        self.plugins: dict[str, object] = {}
        self.notices: tuple[str, ...] = ()
        self.proposals: dict[str, Proposal] = {}
        self.offered: Proposal | None = PROPOSAL
        """What is found at any address; None is nothing."""
        self.asked: list[Any] = []
        self._tokens = itertools.count(1)

    def put(self, view: ExtensionView, plugin: object = None) -> None:
        self.views[view.name] = view
        if plugin is not None:
            self.plugins[view.name] = plugin
            if view.state == "on":
                HOOKS.register(plugin, view.name, version=view.version)

    def close(self) -> None:
        for name in list(self.views):
            self.disable(name)

    # ---- what is asked

    def list(self) -> list[ExtensionView]:
        return [self.views[name] for name in sorted(self.views)]

    def find(self, name: str) -> ExtensionView:
        if name not in self.views:
            raise ExtensionError(f"there is no extension {name[:40]!r} here; here are: {', '.join(self.views) or 'none'}")
        return self.views[name]

    def enable(self, name: str) -> ExtensionView:
        view = self.find(name)
        if view.state == "refused":
            raise ExtensionError(f"{view.title} cannot be switched on: {view.reason}")
        if view.state != "on" and name in self.plugins:
            HOOKS.register(self.plugins[name], name, version=view.version)
        return self._put(replace(view, state="on", reason=""))

    def disable(self, name: str) -> ExtensionView:
        view = self.find(name)
        if view.state == "on" and name in self.plugins:
            HOOKS.unregister(name)
        return self._put(replace(view, state="off") if view.state == "on" else view)

    def propose(self, address: str) -> Proposal:
        self.asked.append(address)
        if self.offered is None:
            raise ExtensionError(f"{address[:80]} is no git repository that can be reached; check the address")
        return self._propose(replace(self.offered, address=address))

    def propose_zip(self, data: bytes) -> Proposal:
        self.asked.append(data)
        if not data.startswith(b"PK"):
            raise ExtensionError("the file is no zip")
        return self._propose(replace(PROPOSAL, address="", commit=""))

    def update(self, name: str) -> Proposal:
        changes = (("web.py", "changed"),)
        return self._propose(replace(PROPOSAL, replaces=self.find(name).version, changes=changes))

    def install(self, token: str) -> ExtensionView:
        found = self.proposals.pop(token, None)
        if found is None:
            raise ExtensionError("there is no such proposal (any more); fetch it again")
        manifest = found.manifest
        return self._put(
            ExtensionView(
                name=manifest.name, title=manifest.title, version=manifest.version, description=manifest.description,
                state="off", reason="", halves=manifest.halves, source=found.address or "folder", needs=manifest.python,
                needs_restart=False, hooks=(),
            )
        )  # fmt: skip

    def discard(self, token: str) -> None:
        self.proposals.pop(token, None)

    def remove(self, name: str) -> None:
        self.disable(name)
        del self.views[name]

    def _put(self, view: ExtensionView) -> ExtensionView:
        self.views[view.name] = view
        return view

    def _propose(self, found: Proposal) -> Proposal:
        made = replace(found, token=f"token{next(self._tokens)}")
        self.proposals[made.token] = made
        return made

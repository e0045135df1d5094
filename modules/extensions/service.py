"""The extensions of one process and what users may do with them: what App, tab, APIs and command line ask.

The web process decides: it counts failures, its own and those that engines tell of, and says who is disabled; an engine reads
the same states when it starts (`engine.extensions`).  Nothing here raises because of what an extension does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from modules.errors import ExtensionError
from modules.extensions.discovery import Found, discover
from modules.extensions.install import Proposal, Staging
from modules.extensions.isolation import ISOLATION, Failure
from modules.extensions.loading import LOAD_SECONDS, hooks_of, load, only_web_halves, unload
from modules.extensions.packages import Need, needs_of
from modules.extensions.states import FILE_NAME, ExtensionState, States
from modules.extensions.views import ExtensionView, State

__all__ = ["Engines", "ExtensionView", "Extensions", "Need", "Proposal", "State"]

log = logging.getLogger("atelier")

AT_START = ("routes", "tabs")
"""Hooks whose entries are built into the page at the program's start, and stay until the next."""


class Engines(Protocol):
    """What extensions ask of the engines; `jobs.service.JobService` answers."""

    def restart_engines(self, why: str) -> None:
        """Start all engines anew; their jobs are kept."""

    def drop_extension(self, name: str) -> None:
        """Have all engines go on without an extension."""


class Extensions:
    """See the module.  Any thread may call.

    Args:
        folders: where extensions lie; the first is where new ones go.
        data_dir: keeps their states, and what was fetched and thrown away.
        off: why none is loaded, such as "--no-extensions"; "" where they are.
        trusting: whether an extension whose folder somebody put here is on before anybody switched it on.  Not where others
            than the machine's own user can come in.
        packages: whether packages with entry points count.
        load_seconds: that a half may take to load.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        data_dir: Path,
        off: str = "",
        trusting: bool = True,
        packages: bool = True,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        self.folders, self.off, self.trusting, self._packages = tuple(folders), off, trusting, packages
        self.states, self.staging = States(data_dir / FILE_NAME), Staging(data_dir / "extensions")
        self.engines: Engines | None = None
        """The engines, once there are some."""
        self._seconds = load_seconds
        self._changing = threading.Lock()
        """One change at a time; not held by what is called when an extension fails, which may be in the middle of one."""
        self._problems: dict[tuple[str, str], str] = {}
        """By extension and half: why it cannot be loaded."""
        self._engine_hooks: dict[str, tuple[str, ...]] = {}
        self._in_page: set[str] = set()
        """Those with routes or tabs when the page was built."""
        self._reloaded: set[str] = set()
        self._loaded: set[str] = set()
        """Those whose web half was loaded."""
        self._said: dict[str, str] = {}
        """A sentence for each extension that failed in this run."""
        self._end: Callable[[], None] = lambda: None
        self._live = False

    # ---- life of the process

    def start(self) -> None:
        """Load the web halves of all that are on; before page and routes are built."""
        self._live = True
        self._end = ISOLATION.listen(self._failed)
        if self.off:
            return
        only_web_halves()
        states = self.states.all()
        for found in self._discover().values():
            if self._is_on(found, states.get(found.name, ExtensionState())):
                self._load_web(found)
                if set(hooks_of(found.name, "web")) & set(AT_START):
                    self._in_page.add(found.name)

    def close(self) -> None:
        """Take all web halves away again."""
        self._end()
        if self._live:
            for name in {*self._discover(), *self._loaded}:
                unload(name, "web")
        self._live = False

    # ---- looking

    def list(self) -> list[ExtensionView]:
        """All extensions, by name."""
        states = self.states.all()
        return [self._view(found, states.get(found.name, ExtensionState())) for found in self._discover().values()]

    def find(self, name: str) -> ExtensionView:
        """
        Raises:
            ExtensionError: there is none of that name.
        """
        return self._view(self._found(name), self.states.get(name))

    def located(self, name: str) -> Found:
        """Where an extension lies and what its manifest says.

        Raises:
            ExtensionError: there is none of that name.
        """
        return self._found(name)

    def in_engine(self) -> tuple[Found, ...]:
        """Those whose engine half an engine that starts now is to load."""
        states = self.states.all()
        on = (one for one in self._discover().values() if self._is_on(one, states.get(one.name, ExtensionState())))
        return () if self.off else tuple(one for one in on if one.manifest is not None and one.manifest.engine)

    @property
    def notices(self) -> tuple[str, ...]:
        """A sentence for each extension that failed, was disabled, suspended or could not be loaded in this run."""
        problems = {name: f"The extension {name} is not in use: {text}." for (name, _), text in list(self._problems.items())}
        return tuple(text for _, text in sorted({**problems, **self._said}.items()))

    # ---- switching

    def enable(self, name: str) -> ExtensionView:
        """Switch an extension on; what it did before is forgotten.

        Raises:
            ExtensionError: there is none of that name, it cannot be used as it is, or extensions are off in this run.
        """
        with self._changing:
            found = self._found(name)
            if found.problem or found.manifest is None:
                raise ExtensionError(f"the extension {name} cannot be switched on: {found.problem}")
            if self.off:
                raise ExtensionError(f"extensions are off in this run ({self.off}); start without that first")
            self.states.switch(name, True)
            self._said.pop(name, None)
            self._take_in(found)
            return self.find(name)

    def disable(self, name: str) -> ExtensionView:
        """Switch an extension off.

        Raises:
            ExtensionError: there is none of that name.
        """
        with self._changing:
            found = self._found(name)
            self.states.switch(name, False)
            self._said.pop(name, None)
            self._take_out(found)
            return self.find(name)

    # ---- installing

    def propose(self, address: str, local: bool = False) -> Proposal:
        """Fetch an extension from a git address, to be looked at; with `local` also from a folder of this machine.

        Raises:
            ExtensionError: it cannot be fetched, or is no extension that may be installed.
        """
        return self.staging.fetched(address, local, self._here)

    def propose_zip(self, data: bytes) -> Proposal:
        """Unpack an extension from a zip, to be looked at.  Raises as `propose`."""
        return self.staging.unpacked(data, self._here)

    def update(self, name: str) -> Proposal:
        """Fetch what is now where an extension came from, to be looked at.

        Raises:
            ExtensionError: as `propose`, or there is no such extension, or it came from no address.
        """
        self._found(name)
        address = self.states.get(name).address
        if not address:
            raise ExtensionError(f"the extension {name} came from no address; install its new version as it was installed")
        proposal = self.staging.fetched(address, not address.startswith("https://"), self._here)
        if proposal.manifest.name != name:
            self.discard(proposal.token)
            raise ExtensionError(f"at {address} there is now an extension {proposal.manifest.name!r}, not {name!r}")
        return proposal

    def install(self, token: str) -> ExtensionView:
        """Install what was proposed.  A new extension is off until it is switched on; one that is replaced is as it was.

        Never calls pip: one that needs a package which is missing is refused until that is there.

        Raises:
            ExtensionError: there is no such proposal, or it cannot be moved to its place; nothing has changed.
        """
        with self._changing:
            proposal = self.staging.proposed(token, self._here)
            name, there = proposal.manifest.name, self._here(proposal.manifest.name)
            enabled = there is not None and self._is_on(there, self.states.get(name))
            if there is not None:
                self._take_out(there, restart=False)
            try:
                self.staging.place(token, there.folder if there is not None else self.folders[0] / name)
            except ExtensionError:
                if there is not None and enabled:
                    self._take_in(there)
                raise
            origin = ExtensionState(enabled, address=proposal.address, commit=proposal.commit, sha256=proposal.sha256)
            self.states.change(name, lambda state: origin)
            self._said.pop(name, None)
            if enabled:
                self._reloaded.add(name)
                self._take_in(self._found(name))
            return self.find(name)

    def discard(self, token: str) -> None:
        """Remove what was proposed.  Raises ExtensionError when that is no token."""
        self.staging.discard(token)

    def remove(self, name: str) -> Path:
        """Move an extension's folder into the trash of the data folder, and forget what is known of it; returns where it is.

        Raises:
            ExtensionError: there is no such extension, it is built in or a package's, or it cannot be moved.
        """
        with self._changing:
            found = self._found(name)
            if found.source == "built in":
                raise ExtensionError(f"the extension {name} comes with Atelier and cannot be removed; disable it instead")
            if found.source == "package":
                raise ExtensionError(f"the extension {name} came with a Python package; remove that with pip, or disable it")
            self._take_out(found)
            place = self.staging.throw_away(found.folder)
            self.states.forget(name)
            self._said.pop(name, None)
            return place

    # ---- from the engines, on the threads of their links

    def engine_loaded(self, name: str, hooks: Iterable[str]) -> None:
        """An engine has loaded its half."""
        self._problems.pop((name, "engine"), None)
        self._engine_hooks[name] = tuple(hooks)

    def engine_refused(self, name: str, reason: str, hung: bool) -> None:
        """An engine could not load its half; where it hung, that counts as a death of the engine."""
        self._problems[name, "engine"] = reason
        self._engine_hooks.pop(name, None)
        log.error("the engine half of the extension %s is not in use: %s", name, reason)
        if hung:
            self.engine_died([name], reason)

    def engine_failed(self, name: str, hook: str, error: str) -> None:
        """Its engine half raised."""
        self._failed(Failure(name, hook, error))

    def engine_died(self, names: Iterable[str], cause: str) -> tuple[str, ...]:
        """An engine died while these were in use; returns those that are suspended for it."""
        suspended = []
        for name in names:
            if not self._knows(name):
                continue
            if (state := self._recorded(lambda name=name: self.states.died(name, cause))) is None:  # type: ignore[misc]
                continue
            if state.stopped:
                suspended.append(name)
                self._stop(name, state.reason)
            else:
                self._said[name] = f"The engine ended while the extension {name} was in use: {cause}."
        return tuple(suspended)

    def did_well(self, names: Iterable[str]) -> None:
        """A picture was made with these."""
        for name in names:
            self._recorded(lambda name=name: self.states.did_well(name))  # type: ignore[misc]

    # ---- inside

    def _discover(self) -> dict[str, Found]:
        return discover(self.folders, self._packages)

    def _found(self, name: str) -> Found:
        found = self._discover()
        if name not in found:
            raise ExtensionError(f"there is no extension {name[:60]!r} here; there are: {', '.join(found) or 'none'}")
        return found[name]

    def _here(self, name: str) -> Found | None:
        return self._discover().get(name)

    def _knows(self, name: str) -> bool:
        return name in self._discover()

    def _is_on(self, found: Found, state: ExtensionState) -> bool:
        if found.problem or found.manifest is None or state.stopped:
            return False
        if state.enabled is None:
            return self.trusting and found.source == "folder"
        return state.enabled

    def _view(self, found: Found, state: ExtensionState) -> ExtensionView:
        name, manifest = found.name, found.manifest
        shown, reason = self._state(found, state)
        loaded = set(hooks_of(name, "web")) if self._live else set()
        waits = (name in self._in_page) != bool(loaded & set(AT_START)) or (name in self._reloaded and name in self._in_page)
        return ExtensionView(
            name,
            manifest.title if manifest else name,
            manifest.version if manifest else "",
            manifest.description if manifest else "",
            shown,
            reason,
            tuple(manifest.halves) if manifest else (),
            state.address or found.source,
            tuple(need.text for need in needs_of(manifest)) if manifest else (),
            self._live and waits,
            tuple(sorted(loaded.union(self._engine_hooks.get(name, ())))) if shown in ("on", "failed") else (),
        )

    def _state(self, found: Found, state: ExtensionState) -> tuple[State, str]:
        if found.problem:
            return "refused", found.problem
        if state.stopped == "suspended":
            return "suspended", state.reason
        if state.stopped:
            return "failed", state.reason
        if self.off:
            return "off", f"extensions are off in this run ({self.off})"
        if not self._is_on(found, state):
            return "off", "" if state.enabled is not None else "it is new, and nobody has switched it on yet"
        problem = next((text for (name, _), text in list(self._problems.items()) if name == found.name), "")
        if problem:
            return "failed", problem
        return "on", f"it failed {state.failures} time{'s' * (state.failures > 1)}: {state.reason}" if state.failures else ""

    def _take_in(self, found: Found) -> None:
        """Load what was switched on."""
        if not self._live:
            return
        self._load_web(found)
        if found.manifest is not None and found.manifest.engine and self.engines is not None:
            self._problems.pop((found.name, "engine"), None)
            self.engines.restart_engines(f"the extension {found.name} was switched on")

    def _take_out(self, found: Found, restart: bool = True) -> None:
        """Let go of what was switched off."""
        if not self._live:
            return
        unload(found.name, "web")
        self._problems = {key: text for key, text in self._problems.items() if key[0] != found.name}
        engine = self._engine_hooks.pop(found.name, None) is not None or (found.manifest is not None and found.manifest.engine)
        if engine and restart and self.engines is not None and not self.off:
            self.engines.restart_engines(f"the extension {found.name} was switched off")

    def _load_web(self, found: Found) -> None:
        self._problems.pop((found.name, "web"), None)
        if found.manifest is None or not found.manifest.web:
            return
        unload(found.name, "web")
        self._loaded.add(found.name)
        try:
            load(found.manifest, found.folder, "web", self._seconds)
        except ExtensionError as error:
            self._problems[found.name, "web"] = str(error)
            log.error("the extension %s is not in use: %s", found.name, error)

    def _failed(self, failure: Failure) -> None:
        """An extension raised, on whatever thread."""
        name = failure.extension
        if not self._knows(name):
            return
        state = self._recorded(lambda: self.states.failed(name, f"{failure.hook}: {failure.error}"))
        sentence = failure.sentence
        self._said[name] = f"{sentence[0].upper()}{sentence[1:]}."
        if state is not None and state.stopped:
            self._stop(name, state.reason)

    def _stop(self, name: str, reason: str) -> None:
        """Go on without an extension that was stopped."""
        log.error("the extension %s is %s", name, reason)
        self._said[name] = f"The extension {name} was {reason}. It can be switched on again in Extensions."
        unload(name, "web")
        self._engine_hooks.pop(name, None)
        if self.engines is not None:
            self.engines.drop_extension(name)

    def _recorded(self, change: Callable[[], ExtensionState | None]) -> ExtensionState | None:
        """A change of the states that is not worth failing for."""
        try:
            return change()
        except ExtensionError as error:
            log.error("%s", error)
            return None

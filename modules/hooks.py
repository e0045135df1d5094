"""The hooks: what may be added to this program, and the registry that the look-ups read.

A hook is a function that a plugin object has under that name, marked with `hookimpl`; it answers entries of one kind.  What
is built in is registered by the same hooks, each room's plugin when the room is imported, so nothing is imported for the sake
of the registry.  Entries of extensions stand behind the built-in ones, in the order of registration.

Which hooks there are stands in `modules.extensions.hookspecs_web` and `hookspecs_engine`, a screen each.  Two processes, two
halves: what `Shared` and `Web` name is imported by the web process and never imports torch; what `Shared` and `Engine` name is
imported by the engine.  Commands are no hook: the command line is read before anything is installed.

    class Mine:
        @hookimpl
        def samplers(self):
            return [Sampler("Mine", my_sampler, ())]

    with HOOKS.registered(Mine(), "mine"):
        find_sampler("Mine")
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

import pluggy

from modules.errors import PluginError
from modules.extensions.hookspecs_engine import Engine
from modules.extensions.hookspecs_web import Shared, Web

log = logging.getLogger("atelier")

_PROJECT = "atelier"
hookimpl = pluggy.HookimplMarker(_PROJECT)
"""Marks a plugin's implementation of a hook."""

T = TypeVar("T")


@dataclass(frozen=True)
class Owned(Generic[T]):
    """An entry and the name of the plugin that has it."""

    owner: str
    entry: T


class Registry:
    """The plugins of this process.  Any thread may call.

    `revision` changes with every plugin that comes or goes.  No lock is held while a plugin's code runs: it may import a room,
    and another thread that imports this room registers its plugin.
    """

    def __init__(self, *specifications: type) -> None:
        self._manager = pluggy.PluginManager(_PROJECT)
        for specification in specifications:
            self._manager.add_hookspecs(specification)
        self._built_in: set[str] = set()
        self._versions: dict[str, str] = {}
        self._listings: list[Listing[Any]] = []
        self._failures: dict[tuple[str, str], str] = {}
        self._clashes: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()
        self._asking = _Asking()
        self.revision = 0
        self.on_failure: Callable[[str, str, BaseException], None] = lambda owner, hook, error: None
        """Called with each error of a plugin that `report` gets: its owner, and the hook."""
        self.entering: Callable[[str], AbstractContextManager[None]] = lambda owner: nullcontext()
        """What surrounds the asking of a plugin that is not built in."""

    def register(self, plugin: object, name: str, built_in: bool = False, version: str = "") -> None:
        """Add the entries of `plugin` to those that are there; `version` is written into what is made with it.

        Raises:
            PluginError: such a plugin is there, it names a hook that there is not, or an entry of the name of another's.
                Nothing has changed then.
        """
        with self._lock:
            try:
                if self._manager.register(plugin, name) is None:
                    raise PluginError(f"the plugin {name!r} is blocked")
                self._check_hooks(plugin, name)
            except (ValueError, pluggy.PluginValidationError) as error:
                self._remove(plugin)
                raise PluginError(f"the plugin {name!r} cannot be registered: {error}") from None
            except PluginError:
                self._remove(plugin)
                raise
            if built_in:
                self._built_in.add(name)
            self._versions[name] = version
            self.revision += 1
        if clash := self._clash_of(name):
            self.unregister(name)
            raise PluginError(clash)

    def _clash_of(self, name: str) -> str:
        """What is wrong with the names of a plugin's entries, "" for nothing."""
        while True:
            with self._lock:
                revision, listings = self.revision, list(self._listings)
            for listing in listings:
                if listing.hook not in self._asking.hooks:  # one that is being made is made anew when it is read next
                    listing.owned()
            with self._lock:
                if self.revision == revision:  # else another thread's plugin came or went, and the clashes are not of now
                    return next((text for (owner, _), text in self._clashes.items() if owner == name), "")

    def unregister(self, name: str) -> None:
        """Take all entries of a plugin away again."""
        with self._lock:
            self._manager.unregister(name=name)
            self._built_in.discard(name)
            self._versions.pop(name, None)
            self._failures = {key: text for key, text in self._failures.items() if key[0] != name}
            self._clashes = {key: text for key, text in self._clashes.items() if key[0] != name}
            self.revision += 1

    def listen(self, listing: Listing[Any]) -> None:
        """`listing` shows entries of this registry: a plugin that clashes in it is refused."""
        with self._lock:
            self._listings.append(listing)

    @contextmanager
    def registered(self, plugin: object, name: str) -> Iterator[None]:
        """`plugin` is registered inside of the block."""
        self.register(plugin, name)
        try:
            yield
        finally:
            self.unregister(name)

    def is_built_in(self, owner: str) -> bool:
        return owner in self._built_in

    def version_of(self, owner: str) -> str:
        """The version that a plugin was registered with, "" where it has none or is not there."""
        return self._versions.get(owner, "")

    def has(self, name: str) -> bool:
        """Whether a plugin of this name is registered."""
        with self._lock:
            return self._manager.has_plugin(name)

    def hooks_of(self, name: str) -> list[str]:
        """The names of the hooks that a plugin implements."""
        with self._lock:
            plugin = self._manager.get_plugin(name)
            return [caller.name for caller in self._manager.get_hookcallers(plugin) or ()] if plugin is not None else []

    @property
    def problems(self) -> dict[tuple[str, str], str]:
        """A sentence for each thing that was refused or failed, by plugin and hook."""
        with self._lock:
            return {**self._failures, **self._clashes}

    def report(self, owner: str, hook: str, text: str, error: BaseException | None = None) -> None:
        """Remember and log what is wrong with a plugin, which everything else stands without."""
        with self._lock:
            known = self._failures.get((owner, hook))
            self._failures[owner, hook] = text
        if known != text:
            log.error("the plugin %r: %s", owner, text, exc_info=error)
        if error is not None:
            self.on_failure(owner, hook, error)

    def collect(self, hook: str, what: str, names: Callable[[Any], Iterable[str]], **given: Any) -> list[Owned[Any]]:
        """The entries of all plugins for `hook`, those that are built in first.

        An entry of a name that an earlier one has is left out, and so is a plugin that raises; `problems` say so.  What is
        built in raises as any other code does.

        Raises:
            PluginError: an implementation of `hook` asks for the entries of `hook`.

        Args:
            hook: its name.
            what: what an entry is called in messages.
            names: an entry's names, the first of which is shown.
            given: what the hook's implementations may ask for.
        """
        self._asking.check(hook)
        revision = self.revision
        found: list[Owned[Any]] = []
        owners: dict[str, str] = {}
        clashes: dict[tuple[str, str], str] = {}
        for owner, ask in self._implementations(hook, given):
            try:
                with self._asking.one(hook), nullcontext() if self.is_built_in(owner) else self.entering(owner):
                    entries = [(entry, [str(name) for name in names(entry)]) for entry in ask()]
            except (Exception, SystemExit) as error:
                if self.is_built_in(owner):
                    raise
                self.report(owner, hook, f"its {hook} could not be asked: {error_text(error)}", error)
                continue
            for entry, called in entries:
                taken = next((name for name in called if name.casefold() in owners), None)
                if taken is not None:
                    other = owners[taken.casefold()]
                    if other.partition(":")[0] == owner.partition(":")[0] != owner:  # both halves of one, in one process
                        continue
                    text = f"the {what} {taken!r} of the plugin {owner!r} is refused: {other!r} has one of that name; rename it"
                    clashes[owner, hook] = text
                    log.error("%s", text)
                    continue
                owners |= {name.casefold(): owner for name in called}
                found.append(Owned(owner, entry))
        with self._lock:
            if self.revision == revision:
                self._clashes = {key: text for key, text in self._clashes.items() if key[1] != hook} | clashes
        return found

    def _implementations(self, hook: str, given: Mapping[str, Any]) -> list[tuple[str, Callable[[], Iterable[Any]]]]:
        """Who implements `hook`, and how each is asked with the arguments that it names."""
        with self._lock:
            caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
            names = [name for name, _ in self._manager.list_name_plugin()]
            one_each = {implementation.plugin_name: implementation for implementation in caller.get_hookimpls()}
            inside = sorted((name for name in names if name in one_each), key=lambda name: name not in self._built_in)

        def asking(implementation: pluggy.HookImpl) -> Callable[[], Iterable[Any]]:
            asked = {name: given[name] for name in implementation.argnames}
            return lambda: cast("Iterable[Any]", implementation.function(**asked))

        return [(name, asking(one_each[name])) for name in inside]

    def _check_hooks(self, plugin: object, name: str) -> None:
        self._manager.check_pending()
        for caller in self._manager.get_hookcallers(plugin) or ():
            wraps = any(one.plugin is plugin and (one.wrapper or one.hookwrapper) for one in caller.get_hookimpls())
            if wraps:
                raise PluginError(f"the plugin {name!r} wraps the hook {caller.name}; it can only add entries of its own")

    def _remove(self, plugin: object) -> None:
        if self._manager.is_registered(plugin):
            self._manager.unregister(plugin)


def error_text(error: BaseException) -> str:
    """An error of an extension in words; what it says of itself is code of the extension too."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text cannot be shown"


class _Asking(threading.local):
    """The hooks whose implementations this thread is asking, outermost first."""

    def __init__(self) -> None:
        self.hooks: list[str] = []

    def check(self, hook: str) -> None:
        """
        Raises:
            PluginError: an implementation of `hook` asks for the entries of `hook`.
        """
        if hook in self.hooks:
            raise PluginError(
                f"the entries of the hook {hook} were read by an implementation of {hook}, which is asked for them; "
                "return only its own, and look others up when an entry is used"
            )

    @contextmanager
    def one(self, hook: str) -> Iterator[None]:
        """An implementation of `hook` is asked inside of the block."""
        self.hooks.append(hook)
        try:
            yield
        finally:
            self.hooks.pop()


class Listing(Sequence[T]):
    """The entries of a hook without arguments, as they are registered now: a sequence that follows the registry."""

    def __init__(self, registry: Registry, hook: str, what: str, names: Callable[[T], Iterable[str]]) -> None:
        self._registry, self.hook, self._what, self._names = registry, hook, what, names
        self._known: tuple[int, tuple[Owned[T], ...], dict[str, T]] = (-1, (), {})
        registry.listen(self)

    def owned(self) -> tuple[Owned[T], ...]:
        """The entries with their owners."""
        return self._now()[1]

    def find(self, name: str) -> T | None:
        """The entry of that name or alias, in any case."""
        return self._now()[2].get(name.casefold())

    def _now(self) -> tuple[int, tuple[Owned[T], ...], dict[str, T]]:
        known, revision = self._known, self._registry.revision
        if known[0] != revision:
            owned = tuple(self._registry.collect(self.hook, self._what, self._names))
            named = {name.casefold(): one.entry for one in owned for name in self._names(one.entry)}
            self._known = known = (revision, owned, named)
        return known

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[T]: ...

    def __getitem__(self, place: int | slice) -> T | Sequence[T]:
        entries = tuple(one.entry for one in self.owned())
        return entries[place]

    def __iter__(self) -> Iterator[T]:
        return iter([one.entry for one in self.owned()])

    def __len__(self) -> int:
        return len(self.owned())


class Table(Mapping[str, T]):
    """The entries of a hook by the first of their names, as they are registered now."""

    def __init__(self, registry: Registry, hook: str, what: str, names: Callable[[T], Sequence[str]]) -> None:
        self.entries: Listing[T] = Listing(registry, hook, what, names)
        self._names = names

    def find(self, name: str) -> T | None:
        """The entry of that name or alias, in any case."""
        return self.entries.find(name)

    def __getitem__(self, name: str) -> T:
        found = self.entries.find(name)
        if found is None or self._names(found)[0] != name:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([self._names(entry)[0] for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)


HOOKS = Registry(Shared, Web, Engine)
"""The plugins of this process: like `sys.modules`, there is one, since names are looked up without a context.

It knows every hook before the first room registers what is built in, whatever is imported first: so the specifications lie
below this file, and import nothing of ours."""

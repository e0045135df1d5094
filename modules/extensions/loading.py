"""Loading one half of an extension into this process, and taking it away again.

Its modules are imported as `atelier_extensions.NAME.MODULE`, without a change of `sys.path`; the `Plugin` of the half's module
is registered in `HOOKS` under the extension's name.  A web half runs where torch is never imported: while code of it runs, an
import of torch and its kin fails.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from modules.errors import ExtensionError, PluginError
from modules.extensions.isolation import ISOLATION, PACKAGE, DidNotReturn, within
from modules.extensions.lines import logger_of, speaker
from modules.extensions.manifest import Half, Manifest
from modules.hooks import HOOKS, error_text

log = logging.getLogger("atelier")

LOAD_SECONDS = 60.0
"""Half of an extension that takes longer to load is given up."""
HEAVY = ("torch", "torchvision", "torchaudio", "transformers", "diffusers", "xformers", "accelerate", "tensorflow", "jax")
"""What the web process never imports."""

T = TypeVar("T")

_torch_free: ContextVar[bool] = ContextVar("atelier_torch_free", default=False)


class HungWhileLoading(ExtensionError):
    """Half of an extension did not come back from loading."""


def load(manifest: Manifest, folder: Path, half: Half, seconds: float = LOAD_SECONDS) -> tuple[str, ...]:
    """Load a half, on a thread of its own; returns the names of the hooks that it has.

    Raises:
        HungWhileLoading: that takes longer than `seconds`; it may still be running, and is not registered.
        ExtensionError: it raises, has no `Plugin`, cannot stand beside what is there, or imports torch in the web process.
            Nothing of it is registered.
    """
    ISOLATION.declare(manifest.name, manifest.on_failure)
    given_up = threading.Event()

    def loading() -> object:
        if half == "web":
            _torch_free.set(True)
            _block()
        with ISOLATION.inside(manifest.name):
            heavy = {name for name in HEAVY if name in sys.modules}
            with _unchanged(manifest.name):
                plugin = _import(manifest, folder, half)
            if half == "web" and (brought := sorted({name for name in HEAVY if name in sys.modules} - heavy)):
                raise ExtensionError(_torch_text(brought[0]))
            if not given_up.is_set():  # what it has changed is undone by now: other rooms' entries are asked for too
                with _unchanged(manifest.name):
                    HOOKS.register(plugin, owner_of(manifest.name, half), version=manifest.version)
            return plugin

    try:
        within(seconds, loading, "")
    except DidNotReturn:
        given_up.set()
        forget(manifest.name, half)
        raise HungWhileLoading(f"its {half} half did not finish loading in {seconds:.0f} seconds") from None
    except ExtensionError:
        forget(manifest.name, half)
        raise
    except PluginError as error:
        forget(manifest.name, half)
        raise ExtensionError(str(error)) from None
    except BaseException as error:  # also sys.exit(), which is not for an extension to call
        forget(manifest.name, half)
        logger_of(manifest.name).error("its %s half cannot be loaded", half, exc_info=error)
        raise ExtensionError(f"its {half} half cannot be loaded: {' '.join(error_text(error).split())[:300]}") from None
    return hooks_of(manifest.name, half)


def unload(name: str, half: Half) -> bool:
    """Take the entries of a half away; False when it is not loaded.  Pictures that use them are made to their ends."""
    owner = _loaded(name, half)
    if owner:
        HOOKS.unregister(owner)
        _owners.pop((name, half), None)
        forget(name, half)
    return bool(owner)


def hooks_of(name: str, half: Half) -> tuple[str, ...]:
    """The hooks of a half that is loaded."""
    owner = _loaded(name, half)
    return tuple(sorted(HOOKS.hooks_of(owner))) if owner else ()


def owner_of(name: str, half: Half) -> str:
    """The name in `HOOKS` for a half: the extension's; of two halves in one process, the second's has its half behind it."""
    owner = _owners.get((name, half))
    if owner is None:
        owner = _owners[name, half] = f"{name}:{half}" if HOOKS.has(name) else name
    return owner


_owners: dict[tuple[str, Half], str] = {}


def _loaded(name: str, half: Half) -> str:
    owner = _owners.get((name, half), "")
    return owner if owner and HOOKS.has(owner) else ""


def forget(name: str, half: Half) -> None:
    """Drop the modules of an extension that is not loaded, so that the next time its files are read anew."""
    owner = _owners.get((name, half), "")
    if owner and HOOKS.has(owner):
        HOOKS.unregister(owner)
    _owners.pop((name, half), None)
    if any(HOOKS.has(one) for (other, _), one in _owners.items() if other == name):
        return  # the other half uses them
    for module in [
        module for module in list(sys.modules) if module == f"{PACKAGE}.{name}" or module.startswith(f"{PACKAGE}.{name}.")
    ]:
        sys.modules.pop(module, None)
    parent = sys.modules.get(PACKAGE)
    if parent is not None and hasattr(parent, name):
        delattr(parent, name)


# ---- inside


def _import(manifest: Manifest, folder: Path, half: Half) -> object:
    """The `Plugin` of a half, made."""
    _package(PACKAGE, [])
    _package(f"{PACKAGE}.{manifest.name}", [str(folder)])
    importlib.invalidate_caches()
    module = importlib.import_module(f"{PACKAGE}.{manifest.name}.{manifest.module(half)}")
    plugin = getattr(module, "Plugin", None)
    if not isinstance(plugin, type):
        raise ExtensionError(f"its {manifest.module(half)}.py has no class Plugin")
    return plugin()


def _package(name: str, path: list[str]) -> None:
    """A package without code of its own, whose modules lie in `path`."""
    if name in sys.modules:
        return
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = path
    module = ModuleType(name)
    module.__path__, module.__spec__, module.__package__ = path, spec, name
    sys.modules[name] = module


@contextmanager
def _unchanged(name: str) -> Iterator[None]:
    """What an extension changes of how modules are found, and of the current folder, is undone after the block."""
    lists: dict[str, list[Any]] = {each: getattr(sys, each) for each in ("path", "meta_path", "path_hooks")}
    before = {each: list(there) for each, there in lists.items()}
    here = os.getcwd()
    try:
        yield
    finally:
        for each, there in lists.items():
            if getattr(sys, each) is not there or there != before[each]:
                there[:] = before[each]
                setattr(sys, each, there)
                logger_of(name).warning("it changed sys.%s; that was undone", each)
        with suppress(OSError):
            if os.getcwd() != here:
                os.chdir(here)
                logger_of(name).warning("it changed the current folder; that was undone")


class _Blocker(MetaPathFinder):
    """Refuses the import of what the web process never imports, to the code of web halves."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in HEAVY and (_torch_free.get() or (self.everywhere and speaker())):
            raise ImportError(_torch_text(top), name=fullname)
        return None

    everywhere = False
    """Whether all halves that this process loads are web halves."""


_BLOCKER = _Blocker()


def only_web_halves() -> None:
    """This process loads web halves alone: torch is refused to all code of extensions, also in their hooks."""
    _BLOCKER.everywhere = "torch" not in sys.modules


def _block() -> None:
    if _BLOCKER not in sys.meta_path:
        sys.meta_path.insert(0, _BLOCKER)


def _torch_text(name: str) -> str:
    return f"its web half imports {name}, which the web process never does; import it in the engine half"

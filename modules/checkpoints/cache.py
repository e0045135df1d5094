"""The component cache: which networks are loaded, how large they are, and who uses them.

What is loaded is a component (a U-Net, a text encoder, an autoencoder), not a checkpoint: each is known by the content of the
file that it comes from and its part there.  Tasks hold leases on what they use; what is neither kept nor leased goes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from torch import nn

from modules.diffusion.placement import Placement


@dataclass(eq=False)
class Component:
    """A loaded network; `size` in bytes of its weights and buffers, `leases` counts its uses now.

    `placement` is where its weights lie, for a network whose blocks can be streamed.
    """

    key: Hashable
    network: nn.Module
    size: int
    leases: int = 0
    used: float = field(default_factory=time.monotonic)
    """When a use of it began or ended last, on the monotonic clock."""
    placement: Placement | None = None


class Leases:
    """The use of some components, until `release`: none of them goes before that.  `released` is called then."""

    def __init__(self, cache: ComponentCache, components: Iterable[Component], released: Callable[[], None]) -> None:
        self._cache, self._components, self._released = cache, tuple(components), released

    def release(self) -> None:
        """The use has ended; doing so again is nothing."""
        held, self._components = self._components, ()
        self._cache._give_back(held)
        if held:
            self._released()


class ComponentCache:
    """Loaded components by key.  All methods may be called from any thread.

    `keep_only` says which components stay without being used; the others stay for as long as there are leases on them.
    """

    def __init__(self) -> None:
        self._components: dict[Hashable, Component] = {}
        self._kept: frozenset[Hashable] = frozenset()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], nn.Module]) -> Component:
        """The component of this key, made when it is not here.  Not for two threads with one key at once.

        It is kept until the next `keep_only`.
        """
        with self._lock:
            if (there := self._components.get(key)) is not None:
                self._kept |= {key}
                return there
        network = make()
        component = Component(key, network, _bytes(network))
        with self._lock:
            self._components[key] = component
            self._kept |= {key}
        return component

    def lease(self, components: Iterable[Component], released: Callable[[], None] = lambda: None) -> Leases:
        """Use these components; a component that has gone meanwhile is counted again."""
        held = tuple(components)
        with self._lock:
            for component in held:
                component.leases += 1
                component.used = time.monotonic()
                self._components.setdefault(component.key, component)
        return Leases(self, held, released)

    def keep_only(self, keys: Iterable[Hashable]) -> None:
        """Let go of all other components: at once of those without a lease, of the rest when their last lease ends."""
        with self._lock:
            self._kept = frozenset(keys)
            self._sweep()

    @property
    def components(self) -> tuple[Component, ...]:
        with self._lock:
            return tuple(self._components.values())

    @property
    def size(self) -> int:
        """Bytes of all that is loaded."""
        return sum(component.size for component in self.components)

    def _give_back(self, components: Iterable[Component]) -> None:
        with self._lock:
            for component in components:
                component.leases -= 1
                component.used = time.monotonic()
            self._sweep()

    def _sweep(self) -> None:
        for key, component in list(self._components.items()):
            if not component.leases and key not in self._kept:
                del self._components[key]


def _bytes(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in [*network.parameters(), *network.buffers()])

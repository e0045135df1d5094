"""Requests of a page that are held up until the test lets them go."""

from __future__ import annotations

from typing import Any


class Held:
    """Holds the requests of `target`, a page or a context, that match `pattern`."""

    def __init__(self, target: Any, pattern: str) -> None:
        self._routes: list[Any] = []
        self._released = False
        target.route(pattern, self._on_route)

    def wait(self, page: Any) -> None:
        """Until one is held: its route is called behind the request's own event, and within calls to the page alone."""
        while not self._routes:
            page.wait_for_timeout(20)

    def release(self) -> None:
        """These and all that follow go on."""
        self._released = True
        for route in self._routes:
            route.continue_()

    def _on_route(self, route: Any) -> None:
        if self._released:
            route.continue_()
        else:
            self._routes.append(route)

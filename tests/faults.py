"""Operating-system faults on demand: a stand-in for a module's `os` that counts calls and lets chosen ones fail, or die."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

CALLS = ("mkdir", "open", "write", "fsync", "link", "replace", "unlink", "close")


class FaultyOs:
    """The `os` module, with `before(call, arguments, n)` asked ahead of the n-th of `CALLS`, from 1, and `after` behind it.

    Either may raise, or end the process.
    """

    def __init__(
        self,
        before: Callable[[str, tuple[Any, ...], int], None] = lambda *_: None,
        after: Callable[[str, tuple[Any, ...], int], None] = lambda *_: None,
    ) -> None:
        self.before, self.after = before, after
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            n = self.count
            if name == "close":  # Linux has closed the file even when it reports an error
                result = real(*arguments, **options)
                self.before(name, arguments, n)
            else:
                self.before(name, arguments, n)
                result = real(*arguments, **options)
            self.after(name, arguments, n)
            return result

        return call

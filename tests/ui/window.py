"""A page in windows of several sizes, without opening it again: that is most of what a test of a page takes."""

from __future__ import annotations

from typing import Any


def resize(page: Any, width: int, height: int) -> None:
    """Returns when the page is laid out anew."""
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

"""The folder of scripts, styles and templates that the page is made of."""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"

"""An engine in this process, driven tick by tick, as the engine's own tests have it."""

from __future__ import annotations

from tests.engine.conftest import bench, manager, tiny_models

__all__ = ["bench", "manager", "tiny_models"]

"""The one place that imports Gradio, set up to start fast and to contact no other host.

Everything in `modules.ui` says `from modules.ui.gradio import gr`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


class _NoStubs(importlib.abc.MetaPathFinder):
    """Keeps Gradio from rewriting `.pyi` stubs of all its components at each start: 40-45 % of its import time.

    It would also write stubs of our own components into this folder.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "gradio.component_meta":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_without_stubs(module: ModuleType) -> None:
            load(module)
            module.create_or_modify_pyi = _nothing  # type: ignore[attr-defined]

        spec.loader.exec_module = load_without_stubs  # type: ignore[method-assign]
        return spec


def _nothing(*_: Any, **__: Any) -> None:
    pass


os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # also switches off huggingface_hub's telemetry
os.environ["GRADIO_RUN_HISTORY"] = "False"
for variable in ("GRADIO_MCP_SERVER", "GRADIO_SHARE", "GRADIO_ALLOWED_PATHS"):
    os.environ.pop(variable, None)
sys.meta_path.insert(0, _NoStubs())

import gradio as gr  # noqa: E402
from gradio import processing_utils  # noqa: E402


async def _fetched_by_nobody(url: str, cache_dir: str) -> str:
    raise ValueError("addresses are not fetched here; send the picture itself")


# Gradio downloads what any callback is given as a file at some address, from the whole public internet.
processing_utils.async_ssrf_protected_download = _fetched_by_nobody


def keep_signatures(page: gr.Blocks) -> None:
    """Keep what Gradio asks `inspect` for anew with each component that it describes: a third of a page's load event."""
    for kind in {type(block) for block in page.blocks.values()}:
        function: Any = kind.__init__
        while function is not None:
            function.__signature__ = inspect.signature(function)
            function = getattr(function, "__wrapped__", None)


__all__ = ["gr", "keep_signatures"]

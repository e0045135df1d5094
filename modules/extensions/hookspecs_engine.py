"""The hooks of the engine half, all of them: what an extension may add to the process that has the device.

Beside those here the engine asks the hooks of `hookspecs_web.Shared`.  What is called while a picture is made goes through
`extensions.isolation`: where it raises, the picture is made without the extension, or fails, as its manifest says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import pluggy

_hookspec = pluggy.HookspecMarker("atelier")


class Engine(Protocol):
    """Hooks of the engine.  Entries are `Any` here: the rooms that they belong to come after this file."""

    @_hookspec
    def guidance_rules(self) -> Iterable[Any]:
        """`pipelines.guidance.Rule`: what requests may ask of guidance beyond its scale, applied in this order."""

    @_hookspec
    def denoiser_wrappers(self) -> Iterable[Any]:
        """`pipelines.wrappers.Wrapper`: a function around the denoiser of one denoising loop, the first one innermost.

        It sees x and its noise level before the networks are asked and the guided x0 prediction after, and can change the rows
        that go to a network (`denoisers.on_rows`), such as their `skips`: data by which layers compute something else for
        these rows alone, so that pictures with and without an extension share forwards.
        """

    @_hookspec
    def adapters(self) -> Iterable[Any]:
        """`checkpoints.lora_names.AdapterKind`: how files that are named as LoRAs say what they change of a layer."""

    @_hookspec
    def preprocessors(self) -> Iterable[Any]:
        """`pipelines.preprocessing.Preprocessor`: changes the pictures that a request begins with, on a host thread."""

"""The hooks of the web half, all of them: what an extension may add to the process that never imports torch.

A hook is a method of this name on an extension's `Plugin`, marked with `modules.hooks.hookimpl`; it answers entries of the
class that is named here.  `Shared` is asked in the engine too: an extension that adds there names one module as both halves,
or imports a common one in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import pluggy

_hookspec = pluggy.HookspecMarker("atelier")


class Shared(Protocol):
    """Hooks of both processes.  Entries are `Any` here: the rooms that they belong to come after this file."""

    @_hookspec
    def samplers(self) -> Iterable[Any]:
        """`diffusion.samplers.Sampler`, found by name and aliases.  `sample` may import torch when it is called."""

    @_hookspec
    def schedules(self) -> Iterable[Any]:
        """Noise schedules, `diffusion.schedules.Schedule`, found by label, name and aliases: plain floats."""

    @_hookspec
    def families(self) -> Iterable[Any]:
        """Model families, `checkpoints.families.Family`: data by which a file is recognised and its networks are built."""

    @_hookspec
    def request_extensions(self) -> Iterable[Any]:
        """`request.RequestExtension`: a name, and a pydantic class of options that requests may have."""

    @_hookspec
    def upscalers(self) -> Iterable[Any]:
        """`pixels.enlarging.Upscaler`: brings a picture to any size on a host thread.  Offered wherever Lanczos is."""

    @_hookspec
    def stages(self) -> Iterable[Any]:
        """`pipelines.stages.Further`: stages behind those that a request has, such as another pass over the result."""


class Web(Protocol):
    """Hooks of the web process."""

    @_hookspec
    def readers(self) -> Iterable[Any]:
        """`images.readers.Reader`, of what other programs write into pictures, asked in this order."""

    @_hookspec
    def detectors(self) -> Iterable[Any]:
        """`scripts.detectors.Detector`: finds details of pictures, which the detail pass paints again, in this order."""

    @_hookspec
    def image_hooks(self) -> Iterable[Any]:
        """`jobs.image_hooks.ImageHook`: changes a finished picture before it is saved, or learns of it when it was."""

    @_hookspec
    def routes(self, app: Any, access: Any, server: Any) -> Iterable[Any]:
        """`fastapi.APIRouter`, behind the middleware of `api.guard`; what its rules do not name is for administrators.

        `app` is the `App`, `access` the `AccessConfig` of the middleware, `server` the application that they join.
        """

    @_hookspec
    def tabs(self, app: Any, sync: Any, version: str) -> Iterable[Any]:
        """Tabs of the page, `ui.tabs.base.Tab`, in the order of the bar.

        `app` is the `App`, `sync` the page's `FormSync`, `version` a part of the addresses of served scripts and styles.
        """

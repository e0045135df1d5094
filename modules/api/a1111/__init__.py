"""A1111's API, spoken here: the routes, names, defaults and shapes of AUTOMATIC1111 v1.10.1 that make sense here.

`requests` and `replies` are their JSON, `coercion` how their models convert it; `translate`, `scripts`, `options` (with its
table, values and calls) and `models` say what it means in our terms, `results` what became of it in theirs; the other files are
routes by theme.  Nothing outside of this folder knows their API.
"""

from __future__ import annotations

from fastapi import APIRouter

from modules.api.a1111.controlnet import controlnet_endpoints
from modules.api.a1111.extras import extras_endpoints
from modules.api.a1111.generation import generation_endpoints
from modules.api.a1111.lists import list_endpoints
from modules.api.a1111.options import OwnOptions
from modules.api.a1111.progress import progress_endpoints
from modules.api.a1111.tasks import Tasks
from modules.api.schema import error_responses
from modules.app import App

OPTIONS_FILE = "api-options.json"
"""In the data folder: what callers have set with `POST /sdapi/v1/options`."""


def a1111_endpoints(app: App) -> APIRouter:
    """`/sdapi/v1/*`, `/controlnet/*`, and of `/internal/*` what A1111's clients call."""
    own, tasks = OwnOptions(app.settings.data_dir / OPTIONS_FILE), Tasks()
    router = APIRouter(tags=["A1111"], responses=error_responses(a1111=True))
    router.include_router(generation_endpoints(app, own, tasks))
    router.include_router(progress_endpoints(app, tasks))
    router.include_router(extras_endpoints(app, own))
    router.include_router(list_endpoints(app, own))
    router.include_router(controlnet_endpoints())
    return router

"""The HTTP application without its pages: our routes, served scripts and styles, plain errors, and the guard around it all.

Pages are mounted later, at "/" and last, because a route that is added behind a mount at "/" is never reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from modules import __version__
from modules.api.a1111 import a1111_endpoints
from modules.api.docs_page import docs_endpoint
from modules.api.error_responses import error_response, error_response_for
from modules.api.guard.middleware import AccessConfig, GuardMiddleware
from modules.api.isolated import isolate
from modules.api.page.account_pages import LOGIN_VERSION, login_files
from modules.api.page.accounts import account_endpoints
from modules.api.page.extensions import extension_endpoints
from modules.api.page.forever import forever_endpoints
from modules.api.page.gallery import gallery_endpoints
from modules.api.page.jobs import job_endpoints
from modules.api.page.model_tools import model_tool_endpoints
from modules.api.page.models import model_endpoints
from modules.api.page.pictures import picture_endpoints
from modules.api.page.prompt_files import prompt_file_endpoints
from modules.api.page.prompts import prompt_endpoints
from modules.api.page.queue import queue_endpoints
from modules.api.page.reading import reading_endpoints
from modules.api.page.scripts import script_endpoints
from modules.api.page.settings import settings_endpoints
from modules.api.page.uploads import upload_endpoints
from modules.api.v1.endpoints import v1_endpoints
from modules.app import App
from modules.errors import AtelierError
from modules.hooks import HOOKS, hookimpl

ABOUT = """Two ways to paint from a program.

`/api/v1` is Atelier's own: submit a job, go away, look again. `/sdapi/v1` is AUTOMATIC1111's, as its clients know it: a call \
answers when the picture is there.

With accounts, send a token as `Authorization: Bearer ...`, or as the password of HTTP Basic. Pictures come and go as files or \
as base64; addresses are never fetched. A client that disconnects leaves the job running."""

ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


def build_api(app: App, access: AccessConfig | None = None) -> FastAPI:
    """Our routes behind the guard.  `access` says how it is reached and who is let in; a local instance's unless given."""
    access = access or AccessConfig(folder=app.settings.data_dir)
    server = FastAPI(title="Atelier", version=__version__, description=ABOUT, docs_url=None, redoc_url=None)
    for router in HOOKS.collect("routes", "route", _addresses, app=app, access=access, server=server):
        before = list(server.router.routes)
        server.include_router(router.entry)
        if not HOOKS.is_built_in(router.owner):
            isolate(server, before, router.owner)
    server.mount(f"/door/{LOGIN_VERSION}", login_files(), name="door")
    answer_errors(server)
    server.add_middleware(GuardMiddleware, access=access)
    return server


class _BuiltIn:
    @hookimpl
    def routes(self, app: App, access: AccessConfig, server: FastAPI) -> tuple[APIRouter, ...]:
        return (
            job_endpoints(app),
            picture_endpoints(app),
            gallery_endpoints(app, access),
            queue_endpoints(app),
            prompt_endpoints(app),
            upload_endpoints(app),
            model_endpoints(app, access),
            reading_endpoints(app),
            script_endpoints(app),
            settings_endpoints(app),
            prompt_file_endpoints(app),
            forever_endpoints(app, access),
            model_tool_endpoints(app),
            extension_endpoints(app, access),
            v1_endpoints(app),
            a1111_endpoints(app),
            docs_endpoint(server),
            account_endpoints(access),
        )


HOOKS.register(_BuiltIn(), "atelier.routes", built_in=True)


def _addresses(router: APIRouter, prefix: str = "") -> Iterator[str]:
    """Method and path of each route, of routers inside of it too: "GET /api/v1/jobs/{id}"."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)  # newer versions of FastAPI keep an included router as it is
        if inner is not None:
            yield from _addresses(inner, prefix + getattr(getattr(route, "include_context", None), "prefix", ""))
        else:
            path = prefix + getattr(route, "path", "")
            yield from (f"{method} {path}" for method in sorted(getattr(route, "methods", None) or ("*",)))


def answer_errors(server: FastAPI) -> None:
    """Let `server`, ours or one that is mounted in it, answer what goes wrong in our words and without what was sent."""
    for kind, handler in _ERRORS.items():
        server.add_exception_handler(kind, handler)


async def _refused(request: Request, error: Exception) -> Response:
    return error_response_for(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Never echoes what was sent: FastAPI's own handler does, and fails itself on NaN and lone surrogates."""
    assert isinstance(error, RequestValidationError)
    named = ", ".join(dict.fromkeys(str(each["loc"][-1])[:80] for each in error.errors()))
    return error_response(request.url.path, 422, f"The request is not of the expected form: {named}.")


_ERRORS: dict[type[Exception], ErrorHandler] = {
    HTTPException: _refused,
    RequestValidationError: _invalid,
    AtelierError: _refused,
}

"""Who may call what, from outside: every route of the running application, for people of every role.

`EXPECTED` is written by hand and apart from the table in `modules.api.guard.access`: a route that it does not name must be for
administrators alone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.routing import Mount
from starlette.testclient import TestClient

from modules.accounts import Account
from modules.api.guard.access import ORDER
from modules.api.guard.middleware import GuardMiddleware
from modules.app import App
from modules.server import build_server
from modules.settings import Settings
from tests.api.people import BASE, AccountsServer
from tests.scripted import ScriptedLink

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

PUBLIC = {
    ("GET", "/health"),
    *((method, path) for method in ("GET", "POST") for path in ("/login", "/setup", "/invite")),
}
"""Beside the static files of these very pages."""

EXPECTED: dict[str, str] = {
    # the page
    "GET /": "viewer",
    "GET /config": "viewer",
    "GET /theme.css": "viewer",
    "GET /assets/x": "viewer",
    "GET /static/x": "viewer",
    "GET /ui/0123456789ab/main.js": "viewer",
    "GET /gradio_api/heartbeat/x": "viewer",
    "GET /gradio_api/queue/data": "viewer",
    "GET /gradio_api/startup-events": "viewer",
    "POST /gradio_api/queue/join": "viewer",
    "POST /gradio_api/run/predict": "viewer",
    "POST /gradio_api/upload": "nobody",
    "GET /gradio_api/upload_progress": "nobody",
    "GET /gradio_api/file=x": "administrator",
    "GET /gradio_api/info": "administrator",
    "GET /gradio_api/app_id": "administrator",
    "POST /gradio_api/call/x": "administrator",
    "GET /gradio_api/monitoring": "nobody",
    "GET /gradio_api/file=http://127.0.0.1:1/x": "nobody",
    "GET /gradio_api/proxy=http://127.0.0.1:1/x": "nobody",
    # the page's own routes
    "GET /internal/account": "viewer",
    "GET /internal/engine": "viewer",
    "GET /internal/checkpoints": "viewer",
    "GET /internal/queue": "viewer",
    "GET /internal/jobs": "viewer",
    "GET /internal/jobs/x": "viewer",
    "GET /internal/jobs/x/preview": "viewer",
    "GET /internal/jobs/x/zip": "viewer",
    "GET /internal/jobs/x/events": "viewer",
    "GET /internal/pictures/x/0": "viewer",
    "GET /internal/pictures/x/0/thumbnail": "viewer",
    "GET /internal/sources/x": "viewer",
    "GET /internal/prompt/names": "viewer",
    "POST /internal/model-tools/look": "administrator",
    "GET /internal/models": "viewer",
    "GET /internal/models/loaded": "viewer",
    "GET /internal/models/x": "viewer",
    "GET /internal/models/x/preview": "viewer",
    "GET /internal/models/refresh": "viewer",  # a model of this id, which none has
    "POST /internal/models/loaded": "viewer",
    "POST /internal/models/x": "viewer",
    "POST /internal/models/x/hash": "user",
    "POST /internal/models/refresh": "administrator",
    "POST /internal/models/x/preview": "administrator",
    "POST /internal/models/x/preview/remove": "administrator",
    "GET /internal/gallery": "viewer",
    "GET /internal/gallery/count": "viewer",
    "GET /internal/gallery/ids": "viewer",
    "GET /internal/gallery/facets": "viewer",
    "GET /internal/gallery/state": "viewer",
    "GET /internal/gallery/pictures/x": "viewer",
    "GET /internal/gallery/pictures/x/thumbnail": "viewer",
    "GET /internal/gallery/pictures/x/recipe": "viewer",
    "GET /internal/gallery/zips/x": "viewer",
    "POST /internal/gallery/zips": "viewer",
    "POST /internal/gallery/edit": "user",
    "POST /internal/gallery/trash": "user",
    "POST /internal/gallery/restore": "user",
    "POST /internal/gallery/empty": "user",
    "POST /internal/gallery/rescan": "user",
    "POST /internal/prompt/check": "viewer",
    "POST /internal/quote": "viewer",
    "POST /internal/jobs": "user",
    "POST /internal/jobs/x/cancel": "user",
    "POST /internal/jobs/x/skip": "user",
    "POST /internal/jobs/x/interrupt": "user",
    "POST /internal/jobs/x/retry": "user",
    "POST /internal/jobs/x/remove": "user",
    "POST /internal/jobs/x/delete": "user",
    "POST /internal/pictures/x/0/delete": "user",
    "POST /internal/jobs/x/move": "user",
    "POST /internal/queue/pause": "user",
    "POST /internal/sources": "user",
    "GET /internal/styles": "viewer",
    "POST /internal/styles": "administrator",
    "POST /internal/styles/delete": "administrator",
    "GET /internal/wildcards": "viewer",
    "POST /internal/wildcards": "administrator",
    "POST /internal/wildcards/delete": "administrator",
    "POST /internal/wildcards/read": "viewer",
    "POST /internal/wildcards/draw": "viewer",
    "GET /internal/extensions": "viewer",
    **{
        f"POST /internal/extensions/{path}": "administrator"
        for path in ("proposals", "proposals/x/accept", "proposals/x/discard")
    },
    **{f"POST /internal/extensions/x/{what}": "administrator" for what in ("enable", "disable", "update", "remove")},
    "GET /internal/settings": "viewer",
    "POST /internal/settings": "administrator",
    "GET /internal/preferences": "viewer",
    "POST /internal/preferences": "viewer",
    "GET /internal/presets": "viewer",
    "GET /internal/presets/x/file": "viewer",
    "POST /internal/presets": "user",
    "POST /internal/presets/read": "user",
    "POST /internal/presets/x": "user",
    "POST /internal/presets/x/delete": "user",
    "GET /internal/scripts": "viewer",
    "GET /internal/scripts/axes": "viewer",
    "GET /internal/scripts/detectors": "viewer",
    "GET /internal/scripts/x": "viewer",
    "GET /internal/scripts/x/sheets/0": "viewer",
    "POST /internal/scripts/x/cancel": "user",
    "POST /internal/scripts/x/again": "user",
    "POST /internal/scripts/x/remove": "user",
    # one's account
    "GET /account": "viewer",
    "POST /account/password": "viewer",
    "POST /account/sessions/end": "viewer",
    "POST /account/sessions/x/end": "viewer",
    "POST /account/tokens": "viewer",
    "POST /account/tokens/x/revoke": "viewer",
    "POST /account/invitations": "administrator",
    "POST /account/invitations/x/withdraw": "administrator",
    "POST /account/people/x/role": "administrator",
    "POST /account/people/x/disable": "administrator",
    "POST /account/people/x/enable": "administrator",
    "POST /account/people/x/remove": "administrator",
    "POST /account/people/x/reset": "administrator",
    "POST /account/people/x/end": "administrator",
    "POST /logout": "viewer",
    # programs
    "GET /openapi.json": "viewer",
    "GET /docs": "viewer",
    "GET /api/v1/jobs": "viewer",
    "GET /api/v1/models": "viewer",
    "POST /api/v1/jobs": "user",
    "POST /api/v1/estimate": "user",
    "POST /api/v1/jobs/x/cancel": "user",
    "GET /sdapi/v1/samplers": "viewer",
    "GET /sdapi/v1/options": "viewer",
    "GET /sdapi/v1/progress": "viewer",
    "GET /queue/status": "viewer",
    "POST /sdapi/v1/png-info": "viewer",
    "POST /sdapi/v1/txt2img": "user",
    "POST /sdapi/v1/img2img": "user",
    "POST /sdapi/v1/options": "user",
    "POST /sdapi/v1/interrupt": "user",
    "POST /sdapi/v1/skip": "user",
    "POST /sdapi/v1/unload-checkpoint": "administrator",
    "POST /sdapi/v1/reload-checkpoint": "administrator",
    "POST /sdapi/v1/server-kill": "administrator",
    # what extensions may have
    "GET /extensions/x": "viewer",
    "GET /extensions/x/y/z": "viewer",
    "POST /extensions/x/y": "user",
    "DELETE /extensions/x": "administrator",
    # spellings that a router might tidy up, and methods that nothing has
    "GET /LOGIN": "administrator",
    "GET /login/": "administrator",
    "GET /internal/jobs;x": "administrator",
    "GET /health%2f..%2finternal%2fjobs": "administrator",
    "DELETE /internal/jobs/x": "administrator",
    "PUT /login": "administrator",
    "GET /nothing": "administrator",
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountsServer]:
    """The whole server with its page, before a real App that paints nothing."""
    folder: Path = tmp_path_factory.mktemp("server")
    link = ScriptedLink()
    app = App(Settings(data_dir=folder / "data", models_dirs=(folder,), outputs_dir=folder / "out"), link)
    app.start()
    link.hello()

    async def build() -> AccountsServer:
        """In a running loop: where there is none, Gradio makes several and leaves them open."""
        return AccountsServer(app, build=build_server)

    made = asyncio.run(build())
    yield made
    made.close()
    app.close()


@pytest.fixture(scope="module")
def people(instance: AccountsServer) -> dict[str, Account]:
    return {
        "administrator": instance.person("Ada", "administrator"),
        "user": instance.person("Bob"),
        "viewer": instance.person("Eve", "viewer"),
    }


@pytest.fixture(scope="module")
def clients(instance: AccountsServer, people: dict[str, Account]) -> dict[str, TestClient]:
    return {"": instance.client(), **{role: instance.client(account) for role, account in people.items()}}


def all_routes(routes: Iterable[Any], before: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of everything that can be reached, mounted applications and included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from all_routes(inner.routes, before)
        elif isinstance(route, Mount):
            yield from ((method, f"{before}{route.path}/x") for method in VERBS)
            yield from all_routes(route.routes or [], before + route.path)
        else:
            path = before + re.sub(r"\{[^}]*:path\}", "x/y", route.path)
            path = re.sub(r"\{[^}]*:int\}", "0", path)
            yield from ((method, re.sub(r"\{[^}]*\}", "x", path)) for method in VERBS)


def test_nobody_who_is_not_let_in_gets_anything(
    instance: AccountsServer, clients: dict[str, TestClient], people: object
) -> None:
    routes = sorted(set(all_routes(instance.server.routes)))
    paths = {path for _, path in routes}
    assert {"/internal/jobs/x", "/gradio_api/cancel", "/gradio_api/heartbeat/x", "/sdapi/v1/txt2img", "/account"} <= paths
    assert len(paths) > 100
    client, answered = clients[""], []
    for method, path in routes:
        if ("GET" if method == "HEAD" else method, path) in PUBLIC or re.match(r"/door/[0-9a-f]{12}/", path):
            continue
        status = client.request(method, path).status_code
        if status != 401 and not (status == 404 and is_nobodys(path)):
            answered.append((method, path, status))
    assert answered == []


def is_nobodys(path: str) -> bool:
    return bool(re.match(r"(/gradio_api)?/(monitoring|runs|deep_link|file=http|file/|proxy=|dev/|vibe-|upload)", path))


ENDLESS = ("GET /gradio_api/queue/data", "GET /gradio_api/heartbeat/x", "POST /logout")
"""Answers as long as a client listens, or ends the session that the other cases need: only who is refused is tried here."""
CASES = [(route, role) for route in EXPECTED for role in ORDER if not (role and route in ENDLESS)]


def test_the_matrix_is_large() -> None:
    assert len(CASES) > 250


@pytest.mark.parametrize(("route", "role"), CASES)
def test_the_matrix(clients: dict[str, TestClient], route: str, role: str) -> None:
    method, path = route.split(" ")
    least = EXPECTED[route]
    answer = clients[role].request(method, path)
    if least == "nobody":
        assert answer.status_code == 404
    elif not role:
        assert answer.status_code == 401
    elif ORDER.index(role) < ORDER.index(least):
        assert answer.status_code == 403
        assert f"yours is a {role}'s" in answer.text
    else:
        assert answer.status_code != 401
        assert answer.status_code < 500, answer.text
        assert "This needs an account" not in answer.text


def test_what_is_not_expected_is_for_administrators_alone(instance: AccountsServer, people: dict[str, Account]) -> None:
    """A new route must be named in EXPECTED, and in the table of `modules.api.guard.access`, or is shut for everybody else."""

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await Response(status_code=204)(scope, receive, send)

    user = TestClient(GuardMiddleware(inside, instance.access), base_url=BASE)
    user.cookies.set("sid_7860", instance.store.add_session(people["user"].id, "", ""))
    named = {(method, path) for method, _, path in (route.partition(" ") for route in EXPECTED)}
    let_in = []
    for method, path in sorted(set(all_routes(instance.server.routes))):
        if method in ("HEAD", "OPTIONS") or (method, path) in PUBLIC | named or re.match(r"/(door|ui)/[0-9a-f]{12}/", path):
            continue
        if user.request(method, path).status_code == 204 and not covered(method, path):
            let_in.append(f"{method} {path}")
    user.close()
    assert let_in == []


def covered(method: str, path: str) -> bool:
    """What whole families of routes are named for: lists and reports of the APIs, and the page's static files."""
    families = (
        ("GET", r"/(sdapi|api)/v1(/.*)?|/controlnet/.*|/internal/(progress|pending-tasks|ping)"),
        ("GET", r"/internal/events|/assets/.*|/static/.*|/svelte/.*|/favicon\.ico|/manifest\.json|/robots\.txt"),
        (
            "POST",
            r"/sdapi/v1/(extra-.*|interrogate|refresh-.*)|/controlnet/.*|/internal/(progress|read)|/gradio_api/(run|cancel|reset).*",
        ),
        ("POST|PUT|PATCH|DELETE", r"/api/v1/.*"),
    )
    return any(re.fullmatch(methods, method) and re.fullmatch(pattern, path) for methods, pattern in families)


@pytest.mark.parametrize("path", ["/", "/account", "/docs", "/internal/jobs"])
def test_a_browser_is_redirected_to_the_login(clients: dict[str, TestClient], path: str) -> None:
    answer = clients[""].get(path, headers={"accept": "text/html", "sec-fetch-mode": "navigate"})
    assert answer.status_code == 303
    assert re.fullmatch(r"/login(\?next=%2F[a-z%2F]+)?", answer.headers["location"])
    fetched = clients[""].get(path, headers={"accept": "text/html", "sec-fetch-mode": "cors"})
    assert fetched.status_code == 401


def test_programs_get_an_authentication_challenge(clients: dict[str, TestClient]) -> None:
    answer = clients[""].post("/sdapi/v1/txt2img", json={"prompt": "x"})
    assert answer.status_code == 401
    assert "Basic" in answer.headers["www-authenticate"]
    assert "Bearer" in answer.headers["www-authenticate"]
    assert answer.json()["detail"]
    assert "Basic" not in clients[""].get("/internal/jobs").headers["www-authenticate"], "a browser would ask in its own window"


def test_callbacks_of_a_viewer_get_no_user(instance: AccountsServer, people: dict[str, Account]) -> None:
    """Gradio's callbacks are all behind one route, so a viewer gets in, but no callback gets a user to submit for."""
    seen: list[tuple[str, str, str]] = []

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["state"]["role"], scope["state"]["user"], scope["path"]))
        await Response()(scope, receive, send)

    for role, account in people.items():
        client = TestClient(GuardMiddleware(inside, instance.access), base_url=BASE)
        client.cookies.set("sid_7860", instance.store.add_session(account.id, "", ""))
        for path in ("/gradio_api/run/predict", "/internal/prompt/check"):
            client.post(path)
        client.close()
        assert seen[-2:] == [
            (role, "" if role == "viewer" else account.user, "/gradio_api/run/predict"),
            (role, account.user, "/internal/prompt/check"),
        ]

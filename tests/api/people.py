"""A server with accounts: people of every role before one server, with hashing that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from modules.accounts import Account, Accounts, AccountStore, Role
from modules.accounts.passwords import Passwords
from modules.accounts.throttle import Throttle
from modules.api.error_responses import error_response_for
from modules.api.guard.middleware import AccessConfig, GuardMiddleware
from modules.api.page.account_pages import LOGIN_VERSION, login_files
from modules.api.page.accounts import account_endpoints
from modules.api.page.jobs import job_endpoints
from modules.api.page.pictures import picture_endpoints
from modules.api.page.queue import queue_endpoints
from modules.errors import AtelierError

BASE = "http://192.168.1.5:7860"
PASSWORD = "correct horse"

CHEAP = Passwords(time_cost=1, memory_kib=8, lanes=1)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def small_server(app: Any, access: AccessConfig) -> FastAPI:
    """The login pages and the page's own endpoints: what most tests need, built in a fraction of the time of the whole."""
    server = FastAPI(openapi_url=None)
    for router in (job_endpoints(app), picture_endpoints(app), queue_endpoints(app), account_endpoints(access)):
        server.include_router(router)
    server.mount(f"/door/{LOGIN_VERSION}", login_files())
    for kind in (AtelierError, HTTPException):
        server.add_exception_handler(kind, _refused)
    server.add_middleware(GuardMiddleware, access=access)
    return server


async def _refused(request: Request, error: Exception) -> Response:
    return error_response_for(request, error)


class AccountsServer:
    """A server with accounts.  `clock` is the file's, `patience` the throttle's."""

    def __init__(self, app: Any, build: Callable[[Any, AccessConfig], FastAPI] = small_server, **access: Any) -> None:
        self.clock, self.patience = Clock(), Clock(0.0)
        self.store = AccountStore(None, self.clock)
        self.accounts = Accounts(self.store, CHEAP, Throttle(self.patience))
        self.access = AccessConfig(accounts=self.accounts, **{"address": BASE, **access})
        self.server = build(app, self.access)
        self._clients: list[TestClient] = []

    def person(self, name: str, role: Role = "user") -> Account:
        code = self.store.add_code("invite", role, 3600)
        return self.store.redeem(code, name, CHEAP.hash(PASSWORD))

    def client(self, account: Account | None = None, base: str = BASE, address: str = "192.168.1.77") -> TestClient:
        """A browser, logged in or not."""
        client = TestClient(
            self.server, base_url=base, raise_server_exceptions=False, follow_redirects=False, client=(address, 50000)
        )
        if account is not None:
            client.cookies.set("sid_7860", self.store.add_session(account.id, "Firefox on Linux", address))
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.store.close()


@contextmanager
def accounts_server(app: Any, **access: Any) -> Iterator[AccountsServer]:
    made = AccountsServer(app, **access)
    try:
        yield made
    finally:
        made.close()

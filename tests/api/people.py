"""A house with accounts: people of every role before one server, with hashing that costs nothing."""

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
from modules.api.error_responses import refused
from modules.api.guard.middleware import Door, Guard
from modules.api.page.account_pages import DOOR_VERSION, door_files
from modules.api.page.accounts import account_routes
from modules.api.page.jobs import routes
from modules.api.page.queue import queue_routes
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


def small_server(app: Any, door: Door) -> FastAPI:
    """The door and the page's own routes: what most tests need, built in a fraction of the time of the whole."""
    server = FastAPI(openapi_url=None)
    for router in (routes(app), queue_routes(app), account_routes(door)):
        server.include_router(router)
    server.mount(f"/door/{DOOR_VERSION}", door_files())
    for kind in (AtelierError, HTTPException):
        server.add_exception_handler(kind, _refused)
    server.add_middleware(Guard, door=door)
    return server


async def _refused(request: Request, error: Exception) -> Response:
    return refused(request, error)


class House:
    """A server with accounts.  `clock` is the file's, `patience` the throttle's."""

    def __init__(self, app: Any, build: Callable[[Any, Door], FastAPI] = small_server, **door: Any) -> None:
        self.clock, self.patience = Clock(), Clock(0.0)
        self.store = AccountStore(None, self.clock)
        self.accounts = Accounts(self.store, CHEAP, Throttle(self.patience))
        self.door = Door(accounts=self.accounts, **{"address": BASE, **door})
        self.server = build(app, self.door)
        self._clients: list[TestClient] = []

    def person(self, name: str, role: Role = "user") -> Account:
        code = self.store.add_code("invite", role, 3600)
        return self.store.redeem(code, name, CHEAP.hash(PASSWORD))

    def client(self, account: Account | None = None, base: str = BASE, address: str = "192.168.1.77") -> TestClient:
        """A browser, logged in as somebody or not."""
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
def house(app: Any, **door: Any) -> Iterator[House]:
    made = House(app, **door)
    try:
        yield made
    finally:
        made.close()

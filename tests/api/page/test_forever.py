"""Generate forever over HTTP: for the page and for programs, each for its own user, and not for accounts that are shut."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from starlette.testclient import TestClient

from modules.accounts import AccountStore
from modules.api.guard.middleware import AccessConfig
from modules.api.page.forever import forever_endpoints
from tests.ui.fake_app import FakeApp

NOTHING: dict[str, Any] = {"on": False, "pictures": 0, "started": None, "jobs": [], "prompt": "", "seed": None, "error": ""}


def test_programs_begin_and_end_it_and_the_page_shows_its_own(browser_of: Callable[[], TestClient], app: FakeApp) -> None:
    mine, other = browser_of(), browser_of()
    assert mine.get("/api/v1/forever").json() == mine.get("/internal/forever").json() == NOTHING
    begun = mine.post("/api/v1/forever", json={"prompt": "a rocket", "seed": 2**60}).json()
    assert (begun["on"], begun["prompt"], begun["seed"]) == (True, "a rocket", str(2**60))
    assert begun["jobs"] == list(app.records)
    assert mine.post("/api/v1/forever", json={"steps": 0}).status_code == 422
    assert mine.get("/api/v1/forever").json()["on"]
    assert other.post("/internal/forever/stop").json() == {"stopped": False}
    ended = mine.post("/api/v1/forever/stop").json()
    assert (ended["on"], ended["jobs"]) == (False, [])
    assert [job.state for _, job in app.records.values()] == ["cancelled"]


def test_accounts_that_may_not_paint_are_not_let_in(app: FakeApp) -> None:
    people: dict[str, Any] = {
        "painter": SimpleNamespace(disabled=False, role="user"),
        "shut": SimpleNamespace(disabled=True, role="user"),
        "looker": SimpleNamespace(disabled=False, role="viewer"),
    }
    store = cast(AccountStore, SimpleNamespace(account=people.get))
    forever_endpoints(app, AccessConfig(accounts=cast(Any, SimpleNamespace(store=store))))  # type: ignore[arg-type]
    assert [app.forever.let_in(name) for name in ("painter", "shut", "looker", "removed")] == [True, False, False, False]

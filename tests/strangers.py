"""Several users before one server without their accounts: each cookie is a user of its own.

Only accounts make several users; these tests are about what users see of one another, and not about logging in.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from starlette.datastructures import Headers
from starlette.types import Scope

from modules.api.guard.identity import Identity, LocalIdentity, cookie, port
from modules.api.guard.peers import Peer
from modules.queue.owners import OWNER


def tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rest of the test, each browser is a user of its own."""
    as_it_is = LocalIdentity.identify

    async def identify(self: LocalIdentity, scope: Scope, peer: Peer) -> Identity:
        identity = await as_it_is(self, scope, peer)
        if identity.user != OWNER:
            return identity
        given = identity.set_cookie.partition("=")[2].partition(";")[0]
        token = given or cookie(Headers(scope=scope).get("cookie", ""), f"atelier_{port(scope)}")
        return replace(identity, user="visitor-" + hashlib.sha256(token.encode()).hexdigest()[:20])

    monkeypatch.setattr(LocalIdentity, "identify", identify)

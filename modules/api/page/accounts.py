"""The endpoints of login: logging in and out, using a code, and one's account with what an administrator may do there.

Forms come as a browser sends them and are answered with a page or a redirection.  Who may call what is decided in
`modules.api.guard.access`, and that no other site's page can send these forms, in the guard.
"""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders

from modules.accounts import Account, AccountError, Accounts, TooLong, WrongPassword
from modules.accounts.records import as_role
from modules.api.guard.identity import Identity, set_session
from modules.api.guard.middleware import AccessConfig
from modules.api.page.account_pages import AccountView, Notice, account_page, code_page, login_page
from modules.errors import LimitError, RequestError

T = TypeVar("T")

RESET_HOURS = 24.0
MAX_INVITE_HOURS = 720.0
MAX_NOTICES = 256

_TARGETS = re.compile(r"/(account|docs)?(\?[A-Za-z0-9._~=&%+-]*)?")


def account_endpoints(access: AccessConfig) -> APIRouter:
    """All of them where there are accounts; on a local instance only the one by which the page asks."""
    router = APIRouter(include_in_schema=False)

    @router.get("/internal/account")
    async def account(request: Request) -> Response:
        """Who the page belongs to, for its menu."""
        mode = "local" if access.accounts is None else "accounts"
        return JSONResponse({"mode": mode, "name": request.state.account, "role": request.state.role})

    if access.accounts is not None:
        desk = _Desk(access.accounts, access.address)
        _entrance(router, access.accounts)
        _own_account(router, desk)
        _people(router, desk)
    return router


# ---- coming in and going


def _entrance(router: APIRouter, accounts: Accounts) -> None:
    @router.get("/login")
    async def login_form(request: Request) -> Response:
        target = safe_target(request.query_params.get("next", "/"))
        if not accounts.store.has_administrator():
            return _to("/setup")
        return _to(target) if request.state.role else login_page(target)

    @router.post("/login")
    async def login(request: Request) -> Response:
        form = await read_form(request)
        target, name = safe_target(form.get("next", "/")), form.get("name", "")
        address, agent = request.state.peer.address, agent_words(request.headers.get("user-agent", ""))
        try:
            secret = await _slowly(lambda: accounts.log_in(name, form.get("password", ""), address, agent))
        except (AccountError, LimitError) as error:
            return _with_retry(login_page(target, name[:64], Notice(str(error), bad=True), _status(error)), error)
        return _admitted(request, secret, target)

    @router.post("/logout")
    async def logout(request: Request) -> Response:
        identity: Identity = request.state.identity
        accounts.store.end_session(identity.account, identity.session)
        return _admitted(request, "", "/login")

    @router.get("/setup")
    async def setup_form(request: Request) -> Response:
        if accounts.store.has_administrator():
            return _to("/login")
        return _code_form("/setup", request.query_params.get("code", ""))

    @router.get("/invite")
    async def invite_form(request: Request) -> Response:
        return _code_form("/invite", request.query_params.get("code", ""))

    def _code_form(path: str, code: str, name: str = "", error: Exception | None = None) -> Response:
        """Looking at it uses nothing up: previews of links in chats look too."""
        code = code[:100]
        found = accounts.store.code(code)
        owner = accounts.store.account(found.account) if found is not None and found.account else None
        notice = Notice(_sentence(error), bad=True) if error is not None else None
        if notice is None and code and found is None:
            notice = Notice("This code does not work: it was used, has expired, or never was. Ask for a new one.", bad=True)
        status = _status(error) if error is not None else 403 if notice else 200
        return code_page(path, code, found, owner.name if owner else "", name, notice, status)

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        if accounts.store.has_administrator():
            return _to("/login")
        return await _redeem(request, "/setup")

    @router.post("/invite")
    async def invite(request: Request) -> Response:
        return await _redeem(request, "/invite")

    async def _redeem(request: Request, path: str) -> Response:
        form = await read_form(request)
        code, name, password = (form.get(field, "") for field in ("code", "name", "password"))
        address, agent = request.state.peer.address, agent_words(request.headers.get("user-agent", ""))
        try:
            secret = await _slowly(lambda: accounts.redeem(code, name, password, address, agent))
        except (AccountError, LimitError) as error:
            answer = _code_form(path, code, name[:64], error)
            if not isinstance(error, LimitError) and accounts.store.code(code) is None:
                answer.status_code = 403
            return _with_retry(answer, error)
        return _admitted(request, secret, "/")


# ---- one's own account


class _Desk:
    """What the routes of the account page share: who is there, and the page with what happened last."""

    def __init__(self, accounts: Accounts, address: str) -> None:
        self.accounts = accounts
        self._address = address
        self._notices: OrderedDict[str, Notice] = OrderedDict()  # by session; each is shown once

    def me(self, request: Request) -> Account:
        account = self.accounts.store.account(request.state.identity.account)
        if account is None:  # removed since the guard looked
            raise RequestError("your account was removed just now")
        return account

    def done(self, request: Request, notice: Notice) -> Response:
        """Redirect back to the page, which shows the notice; a reload does not repeat it."""
        self._notices[request.state.identity.session] = notice
        while len(self._notices) > MAX_NOTICES:
            self._notices.popitem(last=False)
        return _to("/account")

    def show(self, request: Request, notice: Notice | None = None, status: int = 200) -> Response:
        me, session, store = self.me(request), request.state.identity.session, self.accounts.store
        rules = me.role == "administrator"
        now = time.time()
        view = AccountView(
            me,
            session,
            [(s, ago(now - s.seen)) for s in store.sessions(me.id)],
            [(t, ago(now - t.used)) for t in store.tokens(me.id)],
            [(a, time.strftime("%Y-%m-%d", time.localtime(a.created))) for a in store.accounts()] if rules else [],
            [(c, span(c.expires - now + 60)) for c in store.codes()] if rules else [],
        )
        return account_page(view, notice or self._notices.pop(session, None), status)

    def link(self, request: Request, code: str) -> str:
        """Where others open the code: as the administrator reaches us, unless that is an address of this machine alone."""
        host = request.headers["host"]
        local = host.startswith(("localhost", "127.", "[::1]"))
        base = self._address if local and self._address else f"{request.state.peer.scheme}://{host}"
        return f"{base}/invite?code={code}"


def _own_account(router: APIRouter, desk: _Desk) -> None:
    store = desk.accounts.store

    @router.get("/account")
    async def show(request: Request) -> Response:
        return desk.show(request)

    @router.post("/account/password")
    async def password(request: Request) -> Response:
        me, identity, form = desk.me(request), request.state.identity, await read_form(request)
        old, new = form.get("old", ""), form.get("new", "")
        try:
            address = request.state.peer.address
            await _slowly(lambda: desk.accounts.change_password(me, old, new, identity.session, address))
        except WrongPassword:
            return desk.show(request, Notice("The old password is not right.", bad=True), 403)
        except (AccountError, LimitError) as error:
            return _with_retry(desk.show(request, Notice(_sentence(error), bad=True), _status(error)), error)
        return desk.done(request, Notice("The password is changed. All other browsers are logged out."))

    @router.post("/account/sessions/end")
    async def end_others(request: Request) -> Response:
        store.end_sessions(desk.me(request).id, keep=request.state.identity.session)
        return desk.done(request, Notice("All other browsers are logged out."))

    @router.post("/account/sessions/{session}/end")
    async def end(request: Request, session: str) -> Response:
        ended = store.end_session(desk.me(request).id, session)
        return desk.done(request, Notice("That browser is logged out." if ended else "That browser was logged out already."))

    @router.post("/account/tokens")
    async def make_token(request: Request) -> Response:
        form = await read_form(request)
        try:
            secret = store.add_token(desk.me(request).id, form.get("label", ""))
        except AccountError as error:
            return desk.show(request, Notice(_sentence(error), bad=True), 422)
        return desk.done(request, Notice("Your new token. Copy it now: nobody can show it again.", secret=secret))

    @router.post("/account/tokens/{token}/revoke")
    async def revoke_token(request: Request, token: str) -> Response:
        revoked = store.revoke_token(desk.me(request).id, token)
        return desk.done(request, Notice("The token is revoked." if revoked else "That token was revoked already."))


# ---- what an administrator does


def _people(router: APIRouter, desk: _Desk) -> None:
    store = desk.accounts.store

    @router.post("/account/invitations")
    async def invite(request: Request) -> Response:
        form = await read_form(request)

        def make() -> Notice:
            role, hours = as_role(form.get("role", "")), _hours(form.get("hours", ""))
            code = desk.accounts.invite(role, hours)
            words = f"An invitation for a new {role}. Hand over the link, the picture, or the code; it works once."
            return Notice(words, secret=code, link=desk.link(request, code))

        return _tried(request, make)

    @router.post("/account/invitations/{code}/withdraw")
    async def withdraw(request: Request, code: str) -> Response:
        gone = store.withdraw_code(code)
        return desk.done(request, Notice("The invitation is withdrawn." if gone else "That invitation is not open any more."))

    def _for_account(act: str, does: Callable[[Account, dict[str, str]], str]) -> None:
        async def route(request: Request, person: str) -> Response:
            account, form = store.account(person), await read_form(request)
            if account is None:
                return desk.show(request, Notice("There is no such account any more.", bad=True), 404)
            return _tried(request, lambda: Notice(does(account, form)))

        router.post(f"/account/people/{{person}}/{act}")(route)

    def change_role(account: Account, form: dict[str, str]) -> str:
        role = as_role(form.get("role", ""))
        store.set_role(account.id, role)
        return f"{account.name} is {'an' if role[0] == 'a' else 'a'} {role} now."

    def disable(account: Account, _: dict[str, str]) -> str:
        store.set_disabled(account.id, True)
        return f"{account.name} is not let in any more."

    def enable(account: Account, _: dict[str, str]) -> str:
        store.set_disabled(account.id, False)
        return f"{account.name} is let in again."

    def end(account: Account, _: dict[str, str]) -> str:
        store.end_sessions(account.id)
        return f"{account.name} is logged out everywhere. API tokens go on working until they are revoked."

    def remove(account: Account, _: dict[str, str]) -> str:
        store.remove(account.id)
        return f"The account of {account.name} is removed."

    _for_account("role", change_role)
    _for_account("disable", disable)
    _for_account("enable", enable)
    _for_account("end", end)
    _for_account("remove", remove)

    @router.post("/account/people/{person}/reset")
    async def reset(request: Request, person: str) -> Response:
        account = store.account(person)
        if account is None:
            return desk.show(request, Notice("There is no such account any more.", bad=True), 404)

        def make() -> Notice:
            code = desk.accounts.reset(account, RESET_HOURS)
            words = f"With this, {account.name} chooses a new password; it works once, for a day."
            return Notice(words, secret=code, link=desk.link(request, code))

        return _tried(request, make)

    def _tried(request: Request, act: Callable[[], Notice]) -> Response:
        try:
            return desk.done(request, act())
        except AccountError as error:
            return desk.show(request, Notice(_sentence(error), bad=True), 422)


# ---- small things


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name.

    Raises:
        RequestError: it is not what a browser's form sends.
    """
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/x-www-form-urlencoded":
        raise RequestError("the request must be a form (application/x-www-form-urlencoded)")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise RequestError("the form is not readable") from None
    return dict(pairs)


def safe_target(text: str) -> str:
    """Where to go after logging in: one of our own pages, whatever was asked for.

    >>> safe_target("/account"), safe_target("/?prompt=a+cat"), safe_target("//evil.example"), safe_target("/\\\\evil")
    ('/account', '/?prompt=a+cat', '/', '/')
    """
    return text if _TARGETS.fullmatch(text) else "/"


def agent_words(agent: str) -> str:
    """What a browser says of itself, in a person's words.

    >>> agent_words("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
    'Firefox on Linux'
    """
    kinds = {"Edg": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
    systems = {
        "Android": "Android",
        "iPhone": "iPhone",
        "iPad": "iPad",
        "Windows": "Windows",
        "Mac OS": "Mac",
        "Linux": "Linux",
    }
    kind = next((words for mark, words in kinds.items() if mark in agent), "A program")
    system = next((words for mark, words in systems.items() if mark in agent), "")
    return f"{kind} on {system}" if system else kind


def ago(seconds: float) -> str:
    return "just now" if seconds < 120 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """
    >>> span(59), span(7300), span(200_000)
    ('a minute', '2 hours', '2 days')
    """
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if (count := int(seconds // size)) > 1:
            return f"{count} {word}s"
        if count == 1:
            return f"an {word}" if word == "hour" else f"a {word}"
    return "a minute"


def _hours(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_INVITE_HOURS:
        raise AccountError(f"an invitation is open for 1 to {MAX_INVITE_HOURS:.0f} hours")
    return float(text)


async def _slowly(work: Callable[[], T]) -> T:
    """On a thread: computing a password's hash takes a while."""
    return await anyio.to_thread.run_sync(work)


def _admitted(request: Request, secret: str, target: str) -> Response:
    answer = _to(target)
    MutableHeaders(raw=answer.raw_headers).append("set-cookie", set_session(request.scope, request.state.peer, secret))
    return answer


def _to(target: str) -> Response:
    return RedirectResponse(target, status_code=303)


def _status(error: Exception) -> int:
    kinds: dict[type[Exception], int] = {WrongPassword: 401, TooLong: 413, LimitError: 429}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), 422)


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _with_retry(answer: Response, error: Exception) -> Response:
    if isinstance(error, LimitError):
        answer.headers["retry-after"] = str(math.ceil(error.retry_after))
    return answer

"""The login pages as HTML: logging in, using a code, one's account.

Small and rendered here, without Gradio and without scripts inside, so that they work before anybody is let in.  Every value
goes through `html`, which escapes it; the pages know forms and words, not what happens with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from starlette.responses import HTMLResponse
from starlette.routing import Router
from starlette.staticfiles import StaticFiles

from modules.accounts import Account, Code, Session, Token
from modules.accounts.qr import qr_svg
from modules.accounts.records import ROLES
from modules.languages import files as languages

STATIC = Path(__file__).parent / "static"
FONTS = Path(__file__).parents[2] / "ui" / "static" / "fonts"
"""The page's own, as files: nothing of the page is imported."""


class Html(str):
    """Text that is HTML already."""


def html(template: str, *values: object) -> Html:
    """The template with every {} replaced: HTML as it is, several joined, everything else escaped.

    >>> html("<p>{} {}</p>", "<script>", html("<b>{}</b>", "&"))
    '<p>&lt;script&gt; <b>&amp;</b></p>'
    """
    return Html(template.format(*(_escaped(value) for value in values)))


def _escaped(value: object) -> str:
    if isinstance(value, Html):
        return value
    if isinstance(value, list | tuple):
        return "".join(_escaped(part) for part in value)
    return escape(str(value))


def login_files() -> Router:
    """The style sheet, the scripts, the fonts and the languages of these pages."""
    files = Router()
    files.mount("/fonts", StaticFiles(directory=FONTS))
    files.mount("/languages", languages.language_files())
    files.mount("/", StaticFiles(directory=STATIC))
    return files


def _version() -> str:
    digest = hashlib.sha256(languages.digest())
    for file in sorted(path for folder in (STATIC, FONTS) for path in folder.iterdir() if path.is_file()):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


LOGIN_VERSION = _version()
"""Changes with any of the files, so that browsers may keep each version for ever."""


@dataclass(frozen=True)
class Notice:
    """What a page says above everything else.  `secret` is shown this once; `link` also as a QR code."""

    words: str
    bad: bool = False
    secret: str = ""
    link: str = ""


def page(title: str, body: Html, status: int = 200, narrow: bool = True) -> HTMLResponse:
    text = html(
        """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{} – Atelier</title>
<script src="/door/{}/languages/translate.js"></script>
<link rel="icon" type="image/svg+xml" href="/door/{}/icon.svg">
<link rel="stylesheet" href="/door/{}/door.css">
<script src="/door/{}/door.js"></script>
</head>
<body class="{}">
{}
</body>
</html>
""",
        title,
        LOGIN_VERSION,
        LOGIN_VERSION,
        LOGIN_VERSION,
        LOGIN_VERSION,
        "narrow" if narrow else "wide",
        body,
    )
    return HTMLResponse(text, status_code=status)


def _card(heading: str, lead: Html, form: Html) -> Html:
    return html(
        '<main class="card"><p class="wordmark">Atelier</p><h1>{}</h1>{}{}</main>',
        heading,
        html('<p class="lead">{}</p>', lead) if lead else "",
        form,
    )


def _notice(notice: Notice | None) -> Html:
    if notice is None:
        return Html()
    return html(
        '<div class="notice{}" role="{}"><p>{}</p>{}{}</div>',
        " bad" if notice.bad else "",
        "alert" if notice.bad else "status",
        notice.words,
        html('<p class="secret"><code>{}</code></p>', notice.secret) if notice.secret else "",
        html(
            '<p class="link"><a href="{}">{}</a></p><div class="qr">{}</div>',
            notice.link,
            notice.link,
            Html(qr_svg(notice.link)),
        )
        if notice.link
        else "",
    )


def _field(label: str, name: str, kind: str, complete: str, value: str = "", more: str = "", hint: str = "") -> Html:
    return html(
        '<label><span>{}</span><input name="{}" type="{}" autocomplete="{}" value="{}" {} required>{}</label>',
        label,
        name,
        kind,
        complete,
        value,
        Html(more),
        html("<small>{}</small>", hint) if hint else "",
    )


_NAME = 'maxlength="64" autocapitalize="none" spellcheck="false"'
_NEW = 'minlength="8" maxlength="1024"'
_NEW_HINT = "At least 8 characters. A few words are best."


def login_page(target: str, name: str = "", notice: Notice | None = None, status: int = 200) -> HTMLResponse:
    form = html(
        '{}<form method="post" action="/login"><input type="hidden" name="next" value="{}">{}{}'
        '<button class="primary">Log in</button></form>',
        _notice(notice),
        target,
        _field("Name", "name", "text", "username", name, _NAME + ("" if name else " autofocus")),
        _field("Password", "password", "password", "current-password", more="autofocus" if name else ""),
    )
    return page("Log in", _card("Log in", Html(), form), status)


def code_page(
    path: str, code: str, found: Code | None, owner: str, name: str = "", notice: Notice | None = None, status: int = 200
) -> HTMLResponse:
    """Where a code is used: to set up, to accept an invitation, or for a new password (`owner` is then whose)."""
    heading, lead, button = _code_words(path, found, owner)
    fields: list[Html] = []
    if found is None:
        fields.append(_field("Code", "code", "text", "off", code, 'autocapitalize="characters" spellcheck="false" autofocus'))
    else:
        fields.append(html('<input type="hidden" name="code" value="{}">', code))
    if found is not None and found.kind == "reset":
        fields.append(html('<input type="hidden" name="name" value="{}" autocomplete="username">', owner))
    elif found is not None or path == "/setup":
        fields.append(_field("Your name", "name", "text", "username", name, _NAME + (" autofocus" if found else "")))
    if found is not None or path == "/setup":
        fields.append(_field("Password", "password", "password", "new-password", more=_NEW, hint=_NEW_HINT))
    # Without a code that works there is nothing to send yet but the code itself: then it is only looked up.
    method = "get" if found is None and path == "/invite" else "post"
    form = html(
        '{}<form method="{}" action="{}">{}<button class="primary">{}</button></form>',
        _notice(notice),
        method,
        path,
        fields,
        button,
    )
    return page(heading, _card(heading, html("{}", lead), form), status)


def _code_words(path: str, found: Code | None, owner: str) -> tuple[str, str, str]:
    if path == "/setup":
        return (
            "Set up",
            "This server has no accounts yet. The first one is the administrator, who invites the others. "
            "The code is on the screen of the machine that runs Atelier.",
            "Make the administrator's account",
        )
    if found is None:
        return "Come in", "Enter the code that you were given.", "Go on"
    if found.kind == "reset":
        return "A new password", f"For {owner}. Everybody who is logged in with the old one is logged out.", "Save the password"
    return "Come in", f"You are invited. You will be {_role_words(found.role)}.", "Make my account"


def _role_words(role: str) -> str:
    return {
        "viewer": "a viewer, who may look but not paint",
        "user": "a user, who may paint",
        "administrator": "an administrator, who may paint and decides who comes in",
    }[role]


# ---- the account page


@dataclass(frozen=True)
class AccountView:
    """What one's account page shows.  `people` and `codes` are empty for who is no administrator; `when` words times."""

    me: Account
    session: str
    sessions: Sequence[tuple[Session, str]]
    tokens: Sequence[tuple[Token, str]]
    people: Sequence[tuple[Account, str]]
    codes: Sequence[tuple[Code, str]]


def account_page(view: AccountView, notice: Notice | None = None, status: int = 200) -> HTMLResponse:
    parts = [
        html(
            '<header><p class="wordmark">Atelier</p><nav><a href="/">Back to painting</a>'
            '<form method="post" action="/logout"><button>Log out</button></form></nav></header>'
        ),
        _notice(notice),
        html('<h1>{}</h1><p class="lead">You are {}.</p>', view.me.name, _role_words(view.me.role)),
    ]
    if view.me.role == "administrator":
        parts += [_people(view), _invitations(view)]
    parts += [_password(), _sessions(view), _tokens(view)]
    return page("Account", html('<main class="account-panel">{}</main>', parts), status, narrow=False)


def _section(heading: str, about: str, body: Iterable[Html]) -> Html:
    return html("<section><h2>{}</h2><p>{}</p>{}</section>", heading, about, list(body))


def _button(action: str, words: str, kind: str = "") -> Html:
    return html('<form method="post" action="/account/{}"><button class="{}">{}</button></form>', action, kind, words)


def _people(view: AccountView) -> Html:
    rows = [_person(account, since, account.id == view.me.id) for account, since in view.people]
    return _section("People", "Who has an account here. Pictures and jobs are seen by their owners alone.", [_table(rows)])


def _person(account: Account, since: str, me: bool) -> Html:
    options = [
        html('<option value="{}"{}>{}</option>', role, Html(" selected") if role == account.role else "", role)
        for role in ROLES
    ]
    role = html(
        '<form method="post" action="/account/people/{}/role" class="inline">'
        '<select name="role" aria-label="Role of {}">{}</select>'
        "<button>Change</button></form>",
        account.id,
        account.name,
        options,
    )
    path = f"people/{account.id}"
    acts = [] if me else [
        _button(f"{path}/end", "Log out everywhere"),
        _button(f"{path}/reset", "New password"),
        _button(f"{path}/enable", "Enable") if account.disabled else _button(f"{path}/disable", "Disable"),
        html(
            '<details class="sure"><summary>Remove</summary><div><p>Remove {}? Pictures on disk stay.</p>{}</div></details>',
            account.name,
            _button(f"{path}/remove", "Remove for good", "bad"),
        ),
    ]  # fmt: skip
    about = "you" if me else f"{'disabled, ' if account.disabled else ''}since {since}"
    return html(
        '<tr class="{}"><th scope="row">{} <small>{}</small></th><td>{}</td><td class="acts">{}</td></tr>',
        "off" if account.disabled else "",
        account.name,
        about,
        role,
        acts,
    )


def _invitations(view: AccountView) -> Html:
    names = {account.id: account.name for account, _ in view.people}
    rows = [
        html(
            '<tr><th scope="row">{}</th><td>{}</td><td class="acts">{}</td></tr>',
            f"A new password for {names.get(code.account, 'an account')}" if code.kind == "reset" else f"For a new {code.role}",
            f"open for {left}",
            _button(f"invitations/{code.id}/withdraw", "Withdraw"),
        )
        for code, left in view.codes
    ]
    form = html(
        '<form method="post" action="/account/invitations" class="inline">'
        '<label><span>Role</span><select name="role">{}</select></label>'
        '<label><span>Open for</span><select name="hours"><option value="1">an hour</option>'
        '<option value="24" selected>a day</option><option value="168">a week</option></select></label>'
        '<button class="primary">Create an invitation</button></form>',
        [html('<option value="{}"{}>{}</option>', r, Html(" selected") if r == "user" else "", r) for r in ROLES],
    )
    return _section("Invitations", "A link or QR code that works once, for one new account.", [_table(rows), form])


def _password() -> Html:
    form = html(
        '<form method="post" action="/account/password" class="stack">{}{}<button>Change the password</button></form>',
        _field("The old one", "old", "password", "current-password"),
        _field("The new one", "new", "password", "new-password", more=_NEW, hint=_NEW_HINT),
    )
    return _section("Password", "Changing it logs out every browser but this one.", [form])


def _sessions(view: AccountView) -> Html:
    rows = [
        html(
            '<tr><th scope="row">{} <small>{}</small></th><td>{}</td><td class="acts">{}</td></tr>',
            session.agent,
            "this browser" if session.id == view.session else f"last seen {seen}",
            session.address,
            "" if session.id == view.session else _button(f"sessions/{session.id}/end", "Log out"),
        )
        for session, seen in view.sessions
    ]
    others = [_button("sessions/end", "Log out all others")] if len(rows) > 1 else []
    return _section("Where you are logged in", "A browser that is not used for 30 days is logged out.", [_table(rows), *others])


def _tokens(view: AccountView) -> Html:
    rows = [
        html(
            '<tr><th scope="row">{}</th><td>{}</td><td class="acts">{}</td></tr>',
            token.label,
            f"last used {used}" if token.used else "never used",
            _button(f"tokens/{token.id}/revoke", "Revoke"),
        )
        for token, used in view.tokens
    ]
    form = html(
        '<form method="post" action="/account/tokens" class="inline"><label><span>What for</span>'
        '<input name="label" required maxlength="64" placeholder="Krita on my laptop"></label>'
        '<button class="primary">Make a token</button></form>',
    )
    about = "For programs: as “Authorization: Bearer TOKEN”, or as HTTP Basic with your name and the token for a password."
    return _section("API tokens", about, [_table(rows), form])


def _table(rows: Sequence[Html]) -> Html:
    return html('<div class="scroll"><table><tbody>{}</tbody></table></div>', list(rows)) if rows else Html()

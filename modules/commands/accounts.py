"""`accounts`: who may come in, from the command line of the machine itself.  May run beside a server.

A user who may write to the data folder may do all of this; no password is asked for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from modules.accounts import Account, AccountError, Accounts
from modules.accounts.records import as_role
from modules.commands.serve import open_accounts, show_link
from modules.errors import SettingsError
from modules.settings import Settings

MAX_HOURS = 720


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Carry out one action; 0 when it was."""
    actions: dict[str, Callable[[Accounts, argparse.Namespace, Settings], None]] = {
        "list": _list,
        "invite": _invite,
        "remove": _remove,
        "reset": _reset,
        "tokens": _tokens,
    }
    if values.action in ("remove", "reset", "tokens") and not values.name:
        raise SettingsError(f"accounts {values.action} needs the name of an account; accounts list shows them")
    if values.name and values.action in ("list", "invite"):
        raise SettingsError(f"accounts {values.action} takes no name; who is invited chooses their own")
    store = open_accounts(settings)
    try:
        actions[values.action](Accounts(store), values, settings)
    finally:
        store.close()
    return 0


def _list(accounts: Accounts, _: argparse.Namespace, settings: Settings) -> None:
    people = accounts.store.accounts()
    for account in people:
        browsers, tokens = len(accounts.store.sessions(account.id)), len(accounts.store.tokens(account.id))
        state = ", disabled" if account.disabled else ""
        print(f"{account.name}: {account.role}{state}, since {_day(account.created)}; browsers {browsers}, tokens {tokens}")
    if not people:
        print(f"Nobody has an account in {settings.data_dir} yet; accounts invite --role administrator makes the first.")
    for code in accounts.store.codes():
        owner = next((account.name for account in people if account.id == code.account), "")
        what = f"a new password for {owner}" if owner else f"a new {code.role}"
        print(f"open code for {what}, until {time.strftime('%Y-%m-%d %H:%M', time.localtime(code.expires))}")


def _invite(accounts: Accounts, values: argparse.Namespace, settings: Settings) -> None:
    role, hours = as_role(values.role), _hours(values.hours)
    _show(f"For a new {role}, once, within {hours:.0f} hours", accounts.invite(role, hours), settings)


def _remove(accounts: Accounts, values: argparse.Namespace, _: Settings) -> None:
    account = accounts.named(values.name)
    accounts.store.remove(account.id)
    print(f"The account of {account.name} is removed; its pictures on disk stay.")


def _reset(accounts: Accounts, values: argparse.Namespace, settings: Settings) -> None:
    account, hours = accounts.named(values.name), _hours(values.hours)
    _show(f"With it {account.name} chooses a new password, within {hours:.0f} hours", accounts.reset(account, hours), settings)


def _tokens(accounts: Accounts, values: argparse.Namespace, _: Settings) -> None:
    account = accounts.named(values.name)
    if values.new:
        print(accounts.store.add_token(account.id, values.new))
        return
    if values.revoke:
        _revoke(accounts, account, values.revoke)
        return
    for token in accounts.store.tokens(account.id):
        used = f"last used {_day(token.used)}" if token.used else "never used"
        print(f"{token.id}  {token.label}, since {_day(token.created)}, {used}")


def _revoke(accounts: Accounts, account: Account, token: str) -> None:
    if not accounts.store.revoke_token(account.id, token):
        raise AccountError(f"{account.name} has no token {token[:40]!r}; accounts tokens {account.name} lists them")
    print("The token is revoked.")


def _show(what: str, code: str, settings: Settings) -> None:
    from modules.server import public_url

    print(f"{what}:\n\n    {code}\n")
    base = public_url(settings, settings.port) or f"http{'s' if settings.tls else ''}://127.0.0.1:{settings.port}"
    show_link(f"{base}/invite?code={code}")


def _hours(text: str) -> float:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= MAX_HOURS:
        raise SettingsError(f"--hours {text[:20]!r} cannot be used; it must be a number from 1 to {MAX_HOURS}")
    return float(text)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))

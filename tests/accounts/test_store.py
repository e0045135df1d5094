"""The accounts file: what is let in, what no longer is, and what a reader of the file finds in it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from modules.accounts import Account, AccountError, AccountStore, Role
from modules.accounts.store import MAX_CODES, MAX_SESSIONS, MAX_TOKENS, SESSION_SECONDS, TOUCH_SECONDS
from tests.api.people import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[AccountStore]:
    made = AccountStore(None, clock)
    yield made
    made.close()


def person(store: AccountStore, name: str, role: Role = "user") -> Account:
    return store.redeem(store.add_code("invite", role, 60), name, f"hash of {name}'s")


def test_a_code_makes_one_account_of_its_role(store: AccountStore) -> None:
    code = store.add_code("invite", "viewer", 60)
    made = store.redeem(code.lower().replace("-", " "), "Ada", "hash")
    assert (made.name, made.role, made.disabled) == ("Ada", "viewer", False)
    assert store.named("ADA") == (made, "hash")
    with pytest.raises(AccountError, match="does not work"):
        store.redeem(code, "Bob", "hash")
    assert [account.name for account in store.accounts()] == ["Ada"]


def test_a_code_ends_with_its_time_and_not_with_a_wrong_name(store: AccountStore, clock: Clock) -> None:
    person(store, "Ada")
    code = store.add_code("invite", "user", 60)
    for name in ("ada", "ＡＤＡ", " Ada ", "", "a:b", "x" * 65):
        with pytest.raises(AccountError):
            store.redeem(code, name, "hash")
    clock.now += 60
    assert store.code(code) is not None
    clock.now += 1
    assert store.code(code) is None
    assert store.codes() == []
    with pytest.raises(AccountError, match="does not work"):
        store.redeem(code, "Bob", "hash")


def test_one_code_makes_one_account_however_many_try(store: AccountStore) -> None:
    code, made = store.add_code("invite", "user", 60), []
    start = threading.Barrier(8)

    def take(name: str) -> None:
        start.wait()
        try:
            made.append(store.redeem(code, name, "hash"))
        except AccountError:
            pass

    threads = [threading.Thread(target=take, args=(f"p{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(store.accounts()) == 1


def test_codes_are_few_and_can_be_withdrawn(store: AccountStore, clock: Clock) -> None:
    for _ in range(MAX_CODES):
        store.add_code("invite", "user", 60)
    with pytest.raises(AccountError, match="withdraw"):
        store.add_code("invite", "user", 60)
    assert store.withdraw_code(store.codes()[0].id)
    code = store.add_code("invite", "user", 60)
    assert store.code(code) is not None
    clock.now += 61
    store.add_code("invite", "user", 60)  # those whose time is over do not count


def test_a_reset_code_changes_the_password_and_ends_sessions(store: AccountStore) -> None:
    ada = person(store, "Ada")
    secret = store.add_session(ada.id, "Firefox", "::1")
    older, code = store.add_code("reset", "user", 60, ada.id), store.add_code("reset", "user", 60, ada.id)
    assert store.code(older) is None, "only the newest counts"
    assert store.redeem(code, "another name", "new hash") == ada
    assert store.named("Ada") == (ada, "new hash")
    assert store.session(secret) is None


def test_sessions_slide_and_end(store: AccountStore, clock: Clock) -> None:
    ada = person(store, "Ada")
    secret = store.add_session(ada.id, "Firefox on Linux", "10.0.0.7")
    for _ in range(5):  # five months of using it every 29 days
        clock.now += SESSION_SECONDS - 24 * 3600
        there = store.session(secret)
        assert there is not None
        assert there[0] == ada
        assert there[2], "the browser's cookie must be extended too"
    clock.now += TOUCH_SECONDS / 2
    assert store.session(secret) == (
        ada,
        there[1].__class__(**{**vars(there[1]), "seen": clock.now - TOUCH_SECONDS / 2}),
        False,
    )
    clock.now += SESSION_SECONDS + 1
    assert store.session(secret) is None
    clock.now -= 2 * SESSION_SECONDS
    assert store.session(secret) is not None, "a clock that jumped ahead and back has logged nobody out"


def test_sessions_are_listed_and_ended_one_by_one(store: AccountStore, clock: Clock) -> None:
    ada, bob = person(store, "Ada"), person(store, "Bob")
    secrets = []
    for n in range(3):
        clock.now += 1
        secrets.append(store.add_session(ada.id, f"agent {n}", "::1"))
    bobs = store.add_session(bob.id, "bob's", "::1")
    listed = store.sessions(ada.id)
    assert [session.agent for session in listed] == ["agent 2", "agent 1", "agent 0"]
    assert not store.end_session(bob.id, listed[0].id), "another user's"
    assert store.end_session(ada.id, listed[0].id)
    assert store.session(secrets[2]) is None
    assert store.end_sessions(ada.id, keep=listed[1].id)
    assert [store.session(secret) is not None for secret in secrets] == [False, True, False]
    assert store.session(bobs) is not None


def test_the_oldest_of_too_many_sessions_ends(store: AccountStore, clock: Clock) -> None:
    ada = person(store, "Ada")
    secrets = []
    for _ in range(MAX_SESSIONS + 1):
        clock.now += 1
        secrets.append(store.add_session(ada.id, "", ""))
    assert store.session(secrets[0]) is None
    assert store.session(secrets[1]) is not None


def test_tokens(store: AccountStore, clock: Clock) -> None:
    ada, bob = person(store, "Ada"), person(store, "Bob")
    secret = store.add_token(ada.id, "Krita ")
    assert secret.startswith("atelier_")
    assert len(secret) > 45
    (token,) = store.tokens(ada.id)
    assert (token.label, token.used) == ("Krita", 0)
    assert store.token(secret) == ada
    assert store.tokens(ada.id)[0].used == clock.now
    assert store.token(secret[:-1]) is None
    assert not store.revoke_token(bob.id, token.id)
    assert store.revoke_token(ada.id, token.id)
    assert store.token(secret) is None
    for n in range(MAX_TOKENS):
        store.add_token(ada.id, f"t{n}")
    with pytest.raises(AccountError, match="revoke one"):
        store.add_token(ada.id, "one more")


def test_a_disabled_account_is_let_in_nowhere(store: AccountStore) -> None:
    person(store, "Ada", "administrator")
    bob = person(store, "Bob")
    session, token = store.add_session(bob.id, "", ""), store.add_token(bob.id, "t")
    store.set_disabled(bob.id, True)
    assert store.session(session) is None
    assert store.token(token) is None
    store.set_disabled(bob.id, False)
    assert store.session(session) is None, "it had to log in again"
    assert store.token(token) == bob


def test_a_removed_account_leaves_nothing_that_lets_in(store: AccountStore) -> None:
    person(store, "Ada", "administrator")
    bob = person(store, "Bob")
    session, token, code = (
        store.add_session(bob.id, "", ""),
        store.add_token(bob.id, "t"),
        store.add_code("reset", "user", 60, bob.id),
    )
    store.remove(bob.id)
    assert store.session(session) is None
    assert store.token(token) is None
    assert store.code(code) is None
    again = person(store, "Bob")
    assert again.user != bob.user, "the next owner of the name does not get the pictures"


@pytest.mark.parametrize("act", ["remove", "disable", "user", "viewer"])
def test_the_last_administrator_stays(store: AccountStore, act: str) -> None:
    ada = person(store, "Ada", "administrator")
    person(store, "Bob")

    def take_away(account: Account) -> None:
        if act == "remove":
            store.remove(account.id)
        elif act == "disable":
            store.set_disabled(account.id, True)
        else:
            store.set_role(account.id, act)  # type: ignore[arg-type]

    with pytest.raises(AccountError, match="last administrator"):
        take_away(ada)
    assert store.account(ada.id) == ada
    eve = person(store, "Eve", "administrator")
    take_away(ada)
    assert store.has_administrator()
    with pytest.raises(AccountError, match="last administrator"):
        take_away(eve)


def test_names_are_cleaned_and_kept_as_people_write_them(store: AccountStore) -> None:
    assert person(store, "  Zoe\u0308 \u202egnp\x00\n X ").name == "Zoë gnp X"
    assert person(store, "李小龍").name == "李小龍"
    assert person(store, "<img src=x onerror=alert(1)>").name == "<img src=x onerror=alert(1)>"


def test_the_file_gives_no_secret_away(tmp_path: Path) -> None:
    path = tmp_path / "data" / "accounts.sqlite"
    store = AccountStore(path)
    code = store.add_code("invite", "user", 60)
    ada = store.redeem(code, "Ada", "hash")
    secrets = [code, store.add_code("invite", "user", 60), store.add_session(ada.id, "", ""), store.add_token(ada.id, "t")]
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600 or os.name == "nt"
        data = file.read_bytes()
        for secret in secrets:
            assert secret.encode() not in data
            assert secret.replace("-", "").encode() not in data
    store.close()


def test_two_processes_see_the_same(tmp_path: Path) -> None:
    server, command = AccountStore(tmp_path / "a.sqlite"), AccountStore(tmp_path / "a.sqlite")
    ada = person(server, "Ada")
    secret = server.add_session(ada.id, "", "")
    assert command.session(secret) is not None
    command.remove(ada.id)
    assert server.session(secret) is None
    server.close()
    command.close()


@pytest.mark.parametrize("damage", ["text", "newer", "folder"])
def test_a_file_that_is_none_is_not_made_anew(tmp_path: Path, damage: str) -> None:
    """An empty list of accounts would let in the first visitor."""
    path = tmp_path / "accounts.sqlite"
    if damage == "folder":
        path.mkdir()
    elif damage == "text":
        path.write_bytes(b"this is no database at all" * 100)
    else:
        store = AccountStore(path)
        store.close()
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(AccountError, match=r"accounts\.sqlite cannot be used.*restore it"):
        AccountStore(path)
    assert (path.read_bytes() if path.is_file() else b"") == before

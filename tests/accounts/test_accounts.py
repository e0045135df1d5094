"""Logging in: passwords of every kind, guesses that must wait, and nothing that tells names from one another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from modules.accounts import Account, AccountError, Accounts, AccountStore, TooLong, WrongPassword
from modules.accounts.passwords import Passwords
from modules.accounts.qr import qr_svg, qr_text
from modules.accounts.throttle import FREE, MAX_KEYS, Throttle
from modules.errors import LimitError
from tests.api.people import CHEAP, PASSWORD, Clock

HOME = "192.168.1.7"


@pytest.fixture
def patience() -> Clock:
    return Clock(0.0)


@pytest.fixture
def accounts(patience: Clock) -> Iterator[Accounts]:
    store = AccountStore(None)
    yield Accounts(store, CHEAP, Throttle(patience))
    store.close()


@pytest.fixture
def ada(accounts: Accounts) -> Account:
    return accounts.store.redeem(accounts.store.add_code("invite", "administrator", 60), "Ada", CHEAP.hash(PASSWORD))


def test_name_and_password_open_a_session(accounts: Accounts, ada: Account) -> None:
    there = accounts.store.session(accounts.log_in("ada", PASSWORD, HOME, "Firefox"))
    assert there is not None
    assert there[0] == ada
    assert (there[1].agent, there[1].address) == ("Firefox", HOME)


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", PASSWORD.upper(), "ü", "a:b", "\0", "x" * 1024])
@pytest.mark.parametrize("name", ["Ada", "nobody"])
def test_everything_else_is_wrong_in_the_same_words(accounts: Accounts, ada: Account, name: str, password: str) -> None:
    with pytest.raises(WrongPassword, match="do not belong together"):
        accounts.log_in(name, password, HOME, "")


def test_a_disabled_account_is_wrong_too(accounts: Accounts, ada: Account) -> None:
    bob = accounts.store.redeem(accounts.store.add_code("invite", "user", 60), "Bob", CHEAP.hash(PASSWORD))
    accounts.store.set_disabled(bob.id, True)
    with pytest.raises(WrongPassword):
        accounts.log_in("Bob", PASSWORD, HOME, "")
    with pytest.raises(WrongPassword):
        accounts.by_basic("Bob", PASSWORD, HOME)


def test_passwords_may_be_anything_between_8_bytes_and_1024() -> None:
    for password in ("üüüü", "🦊🦊", "a:b:c:d:", "pass\nword", "x" * 1024, "        "):
        assert CHEAP.verify(CHEAP.hash(password), password)
    with pytest.raises(AccountError, match="too short"):
        CHEAP.hash("1234567")
    for call in (CHEAP.hash, lambda password: CHEAP.verify(None, password)):
        with pytest.raises(TooLong):
            call("ü" * 513)
    with pytest.raises(AccountError, match="no character"):
        CHEAP.hash("password\ud800")
    assert CHEAP.verify(CHEAP.hash("cafe\u0301 noir"), "caf\u00e9 noir"), "typed on another keyboard"
    assert not CHEAP.verify("not a hash", PASSWORD)
    stored = Passwords().hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert CHEAP.hash(PASSWORD) != CHEAP.hash(PASSWORD), "salted"


def test_an_unknown_name_costs_what_a_known_one_does(accounts: Accounts, ada: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """One hash of the same cost, whatever name is asked for: time that is spent in nothing else."""
    computed: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, stored: str, password: bytes) -> bool:
        computed.append(stored.rpartition("$p=")[0] or stored.split("$")[3])
        return bool(verify(self, stored, password))

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name in ("Ada", "nobody"):
        with pytest.raises(WrongPassword):
            accounts.log_in(name, "a guess", HOME, "")
    assert computed == ["m=8,t=1,p=1"] * 2


def test_guesses_must_wait_longer_and_longer(accounts: Accounts, ada: Account, patience: Clock) -> None:
    waits: list[float] = []
    for _ in range(200):
        try:
            accounts.log_in("Ada", "a guess", HOME, "")
        except LimitError as error:
            waits.append(error.retry_after)
        except WrongPassword:
            pass
    assert waits == [2.0] * (200 - FREE)
    for wait in (2, 4, 8, 16):
        patience.now += wait - 0.1
        with pytest.raises(LimitError):
            accounts.log_in("Ada", "a guess", HOME, "")
        patience.now += 0.1
        with pytest.raises(WrongPassword):
            accounts.log_in("Ada", "a guess", HOME, "")
    with pytest.raises(LimitError):
        accounts.log_in("Ada", PASSWORD, HOME, "")
    patience.now += 32
    assert accounts.log_in("Ada", PASSWORD, HOME, ""), "nobody is locked out"
    with pytest.raises(WrongPassword):
        accounts.log_in("Ada", "a slip", HOME, "")


def test_others_are_not_slowed_down(accounts: Accounts, ada: Account) -> None:
    for _ in range(FREE):
        with pytest.raises(WrongPassword):
            accounts.log_in("ADA ".strip(), "a guess", "10.9.9.9", "")
    with pytest.raises(LimitError):
        accounts.log_in("ada", PASSWORD, "10.9.9.9", "")
    assert accounts.log_in("Ada", PASSWORD, HOME, "")


def test_an_ipv6_network_counts_as_one_address(accounts: Accounts, ada: Account) -> None:
    for n in range(FREE):
        with pytest.raises(WrongPassword):
            accounts.log_in("Ada", "a guess", f"2001:db8:1:2::{n}", "")
    with pytest.raises(LimitError):
        accounts.log_in("Ada", "a guess", "2001:db8:1:2:ffff::1", "")


def test_many_guesses_at_once_are_not_many_free_ones(accounts: Accounts, ada: Account) -> None:
    said: list[type[Exception]] = []
    start = threading.Barrier(20)

    def guess() -> None:
        start.wait()
        try:
            accounts.log_in("Ada", "a guess", HOME, "")
        except (WrongPassword, LimitError) as error:
            said.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count(WrongPassword) == FREE


def test_the_throttle_forgets_and_stays_small(patience: Clock) -> None:
    throttle = Throttle(patience)
    for _ in range(FREE + 1):
        throttle.begin("x")
    assert throttle.begin("x") > 0
    patience.now += 3601
    assert [throttle.begin("x") for _ in range(FREE)] == [0.0] * FREE
    for n in range(MAX_KEYS + 10):
        throttle.begin(n)
    assert len(throttle._failed) == MAX_KEYS


def test_basic_takes_token_or_password(accounts: Accounts, ada: Account) -> None:
    token = accounts.store.add_token(ada.id, "t")
    assert accounts.by_basic("ada", token, HOME) == ada
    assert accounts.by_basic("Ada", PASSWORD, HOME) == ada
    with pytest.raises(WrongPassword):
        accounts.by_basic("a name", token, HOME)


def test_basic_remembers_a_right_password_until_it_changes(
    accounts: Accounts, ada: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    verify = CHEAP.verify
    monkeypatch.setattr(CHEAP, "verify", lambda stored, password: hashed.append(1) or verify(stored, password))
    for _ in range(5):
        assert accounts.by_basic("Ada", PASSWORD, HOME) == ada
    assert len(hashed) == 1
    accounts.store.set_password(ada.id, CHEAP.hash("another one"))
    with pytest.raises(WrongPassword):
        accounts.by_basic("Ada", PASSWORD, HOME)


def test_guessing_codes_must_wait_too(accounts: Accounts, patience: Clock) -> None:
    code = accounts.setup_code()
    for _ in range(FREE):
        with pytest.raises(AccountError, match="does not work"):
            accounts.redeem("ABCD-ABCD-ABCD-ABCD", "Eve", PASSWORD, HOME, "")
    with pytest.raises(LimitError):
        accounts.redeem(code, "Ada", PASSWORD, HOME, "")
    patience.now += 2
    there = accounts.store.session(accounts.redeem(code, "Ada", PASSWORD, HOME, ""))
    assert there is not None
    assert there[0].role == "administrator"


def test_a_refused_password_does_not_use_the_code_up(accounts: Accounts) -> None:
    code = accounts.invite("user", 1)
    for _ in range(FREE * 2):
        with pytest.raises(AccountError, match="too short"):
            accounts.redeem(code, "Bob", "short", HOME, "")
    assert accounts.redeem(code, "Bob", PASSWORD, HOME, "")


def test_changing_the_password_ends_the_other_sessions(accounts: Accounts, ada: Account) -> None:
    here, there = (accounts.log_in("Ada", PASSWORD, HOME, agent) for agent in ("here", "there"))
    session = accounts.store.session(here)
    assert session is not None
    with pytest.raises(WrongPassword):
        accounts.change_password(ada, "not it", "another one", session[1].id, HOME)
    accounts.change_password(ada, PASSWORD, "another one", session[1].id, HOME)
    assert accounts.store.session(here) is not None
    assert accounts.store.session(there) is None
    with pytest.raises(WrongPassword):
        accounts.log_in("Ada", PASSWORD, HOME, "")
    assert accounts.log_in("Ada", "another one", HOME, "")


def test_qr_codes_hold_the_link() -> None:
    """Read back from the drawn modules by comparing with the drawing of another link, and by their shape."""
    svg, text = qr_svg("http://192.168.1.5:7860/invite?code=A"), qr_text("http://192.168.1.5:7860/invite?code=A")
    assert svg.startswith("<svg")
    assert "<script" not in svg
    assert svg != qr_svg("http://192.168.1.5:7860/invite?code=B")
    lines = text.splitlines()
    plain = [line.removeprefix("\x1b[30;107m").removesuffix("\x1b[0m") for line in lines]
    assert {len(line) for line in plain} == {len(plain[0])}
    assert set("".join(plain)) <= set(" ▀▄█")
    assert plain[1][2:9] == "█▀▀▀▀▀█", "the eye in the corner"

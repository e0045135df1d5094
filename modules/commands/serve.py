"""`serve`: one App on one port, until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import socket
import sys
import threading
import urllib.request
import webbrowser
from urllib.parse import urlsplit

from modules.accounts import Accounts, AccountStore
from modules.accounts.accounts import SETUP_SECONDS
from modules.accounts.qr import qr_text
from modules.accounts.store import FILE_NAME
from modules.commands.folders import make_folders
from modules.errors import SettingsError
from modules.extensions import lines
from modules.settings import Settings

GREETING_SECONDS = 1.0
"""How long to wait for another server to say who it is."""


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Serve until Ctrl-C (130) or SIGTERM (0)."""
    for address in settings.addresses:
        check_port(address, settings.port)
    make_folders(settings)
    with contextlib.ExitStack() as stack:
        stack.callback(lines.install())
        store: AccountStore | None = None
        if settings.needs_accounts:  # one connection, from here to the end: see `modules.accounts.store`
            store = stack.enter_context(contextlib.closing(open_accounts(settings)))
        check_access(settings, store)

        from modules.app import App  # only now: these take seconds
        from modules.server import serve

        app = App(settings)
        stack.callback(app.close)
        app.start()
        serve(app, store, on_ready=lambda url: greet(url, settings, store))
    return 0


def check_access(settings: Settings, store: AccountStore | None) -> None:
    """Check before anything slow that the settings and the accounts file go together.

    `store` is the open accounts file; None where nobody needs an account.

    Raises:
        SettingsError: there are no accounts and nobody to make one, or no usable certificate.
    """
    if settings.tls or settings.tls_key:
        from modules.api.guard.tls import certificate

        certificate(settings)
    if store is not None:
        can_start = store.has_administrator() or Accounts(store).may_be_set_up()
        # A code that is printed where nobody reads it, or into a log that everybody reads, would let anyone in.
        if not can_start and not sys.stdout.isatty():
            raise SettingsError(
                "everybody must log in here, but nobody has an account yet, and there is no terminal to show a set-up code on; "
                "run python3 webui.py accounts invite --role administrator (with the same --data-dir), or start once from a "
                "terminal"
            )


def open_accounts(settings: Settings) -> AccountStore:
    """The accounts file of the data folder; who opens it closes it.  Raises AccountError as `AccountStore`."""
    return AccountStore(settings.data_dir / FILE_NAME)


def greet(url: str, settings: Settings, store: AccountStore | None) -> None:
    """Tell where the page is, and open it where there is something to open it with."""
    print(f"\nAtelier is at {url}  (Ctrl-C stops it)\n", flush=True)
    if store is not None:
        url = greet_house(url, settings, store)
    if settings.browser and has_display():
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def greet_house(url: str, settings: Settings, store: AccountStore) -> str:
    """Tell where others find us, and the first time how the administrator is made.  Returns what to open here."""
    from modules.api.guard.tls import certificate
    from modules.server import public_url

    public = public_url(settings, urlsplit(url).port or {"http": 80, "https": 443}[urlsplit(url).scheme])
    if public:
        print(f"Other machines reach it at {public}\n")
    if (tls := certificate(settings)) is not None:
        print(f"Its certificate has the SHA-256 fingerprint\n{tls.fingerprint}\n")
    if store.has_administrator() or not sys.stdout.isatty():
        return url
    code = Accounts(store).setup_code()
    minutes = round(SETUP_SECONDS / 60)
    print(f"Nobody has an account yet. Make the administrator's within {minutes} minutes, with this code:\n\n    {code}\n")
    show_link(f"{public or url}/setup?code={code}")
    return f"{url}/setup?code={code}"


def show_link(link: str) -> None:
    """A link, and on a terminal that can draw it a QR code for a phone."""
    print(f"at {link}\n")
    if sys.stdout.isatty() and "utf" in (sys.stdout.encoding or "").lower():
        print(qr_text(link) + "\n")
    sys.stdout.flush()


def has_display() -> bool:
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def check_port(host: str, port: int) -> None:
    """Find out before anything slow whether we can serve there.

    Raises:
        SettingsError: we cannot; says who is in the way where that can be seen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and host in ("::", "::1"):
                return  # a machine without IPv6 does without
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(_taken(host, port)) from None
            if error.errno == errno.EACCES:
                raise SettingsError(
                    f"port {port} needs an administrator's rights; use --port 7860 or another above 1023"
                ) from None
            raise SettingsError(f"cannot serve at {host}:{port}: {error.strerror}; use --host 127.0.0.1") from None


def _taken(host: str, port: int) -> str:
    other = next((p for p in range(port + 1, min(port + 20, 65536)) if _is_free(host, p)), 0)
    if is_atelier(host, port):
        return f"port {port} is in use: another Atelier is at http://{host}:{port}; use that, stop it, or add --port {other}"
    return f"port {port} is in use by another program; use --port {other} or stop that program"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, port))
        return True
    return False


def is_atelier(host: str, port: int) -> bool:
    """Whether the server at that address is one of ours.  Never through a proxy."""
    address = f"[{host}]" if ":" in host else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}:{port}/health", timeout=GREETING_SECONDS) as answer:
            said = json.loads(answer.read(4096))
    except (OSError, ValueError):
        return False
    except Exception:  # http.client's own, for whatever speaks something else than HTTP
        return False
    return isinstance(said, dict) and "engine" in said

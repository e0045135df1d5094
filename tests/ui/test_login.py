"""The way in and out in Chromium: a code, the page with its menu, an invited phone, a viewer, and leaving nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modules.server import build_server
from tests.api.people import PASSWORD, AccountsServer
from tests.ui.conftest import Watched, serving
from tests.ui.fake_app import FakeApp

pytestmark = pytest.mark.browser


@pytest.fixture
def instance(browser: Any, app: FakeApp) -> Iterator[AccountsServer]:
    """After `browser`, whose loop runs in this thread: where none does, Gradio makes several and leaves them open."""
    made = AccountsServer(app, build=build_server, address="")
    yield made
    made.close()


def fill_in(page: Any, name: str, password: str = PASSWORD) -> None:
    page.fill("[name=name]", name)
    page.fill("[name=password]", password)
    page.click("button.primary")


def test_setting_up_inviting_logging_in_and_out(browser: Any, instance: AccountsServer, app: FakeApp, tmp_path: Path) -> None:
    name = "<img src=x onerror=window.__x=1>"
    with serving(instance.server) as origin:
        boss, phone = Watched(browser, origin), Watched(browser, origin, viewport={"width": 390, "height": 800})

        # The first one comes by the code, and is led on to the page.
        page = boss.new_page()
        page.goto(origin)
        assert page.url == f"{origin}/setup"
        page.goto(f"{origin}/setup?code={instance.accounts.setup_code()}")
        fill_in(page, name)
        page.wait_for_selector("#account:not([hidden])")
        assert page.inner_text("#account summary") == name
        page.fill("#txt2img_prompt textarea", "a secret")
        page.click("#txt2img_generate")
        app.wait_for_job()

        # Their account: a token that is shown once, and an invitation for a viewer.
        page.click("#account summary")
        page.click("text=Your account")
        page.fill("[name=label]", "Krita")
        page.click("text=Make a token")
        secret = page.inner_text(".secret")
        assert instance.store.token(secret) is not None
        page.select_option("form[action='/account/invitations'] [name=role]", "viewer")
        page.click("text=Create an invitation")
        page.wait_for_selector(".qr svg")
        link = page.get_attribute(".notice .link a", "href")
        page.reload()
        assert page.query_selector(".secret, .qr") is None
        assert page.evaluate("window.__x") is None

        # The guest chooses a name and a password, sees nothing of others, and cannot paint.
        guest = phone.new_page()
        guest.goto(link)
        fill_in(guest, "Eve")
        guest.wait_for_selector("#account:not([hidden])")
        guest.fill("#txt2img_prompt textarea", "mine")
        guest.click("#txt2img_generate")
        guest.wait_for_selector("#complaint:not([hidden])")
        assert "may look" in guest.inner_text("#complaint")
        assert len(app.records) == 1
        assert "a secret" not in guest.content()

        # Logging out ends the session, and takes along what the browser kept.
        page.goto(origin)
        page.wait_for_selector("#account:not([hidden])")
        page.wait_for_function("Object.keys(localStorage).some((key) => key.startsWith('atelier.form'))")
        page.click("#account summary")
        page.click(".account-out")
        page.wait_for_url(re.compile(r"/login"))
        assert page.evaluate("Object.keys(localStorage).filter((key) => key !== 'atelier.mode')") == []
        page.goto(f"{origin}/account")
        assert page.url == f"{origin}/login?next=%2Faccount"
        fill_in(page, name, "not the password")
        assert "do not belong together" in page.inner_text("[role=alert]")
        fill_in(page, name)
        page.wait_for_url(f"{origin}/account")
        assert page.inner_text("h1") == name
        assert page.evaluate("window.__x") is None

        assert [sin for sin in boss.sins + phone.sins if "favicon" not in sin] == []
        boss.context.close()
        phone.context.close()

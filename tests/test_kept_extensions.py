"""What a picture says of extensions that are not in use: it is kept from picture to picture, and changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from modules.errors import RequestError
from modules.hooks import HOOKS
from modules.images.infotext import parse_record, render, render_record
from modules.images.reading import read_picture, read_text
from modules.jobs.views import changed_settings
from modules.request import Txt2Img, parse_request
from tests.images.conftest import make_info
from tests.test_request_extensions import GIVEN, Glow, made_with, png_of


def test_what_is_kept_goes_from_picture_to_picture_and_is_never_used() -> None:
    """With the version that the first was made with, as a text and as a record, also where the extension is in use again."""
    with HOOKS.registered(Glow(), "glow"):
        first = replace(made_with(GIVEN), extras={"Extension versions": "glow: 1.0.0"})
        picture = png_of(first)
    kept = {"glow": {"version": "1.0.0", "options": first.request.extensions["glow"]}}
    found = read_picture(picture)
    assert found.fields["kept_extensions"] == kept
    assert found.notes == ("made with glow 1.0.0, which is not installed here or is off: its options are kept, not used",)
    second = replace(make_info(), request=parse_request({**found.fields, "checkpoint": "m"}))
    assert dict(changed_settings(second.request))["Not used"] == "glow 1.0.0 (not installed here, or off)"
    assert json.loads(render_record(second))["format"] == 5
    assert parse_record(render_record(second)).info.request.kept_extensions == kept
    with HOOKS.registered(Glow(), "glow"):
        for again in (read_picture(png_of(second)), read_text(render(second))):
            assert (again.fields.get("extensions", {}), again.fields["kept_extensions"]) == ({}, kept)
            assert again.notes == (
                "made without glow 1.0.0, which was not installed or was off: its options are kept, not used",
            )


@pytest.mark.parametrize(
    "kept",
    [{"a": 3}, [], {"a": {"b": 1}}, {"a": {"version": 1}}, {"a": {"options": 3}}, {"a": {"options": {"x": "y" * 30_000}}}],
)
def test_what_is_kept_has_one_form_and_a_bound(kept: Any) -> None:
    with pytest.raises(RequestError, match=r"extensions: "):
        parse_request({"kept_extensions": kept})
    assert "kept_extensions" not in Txt2Img().model_dump()

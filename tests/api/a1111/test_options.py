"""Options: a list of what may be set, each caller's own, kept over restarts; nothing of the server can be written."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from modules.api.a1111.options import OPTIONS, OwnOptions, read_options
from modules.api.server import build_api
from modules.app import App
from modules.errors import OutputError, RequestError
from modules.request import Img2Img
from tests.api.a1111.conftest import SMALL, Visitor, detail
from tests.api.conftest import BASE

FROM_MINUS_ONE = {"n_rows", "img2img_batch_show_results_limit", "show_progress_every_n_steps"}
"""Options that have -1 among their values."""


def options(client: TestClient) -> dict[str, Any]:
    return dict(client.get("/sdapi/v1/options").json())


def test_every_option_is_reported_and_may_be_sent_back(visitor: Visitor) -> None:
    """Open WebUI changes the checkpoint by sending back all options that it was told."""
    client = visitor()
    said = options(client)
    assert set(said) == {*OPTIONS, "sd_checkpoint_hash"}
    assert client.post("/sdapi/v1/options", json=said).status_code == 200
    assert client.post("/sdapi/v1/options", json={**said, "sd_model_checkpoint": "sub/other.safetensors"}).json() is None
    assert options(client) == {**said, "sd_model_checkpoint": "sub/other.safetensors"}


def test_options_belong_to_who_set_them(visitor: Visitor, real_app: App) -> None:
    mine, yours = visitor(), visitor(browser=True)
    config = sorted(path.name for path in real_app.settings.data_dir.iterdir())
    mine.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "tiny"})
    assert options(mine)["CLIP_stop_at_last_layers"] == 2
    assert options(yours)["CLIP_stop_at_last_layers"] == 1
    assert options(yours)["sd_model_checkpoint"] == "sub/other.safetensors"
    assert {path.name for path in real_app.settings.data_dir.iterdir()} - {*config} <= {"api-options.json"}


def test_options_survive_a_restart(visitor: Visitor, real_app: App) -> None:
    visitor().post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": "2", "sd_model_checkpoint": "other"})
    with TestClient(build_api(real_app), base_url=BASE) as again:
        said = options(again)
    assert (said["sd_model_checkpoint"], said["CLIP_stop_at_last_layers"]) == ("sub/other.safetensors", 2)


def test_options_hold_for_calls(api: TestClient) -> None:
    api.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "other", "eta_ancestral": 0.5})
    answer = api.post("/sdapi/v1/txt2img", json={**SMALL, "sampler_name": "Euler a"})
    api.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1, "sd_model_checkpoint": "tiny", "eta_ancestral": 1})
    info = json.loads(answer.json()["info"])
    assert (info["clip_skip"], info["sd_model_name"], info["extra_generation_params"]["Eta"]) == (2, "sub/other", "0.5")


def test_overrides_that_are_not_restored_become_options(api: TestClient) -> None:
    fields = {"override_settings": {"CLIP_stop_at_last_layers": 3}, "override_settings_restore_afterwards": False}
    assert api.post("/sdapi/v1/txt2img", json={**SMALL, **fields}).status_code == 200
    assert options(api)["CLIP_stop_at_last_layers"] == 3
    api.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})


def test_what_is_put_back_to_its_default_is_forgotten(visitor: Visitor, real_app: App) -> None:
    client = visitor()
    client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2})
    client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})
    kept = json.loads((real_app.settings.data_dir / "api-options.json").read_text())
    assert "CLIP_stop_at_last_layers" not in kept["local"]


def test_all_or_nothing(visitor: Visitor) -> None:
    client = visitor()
    detail(client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2, "nonsense": 1}))
    assert options(client)["CLIP_stop_at_last_layers"] == 1


@pytest.mark.parametrize("value", ["../../etc", "/tmp/x.py", {"a": 1}, [1], 10**30, -1, "x" * 5000, 1.5e308])
def test_no_option_takes_a_path_or_code(visitor: Visitor, value: Any) -> None:
    client = visitor()
    before = options(client)
    asked = [name for name in before if value != -1 or name not in FROM_MINUS_ONE]
    left = asked if value == "/tmp/x.py" else asked[:: len(asked) // 10]
    for name in asked:  # the route's own reader refuses all but names of files, which the route looks for
        with suppress(HTTPException, RequestError):
            read_options({name: value})
            left = [*left, name]
    for name in left:
        assert client.post("/sdapi/v1/options", json={name: value}).status_code in (403, 422), name
    assert options(client) == before


def test_options_of_the_server_are_nobody_s(visitor: Visitor) -> None:
    client = visitor()
    names = [
        *("outdir_samples", "outdir_txt2img_grids", "temp_dir", "clean_temp_dir_at_start", "directories_filename_pattern"),
        *("samples_filename_pattern", "font", "localization", "gradio_theme", "api_enable_requests", "ldsr_path"),
    ]
    for name in names:
        assert "belongs to the server" in detail(client.post("/sdapi/v1/options", json={name: "x"}), 403)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"CLIP_stop_at_last_layers": True}, "must be a number from 1 to 12; True was given"),
        ({"CLIP_stop_at_last_layers": 2.5}, "must be a whole number from 1 to 12"),
        ({"CLIP_stop_at_last_layers": 13}, "from 1 to 12"),
        ({"s_churn": float("inf")}, "must be a number"),
        ({"return_grid": "perhaps"}, "must be true or false"),
        ({"samples_format": "gif"}, "must be 'png' or 'jpg'"),
        ({"randn_source": "cpu"}, "must be 'CPU' or 'GPU' or 'NV'"),
        ({"live_previews_enable": 2}, "must be true or false"),
        ({"uni_pc_order": 0}, "from 1 to 50"),
        ({"hidden_tabs": [{"a": 1}]}, "must be a text"),
        ({"hidden_tabs": ["x"] * 201}, "must be a list of at most 200 names"),
        ({"nonsense": 1}, "GET /sdapi/v1/options lists those that are"),
    ],
)
def test_values_are_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words.replace("(", r"\(")):
        read_options(given)


def test_null_sets_nothing() -> None:
    assert read_options({"sd_model_checkpoint": None, "nonsense": None}) == {}


def test_every_option_with_a_field_sets_a_field_that_exists() -> None:
    """With its default the option must mean the request's own default, or a call would differ from the page."""
    for name, option in OPTIONS.items():
        if option.field:
            assert option.meaning(option.default) == Img2Img.model_fields[option.field].default, name
        assert option.read(option.default) == option.default


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text('{"me": {"s_churn"')
    assert OwnOptions(path).of("me") == {}
    assert (tmp_path / "options.json.bad").exists()
    path.write_text(json.dumps({"me": {"s_churn": 3, "gone": 1, "temp_dir": "/", "rho": "x"}, "you": 7}))
    assert OwnOptions(path).of("me") == {"s_churn": 3}


def test_a_disk_that_refuses_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    own = OwnOptions(tmp_path / "file" / "options.json")
    with pytest.raises(OutputError, match="could not be kept"):
        own.set("me", {"s_churn": 3})
    assert own.of("me") == {}


def test_the_number_of_users_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.api.a1111.options.MAX_USERS", 3)
    own = OwnOptions(tmp_path / "options.json")
    for user in "abcad":
        own.set(user, {"rho": 5.0})
    assert [user for user in "abcd" if own.of(user)] == ["a", "c", "d"]

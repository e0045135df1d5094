"""Every setting from every source, which source wins, and what is said when a value makes no sense."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from modules.errors import SettingsError
from modules.settings import ROOT, TABLE, Setting, Settings, load, unknown_variables

# For each setting three values that differ from the default: as flag/environment text, as TOML, and what comes out.
EXAMPLES: dict[str, list[tuple[str, str, Any]]] = {
    "data_dir": [(f"/x/{n}", f'"/x/{n}"', Path(f"/x/{n}")) for n in "abc"],
    "models_dir": [(f"/x/{n}", f'["/x/{n}"]', (Path(f"/x/{n}"), ROOT / "models")) for n in "abc"],
    "outputs_dir": [(f"/x/{n}", f'"/x/{n}"', Path(f"/x/{n}")) for n in "abc"],
    "extensions_dir": [(f"/x/{n}", f'"/x/{n}"', Path(f"/x/{n}")) for n in "abc"],
    "extensions": [("false", "false", False), ("off", "false", False), ("0", "false", False)],
    "safe_mode": [("true", "true", True), ("on", "true", True), ("1", "true", True)],
    "hide_tab": [
        ("img2img", '["img2img"]', ("img2img",)),
        ("models,settings", '["models", "settings"]', ("models", "settings")),
        ("prompt_journal", '"prompt_journal"', ("prompt_journal",)),
    ],
    "device": [("cpu", '"cpu"', "cpu"), ("cuda", '"cuda"', "cuda"), ("cuda:1", '"cuda:1"', "cuda:1")],
    "workers": [("2", "2", 2), ("3", '"3"', 3), ("64", "64", 64)],
    "dtype": [(n, f'"{n}"', n) for n in ("float32", "float16", "bfloat16")],
    "attention": [(n, f'"{n}"', n) for n in ("xformers", "sdpa", "sliced")],
    "accelerator": [(n, f'"{n}"', n) for n in ("none", "graphs", "openvino")],
    "weights_storage": [(n, f'"{n}"', n) for n in ("full", "fp8", "auto")],
    "exact": [("true", "true", True), ("on", "true", True), ("1", "true", True)],
    "browser": [("false", "false", False), ("off", "false", False), ("0", "false", False)],
    "host": [("::1", '"::1"', "::1"), ("localhost", '"localhost"', "localhost"), ("127.0.0.2", '"127.0.0.2"', "127.0.0.2")],
    "jobs_per_user": [("1", "1", 1), ("2", "2", 2), ("3", "3", 3)],
    "jobs_in_total": [("1", "1", 1), ("2", "2", 2), ("3", "3", 3)],
    "model_memory": [("1", "1", 1), ("0", "0", 0), ("24", "24", 24)],
    "history": [("1", "1", 1), ("2", "2", 2), ("3", "3", 3)],
    "output_format": [(n, f'"{n}"', n) for n in ("jpeg", "webp", "avif")],
    "output_quality": [("1", "1", 1), ("75", '"75"', 75), ("100", "100", 100)],
    "output_name": [(n, f'"{n}"', n) for n in ("[seed]-[prompt_spaces]", "[datetime<%Y><Europe/Berlin>]", "[model_hash]")],
    "output_folder": [(n, f'"{n}"', n) for n in ("[date]/[model_name]", "painted", "[datetime<%Y/%m>]")],
    "keep_sources": [("false", "false", False), ("off", "false", False), ("0", "false", False)],
    "trash_days": [("1", "1", 1), ("0", "0", 0), ("365", '"365"', 365)],
    "port": [("1", "1", 1), ("2", "2", 2), ("65535", '"65535"', 65535)],
    "listen": [("true", "true", True), ("on", "true", True), ("1", "true", True)],
    "require_token": [("true", "true", True), ("on", "true", True), ("1", "true", True)],
    "allowed_host": [
        ("a.lan,B.lan", '["a.lan", "b.lan"]', ("a.lan", "b.lan")),
        ("10.0.0.1", '"10.0.0.1"', ("10.0.0.1",)),
        ("[fe80::1]", '"fe80::1"', ("fe80::1",)),
    ],
    "trusted_proxy": [
        ("127.0.0.1", '"127.0.0.1"', ("127.0.0.1/32",)),
        ("10.1.2.3/8", '["10.0.0.0/8"]', ("10.0.0.0/8",)),
        ("::1", '"::1"', ("::1/128",)),
    ],
    "cors_origin": [
        ("https://A.example", '["https://a.example"]', ("https://a.example",)),
        ("http://a:8000,https://b:443", '"http://a:8000, https://b"', ("http://a:8000", "https://b")),
        ("http://[::1]:3000", '"http://[::1]:3000"', ("http://[::1]:3000",)),
    ],
    "tls_cert": [(f"/x/{n}.pem", f'"/x/{n}.pem"', Path(f"/x/{n}.pem")) for n in "abc"],
    "tls_key": [(f"/x/{n}.pem", f'"/x/{n}.pem"', Path(f"/x/{n}.pem")) for n in "abc"],
    "tls_self_signed": [("true", "true", True), ("on", "true", True), ("1", "true", True)],
}

BAD: dict[str, list[str]] = {
    "data_dir": ["7", '""'],
    "models_dir": ["7", "[7]", '[""]'],
    "outputs_dir": ["true", '"  "'],
    "extensions_dir": ["true", '"  "'],
    "extensions": ['"some"', "0.5"],
    "safe_mode": ['"maybe"', "2"],
    "hide_tab": ['"txt2img"', '["img2img", "txt2img"]', '"PNG Info"', "7"],
    "device": ['"gpu"', '"cuda:"', '"cuda:x"', "1", '"mps"'],
    "workers": ["0", "65", "-1", "1.5", '"many"', "true"],
    "dtype": ['"fp16"', "16"],
    "attention": ['"flash"', "false"],
    "accelerator": ['"turbo"', "false"],
    "weights_storage": ['"int4"', "8"],
    "exact": ['"maybe"', "2"],
    "browser": ['"firefox"', "0.5"],
    "host": ['"example.org"', '"127.0.0.1:80"', '"127.1"', "1", "true"],
    "listen": ['"all"', "2"],
    "require_token": ['"secret"', "7"],
    "allowed_host": ['"a:80"', '"http://a"', '"a/b"', "1", "[1]", '[""]', '"-a"'],
    "trusted_proxy": ['"proxy.lan"', '"10.0.0.0/40"', "true", "[false]"],
    "cors_origin": ['"*"', '"null"', '"a.example"', '"https://a.example/"', '"file://"', '"https://*.example"', "1", '[""]'],
    "tls_cert": ["7", '""'],
    "tls_key": ["7", '""'],
    "tls_self_signed": ['"maybe"', "2"],
    "jobs_per_user": ["0", "-1", "1.5", '"many"', "true"],
    "jobs_in_total": ["0", '""', "[1]"],
    "model_memory": ["-1", '"1 GB"', "true"],
    "history": ["-1", '"1e3"', "false"],
    "output_format": ['"gif"', '"jpg2000"', "1"],
    "output_quality": ["0", "101", "80.5", '"high"', "true"],
    "output_name": [
        '"[sead]"',
        '"picture"',
        '"[seed]/[date]"',
        '"[seed"',
        '""',
        "7",
        '"[datetime<%Q>]"',
        '"[datetime<%Y><Nowhere>]"',
    ],
    "output_folder": ['"../[date]"', '"[foo]"', "true", '"/[date]/./x"', '"[seed<3>]"', '"[prompt_hash<65>]"'],
    "keep_sources": ['"perhaps"', "3"],
    "trash_days": ["-1", '"a week"', "false"],
    "port": ["-1", "65536", '"http"', "7860.5", "true", '"７８６０"'],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "my.toml"


def test_the_table_covers_settings_and_examples() -> None:
    names = {setting.field for setting in TABLE}
    assert names == {field.name for field in fields(Settings)} - {"sources", "file"}
    assert {setting.name for setting in TABLE} == set(EXAMPLES) == set(BAD)


@pytest.mark.parametrize("setting", TABLE, ids=lambda s: s.name)
def test_defaults(setting: Setting) -> None:
    settings = load({}, {})
    default = getattr(settings, setting.field)
    assert default == getattr(Settings(), setting.field)
    assert settings.source(setting.field) == "default"
    shown = Path(setting.default) if setting.field.endswith(("_dir", "_dirs")) else setting.default
    if shown == "":
        assert not default
    elif isinstance(default, tuple):
        assert default == (ROOT / shown,)
    elif isinstance(default, Path):
        assert default == ROOT / shown
    else:
        assert str(default).lower() == shown


@pytest.mark.parametrize("setting", TABLE, ids=lambda s: s.name)
def test_precedence(setting: Setting, file: Path) -> None:
    (_, toml, from_file), (variable, _, from_environment), (flag, _, from_flag) = EXAMPLES[setting.name]
    file.write_text(f"{setting.name} = {toml}\n")
    environment = {setting.variable: variable}

    def value(flags: dict[str, Any], environment: dict[str, str]) -> tuple[Any, str]:
        settings = load(flags, environment, file=str(file))
        return getattr(settings, setting.field), settings.source(setting.field)

    assert value({}, {}) == (from_file, str(file))
    assert value({}, environment) == (from_environment, f"${setting.variable}")
    assert value({setting.name: flag}, environment) == (from_flag, setting.flag)
    assert value({setting.name: None}, {setting.variable: ""}) == (from_file, str(file))


@pytest.mark.parametrize(("name", "toml"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_values_are_named_with_their_source(name: str, toml: str, file: Path) -> None:
    file.write_text(f"{name} = {toml}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load({}, {}, file=str(file))
    said = str(error.value)
    assert str(file) in said
    assert f"{name} " in said
    assert "must be" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("flags", "needs"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.8.9.1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.168.1.5"}, True),
        ({"listen": "true"}, True),
        ({"require_token": "true"}, True),
        ({"trusted_proxy": ["127.0.0.1"]}, True),
    ],
    ids=str,
)
def test_an_address_that_others_reach_needs_accounts(flags: dict[str, Any], needs: bool) -> None:
    assert load(flags, {}).needs_accounts is needs


def test_an_unknown_key_offers_the_nearest(file: Path) -> None:
    file.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="unknown setting 'prot'; did you mean port"):
        load({}, {}, file=str(file))


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"port = 1\nport = 2\n"])
def test_a_file_that_is_no_toml(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="not valid TOML"):
        load({}, {}, file=str(file))


def test_a_named_file_must_exist_and_the_usual_one_need_not(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml does not exist"):
        load({}, {}, file=str(tmp_path / "nowhere.toml"))
    assert load({"data_dir": str(tmp_path)}, {}).data_dir == tmp_path


def test_a_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load({}, {}, file=str(tmp_path))


def test_the_usual_file_lies_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 9000\n")
    assert load({"data_dir": str(tmp_path)}, {}).port == 9000
    assert load({}, {"ATELIER_DATA_DIR": str(tmp_path)}).port == 9000


def test_the_environment_names_the_file(file: Path) -> None:
    file.write_text("port = 9000\n")
    assert load({}, {"ATELIER_SETTINGS": str(file)}).port == 9000


def test_relative_paths_start_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "s.toml").write_text('outputs_dir = "pictures"\n')
    monkeypatch.chdir(here)
    settings = load({"models_dir": ["m/../models"]}, {}, file=str(there / "s.toml"))
    assert settings.outputs_dir == there / "pictures"
    assert settings.models_dirs == (here / "models", ROOT / "models")


def test_models_folders_add_up_and_end_with_ours(tmp_path: Path) -> None:
    several = os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "a")])
    expected = (tmp_path / "a", tmp_path / "b", ROOT / "models")
    assert load({}, {"ATELIER_MODELS_DIR": several}).models_dirs == expected
    assert load({"models_dir": [str(tmp_path / "a"), str(tmp_path / "b")]}, {}).models_dirs == expected


def test_home_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load({"outputs_dir": "~/pictures"}, {}).outputs_dir == tmp_path / "pictures"


def test_several_workers_need_several_devices() -> None:
    for device in ("auto", "cpu", "cuda"):
        assert load({"workers": "2", "device": device}, {}).workers == 2
    assert load({"workers": "1", "device": "cuda:1"}, {}).device == "cuda:1"
    with pytest.raises(
        SettingsError, match=r"^--workers: 2 workers need a CUDA device each, and device cuda:1 is one; use --device cuda"
    ):
        load({"workers": "2", "device": "cuda:1"}, {})
    with pytest.raises(SettingsError, match=r"^\$ATELIER_WORKERS: 3 workers"):
        load({"device": "cuda:0"}, {"ATELIER_WORKERS": "3"})


def test_stray_variables_are_reported() -> None:
    strays = unknown_variables({"ATELIER_PROT": "1", "ATELIER_PORT": "1", "ATELIER_SETTINGS": "x", "PATH": "/"})
    assert strays == ["environment variable ATELIER_PROT is no setting of ours; did you mean ATELIER_PORT?"]


def test_the_readme_has_every_setting() -> None:
    """Its table: | `--flag` | `ATELIER_NAME` | default | ... |, a line per setting and no other."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `(ATELIER_[A-Z_]+)` \| `([^`]*)` \|", readme, re.MULTILINE)
    assert rows == [(setting.flag, setting.variable, setting.default) for setting in TABLE]

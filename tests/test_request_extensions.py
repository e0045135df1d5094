"""Options of an extension: one declaration, and every place that knows a request's own fields knows them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from starlette.testclient import TestClient

from modules import cli
from modules.api.a1111.scripts import script_fields, script_infos, script_names
from modules.api.page.jobs import job_json
from modules.api.server import build_api
from modules.api.v1.answers import job_answer
from modules.app import App
from modules.commands import generate
from modules.diffusion.samplers.relevance import relevant
from modules.engine.messages import Submit
from modules.errors import PluginError, RequestError
from modules.fields import About
from modules.hooks import HOOKS, hookimpl
from modules.images.encoding import Form, encode
from modules.images.infotext import GenerationInfo, parse, parse_record, render, render_record, request_fields
from modules.images.reading import read_picture, read_text
from modules.images.recipe import read_record
from modules.jobs.views import changed_settings
from modules.jobs.worker import engine_configuration
from modules.queue.records import unreadable
from modules.request import (
    EXTENSIONS,
    Img2Img,
    Integer,
    Real,
    RequestExtension,
    Txt2Img,
    options_of,
    parse_request,
    parse_stored,
)
from modules.request.extensions import offered
from modules.settings import ROOT, Settings
from tests.images.conftest import make_info
from tests.local import LocalLink
from tests.scripts.test_axes import NAMES
from tests.tiny import tiny_checkpoint
from tests.ui.fake_app import FakeApp


class GlowOptions(BaseModel):
    """The one place where the fields are declared."""

    strength: Annotated[Real, Field(ge=0, le=1), About("Glow", "how much light, 0 to 1", group="Guidance", step=0.1)] = 0.0
    last_steps: Annotated[
        Integer, Field(ge=0, le=150), About("Glow's steps", "the last ones", group="Glow", needs=("strength",))
    ] = 0
    colour: Annotated[Literal["warm", "cold"], About("Glow's colour", "of the light", group="Glow", needs=("strength",))] = (
        "warm"
    )
    at_edges: Annotated[bool, About("Glow at edges", "not only within", group="Glow", needs=("strength",))] = False
    note: str = ""


class Second(BaseModel):
    amount: Annotated[Real, About("Amount", "of it")] = 0.0


class Glow:
    @hookimpl
    def request_extensions(self) -> list[RequestExtension]:
        return [RequestExtension("glow", GlowOptions, "Soft glow", tabs=("txt2img", "inpaint"))]


GIVEN = {"glow": {"strength": 0.5, "colour": "cold", "note": 'a "b", c: d'}}


@pytest.fixture
def glow() -> Iterator[None]:
    with HOOKS.registered(Glow(), "glow"):
        yield


def made_with(extensions: Any) -> GenerationInfo:
    return replace(make_info(), request=Txt2Img.model_validate({"prompt": "a fox", "seed": 5, "extensions": extensions}))


# ---- the model


@pytest.mark.usefixtures("glow")
def test_a_request_has_the_options_of_an_extension() -> None:
    request = parse_request({"extensions": {"glow": {"strength": "0.5"}}})
    assert request.extensions == {"glow": {"strength": 0.5, "last_steps": 0, "colour": "warm", "at_edges": False, "note": ""}}
    assert options_of(request.extensions, "glow", GlowOptions) == GlowOptions(strength=0.5)
    assert options_of({}, "glow", GlowOptions) == GlowOptions()
    assert parse_request(json.loads(request.model_dump_json())) == request


@pytest.mark.usefixtures("glow")
@pytest.mark.parametrize("given", [{}, {"glow": {}}, {"glow": {"strength": 0, "colour": "warm"}}])
def test_defaults_change_nothing_and_are_not_written(given: Any) -> None:
    request = parse_request({"extensions": given})
    assert request == Txt2Img()
    assert "extensions" not in request.model_dump()
    assert "extensions" not in json.loads(request.model_dump_json())


@pytest.mark.usefixtures("glow")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"glow": {"strength": 7}}, "extensions.glow.strength: must be a number from 0 to 1, 7 was given"),
        ({"glow": {"last_steps": 1.5}}, "extensions.glow.last_steps: must be a whole number from 0 to 150, 1.5 was given"),
        ({"glow": {"colour": "red"}}, "extensions.glow.colour: must be one of warm, cold, 'red' was given"),
        ({"glow": {"at_edges": "perhaps"}}, "extensions.glow.at_edges: must be true or false, 'perhaps' was given"),
        ({"glow": {"shine": 1}}, "extensions.glow.shine: there is no such field"),
        ({"glow": {"strength": float("nan")}}, "extensions: a number must be finite"),
        ({"bloom": {}}, "extensions: there is no extension 'bloom' here (installed: glow); leave it out"),
        ({"glow": 3}, "extensions: must be an object with an object of options for each extension, 3 was given"),
        ([], "extensions: must be an object with an object of options for each extension, [] was given"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(given: Any, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request({"extensions": given})
    assert str(refused.value) == says


@pytest.mark.usefixtures("glow")
def test_options_that_make_no_difference_are_left_out() -> None:
    idle = parse_request({"extensions": {"glow": {"colour": "cold", "at_edges": True}}})
    assert idle.extensions
    assert relevant(idle) == Txt2Img()
    kept = parse_request({"extensions": GIVEN})
    assert relevant(kept).extensions == kept.extensions


@pytest.mark.parametrize("name", ["", "Glow", "my glow", "a.b", "x" * 50])
def test_an_extension_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        RequestExtension(name, GlowOptions)


def test_an_option_has_a_default() -> None:
    class Needy(BaseModel):
        strength: float

    with pytest.raises(ValueError, match="need defaults, which change nothing: strength has none"):
        RequestExtension("needy", Needy)


@pytest.mark.usefixtures("glow")
def test_a_name_belongs_to_one_extension() -> None:
    with pytest.raises(PluginError, match="'glow' has one of that name"):
        HOOKS.register(Glow(), "another")
    assert list(EXTENSIONS) == ["glow"]


# ---- text and record


@pytest.mark.usefixtures("glow")
def test_the_infotext_has_what_is_not_at_its_default_and_is_read_back() -> None:
    info = made_with(GIVEN)
    text = render(info)
    item = parse(text)["Extensions"]
    assert json.loads(item) == GIVEN
    assert parse_request(request_fields(parse(text))).extensions == info.request.extensions
    found = read_text(text)
    assert found.fields["extensions"] == info.request.extensions
    assert found.notes == ()
    assert "Extensions" not in render(made_with({}))


@pytest.mark.usefixtures("glow")
def test_the_record_has_all_of_them_in_a_format_that_older_versions_refuse() -> None:
    info = made_with(GIVEN)
    record = render_record(info)
    assert json.loads(record)["format"] == 3
    assert parse_record(record).info == info
    assert [json.loads(render_record(made_with({})))["format"], json.loads(render_record(make_info()))["format"]] == [1, 1]


def png_of(info: GenerationInfo) -> bytes:
    return encode(bytes(64 * 64 * 3), 64, 64, render(info), render_record(info), Form("png", 90)).data


def test_a_picture_is_readable_where_its_extension_is_not_installed() -> None:
    """And nothing of it is lost: what is written again is the same, and where the extension is, it is understood again."""
    with HOOKS.registered(Glow(), "glow"):
        info = made_with(GIVEN)
        picture, text, record = png_of(info), render(info), render_record(info)

    kept = read_record(picture).info
    assert kept.request.extensions == info.request.extensions
    assert render_record(kept) == record
    found = read_picture(picture)
    assert found.fields["prompt"] == "a fox"
    assert found.fields["extensions"] == {}
    assert found.notes == ("made with glow, which is not installed here or is off: its options are kept, not used",)
    assert found.fields["kept_extensions"] == {"glow": {"version": "", "options": info.request.extensions["glow"]}}
    assert json.loads(found.items["Extensions"])["glow"]["strength"] == 0.5
    assert read_text(text).notes == found.notes
    assert parse_request(found.fields).kept_extensions == found.fields["kept_extensions"]
    assert dict(changed_settings(kept.request))["Glow strength"] == "0.5"
    assert relevant(kept.request).extensions == info.request.extensions

    with HOOKS.registered(Glow(), "glow"):
        assert read_picture(picture).fields["extensions"] == info.request.extensions
        assert dict(changed_settings(read_record(picture).info.request))["Glow"] == "0.5"


def test_one_extension_that_is_missing_does_not_cost_another_one_s_options() -> None:
    text = 'Steps: 5, Sampler: Euler, Seed: 3, Extensions: {"glow": {"strength": 0.5}, "bloom": {"a": 1}}'
    with HOOKS.registered(Glow(), "glow"):
        found = read_text(text)
        assert found.fields["extensions"]["glow"]["strength"] == 0.5
        assert [note.partition(",")[0] for note in found.notes] == ["made with bloom"]
        assert found.fields["kept_extensions"] == {"bloom": {"version": "", "options": {"a": 1}}}


@pytest.mark.usefixtures("glow")
def test_a_stored_request_is_readable_whatever_became_of_the_extension() -> None:
    """Renamed fields, other bounds: what is stored stays as it is, and a request of it is refused only when it is submitted."""
    fields = {"raw_text": False, "extensions": {"glow": {"brightness": 3}, "gone": {"deep": [{"a": "b\ud800"}]}}}
    stored = parse_stored(fields)
    assert stored.extensions == {"glow": {"brightness": 3}, "gone": {"deep": [{"a": "b"}]}}
    assert unreadable(json.dumps(fields)) == ""
    assert ("Glow brightness", "3") in changed_settings(stored)
    assert relevant(stored).extensions == stored.extensions
    info = replace(make_info(), request=stored.model_copy(update={"seed": 5}))
    assert parse_record(render_record(info)).info.request.extensions == stored.extensions
    assert json.loads(parse(render(info))["Extensions"]) == stored.extensions
    nonsense: Any = {"gone": {"a": float("inf")}}
    assert parse_stored({"extensions": nonsense}).extensions == {}
    with pytest.raises(RequestError, match=r"glow\.brightness.*no extension 'gone'"):
        parse_request(stored.model_dump())


# ---- command line, page, APIs


@pytest.mark.usefixtures("glow")
def test_the_command_line_has_a_flag_for_each() -> None:
    flags = ["--glow.strength", "0.5", "--glow.colour", "cold", "--glow.at-edges", "--glow.last-steps", "3"]
    given = generate.given_fields(cli.parse(["generate", "a fox", *flags], offered()).values)
    assert given["extensions"] == {"glow": {"strength": "0.5", "colour": "cold", "at_edges": True, "last_steps": "3"}}
    options = options_of(parse_request(given).extensions, "glow", GlowOptions)
    assert options == GlowOptions(strength=0.5, colour="cold", at_edges=True, last_steps=3)
    assert "extensions" not in generate.given_fields(cli.parse(["generate", "a fox"], offered()).values)
    with redirect_stdout(io.StringIO()) as told, pytest.raises(SystemExit):
        cli.parse(["generate", "--help"], offered())
    words = " ".join(told.getvalue().split())
    assert "--cfg-zero" in words
    assert "--glow.strength N how much light, 0 to 1" in words
    assert "options: glow:" in words


def test_flags_go_over_the_options_of_a_picture_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app: Any = FakeApp(tmp_path)
    with HOOKS.registered(Glow(), "glow"):
        (tmp_path / "fox.png").write_bytes(png_of(made_with(GIVEN)))
        recipe = generate.recipe_fields(app, tmp_path / "fox.png", "stickers")
        fields = generate.over(recipe, {"steps": "3", "extensions": {"glow": {"strength": "0.75"}}})
        options = options_of(parse_request(fields).extensions, "glow", GlowOptions)
        assert options == GlowOptions(**{**GIVEN["glow"], "strength": 0.75})  # type: ignore[arg-type]
        assert parse_request(fields).steps == 3
    assert generate.over(recipe, {"steps": "3"})["extensions"] == recipe["extensions"]
    assert generate.over({}, {"extensions": {"a": {}}}) == {"extensions": {"a": {}}}
    assert generate.recipe_fields(app, tmp_path / "fox.png", "stickers")["extensions"] == {}
    assert "fox.png: made with glow, which is not installed here or is off" in caplog.text


def page() -> None:
    """Print what a form with the extension's options is made of; in a process of its own."""
    from modules.ui.extension_options import extension_options
    from modules.ui.form import KEPT, Figure, Form, keep_unused
    from modules.ui.gradio import gr
    from modules.ui.options import Options

    with HOOKS.registered(Glow(), "glow"), gr.Blocks():
        form = Form("txt2img")
        form.choice("sampler", "Sampler", ["Euler"], "Euler")
        form.choice("schedule", "Schedule", ["Karras"], "Karras")
        form.text("seed", "Seed", "")
        Options(form, tell="{}").build()
        (options,) = extension_options(form, tell="{}")
        form.kept()
        other = [one.name for one in extension_options(Form("img2img"), tell="{}")]
        strength = form.components["extensions.glow.strength"]
        data = {component: getattr(component, "value", None) for component in form.outputs}
        data[form.components["seed"]] = "3"
        data |= {strength: "0.5", form.components["extensions.glow.at_edges"]: True}
        data = {
            component: None if isinstance(component, Figure) and value == "" else value for component, value in data.items()
        }
        at_first = json.loads(str(options.state.value))
        shown = options._shown(json.dumps({"idle": at_first, "values": {"extensions.glow.strength": "0.5"}}))
        updates = form.write({"extensions": {"glow": {"strength": 0.25}}})
        said = {
            "ids": [component.elem_id for component in form.outputs],
            "labels": form.labels,
            "read": form.read(data)["extensions"],
            "idle": at_first,
            "freed": sorted(
                str(component.elem_id) for component in shown if component not in (options.accordion, options.state)
            ),
            "title": shown[options.accordion]["label"],
            "written": {str(component.elem_id): value for component, value in updates.items()},
            "elsewhere": other,
            "kept": form.write({"extensions": {}, "kept_extensions": {"bloom": {"options": {"a": 1}}}})[form.components[KEPT]],
            "kept_read": form.read({**data, form.components[KEPT]: '{"bloom": {"options": {"a": 1}}}'})[KEPT],
            "complaint": form.complaint(RequestError("extensions.glow.strength: must be a number from 0 to 1, 7 was given")),
        }
    said["off"] = form.read(data).get("extensions", "none")
    said["reused"] = form.write({"extensions": {"glow": {"strength": 0.25}}})
    said["missing"] = keep_unused(fields := {"extensions": {"glow": {"strength": 0.25}}})
    said["missing_kept"] = fields
    said["still"] = [component is options.state for component in options._shown("{}")]
    print(json.dumps(said))


def test_the_page_has_an_accordion_with_a_control_for_each() -> None:
    script = "from tests.test_request_extensions import page; page()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    prefix = "txt2img_extensions.glow."
    ids = [one for one in said["ids"] if one.startswith(prefix)]
    assert ids == [prefix + name for name in ("strength", "last_steps", "colour", "at_edges")]
    assert said["elsewhere"] == [], "it names txt2img and inpaint alone"
    assert said["labels"]["extensions.glow.strength"] == "Glow"
    assert parse_like_a_form(said["read"]) == {"strength": "0.5", "colour": "warm", "at_edges": True}
    assert {"extensions.glow.colour", "extensions.glow.last_steps"} <= set(said["idle"])
    assert prefix + "colour" in said["freed"]
    assert said["title"] == "Soft glow · 1 set"
    assert said["written"] == {
        prefix + "strength": 0.25, prefix + "last_steps": 0, prefix + "colour": "warm", prefix + "at_edges": False,
    }  # fmt: skip
    assert json.loads(said["kept"]) == {"bloom": {"options": {"a": 1}}}
    assert said["kept_read"] == {"bloom": {"version": "", "options": {"a": 1}}}
    assert (said["off"], said["reused"], said["still"]) == ("none", {}, [True]), "its values wait while it is off"
    assert said["missing"] == ["made with glow, which is not installed here or is off: its options are kept, not used"]
    assert said["missing_kept"]["kept_extensions"] == {"glow": {"version": "", "options": {"strength": 0.25}}}
    assert said["complaint"] == {"error": "Glow must be a number from 0 to 1, 7 was given.", "fields": [prefix + "strength"]}


def parse_like_a_form(extensions: dict[str, Any]) -> dict[str, Any]:
    with HOOKS.registered(Glow(), "glow"):
        assert parse_request({"extensions": extensions}).extensions["glow"]["at_edges"] is True
    return dict(extensions["glow"])


@pytest.mark.usefixtures("glow")
def test_our_api_takes_and_describes_them(tmp_path: Path) -> None:
    app = FakeApp(tmp_path)
    with TestClient(build_api(app), base_url="http://127.0.0.1:7860") as client:  # type: ignore[arg-type]
        made = client.post("/api/v1/jobs", json={"prompt": "a fox", "extensions": GIVEN})
        assert (made.status_code, made.json()["request"]["extensions"]["glow"]["strength"]) == (201, 0.5)
        plain = app.submit({"prompt": "a fox"}, "me")
        assert job_json(plain)["request"]["extensions"] == {}, "for a form, where it sets all to their defaults"
        assert "extensions" not in job_answer(plain)["request"]
        bad = client.post("/api/v1/jobs", json={"prompt": "a fox", "extensions": {"glow": {"strength": 7}}})
        assert bad.status_code == 422
        assert "extensions.glow.strength: must be a number from 0 to 1, 7 was given" in bad.text
        body = client.get("/openapi.json").json()["paths"]["/api/v1/jobs"]["post"]["requestBody"]
        assert '"description": "How much light, 0 to 1."' in json.dumps(body)


@pytest.mark.usefixtures("glow")
def test_a1111_s_api_has_them_as_a_script() -> None:
    scripts = [script for script in script_infos(NAMES) if script["name"] == "soft glow"]
    assert [script["is_img2img"] for script in scripts] == [False, True]
    assert "soft glow" in script_names(False)
    shown = [(one["label"], one["value"], one["minimum"], one["maximum"], one["step"]) for one in scripts[0]["args"]]
    assert shown[:2] == [("Glow", 0, 0, 1, 0.1), ("Glow's steps", 0, 0, 150, None)]
    assert shown[2] == ("Glow's colour", "warm", None, None, None)
    for image, start in ((False, {}), (True, {"source": "a" * 64})):
        fields, notes = script_fields({"Soft glow": {"args": [0.5, 3]}}, image)
        for named in ({"args": {"strength": 0.5, "last_steps": 3}}, {"args": [{"last_steps": 3, "strength": 0.5}]}):
            assert options_of(script_fields({"GLOW": named}, image)[0]["extensions"], "glow", GlowOptions) == GlowOptions(
                strength=0.5, last_steps=3
            )
        request = parse_request({**fields, **start})
        assert isinstance(request, Img2Img) == image
        assert options_of(request.extensions, "glow", GlowOptions) == GlowOptions(strength=0.5, last_steps=3)
        assert notes == []
    with pytest.raises(RequestError, match="takes 5 args, 6 were given"):
        script_fields({"Soft glow": {"args": [0] * 6}}, False)


def test_an_extension_s_options_are_offered_where_it_says() -> None:
    class Words:
        @hookimpl
        def request_extensions(self) -> list[RequestExtension]:
            return [RequestExtension("words", GlowOptions, tabs=("txt2img",)), RequestExtension("refiner_2", Second, "Refiner")]

    with HOOKS.registered(Words(), "words"):
        assert ("words" in script_names(False), "words" in script_names(True)) == (True, False)
        with pytest.raises(RequestError, match="always on script Words not found"):
            script_fields({"Words": {"args": [0.5]}}, True)
        assert script_fields({"Refiner": {"args": [False]}}, False)[0] == {}, "A1111's own script is meant"
        assert [option.name for option in offered()["Refiner"]] == ["extensions.refiner_2.amount"], "the title is its group"
    with pytest.raises(ValueError, match="can stand in txt2img, img2img, inpaint, not in 'gallery'"):
        RequestExtension("glow", GlowOptions, tabs=("gallery",))


# ---- from the request to the file


def test_a_job_carries_them_to_the_engine_and_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "outputs")
    sent: list[dict[str, Any]] = []
    usual = Submit.of

    def watched(task: str, user: str, request: dict[str, Any], pictures: Any) -> Submit:
        sent.append(request)
        return usual(task, user, request, pictures)

    monkeypatch.setattr(Submit, "of", staticmethod(watched))
    app = App(settings, LocalLink(engine_configuration(settings)))
    fields = {"prompt": "a fox", "seed": 3, "steps": 1, "width": 64, "height": 64}
    kept = {"freeu": {"version": "2.0", "options": {"b1": 1.2}}}
    HOOKS.register(Glow(), "glow", version="1.0.0")
    try:
        app.start()
        try:
            *_, view = app.events(app.submit({**fields, "extensions": GIVEN, "kept_extensions": kept}, "me").id, "me")
            assert view.state == "done", view.error
        finally:
            app.close()
        assert sent[0]["extensions"] == view.request.extensions
    finally:
        HOOKS.unregister("glow")
    path = view.pictures[0].path
    assert json.loads(parse(view.pictures[0].infotext)["Extensions"]) == GIVEN
    assert parse(view.pictures[0].infotext)["Extension versions"] == "glow: 1.0.0"
    info = read_record(path).info
    assert info.request.extensions == view.request.extensions
    assert info.request.kept_extensions == kept
    assert "made without freeu 2.0, which was not installed or was off" in info.facts["notes"]


def test_a_job_whose_extension_was_removed_says_so(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    tiny_checkpoint(tmp_path / "models" / "tiny.safetensors")
    settings = Settings(data_dir=tmp_path / "data", models_dirs=(tmp_path / "models",), outputs_dir=tmp_path / "outputs")
    with HOOKS.registered(Glow(), "glow"):
        app = App(settings, LocalLink(engine_configuration(settings)))
        job = app.submit({"prompt": "a fox", "seed": 3, "steps": 1, "extensions": GIVEN}, "me").id
        app.close()
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    try:
        *_, view = app.events(job, "me")
        assert view.request.extensions["glow"]["strength"] == 0.5
        assert view.state == "failed"
        assert "there is no extension 'glow' here" in view.error
    finally:
        app.close()

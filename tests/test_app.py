"""The App as a whole, without HTTP: what is submitted comes out as pictures with their record, and survives accidents."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modules.app import App
from modules.engine.messages import Message
from modules.errors import EngineError, LimitError, OutputError, RequestError
from modules.images import infotext, png
from modules.jobs import hold
from modules.jobs.views import JobView
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.local import LocalLink
from tests.scripted import ScriptedLink
from tests.tiny import tiny_checkpoint

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def settings(models: Path, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", models_dirs=(models,), outputs_dir=tmp_path / "outputs")


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    yield app
    app.close()


@pytest.fixture
def link() -> ScriptedLink:
    return ScriptedLink()


@pytest.fixture
def scripted(settings: Settings, link: ScriptedLink) -> Iterator[App]:
    app = App(settings, link)
    app.start()
    yield app
    app.close()


def finish(app: App, view: JobView) -> JobView:
    *_, last = app.events(view.id, "me")
    return last


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_request_becomes_a_picture_with_its_record(app: App) -> None:
    view = finish(app, app.submit({**SMALL, "negative_prompt": "dog, blurry", "sampler": "Euler a"}, "me"))
    assert (view.state, view.done, view.progress, view.error) == ("done", 1, 1.0, "")
    picture = view.pictures[0]
    with Image.open(picture.path) as image:
        assert image.size == (64, 64)
        assert image.text["parameters"] == picture.infotext  # type: ignore[attr-defined]
    assert picture.infotext.startswith("a cat\nNegative prompt: dog, blurry\nSteps: 2, Sampler: Euler a, Schedule type: ")
    assert pixels(picture.path).std() > 1


def test_the_record_makes_the_picture_again(app: App) -> None:
    first = finish(app, app.submit({**SMALL, "seed": -1, "sampler": "DPM++ 2M SDE", "cfg_scale": 3.5}, "me")).pictures[0]
    fields = infotext.request_fields(infotext.parse(first.infotext))
    again = finish(app, app.submit(fields, "me")).pictures[0]
    assert again.path != first.path
    assert np.array_equal(pixels(again.path), pixels(first.path))


def test_picture_k_of_a_job_is_that_seed_alone(app: App) -> None:
    job = finish(app, app.submit({**SMALL, "count": 3}, "me"))
    assert [p.seed for p in job.pictures] == [7, 8, 9]
    for picture in job.pictures:
        alone = finish(app, app.submit({**SMALL, "seed": picture.seed}, "me")).pictures[0]
        assert np.abs(pixels(picture.path) - pixels(alone.path)).max() <= 1


def test_what_is_not_said_comes_from_the_checkpoint(scripted: App) -> None:
    request = scripted.complete({"prompt": "x"})
    best = scripted.checkpoints()[0].defaults
    assert (request.width, request.height, request.steps) == (best.width, best.height, best.steps)
    assert (request.sampler, request.schedule, request.cfg_scale) == (best.sampler, best.schedule, best.cfg_scale)
    assert request.seed >= 0
    assert request.checkpoint == "tiny"
    assert scripted.complete({"seed": -1}).seed != scripted.complete({"seed": -1}).seed


def test_names_are_understood_as_people_write_them(scripted: App) -> None:
    request = scripted.complete({**SMALL, "sampler": "DPM++ 2M Karras", "checkpoint": "TINY"})
    assert (request.sampler, request.schedule, request.checkpoint) == ("DPM++ 2M", "Karras", "tiny")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": 10**6}, "steps"),
        ({"width": 63}, "width: must be a multiple of 8 from 64 to 8192, 63 was given"),
        ({"width": 2056}, "width: must be 2048 at most without tiled diffusion, 2056 was given; switch tiled diffusion on"),
        ({"hires": {"width": 64, "height": 4096}}, "hires.height: must be 2048 at most without tiled diffusion, 4096"),
        ({"width": 8200, "tiled_diffusion": True}, "width: must be a multiple of 8 from 64 to 8192, 8200 was given"),
        ({"width": 8192, "height": 8192, "tiled_diffusion": True}, "8192x8192 is too much for one request; 33,554,432"),
        ({"height": 65}, "height"),
        ({"width": "abc"}, "'abc' was given"),
        ({"cfg_scale": float("nan")}, "cfg_scale: must be a number from 0"),
        ({"sampler": "Oiler"}, "'Euler'"),
        ({"checkpoint": "absent"}, "'absent' is not here"),
        ({"prompt": "x" * 40_000}, "32,768 characters"),
    ],
)
def test_bad_input_is_refused_in_words_and_leaves_nothing(scripted: App, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        scripted.submit({**SMALL, **fields}, "me")
    assert said in str(caught.value)
    assert scripted.jobs("me") == []


def test_hostile_text_is_kept_where_it_can_be(app: App) -> None:
    prompt = '🍎 مرحبا\n<b>&\x00\ud800, "quoted": (x:1.2)'
    picture = finish(app, app.submit({**SMALL, "prompt": prompt}, "me")).pictures[0]
    assert picture.infotext.startswith('🍎 مرحبا\n<b>&, "quoted": (x:1.2)\n')


def test_a_long_prompt_paints(app: App) -> None:
    assert finish(app, app.submit({**SMALL, "prompt": "a tale of cats, " * 1875}, "me")).state == "done"


def test_jobs_belong_to_their_user(scripted: App) -> None:
    view = scripted.submit(SMALL, "me")
    assert scripted.job(view.id, "you") is None
    assert scripted.jobs("you") == []
    assert scripted.preview(view.id, "you") is None
    assert scripted.picture(view.id, 0, "you") is None
    assert not scripted.cancel(view.id, "you")
    mine = scripted.job(view.id, "me")
    assert mine is not None
    assert mine.state == "queued"


def test_the_image_that_is_looked_at_stays_the_same_while_others_overtake_it(scripted: App, link: ScriptedLink) -> None:
    """On a slow device images of a job take turns: one that has just stepped has its next step, and preview, last."""
    link.hello()
    job = scripted.submit({**SMALL, "count": 4}, "me").id

    def looked_at() -> list[str]:
        scripted.preview(job, "me")
        return [task for m in link.sent if m.kind == "watch" for task in m.data["tasks"]]

    for index in (2, 3, 0, 1):
        link.step(f"{job}.{index}", 5 if index == 2 else 6, 20)
        assert looked_at() == [f"{job}.2"]
    link.done(f"{job}.2")
    assert any(view.pictures for view in scripted.events(job, "me"))
    assert looked_at()[-1] in {f"{job}.{index}" for index in (0, 1, 3)}


def test_cancel_keeps_what_is_finished(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    view = scripted.submit({**SMALL, "count": 3}, "me")
    link.done(f"{view.id}.0")
    events = scripted.events(view.id, "me")
    while next(events).done < 1:
        pass
    assert scripted.cancel(view.id, "me")
    assert not scripted.cancel(view.id, "me")
    ended = scripted.job(view.id, "me")
    assert ended is not None
    assert (ended.state, ended.done) == ("cancelled", 1)
    assert set(link.tasks("cancel")) == {f"{view.id}.1", f"{view.id}.2"}


def test_a_restart_finishes_what_was_accepted_with_the_same_pixels(settings: Settings, link: ScriptedLink) -> None:
    """The first App is dropped with a job half done; the second one has it, paints the rest, and nothing twice."""
    first = App(settings, link)
    first.start()
    view = first.submit({**SMALL, "count": 2}, "me")
    other = first.submit({**SMALL, "seed": 50}, "me")
    first.close()

    second = App(settings, LocalLink(engine_configuration(settings)))
    second.start()
    job, later = finish(second, view), finish(second, other)
    assert (job.state, job.done, later.state) == ("done", 2, "done")
    alone = finish(second, second.submit({**SMALL, "seed": 8}, "me"))
    assert np.abs(pixels(job.pictures[1].path) - pixels(alone.pictures[0].path)).max() <= 1
    second.close()
    assert len(list(settings.outputs_dir.rglob("*.png"))) == 4


def test_patterns_name_the_pictures_of_jobs(settings: Settings) -> None:
    patterns = {"output_name": "[seed]-[prompt_no_styles]-[generation_number]", "output_folder": "[model_name]/[model_hash]"}
    app = App(replace(settings, **patterns), LocalLink(engine_configuration(settings)))
    app.start()
    view = finish(app, app.submit({**SMALL, "count": 2, "prompt": "a/b # c"}, "me"))
    app.close()
    names = [picture.path.relative_to(settings.outputs_dir).as_posix() for picture in view.pictures]
    assert [name.rpartition("/")[2] for name in names] == ["7-a_b-1.png", "8-a_b-2.png"]
    assert re.fullmatch(r"[^/]+/[0-9a-f]{10}/7-a_b-1\.png", names[0])


def test_a_killed_engine_costs_no_job(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    view, other = scripted.submit(SMALL, "me"), scripted.submit(SMALL, "you")
    link.say(Message("died", {"cause": "the engine was ended by SIGKILL"}))
    assert scripted.engine().state == "restarting"
    link.sent.clear()
    link.hello()
    assert link.tasks() == [f"{view.id}.0"], "suspects fly one at a time"
    link.done(f"{view.id}.0")
    assert finish(scripted, view).state == "done"
    scripted.service.settle()  # what follows from a saved picture has happened
    assert link.tasks()[-1] == f"{other.id}.0"


def test_a_poison_job_fails_after_two_attempts_and_the_queue_goes_on(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    poison, good = scripted.submit(SMALL, "me"), scripted.submit({**SMALL, "seed": 1}, "me")
    for _ in range(2):
        link.say(Message("died", {"cause": "the engine was ended by SIGSEGV"}))
        link.hello()
    failed = scripted.job(poison.id, "me")
    assert failed is not None
    assert failed.state == "failed"
    assert "SIGSEGV" in failed.error
    assert "tried twice" in failed.error
    link.done(f"{good.id}.0")
    assert finish(scripted, good).state == "done"


def test_an_engine_that_cannot_start_fails_its_jobs_and_is_tried_again_on_request(scripted: App, link: ScriptedLink) -> None:
    view = scripted.submit(SMALL, "me")
    link.say(Message("gave_up", {"cause": "torch is broken"}))
    failed = scripted.job(view.id, "me")
    assert failed is not None
    assert (failed.state, scripted.engine().state) == ("failed", "failed")
    assert "torch is broken" in failed.error
    scripted.submit(SMALL, "me")
    assert (link.starts, scripted.engine().state) == (2, "restarting")


def test_a_bad_file_is_listed_with_its_problem_and_the_model_stays(app: App, models: Path) -> None:
    finish(app, app.submit(SMALL, "me"))
    bad = models / "broken.safetensors"
    bad.write_bytes(b"")
    try:
        listed = {info.name: info.problem for info in app.checkpoints()}
        assert "empty" in listed["broken"]
        with pytest.raises(RequestError, match="empty"):
            app.submit({**SMALL, "checkpoint": "broken"}, "me")
        assert finish(app, app.submit({**SMALL, "checkpoint": "tiny"}, "me")).state == "done"
    finally:
        bad.unlink()


def test_no_checkpoint_at_all_says_what_to_do(settings: Settings, tmp_path: Path, link: ScriptedLink) -> None:
    (tmp_path / "empty").mkdir()
    app = App(Settings(data_dir=settings.data_dir, models_dirs=(tmp_path / "empty",), outputs_dir=settings.outputs_dir), link)
    with pytest.raises(RequestError, match=r"put an SD 1\.x \.safetensors file into"):
        app.submit(SMALL, "me")
    app.close()


def test_the_same_key_submits_once(scripted: App) -> None:
    first = scripted.submit({**SMALL, "seed": -1}, "me", key="mine")
    again = scripted.submit({**SMALL, "seed": -1}, "me", key="mine")
    assert (again.id, again.request.seed) == (first.id, first.request.seed)
    assert len(scripted.jobs("me")) == 1
    assert scripted.submit(SMALL, "you", key="mine").id != first.id
    with pytest.raises(RequestError, match="200 is the most"):
        scripted.submit(SMALL, "me", key="x" * 201)


def test_over_the_limit_it_says_when_to_come_back(settings: Settings, link: ScriptedLink) -> None:
    app = App(replace(settings, jobs_per_user=2), link)
    app.start()
    link.hello()
    app.submit(SMALL, "me")
    app.submit(SMALL, "me")
    with pytest.raises(LimitError, match="2 is the most") as refused:
        app.submit(SMALL, "me")
    assert refused.value.retry_after == 30.0, "nothing is known yet"
    link.say(Message("costs", {"costs": [["predict", "tiny", 64, 64, 2, 50.0]]}))
    app.service.forecasts.expire()
    with pytest.raises(LimitError) as refused:
        app.submit(SMALL, "me")
    assert refused.value.retry_after == pytest.approx(2 * 50.0), "the first job's two evaluations"
    app.submit(SMALL, "you")
    app.close()


def test_estimates_come_from_what_was_measured_and_outlive_a_restart(settings: Settings, link: ScriptedLink) -> None:
    app = App(settings, link)
    app.start()
    unknown = app.submit({**SMALL, "sampler": "Euler"}, "me")
    assert unknown.eta_s is None, "the engine is not even there"
    link.hello()
    link.say(Message("loaded", {"checkpoint": "tiny", "seconds": 0.0}))
    link.say(Message("costs", {"costs": [["predict", "tiny", 64, 64, 2, 1.0], ["decode", "tiny", 64, 64, 1, 4.0]]}))
    second = app.submit({**SMALL, "sampler": "Euler"}, "me")
    first = app.job(unknown.id, "me")
    assert first is not None
    assert first.eta_s is not None
    assert second.eta_s is not None
    assert second.eta_s == pytest.approx(2 * first.eta_s), "one after the other"
    app.cancel(second.id, "me")
    app.close()

    again = App(settings, ScriptedLink())
    again.start()
    assert isinstance(again.link, ScriptedLink)
    again.link.hello()
    view = again.job(unknown.id, "me")
    assert view is not None
    assert view.eta_s is not None
    again.close()


def test_pausing_takes_back_what_is_not_begun_and_going_on_brings_it_again(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    view = scripted.submit({**SMALL, "count": 3}, "me")
    other = scripted.submit(SMALL, "you")
    link.step(f"{view.id}.0")
    scripted.pause("me", True)
    assert link.flying() == [f"{view.id}.0", f"{other.id}.0"]
    queue = scripted.queue("me")
    assert queue.paused
    assert [(job.id, job.paused, job.eta_s) for job in queue.jobs] == [(view.id, True, None)]
    assert not scripted.queue("you").paused
    scripted.submit(SMALL, "me")
    link.done(f"{view.id}.0")
    assert link.flying() == [f"{other.id}.0"], "nothing more is begun"
    scripted.pause("me", False)
    assert link.flying().count(f"{view.id}.1") == 1
    assert {f"{view.id}.1", f"{view.id}.2"} <= set(link.flying())


def test_a_pause_outlives_a_restart(settings: Settings, link: ScriptedLink) -> None:
    first = App(settings, ScriptedLink())
    first.start()
    first.submit(SMALL, "me")
    first.pause("me", True)
    first.close()
    second = App(settings, link)
    second.start()
    link.hello()
    assert link.flying() == []
    assert second.queue("me").paused
    second.pause("me", False)
    assert len(link.flying()) == 1
    second.close()


def test_owners_order_their_own_jobs(settings: Settings, link: ScriptedLink) -> None:
    app = App(settings, link)
    app.start()
    jobs = [app.submit({**SMALL, "seed": n}, user).id for n, user in enumerate(["me", "you", "me", "me"])]
    assert app.move(jobs[3], "me", 0)
    assert not app.move(jobs[3], "you", 0)
    assert [job.id for job in app.queue("me").jobs] == [jobs[3], jobs[0], jobs[2]]
    assert [job.position for job in app.queue("me").jobs] == [0, 2, 3]
    link.hello()
    assert [task.partition(".")[0] for task in link.flying()] == [jobs[3], jobs[1], jobs[0], jobs[2]]
    app.close()


def test_others_are_a_load_without_a_name(scripted: App) -> None:
    scripted.submit({**SMALL, "prompt": "secret", "count": 3}, "you")
    scripted.submit(SMALL, "they")
    queue = scripted.queue("me")
    assert queue.jobs == ()
    assert (queue.others.users, queue.others.jobs, queue.others.pictures, queue.others.seconds) == (2, 2, 4, None)
    assert "secret" not in repr(queue)


def test_retry_makes_what_is_lacking_and_remove_forgets(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    view = scripted.submit({**SMALL, "count": 2}, "me")
    link.done(f"{view.id}.0")
    while (now := scripted.job(view.id, "me")) is not None and now.done < 1:
        pass
    link.say(Message("failed", {"task": f"{view.id}.1", "error": "no memory", "trace": ""}))
    assert not scripted.retry(view.id, "you")
    assert not scripted.remove(view.id, "you")
    link.sent.clear()
    assert scripted.retry(view.id, "me")
    assert not scripted.retry(view.id, "me"), "it waits already"
    assert link.tasks() == [f"{view.id}.1"]
    assert not scripted.remove(view.id, "me"), "what runs is cancelled, not removed"
    link.done(f"{view.id}.1")
    assert finish(scripted, view).done == 2
    assert scripted.remove(view.id, "me")
    assert scripted.jobs("me") == []


def test_a_closing_server_accepts_nothing(settings: Settings, link: ScriptedLink) -> None:
    app = App(settings, link)
    app.start()
    app.close()
    with pytest.raises(EngineError, match="closing"):
        app.submit(SMALL, "me")


def test_restarts_of_the_program_blame_no_job_and_a_suspect_stays_one(settings: Settings) -> None:
    """An engine died over it in an earlier life of the program: it flies alone, and one more death is the last."""
    first = App(settings, link := ScriptedLink())
    first.start()
    link.hello()
    poison, good = first.submit(SMALL, "me"), first.submit(SMALL, "you")
    link.say(Message("died", {"cause": "the engine was ended by SIGSEGV"}))
    first.close()

    second = App(settings, link := ScriptedLink())
    second.start()
    link.hello()
    assert link.flying() == [f"{poison.id}.0"], "suspects fly alone"
    link.say(Message("died", {"cause": "the engine was ended by SIGSEGV"}))
    failed = second.job(poison.id, "me")
    assert failed is not None
    assert failed.state == "failed"
    link.sent.clear()
    link.hello()
    link.done(f"{good.id}.0")
    *_, last = second.events(good.id, "you")
    assert last.state == "done"
    second.close()


def test_listeners_hear_of_changes(scripted: App, link: ScriptedLink) -> None:
    heard: list[int] = []
    end = scripted.listen(lambda: heard.append(1))
    scripted.submit(SMALL, "me")
    assert heard
    end()
    heard.clear()
    scripted.submit(SMALL, "me")
    assert not heard


# --------------------------------------------------------------------------------------------------- styles and wildcards


@pytest.fixture
def words(settings: Settings) -> Path:
    """The data folder, with a style and a wildcard in it."""
    (settings.data_dir / "wildcards").mkdir(parents=True)
    (settings.data_dir / "wildcards" / "animal.txt").write_text("cat\ndog\nfox\n")
    (settings.data_dir / "styles.csv").write_text("name,prompt,negative_prompt\nPhoto,photo of {prompt},drawing\n")
    return settings.data_dir


def test_a_picture_records_the_words_it_was_painted_with(words: Path, app: App) -> None:
    """The drawn prompt stands in the text, the template beside it, and the picture is that of the drawn prompt alone."""
    fields = {"prompt": "a {red|blue} __animal__ # mine", "negative_prompt": "{bad|ugly}", "styles": ["Photo"], "count": 3}
    view = finish(app, app.submit({**SMALL, **fields}, "me"))
    assert view.state == "done"
    assert view.request.prompt == fields["prompt"], "the job keeps what was asked"
    for picture in view.pictures:
        record = infotext.parse_record(png.read_texts(picture.path).texts[png.RECORD]).info
        again = app.library.finish(view.request.image(picture.index)).request
        assert record.request == again
        said = infotext.parse(picture.infotext)
        assert said["Prompt"].rstrip() == record.request.prompt.rstrip()
        assert said["Prompt"].startswith("photo of a ")
        assert said["Template"] == "photo of a {red|blue} __animal__ \n"
        assert said["Negative Template"] == "{bad|ugly}, drawing"
        replayed = finish(app, app.submit(record.request.model_dump(), "me"))
        assert np.abs(pixels(replayed.pictures[0].path) - pixels(picture.path)).max() <= 1


def test_what_is_left_out_stands_in_the_record(app: App) -> None:
    view = finish(app, app.submit({**SMALL, "prompt": "a (cat:1.2) <lora:ink:0.8>", "emphasis": "No norm"}, "me"))
    picture = view.pictures[0]
    record = infotext.parse_record(png.read_texts(picture.path).texts[png.RECORD]).info
    assert "<lora:ink:0.8>: network 'ink' is not here" in record.facts["notes"]
    said = infotext.parse(picture.infotext)
    assert (said["Prompt"], said["Emphasis"]) == ("a (cat:1.2) <lora:ink:0.8>", "No norm")
    assert said["Networks left out"] == "<lora:ink:0.8>"


def test_a_style_that_is_not_here_is_refused_at_once(words: Path, scripted: App) -> None:
    with pytest.raises(RequestError, match=r"style 'Foto' is not here; did you mean 'Photo'"):
        scripted.submit({**SMALL, "styles": ["Foto"]}, "me")
    assert scripted.jobs("me") == []


def test_a_style_that_went_away_while_a_job_waited_costs_that_job_only(words: Path, scripted: App, link: ScriptedLink) -> None:
    styled = scripted.submit({**SMALL, "styles": ["Photo"], "count": 3}, "me")
    plain = scripted.submit(SMALL, "me")
    (words / "styles.csv").unlink()
    link.hello()
    view = scripted.job(styled.id, "me")
    assert view is not None
    assert (view.state, "style 'Photo' is not here" in view.error) == ("failed", True)
    assert link.flying() == [f"{plain.id}.0"]
    link.done(link.flying()[0])
    assert finish(scripted, plain).state == "done"


def test_the_prompt_check_needs_only_what_it_is_about(words: Path, scripted: App) -> None:
    made = scripted.check_prompt({"prompt": "[cat:dog:.5] __animals__", "styles": ["Photo"], "steps": 10, "sampler": "Euler"})
    assert [(stage.first, stage.last, stage.text) for stage in made.sides[0].stages] == [
        (1, 6, "photo of cat __animals__"),
        (7, 10, "photo of dog __animals__"),
    ]
    assert made.negative_prompt == "drawing"
    assert "__animals__" in made.notes[0]
    with pytest.raises(RequestError, match="steps"):
        scripted.check_prompt({"prompt": "a", "steps": 0})


def test_while_nothing_can_be_saved_nothing_is_begun_and_then_it_goes_on(
    scripted: App, link: ScriptedLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "HOLD_SECONDS", 0.02)
    view = scripted.submit(SMALL, "me")

    def full(need: int = 0) -> None:
        raise OutputError("the disk is full; make room")

    monkeypatch.setattr(scripted.outputs, "check_writable", full)
    scripted.service.hold.look_again()
    link.hello()
    assert link.flying() == []
    assert scripted.engine().message == "Nothing is begun: the disk is full; make room"
    kept = scripted.job(view.id, "me")
    assert kept is not None
    assert kept.state == "queued", "what waits does not fail for it"

    began, send = threading.Event(), link.send

    def noticed(message: Message) -> None:
        send(message)
        if message.kind == "submit":
            began.set()

    monkeypatch.setattr(link, "send", noticed)
    monkeypatch.setattr(scripted.outputs, "check_writable", lambda need=0: None)
    assert began.wait(60)
    assert link.flying() == [f"{view.id}.0"]
    assert scripted.engine().message == "Ready."


def test_a_checkpoint_that_goes_away_in_the_queue_fails_its_jobs_alone(settings: Settings, models: Path) -> None:
    """The loaded one goes on painting even when its file is gone."""
    gone = models / "gone.safetensors"
    shutil.copy(models / "tiny.safetensors", gone)
    before = App(settings, ScriptedLink())
    before.start()
    lost = before.submit({**SMALL, "checkpoint": "gone"}, "me")
    good = before.submit({**SMALL, "checkpoint": "tiny"}, "me")
    before.close()
    gone.unlink()

    after = App(settings, LocalLink(engine_configuration(settings)))
    after.start()
    assert finish(after, good).state == "done"
    failed = finish(after, lost)
    assert failed.state == "failed"
    assert "'gone' is not here" in failed.error
    after.close()


def test_a_storm_of_cancels_is_harmless(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    mine, theirs = scripted.submit({**SMALL, "count": 3}, "me"), scripted.submit(SMALL, "you")
    for number in range(1000):
        scripted.cancel(f"{number:032x}", "me")
        scripted.cancel(theirs.id, "me")
        assert scripted.cancel(mine.id, "me") == (number == 0)
    assert link.flying() == [f"{theirs.id}.0"]
    late = scripted.submit(SMALL, "me")
    link.done(f"{late.id}.0")
    assert finish(scripted, late).state == "done", "no stale cancel reaches the next job"


def test_a_picture_that_is_being_saved_while_its_job_is_cancelled_and_retried_counts(scripted: App, link: ScriptedLink) -> None:
    link.hello()
    view = scripted.submit(SMALL, "me")
    gate = threading.Event()
    scripted.service.saver._thread.submit(gate.wait)
    link.done(f"{view.id}.0")
    scripted.pause("me", True)
    assert scripted.cancel(view.id, "me")
    assert scripted.retry(view.id, "me")
    gate.set()
    ended = finish(scripted, view)
    assert (ended.state, ended.done) == ("done", 1)
    assert link.flying() == []
    assert scripted.queue("me").jobs == ()

"""An App without an engine: jobs move only when the test says so, so that every state can be looked at for as long as needed.

It keeps the promises of `modules.app.App` that page and routes rely on, and validates requests with the real code.
"""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, PngImagePlugin

from modules.catalogue import COST_FIELDS, Catalogue
from modules.checkpoints.companions import EmbeddingInfo, HypernetworkInfo, LoraInfo
from modules.checkpoints.files import CheckpointInfo, Defaults
from modules.checkpoints.upscalers import UpscalerInfo
from modules.checkpoints.vaes import VaeInfo
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.engine.costs import CostModel
from modules.errors import LimitError, RequestError, UnknownName
from modules.gallery.gallery import Gallery
from modules.images.infotext import as_text
from modules.images.outputs import Outputs
from modules.images.uploads import Upload, Uploads
from modules.jobs.estimates import Quote, quote, upscaling_seconds
from modules.jobs.memory import Memory
from modules.jobs.views import EngineState, JobView, Load, PictureView, Preview, QueueView
from modules.model_library.library import ModelLibrary
from modules.model_tools.runs import ToolRuns
from modules.preferences.server_settings import ServerSettings
from modules.preferences.store import PreferenceStore
from modules.prompts.check import PromptCheck
from modules.prompts.library import Library
from modules.queue.store import JobStore
from modules.request import GenerationRequest, Upscaling, parse_request
from modules.scripts.forever import Forever
from modules.scripts.runs import ScriptRuns
from modules.settings import Settings
from tests.ui.fake_extensions import FakeExtensions

STICKERS = CheckpointInfo(
    name="stickers",
    path=Path("stickers.safetensors"),
    title="Stickers",
    family="sd1",
    defaults=Defaults(128, 128, 20, 4.5, "DPM++ 2M", "Karras"),
    description="A small model that paints one sticker of 48 motifs.",
    prompts=("a red apple", "a cat face on blue", "a rocket"),
    motifs=("red apple", "cat face", "rocket"),
    problem="",
)
LANDSCAPES = replace(
    STICKERS, name="big/landscapes", title="Landscapes", defaults=Defaults(512, 384, 30, 7.0, "Euler a", "Automatic"),
    description="Paints landscapes.", prompts=("a lake at dawn",),
)  # fmt: skip
BROKEN = replace(STICKERS, name="torn", title="torn", family="", problem="the file ends in the middle of a tensor")


class FakeApp:
    """`models` may be changed by the test, as if files came and went."""

    def __init__(self, folder: Path, hidden_tabs: tuple[str, ...] = ()) -> None:
        self.settings = Settings(data_dir=folder / "data", outputs_dir=folder / "outputs", port=0, hidden_tabs=hidden_tabs)
        self.settings.outputs_dir.mkdir(parents=True)
        self.library = Library(self.settings.data_dir)
        self.catalogue = Catalogue([], self.library, lambda: None)
        self.model_library = ModelLibrary(lambda: self.catalogue.folders, self.settings.data_dir)
        self.gallery = Gallery(self.settings.data_dir, self.settings.outputs_dir)
        self.models = [STICKERS, LANDSCAPES]
        self.upscaler_files: list[UpscalerInfo] = []
        self.state = EngineState(
            "ready", "Ready.", "cpu (no GPU here)", "float32 (cpu)", "sdpa (no xformers on cpu)", "plain", "none (cpu)"
        )
        self.records: dict[str, tuple[str, JobView]] = {}
        self.previews: dict[str, Preview] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.looked = threading.Event()
        self.paused: set[str] = set()
        self.notice = ""
        self.memory: list[Mapping[str, Any]] = []
        self.limit = 0  # unfinished jobs that one may have; 0 is any number
        self.costs = CostModel()  # what was measured
        self.weights = 0
        self.needs: Memory | None = None
        self.uploads = Uploads(folder / "sources")
        self.model_tools = ToolRuns(None, [folder / "models"], folder / "hashes.json")  # carries out nothing until it begins
        self._ids = itertools.count(1)
        self.outputs = Outputs(self.settings.outputs_dir)
        self.listeners: list[Callable[[], None]] = []
        self.saved: list[tuple[str, str]] = []  # pictures beside jobs, and whose they are
        self.extensions = FakeExtensions()
        self.preferences = PreferenceStore(None)
        self.server_settings = ServerSettings(self.settings, lambda settings: None)
        store = JobStore(None)
        self.scripts = ScriptRuns(store.scripts, self)  # looks at its jobs when a test says so
        self.forever = Forever(store.forever, self)  # so does this

    # ---- what the test does

    def newest(self) -> str:
        return next(reversed(self.records))

    def wait_for_job(self, number: int = 1, seconds: float = 20.0) -> str:
        """The id of the `number`-th job, as soon as it is there."""
        end = time.monotonic() + seconds
        while len(self.records) < number:
            assert time.monotonic() < end, f"job {number} was not submitted"
            time.sleep(0.01)
        return list(self.records)[number - 1]

    def step(self, job_id: str, step: int) -> None:
        user, job = self.records[job_id]
        each = job.done + step / job.steps
        self._put(user, replace(job, state="running", step=step, progress=each / job.count, eta_s=(job.steps - step) * 0.3))
        image = Image.effect_noise((32, 32), 90).convert("RGB").resize((128, 128))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        self.previews[job_id] = Preview(self.records[job_id][1].rev, buffer.getvalue())

    def finish_picture(self, job_id: str) -> None:
        user, job = self.records[job_id]
        index = job.done
        picture = self._paint(job, index)
        done = job.done + 1
        over = done == job.count
        self._put(
            user,
            replace(
                job, state="done" if over else "running", done=done, progress=done / job.count, step=0,
                eta_s=None, pictures=(*job.pictures, picture),
            ),
        )  # fmt: skip

    def hold(self, reason: str) -> None:
        """Nothing can be written for now; "" ends it."""
        for user, job in list(self.records.values()):
            if not job.over:
                self._put(user, replace(job, held=reason))

    def change(self, job_id: str, **fields: Any) -> None:
        """Other fields of a view."""
        user, job = self.records[job_id]
        self._put(user, replace(job, **fields))

    def fail(self, job_id: str, error: str) -> None:
        user, job = self.records[job_id]
        self._put(user, replace(job, state="failed", error=error))

    def forget(self, job_id: str) -> None:
        del self.records[job_id]

    # ---- what the page asks

    def engine(self) -> EngineState:
        return self.state

    def checkpoints(self) -> list[CheckpointInfo]:
        return list(self.models)

    def upscalers(self) -> list[UpscalerInfo]:
        return list(self.upscaler_files)

    def recipe_upscaler(self, fields: dict[str, Any]) -> str:
        return self.catalogue.recipes.upscaler(fields)

    def recipe_refiner(self, fields: dict[str, Any]) -> str:
        return self.catalogue.recipes.refiner(fields, self.settings.data_dir / "hashes.json")

    def recipe_hires(self, fields: dict[str, Any]) -> str:
        return self.catalogue.recipes.hires(fields, self.settings.data_dir / "hashes.json")

    def default_checkpoint(self) -> CheckpointInfo | None:
        return next((info for info in self.models if not info.problem), None)

    def checkpoint(self, name: str | None) -> CheckpointInfo:
        known = {info.name: info for info in self.models if not info.problem}
        if not known:
            raise RequestError("no checkpoint found; put an SD 1.x .safetensors file into models")
        if name and name not in known:
            raise UnknownName("checkpoint", name, known)
        return known[name] if name else next(iter(known.values()))

    def embeddings(self) -> list[EmbeddingInfo]:
        return self.catalogue.embeddings()

    def vaes(self) -> list[VaeInfo]:
        return self.catalogue.vaes()

    def recipe_vae(self, fields: dict[str, Any]) -> str:
        return self.catalogue.recipes.vae(fields)

    def hypernetworks(self) -> list[HypernetworkInfo]:
        return self.catalogue.hypernetworks()

    def with_local_loras(self, fields: dict[str, Any], hashes: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
        return self.catalogue.recipes.loras(fields, hashes, self.settings.data_dir / "hashes.json")

    def loras(self) -> list[str]:
        return self.catalogue.loras()

    def lora_infos(self) -> list[LoraInfo]:
        return self.catalogue.lora_infos()

    def in_memory(self, seconds: float = 1.0) -> list[Mapping[str, Any]]:
        return self.memory

    def check_prompt(self, fields: dict[str, Any]) -> PromptCheck:
        return self.catalogue.prompts.check(fields)

    def quote(self, fields: dict[str, Any]) -> Quote:
        if "upscaler_1" in fields:
            enlarging = parse_request({name: value for name, value in fields.items() if name != "picture"})
            assert isinstance(enlarging, Upscaling)
            scales = {info.name: info.scale for info in self.upscaler_files}
            size = fields.get("picture")
            return Quote(upscaling_seconds(self.costs, enlarging, (size[0], size[1]), scales) if size else None, False, None)
        info = self.checkpoint(fields.get("checkpoint"))
        given = {name: fields[name] for name in COST_FIELDS if fields.get(name) is not None}
        request = parse_request({**given, "checkpoint": info.name})
        native = (info.defaults.width, info.defaults.height)
        return quote(self.costs, request, info.name, 4, native, self.weights, self.needs)

    def picture_saved(self, name: str, user: str) -> None:
        self.saved.append((name, user))

    def keep_upload(self, data: bytes, user: str) -> Upload:
        return self.uploads.keep(data, user)

    def upload_path(self, upload: str, user: str) -> Path | None:
        return self.uploads.path(upload, user)

    def prepared(self, fields: dict[str, Any], user: str) -> GenerationRequest:
        return self.complete(fields)

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        info = self.checkpoint(fields.get("checkpoint"))
        request = parse_request({**{k: v for k, v in fields.items() if v is not None}, "checkpoint": info.name})
        find_sampler(request.sampler), find_schedule(request.schedule)
        return request

    def unfinished(self, job_id: str) -> bool:
        return job_id in self.records and not self.records[job_id][1].over

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def submit(self, fields: dict[str, Any], user: str, key: str = "", exact: bool = False) -> JobView:
        if key and (user, key) in self.keys:
            return self.records[self.keys[user, key]][1]
        if self.limit and len(self.queue(user).jobs) >= self.limit:
            raise LimitError(f"{self.limit} jobs of yours wait already; wait until some are finished")
        if "upscaler_1" in fields:
            request = parse_request(fields)
        else:
            request = parse_request({**fields, "checkpoint": self.checkpoint(fields.get("checkpoint")).name})
        find_sampler(request.sampler), find_schedule(request.schedule)
        number = next(self._ids)
        request = request.model_copy(update={"seed": request.seed if request.seed >= 0 else 1000 * number})
        job = JobView(
            id=f"job{number}", state="queued", position=len([1 for _, j in self.records.values() if not j.over]),
            count=request.count, done=0, step=0, steps=request.steps, progress=0.0, eta_s=None, rev=1, error="",
            created=time.time(), request=request, pictures=(),
        )  # fmt: skip
        self.records[job.id] = (user, job)
        self.keys[user, key] = job.id
        return job

    def cancel(self, job_id: str, user: str) -> bool:
        job = self.job(job_id, user)
        if job is None or job.over:
            return False
        self._put(user, replace(job, state="cancelled"))
        return True

    def skip(self, job_id: str, user: str) -> bool:
        job = self.job(job_id, user)
        if job is None or job.state != "running":
            return False
        self.finish_picture(job_id)
        return True

    def interrupt(self, job_id: str, user: str) -> bool:
        job = self.job(job_id, user)
        if job is None or job.state != "running":
            return self.cancel(job_id, user)
        self.finish_picture(job_id)
        self._put(user, replace(self.records[job_id][1], state="done"))
        return True

    def job(self, job_id: str, user: str) -> JobView | None:
        owner, job = self.records.get(job_id, ("", None))
        return job if owner == user else None

    def jobs(self, user: str, limit: int = 50, before: str = "", words: str = "") -> list[JobView]:
        mine = [job for owner, job in reversed(self.records.values()) if owner == user]
        if before:
            places = [place for place, job in enumerate(mine) if job.id == before]
            mine = mine[places[0] + 1 :] if places else []
        wanted = words.casefold().split()
        return [job for job in mine if all(word in job.request.prompt.casefold() for word in wanted)][:limit]

    def delete(self, job_id: str, user: str, index: int | None = None) -> bool:
        job = self.job(job_id, user)
        if job is None or not job.over:
            return False
        gone = [picture for picture in job.pictures if index in (None, picture.index)]
        for picture in gone:
            picture.path.unlink(missing_ok=True)
        kept = tuple(picture for picture in job.pictures if picture not in gone)
        if index is None or not kept:
            return bool(self.records.pop(job_id))
        self._put(user, replace(job, pictures=kept, done=len(kept)))
        return bool(gone)

    def queue(self, user: str) -> QueueView:
        mine = [job for owner, job in self.records.values() if owner == user and not job.over]
        theirs = [(owner, job) for owner, job in self.records.values() if owner != user and not job.over]
        load = Load(len({owner for owner, _ in theirs}), len(theirs), sum(job.count for _, job in theirs), 125.0)
        paused = user in self.paused
        return QueueView(tuple(replace(job, paused=paused) for job in mine), paused, load, 50, 200)

    def move(self, job_id: str, user: str, to: int) -> bool:
        job = self.job(job_id, user)
        if job is None or job.over:
            return False
        mine = [other.id for other in self.queue(user).jobs]
        mine.remove(job_id)
        mine.insert(to, job_id)
        rest = {name: record for name, record in self.records.items() if name not in mine}
        self.records = rest | {name: self.records[name] for name in mine}
        return True

    def pause(self, user: str, paused: bool) -> None:
        (self.paused.add if paused else self.paused.discard)(user)

    def retry(self, job_id: str, user: str) -> bool:
        job = self.job(job_id, user)
        if job is None or job.state not in ("failed", "cancelled"):
            return False
        self._put(user, replace(job, state="queued", error=""))
        return True

    def remove(self, job_id: str, user: str) -> bool:
        job = self.job(job_id, user)
        return job is not None and job.over and bool(self.records.pop(job_id))

    def preview(self, job_id: str, user: str) -> Preview | None:
        if self.job(job_id, user) is None:
            return None
        self.looked.set()
        return self.previews.get(job_id)

    def picture(self, job_id: str, index: int, user: str) -> PictureView | None:
        job = self.job(job_id, user)
        return next((p for p in job.pictures if p.index == index), None) if job else None

    # ---- inside

    def _put(self, user: str, job: JobView) -> None:
        self.records[job.id] = (user, replace(job, rev=job.rev + 1))

    def _paint(self, job: JobView, index: int) -> PictureView:
        request = job.request.image(index)
        if isinstance(request, Upscaling):
            return self._enlarge(job, request)
        image = Image.new("RGB", (request.width, request.height), (230, 235, 240))
        box = (request.width // 5, request.height // 5, request.width * 4 // 5, request.height * 4 // 5)
        ImageDraw.Draw(image).ellipse(box, fill=(200 - 30 * index, 40 + 50 * index, 50))
        words = self.library.finish(request).request
        items = {"Steps": request.steps, "Sampler": request.sampler, "CFG scale": request.cfg_scale, "Seed": request.seed}
        items |= {"Size": f"{request.width}x{request.height}"}
        infotext = as_text(words.prompt, words.negative_prompt, [(key, str(value)) for key, value in items.items()])
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", infotext)
        path = self.settings.outputs_dir / f"{job.id}-{index}.png"
        image.save(path, pnginfo=chunks)
        return PictureView(index, path.name, path, infotext, request.seed, request.width, request.height)

    def _enlarge(self, job: JobView, request: Upscaling) -> PictureView:
        image = self.uploads.open(request.source, self.records[job.id][0])
        factor = request.factor(image.size)
        image = image.resize((round(image.width * factor), round(image.height * factor)))
        path = self.settings.outputs_dir / f"{job.id}-0.png"
        image.save(path)
        return PictureView(0, path.name, path, request.source_text, 0, image.width, image.height)

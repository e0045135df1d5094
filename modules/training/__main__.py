"""``python -m modules.training STAGE``: the stages of the starter checkpoint, in the order in which they are run.

    render       draw the scenes, write them and a sheet to look at
    autoencoder  train the autoencoder on them            (about 20 minutes on two cores)
    cache        encode every scene
    denoiser     train the U-Net and the text encoder     (about 70 minutes)
    polish       train the decoder on, against the noise that sampling leaves (about 10 minutes)
    export       write models/atelier-starter.safetensors
    evaluate     measure the release gates on that file

    lora         train a LoRA of a folder of pictures, or of a built-in style (apart from the stages above)

Each stage reads what the ones before left in the work folder and takes up its own unfinished state.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from modules.training import autoencoder, denoiser, evaluation, export, latents, parallel, starter
from modules.training.loop import Budget, seconds_until
from modules.training.lora import command as lora
from modules.training.rendering import render

MODEL = Path("models/atelier-starter.safetensors")
SCENES, AUTOENCODER, CACHE = "scenes.jsonl", "autoencoder.pt", "latents.pt"
DENOISER, POLISHED = "denoiser.pt", "polished.pt"
MINUTES = {"autoencoder": 20.0, "denoiser": 70.0, "polish": 10.0}


def render_stage(options: argparse.Namespace) -> None:
    scenes = latents.draw_scenes(options.scenes)
    latents.write_scenes(scenes, options.work / SCENES)
    evaluation.contact_sheet([render(scene) for scene in scenes[:128]]).save(options.work / "scenes.png")
    print(f"{len(scenes)} scenes in {options.work / SCENES}")


def autoencoder_stage(options: argparse.Namespace) -> None:
    scenes = latents.read_scenes(options.work / SCENES)
    budget = _budget(options, _spent(options.work / AUTOENCODER))
    parallel.launch(options.workers, autoencoder.train, scenes, options.work / AUTOENCODER, budget)


def cache_stage(options: argparse.Namespace) -> None:
    scenes = latents.read_scenes(options.work / SCENES)
    latents.encode_all(autoencoder.load(options.work / AUTOENCODER), scenes, options.work / CACHE)


def denoiser_stage(options: argparse.Namespace) -> None:
    cache = latents.load(options.work / CACHE, latents.read_scenes(options.work / SCENES))
    file = options.work / DENOISER
    parallel.launch(options.workers, denoiser.train, cache, file, _budget(options, _spent(file)))


def polish_stage(options: argparse.Namespace) -> None:
    cache = latents.load(options.work / CACHE, latents.read_scenes(options.work / SCENES))
    start, file = options.work / AUTOENCODER, options.work / POLISHED
    parallel.launch(options.workers, autoencoder.polish, cache.scenes, cache.raw, start, file, _budget(options, _spent(file)))


def export_stage(options: argparse.Namespace) -> None:
    cache = torch.load(options.work / CACHE, weights_only=True)
    network, vocabulary = denoiser.load(options.work / DENOISER), denoiser.Vocabulary()
    polished = options.work / POLISHED
    pixels = autoencoder.load(polished if polished.exists() else options.work / AUTOENCODER)
    state = export.assemble(pixels, cache["mean"], cache["deviation"], network, vocabulary.tokens)
    export.write(state, options.model, options.cfg)
    print(f"{options.model}: {options.model.stat().st_size:,} bytes")


def evaluate_stage(options: argparse.Namespace) -> None:
    model = starter.load(options.model)
    scale = options.cfg if options.sweep is None else 0.0
    if options.sweep is not None:
        figures = evaluation.sweep(model, options.sweep)
        scale = max(figures, key=lambda candidate: figures[candidate])
    seeds = evaluation.SEEDS[: options.seeds]
    print(evaluation.evaluate(model, scale, options.sheets, seeds, options.pairs))


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "render": render_stage,
    "autoencoder": autoencoder_stage,
    "cache": cache_stage,
    "denoiser": denoiser_stage,
    "polish": polish_stage,
    "export": export_stage,
    "evaluate": evaluate_stage,
}
OTHERS: dict[str, Callable[[argparse.Namespace], None]] = {"lora": lora.run}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m modules.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = root.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name in STAGES:
        stage = stages.add_parser(name)
        stage.add_argument("--work", type=Path, default=Path("data/training"), help="work folder (default: %(default)s)")
        if name == "render":
            stage.add_argument("--scenes", type=int, default=16_000)
        if name in MINUTES:
            stage.add_argument("--minutes", type=float, default=MINUTES[name], help="of training (default: %(default)s)")
            stage.add_argument("--until", metavar="HH:MM", help="finish at this time of day instead")
            stage.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: %(default)s)")
        if name == "export":
            stage.add_argument("--model", type=Path, default=MODEL)
            stage.add_argument("--cfg", type=float, default=4.0, help="the guidance scale that the file recommends")
        if name == "evaluate":
            stage.add_argument("model", type=Path, nargs="?", default=MODEL)
            stage.add_argument("--cfg", type=float, default=4.0)
            stage.add_argument("--sweep", type=float, nargs="+", help="try these guidance scales first and take the best")
            stage.add_argument("--seeds", type=int, default=3)
            stage.add_argument("--pairs", type=int, default=150)
            stage.add_argument("--sheets", type=Path, help="folder for contact sheets")
    adapter = stages.add_parser("lora", formatter_class=argparse.RawDescriptionHelpFormatter)
    adapter.add_argument("--work", type=Path, default=Path("data/training/lora"), help="work folder (default: %(default)s)")
    lora.add_options(adapter)
    return root


def _budget(options: argparse.Namespace, spent: float) -> Budget:
    return Budget(spent + seconds_until(options.until)) if options.until else Budget(options.minutes * 60)


def _spent(file: Path) -> float:
    return float(torch.load(file, weights_only=True)["spent"]) if file.exists() else 0.0


def main() -> None:
    options = parser().parse_args()
    (STAGES | OTHERS)[options.stage](options)


if __name__ == "__main__":
    main()

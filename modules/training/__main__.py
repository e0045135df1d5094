"""``python -m modules.training COMMAND``: make the starter checkpoint, and measure it.

    all          everything below up to the file, within a budget of seconds: minutes on a GPU, a night on a CPU
    render       draw the scenes and their captions, and a sheet to look at
    autoencoder  train the autoencoder on their pictures, which are composed on the device
    cache        encode every scene
    polish       train the decoder on, against the noise that sampling leaves
    denoiser     train the U-Net and the text encoder
    export       write the file, from finished or unfinished stages
    wording      teach the text encoder of a file to read over words that name nothing, and write the file anew
    practice     train the U-Net of a file further, on things that an evaluation found missing, and write the file anew
    evaluate     measure the release gates on a file

    lora         train a LoRA of a folder of pictures, or of a built-in style (apart from the stages above)
    upscaler     train the upscaler that ships (apart from the stages above)

A stage that was interrupted goes on where it was. --smoke tries everything at the smallest sizes, without a font, in seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from modules.errors import AtelierError
from modules.training import cases, evaluation, starter
from modules.training.composition import Composer
from modules.training.data import prepared
from modules.training.glyphs import FONT, coloured_glyphs, read_glyphs
from modules.training.judge import Judge
from modules.training.loop import Budget
from modules.training.lora import command as lora
from modules.training.recipe import recipe_for
from modules.training.sheets import PROMPTS, contact_sheet
from modules.training.stages import PRACTICE, SHARES, Work
from modules.training.upscaler import command as upscaler

MODEL = Path("models/atelier-starter.safetensors")
SECONDS = {"cuda": 380.0, "cpu": 8 * 3600.0}
SMOKE_STEPS = 3
GROUPS = ("motifs", *cases.GROUPS, "decoder", "seconds")
QUICK = 24  # cases of each group


def work_of(options: argparse.Namespace) -> Work:
    device = prepared(options.device)
    recipe = recipe_for(device, options.smoke)
    return Work(options.work, recipe, device, None if options.smoke else options.font)


def budget_of(options: argparse.Namespace) -> Budget:
    """What is asked for; else the device's usual seconds, or a few steps."""
    if options.budget is None and options.smoke:
        return Budget(steps=SMOKE_STEPS)
    seconds = SECONDS["cuda" if options.device.type == "cuda" else "cpu"] if options.budget is None else options.budget
    share = {**SHARES, "practice": PRACTICE}.get(options.command, 1.0)
    return Budget(seconds * share if options.budget is None else seconds)


def everything(options: argparse.Namespace) -> None:
    work_of(options).everything(budget_of(options), options.model, options.cfg, options.workers)


def render(options: argparse.Namespace) -> None:
    work_of(options).render(options.workers)


def autoencoder(options: argparse.Namespace) -> None:
    work_of(options).autoencoder(budget_of(options))


def cache(options: argparse.Namespace) -> None:
    work_of(options).cache()


def polish(options: argparse.Namespace) -> None:
    work_of(options).polish(budget_of(options))


def denoiser(options: argparse.Namespace) -> None:
    work_of(options).denoiser(budget_of(options))


def export(options: argparse.Namespace) -> None:
    work_of(options).export(options.model, options.cfg)


def wording(options: argparse.Namespace) -> None:
    work_of(options).wording(budget_of(options), options.model, options.teacher)


def practice(options: argparse.Namespace) -> None:
    work_of(options).practice(budget_of(options), options.model, options.missed)


def evaluate(options: argparse.Namespace) -> None:
    """Draw and judge; the gates' table goes to the terminal, verdicts and figures to a JSON file that is taken up again."""
    device = prepared(options.device)
    bfloat16 = options.bfloat16 or device.type == "cuda"
    model = starter.load(options.model, device, bfloat16)
    names = cases.resolved(model.motifs)
    wanted = wanted_cases(names, options)
    coloured = {name for case in wanted if case.facts.colour for name in case.facts.motifs}
    judge = Judge(
        Composer(*coloured_glyphs(read_glyphs(options.font, names), coloured), model.size, torch.device("cpu")), names
    )
    scale: float = options.cfg or model.cfg_scale
    steps: int = options.steps or model.steps
    settings = {"cfg_scale": scale, "steps": steps, "bfloat16": bfloat16}
    file = options.results or options.work / f"{options.model.stem}.json"
    results = evaluation.Results.open(file, options.model, settings)
    batch: int = options.batch or (64 if device.type == "cuda" else 8)
    evaluation.measure(model, judge, wanted, results, batch, options.pictures)
    if "decoder" in options.groups and "decoder_db" not in results.figures:
        results.figures["decoder_db"] = evaluation.decoder_psnr(model, judge)
    if "seconds" in options.groups:
        plain = starter.load(options.model)
        results.figures["seconds"] = evaluation.seconds_per_picture(plain, scale, steps)
    results.save()
    if options.sheet is not None:
        parts = [range(start, min(start + batch, len(PROMPTS))) for start in range(0, len(PROMPTS), batch)]
        drawn = [model.draw([PROMPTS[i] for i in part], [100 + i for i in part], scale, steps) for part in parts]
        contact_sheet(torch.cat(drawn), PROMPTS, edge=160).save(options.sheet, quality=86)
    rows = evaluation.table(results)
    print(json.dumps(rows) if options.json else evaluation.printed(rows))
    if not options.json:
        for group, missed in evaluation.misses(results).items():
            print(f"{group}: {'; '.join(missed) or 'none missed'}")


def wanted_cases(names: Sequence[str], options: argparse.Namespace) -> list[cases.Case]:
    """The cases of the groups that are asked for; of --quick some of each, spread evenly."""
    wanted: list[cases.Case] = []
    for group in options.groups:
        if group in ("decoder", "seconds"):
            continue
        found = cases.motif_cases(names, options.seeds) if group == "motifs" else cases.GROUPS[group](names)
        wanted += found[:: max(1, len(found) // QUICK)] if options.quick else found
    return wanted


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "all": everything,
    "render": render,
    "autoencoder": autoencoder,
    "cache": cache,
    "polish": polish,
    "denoiser": denoiser,
    "export": export,
    "wording": wording,
    "practice": practice,
    "evaluate": evaluate,
}
OTHERS: dict[str, Callable[[argparse.Namespace], None]] = {"lora": lora.run, "upscaler": upscaler.run}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m modules.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = commands.add_parser(name)
        command.add_argument("--work", type=Path, default=Path("data/training"), help="work folder (default: %(default)s)")
        command.add_argument("--font", type=Path, default=FONT, help="colour emoji font (default: %(default)s)")
        command.add_argument(
            "--device", type=torch.device, default=torch.device("cuda" if torch.cuda.is_available() else "cpu")
        )
        if name == "evaluate":
            _add_evaluation(command)
            continue
        command.add_argument("--smoke", action="store_true", help="the smallest sizes and stand-ins for glyphs")
        if name in ("all", "practice", *SHARES):
            command.add_argument("--budget", type=float, metavar="SECONDS", help="of training, over all runs")
        if name in ("all", "render"):
            command.add_argument("--workers", type=int, default=1, help="processes that draw scenes (default: %(default)s)")
        if name in ("all", "export", "wording", "practice"):
            command.add_argument("--model", type=Path, default=MODEL, help="the file to write (default: %(default)s)")
        if name == "practice":
            command.add_argument("--missed", nargs="+", required=True, metavar="MOTIF", help="what half of the scenes show")
        if name == "wording":
            command.add_argument(
                "--teacher", type=Path, help="the file as it was before this stage, to teach one further that went through it"
            )
        if name in ("all", "export"):
            command.add_argument("--cfg", type=float, default=3.0, help="the guidance scale that the file recommends")
    adapter = commands.add_parser("lora", formatter_class=argparse.RawDescriptionHelpFormatter)
    adapter.add_argument("--work", type=Path, default=Path("data/training/lora"), help="work folder (default: %(default)s)")
    lora.add_options(adapter)
    upscaler.add_options(commands.add_parser("upscaler", formatter_class=argparse.RawDescriptionHelpFormatter))
    return root


def _add_evaluation(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, nargs="?", default=MODEL)
    command.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    command.add_argument("--seeds", type=int, default=3, help="pictures of every motif (default: %(default)s)")
    command.add_argument("--quick", action="store_true", help=f"about {QUICK} cases of each group")
    command.add_argument("--cfg", type=float, help="guidance scale (default: the file's)")
    command.add_argument("--steps", type=int, help="sampling steps (default: the file's)")
    command.add_argument("--batch", type=int, help="pictures drawn at a time")
    command.add_argument("--bfloat16", action="store_true", help="on a CPU too: nearly twice as fast where it has such units")
    command.add_argument("--results", type=Path, help="JSON file of verdicts, taken up again (default: in the work folder)")
    command.add_argument("--pictures", type=Path, help="folder for every picture")
    command.add_argument("--sheet", type=Path, help="file for a contact sheet of 64 prompts in free wording")
    command.add_argument("--json", action="store_true", help="print the gates as JSON")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        (COMMANDS | OTHERS)[options.command](options)
    except AtelierError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m modules.pipelines "a red apple"`: a picture from the bare core, with no engine, no queue and no web."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from modules.checkpoints.files import scan
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import choose_attention
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import parse_request


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m modules.pipelines", description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    parser.add_argument("--output", type=Path, default=Path("picture.png"))
    args = parser.parse_args()

    info = next((info for info in scan([args.models_dir]) if not info.problem), None)
    if info is None:
        parser.error(f"no usable checkpoint in {args.models_dir}")
    device = torch.device("cpu")
    attend = choose_attention("auto", device).attend
    manager = ModelManager([args.models_dir], device, torch.float32, attend, cache=Path("data") / "hashes.json")
    best = info.defaults
    request = parse_request(
        {
            "prompt": args.prompt,
            "seed": args.seed,
            "checkpoint": info.name,
            "width": best.width,
            "height": best.height,
            "steps": best.steps,
            "cfg_scale": best.cfg_scale,
            "sampler": best.sampler,
            "schedule": best.schedule,
        }
    )
    painted = run_reference(
        generate(stages_of(request)), manager, lambda r: print(f"\rstep {r.step}/{r.steps}", end="", flush=True)
    )
    Image.fromarray(painted.pixels.numpy()).save(args.output)
    print(f"\r{args.output}: {info.title}, seed {args.seed}")


if __name__ == "__main__":
    main()

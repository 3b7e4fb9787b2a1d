#!/usr/bin/env python3
"""Train the same small encoder with and without known poses and known depth as inputs, and compare.

    python tools/encoder_inputs.py --out runs/encoder_inputs          # goes on where it was stopped

Seed, batches, steps and start weights of shared layers are the same for every arm. Writes figures.json and prints the
table of docs/training.md ("What the encoder gains from poses and from swept depth").
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training.batches import Batch, validation_batch
from gld_ros.training.config import TrainConfig, read_config
from gld_ros.training.depth_noise import DepthNoise
from gld_ros.training.known_views import predict_depth
from gld_ros.training.run import run_stage
from gld_ros.training.validate import depth_error, reconstruction_figures

ROOT = Path(__file__).resolve().parents[1]
DEPTH_CELLS = 4
ARMS = {  # name: pose_input, depth_cells
    "nothing": ("none", 0),
    "depth": ("none", DEPTH_CELLS),
    "rays": ("rays", 0),
    "prope": ("prope", 0),
    "depth+rays": ("rays", DEPTH_CELLS),
    "depth+prope": ("prope", DEPTH_CELLS),
}
COLUMNS = {
    "absrel": "AbsRel, no depth given",
    "absrel_median": "median-aligned",
    "absrel_alone": "each view alone",
    "absrel_wrong_poses": "poses of another room",
    "absrel_swept": "AbsRel, swept depth given",
    "psnr": "RGB, dB",
    "psnr_swept": "RGB with swept depth, dB",
    "cpu_minutes": "CPU-minutes",
}


def arm_config(base: TrainConfig, arm: str, seed: int, options: argparse.Namespace) -> TrainConfig:
    """The configuration of one arm; all but the two inputs is the same.

    Three views a scene where nano has two, every test room, and depth with all its errors where an arm reads it.
    """
    pose_input, depth_cells = ARMS[arm]
    encoder = replace(base.model.encoder, pose_input=pose_input, depth_cells=depth_cells)
    return replace(
        base,
        name=arm,
        out=str(options.out / f"{arm}_{seed}"),
        seed=seed,
        model=replace(base.model, encoder=encoder),
        data=replace(
            base.data, folder=str(options.out / "rooms"), scenes=options.scenes, views=8, validation_scenes=100
        ),
        encoder=replace(base.encoder, steps=options.steps, warmup=100, ema=0.995),
        encoder_loss=replace(base.encoder_loss, views=3),
        depth_noise=DepthNoise(),
    )


def figures_of(model: GldModel, held_out: Batch) -> dict[str, float]:
    """The trainer's figures, and what becomes of the depth when views are alone or have poses of another room."""
    found = reconstruction_figures(model, held_out)
    others = replace(held_out, world_from_cam=held_out.world_from_cam.roll(1, dims=0))
    apart = Batch(*(x.flatten(0, 1).unsqueeze(1) for x in (held_out.rgb, held_out.depth, held_out.K,
                                                           held_out.world_from_cam)))  # fmt: skip
    with torch.no_grad():
        found["absrel_alone"] = depth_error(predict_depth(model, apart).depth, apart.depth)[0]
        if model.config.encoder.pose_input != "none":
            found["absrel_wrong_poses"] = depth_error(predict_depth(model, others).depth, others.depth)[0]
    return found


def run_arm(config: TrainConfig, held_out: Callable[[], Batch]) -> dict[str, float]:
    """Train one arm unless it is finished; its held-out figures."""
    folder = Path(config.out) / "encoder"
    kept = folder / "figures.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        if found["digest"] != config.digest():
            raise GldError(f"{folder} holds another configuration: choose another --out or delete it")
        return {name: value for name, value in found.items() if name != "digest"}
    started = time.process_time()
    run_stage("encoder", config, resume=True)
    minutes = (time.process_time() - started) / 60
    found = figures_of(load_model(folder / "model.safetensors").eval(), held_out())
    found["cpu_minutes"] = minutes
    kept.write_text(json.dumps({"digest": config.digest(), **found}, indent=1) + "\n")
    return found


def table(found: dict[str, dict[str, float]], arms: list[str], seeds: list[int]) -> str:
    """Markdown: mean over the seeds, and half of their range where there are several."""
    lines = ["| arm | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for arm in arms:
        cells = []
        for name in COLUMNS:
            values = [found[f"{arm}/{seed}"][name] for seed in seeds if name in found[f"{arm}/{seed}"]]
            digits = 3 if name.startswith("absrel") else 1
            text = f"{sum(values) / len(values):.{digits}f}" if values else "-"
            if len(values) > 1 and name != "cpu_minutes":
                text += f" ± {(max(values) - min(values)) / 2:.{digits}f}"
            cells.append(text)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rooms, weights, curves and figures")
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "train" / "nano.yaml", help="sizes")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="which to train (all)")
    parser.add_argument("--steps", type=int, default=1000, help="of every arm (%(default)s)")
    parser.add_argument("--scenes", type=int, default=1000, help="rooms to train on (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training of every arm each (0)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    if options.threads < 1:
        raise GldError(f"--threads is {options.threads}, must be at least 1")
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    base = read_config(options.config)
    held_out: list[Batch] = []

    def rooms_of_test() -> Batch:
        if not held_out:
            held_out.append(validation_batch(arm_config(base, "nothing", 0, options)))
        return held_out[0]

    found = {}
    for seed in options.seeds:
        for arm in options.arms:
            found[f"{arm}/{seed}"] = run_arm(arm_config(base, arm, seed, options), rooms_of_test)
            (options.out / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found, options.arms, options.seeds))


if __name__ == "__main__":
    try:
        main()
    except GldError as error:
        sys.exit(f"encoder_inputs: {error}")

#!/usr/bin/env python3
"""Train one small diffusion network on geometric latents, on a VAE's and on pixels, and compare the curves.

    python tools/latent_comparison.py --out runs/latents          # goes on where it was stopped

Writes comparison.json, comparison.png (needs matplotlib: pip install 'gld_ros[bench]') and pictures.png.
What came out: docs/latents.md. Without --judge depth is read by the small encoder that is trained here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.plot import check_matplotlib
from gld_ros.training.comparison import ARMS, Comparison, compare
from gld_ros.training.config import read_config

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {"geometric": "#266eb4", "vae": "#b3541e", "pixels": "#6a6a6a"}
PANELS = {
    "psnr": "PSNR of the targets, dB",
    "absrel_judge": "depth error, AbsRel (judge)",
    "turn_deg": "apparent turn, degrees",
    "ate_share": "camera centres, share of spread",
}  # what else is measured stands in comparison.json


def plot(found: dict[str, Any], path: Path) -> None:
    """One panel per figure (columns) and number of updates (rows): mean of the seeds, and their range."""
    from matplotlib import pyplot as plt

    updates, seeds = found["settings"]["updates"], found["settings"]["seeds"]
    names = [name for name in PANELS if name in found["bounds"]["true pictures"]]
    figure, axes = plt.subplots(
        len(updates), len(names), figsize=(3.6 * len(names), 3.1 * len(updates)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, count in zip(axes, updates, strict=True):
        for axis, name in zip(row, names, strict=True):
            for arm in ARMS:
                curves = [found["curves"][f"{arm}/{seed}"] for seed in seeds]
                steps = [point["step"] for point in curves[0]]
                values = np.array([[point[f"{name}_{count}"] for point in curve] for curve in curves])
                axis.fill_between(steps, values.min(0), values.max(0), color=COLOURS[arm], alpha=0.18, linewidth=0)
                axis.plot(steps, values.mean(0), color=COLOURS[arm], label=arm)
            for bound, line in (("true pictures", ":"), ("copy of the nearest", "--")):
                if name != "psnr" or bound != "true pictures":
                    axis.axhline(found["bounds"][bound][name], color="black", linestyle=line, linewidth=1, label=bound)
            axis.set_title(f"{PANELS[name]}, {count} update{'s' if count > 1 else ''}", fontsize=10)
            axis.set_xlabel("training steps")
            axis.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def table(found: dict[str, Any]) -> str:
    """Best figures and step ratios, as text."""

    def number(value: float | None) -> str:
        return "never" if value is None else f"{value:.2f}"

    lines = []
    for other, rows in found["ratios"].items():
        lines.append(f"{'geometric against ' + other:28} geometric  {other:>7}   ratio  reversed  per seed")
        for name, row in rows.items():
            seeds = ", ".join(number(value) for value in row["ratio_per_seed"])
            lines.append(
                f"  {name:26} {row['geometric_best']:9.3f}  {row[f'{other}_best']:7.3f}   "
                f"{number(row['ratio']):>5}  {number(row['ratio_reversed']):>8}  {seeds}"
            )
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    default = Comparison()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rooms, weights, curves and results")
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "train" / "nano.yaml", help="sizes and data")
    parser.add_argument("--steps", type=int, default=default.steps, help="of the diffusion network (%(default)s)")
    parser.add_argument("--every", type=int, default=default.every, help="steps between figures (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=default.seeds, help="one training each (0 1 2)")
    parser.add_argument(
        "--autoencoder-steps", type=int, default=default.autoencoder_steps, help="of encoder and VAE (%(default)s)"
    )
    parser.add_argument(
        "--decoder-steps", type=int, default=default.decoder_steps, help="of the decoders alone (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=default.rate, help="its learning rate (%(default)s)")
    parser.add_argument("--judge", type=Path, help="model file that also reads depth in the pictures, such as tiny's")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    if options.threads < 1:
        raise GldError(f"--threads is {options.threads}, must be at least 1")
    check_matplotlib()
    torch.set_num_threads(options.threads)
    settings = Comparison(
        options.steps,
        options.every,
        tuple(options.seeds),
        options.autoencoder_steps,
        options.decoder_steps,
        options.rate,
    )
    found = compare(read_config(options.config), settings, options.out, options.judge)
    plot(found, options.out / "comparison.png")
    print(table(found))


if __name__ == "__main__":
    try:
        main()
    except GldError as error:
        sys.exit(f"latent_comparison: {error}")

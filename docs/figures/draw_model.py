"""Draws docs/figures/model.svg: one request through the network. Needs matplotlib: python docs/figures/draw_model.py"""

import itertools
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FROZEN, TRAINED, DATA, HEAD = "#d6e4f0", "#f6d9c4", "#f4f4f4", "#d9ead3"


def box(ax, x, y, width, height, text, color, size=8.6):
    style = "round,pad=0.02,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=color, ec="#444444", lw=1))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=size, linespacing=1.25)


def arrow(ax, points, text="", at=(0, 0), dashed=False):
    for start, end in itertools.pairwise(points):
        last = end == points[-1]
        style = "-|>" if last else "-"
        line = "--" if dashed else "-"
        ax.add_patch(
            FancyArrowPatch(
                start, end, arrowstyle=style, mutation_scale=12, lw=1.2, color="#444444", ls=line, shrinkA=0, shrinkB=0
            )
        )
    if text:
        ax.text(*at, text, fontsize=8.5, color="#222222", ha="center", va="center", linespacing=1.2)


def main() -> None:
    fig, ax = plt.subplots(figsize=(11, 6.2))
    ax.set_xlim(0, 17.6)
    ax.set_ylim(0, 9.9)
    ax.axis("off")

    box(ax, 0.2, 6.5, 2.6, 1.3, "C condition\npictures", DATA)
    box(ax, 3.9, 6.5, 3.0, 1.3, "encoder, blocks 0-7\n(Depth Anything 3)", FROZEN)
    arrow(ax, [(2.85, 7.15), (3.85, 7.15)])

    box(ax, 0.2, 2.9, 2.6, 1.7, "poses and K of\nall V views\n(conditions first)", DATA)
    box(ax, 3.9, 2.9, 3.0, 1.7, "relative to last view,\nscaled to 1;\nray map, PRoPE", DATA)
    arrow(ax, [(2.85, 3.75), (3.85, 3.75)])

    box(ax, 8.6, 4.6, 3.0, 1.7, "level-1 transformer\n28 + 6 blocks\n49 Euler updates", TRAINED)
    box(ax, 8.6, 1.2, 3.0, 1.7, "cascade transformer\n28 + 2 blocks\n49 Euler updates", TRAINED)
    arrow(ax, [(6.95, 6.9), (7.8, 6.9), (7.8, 5.9), (8.55, 5.9)], "clean level 1", (7.9, 7.15))
    arrow(ax, [(5.4, 6.45), (5.4, 5.2), (7.35, 5.2), (7.35, 1.6), (8.55, 1.6)], "clean\nlevel 0", (4.85, 5.6))
    arrow(ax, [(6.95, 3.75), (7.85, 3.75), (7.85, 5.0), (8.55, 5.0)])
    arrow(ax, [(7.85, 3.75), (7.85, 2.5), (8.55, 2.5)])
    arrow(ax, [(10.1, 4.55), (10.1, 2.95)], "generated level 1\nof all V views", (11.55, 3.75))

    box(ax, 12.9, 4.6, 3.0, 1.7, "encoder, blocks 8-11\n(views attend to\neach other)", FROZEN)
    arrow(ax, [(11.65, 5.45), (12.85, 5.45)], "level 1", (12.25, 5.75))
    arrow(
        ax,
        [(6.2, 7.85), (6.2, 8.5), (14.4, 8.5), (14.4, 6.35)],
        "class vector of the first condition view",
        (10.3, 8.8),
        dashed=True,
    )

    box(ax, 12.9, 1.2, 3.0, 1.7, "RGB decoder\n28 layers, per view\nDualDPT depth, rays", HEAD)
    arrow(ax, [(11.65, 2.05), (12.85, 2.05)], "level 0", (12.25, 2.35))
    arrow(ax, [(14.4, 4.55), (14.4, 2.95)], "levels 1, 2, 3", (15.4, 3.75))
    arrow(ax, [(14.4, 1.15), (14.4, 0.55)])
    ax.text(14.4, 0.25, "picture, depth, confidence, rays of all V views", ha="center", va="center", fontsize=8.6)

    for index, (color, text) in enumerate(
        [(FROZEN, "frozen encoder"), (TRAINED, "flow matching, sampled"), (HEAD, "decoders"), (DATA, "no weights")]
    ):
        x = 0.2 + 4.2 * index
        ax.add_patch(FancyBboxPatch((x, 9.3), 0.4, 0.3, boxstyle="round,pad=0.02", fc=color, ec="#444444", lw=0.8))
        ax.text(x + 0.6, 9.45, text, fontsize=9, va="center")

    mpl.rcParams["svg.hashsalt"] = "gld"
    fig.savefig(Path(__file__).with_name("model.svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()

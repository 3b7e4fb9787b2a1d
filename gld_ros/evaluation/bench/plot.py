"""What a preset costs against what it is worth, as a picture. Needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.rows import Row

# field of Row, axis label; the first one is always there
QUALITIES = (
    ("psnr", "PSNR in dB, more is better"),
    ("perceptual", "perceptual distance, less is better"),
    ("sharpness_holes", "sharpness in holes, truth = 1"),
)
STYLES = {0: ("o", "-", "#266eb4"), 1: ("s", "--", "#b3541e")}


def write_pareto(rows: Sequence[Row], path: Path, title: str) -> None:
    """Seconds (logarithmic) against every quality figure the rows have, one line per mode.

    Raises GldError without matplotlib, or when ``path`` cannot be written or has an unknown ending.
    """
    plt = _matplotlib()
    shown = [(name, label) for name, label in QUALITIES if any(getattr(row, name) is not None for row in rows)]
    figure, axes = plt.subplots(1, len(shown), figsize=(5.2 * len(shown), 4.4), squeeze=False, layout="constrained")
    for axis, (name, label) in zip(axes[0], shown, strict=True):
        for index, mode in enumerate(dict.fromkeys(row.mode for row in rows)):
            own = sorted(
                (r for r in rows if r.mode == mode and getattr(r, name) is not None), key=lambda r: r.seconds_p50
            )
            marker, line, colour = STYLES[index % len(STYLES)]
            values = [getattr(row, name) for row in own]
            axis.plot([row.seconds_p50 for row in own], values, line, marker=marker, color=colour, label=mode)
            for row, value in zip(own, values, strict=True):
                place = (row.seconds_p50, value)
                axis.annotate(
                    row.preset, place, xytext=(3, 5), textcoords="offset points", fontsize=8, rotation=35, color=colour
                )
        axis.set_xscale("log")
        axis.margins(x=0.15, y=0.2)
        axis.set_xlabel("seconds per request (median)")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.suptitle(title, fontsize=10)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise GldError(f"the plot {path} cannot be written: {error}: name a .png or .svg in a folder you own") from None
    finally:
        plt.close(figure)


def check_matplotlib() -> None:
    """Raise GldError now rather than after minutes of measuring."""
    _matplotlib()


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise GldError(
            f"the plot needs matplotlib ({error}): pip install 'gld_ros[bench]', or leave --plot out"
        ) from None
    matplotlib.use("Agg")  # no display on a robot
    from matplotlib import pyplot

    return pyplot

"""The benchmark's figures as Markdown, and their place in a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gld_ros.errors import GldError

SECTIONS = ("presets", "full-size", "ros")  # a page has marks for some of them
# key, heading, format
COLUMNS = (
    ("mode", "mode", "{}"),
    ("preset", "preset", "{}"),
    ("seconds_p50", "s p50", "{:.3f}"),
    ("seconds_p95", "s p95", "{:.3f}"),
    ("speedup", "speed-up", "{:.1f}x"),
    ("request_seconds_p50", "whole request s", "{:.3f}"),
    ("updates", "updates", "{0[0]}+{0[1]}"),
    ("evaluations", "evaluations", "{}"),
    ("gflops", "GFLOP", "{:.1f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("psnr", "PSNR", "{:.2f}"),
    ("psnr_drop_vs_reference", "drop vs reference", "{:+.2f}"),
    ("psnr_drop_vs_best", "drop vs best", "{:+.2f}"),
    ("psnr_to_reference", "to reference", "{:.1f}"),
    ("psnr_holes", "PSNR holes", "{:.2f}"),
    ("perceptual", "perceptual", "{:.4f}"),
    ("sharpness_holes", "sharpness holes", "{:.2f}"),
    ("gradient_energy_holes", "energy holes", "{:.2f}"),
    ("sample_std_holes", "std holes", "{:.1f}"),
)


def markdown(found: dict[str, Any]) -> str:
    """All sections of a report (``rows.report``) that have rows."""
    machine, versions = found["machine"], found["versions"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] != 1 else ''}"
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores, {threads}, load {machine['load']} before the run; "
        f"torch {versions['torch']}, Python {versions['python']}; revision {found['revision']}.",
    ]
    writers: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("rows", _rows),
        ("full_size", _full_size),
        ("streaming", _streaming),
        ("budget", _budget),
        ("ros", _ros),
    )
    for name, write in writers:
        if found.get(name):
            parts.append(write(found[name]))
    if found.get("verdict"):
        parts.append(_verdict(found["verdict"]))
    parts += [f"* {note}" for note in found.get("notes", [])]
    return "\n\n".join(parts)


def marks(section: str) -> tuple[str, str]:
    """Lines between which a page shows a section."""
    return f"<!-- gld bench {section}: begin -->", f"<!-- gld bench {section}: end -->"


def fill_page(path: Path, section: str, found: dict[str, Any]) -> None:
    """Put the figures between the section's marks. Raises GldError where the page or its marks are missing."""
    begin, end = marks(section)
    try:
        text = path.read_text()
    except OSError as error:
        raise GldError(f"{path} cannot be read ({error.strerror}): name a page that holds the line {begin}") from None
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise GldError(f"{path} must hold the lines {begin} and {end} once, in this order: add them")
    before, after = text[: text.index(begin)], text[text.index(end) :]
    try:
        path.write_text(f"{before}{begin}\n\n{markdown(found)}\n\n{after}")
    except OSError as error:
        raise GldError(f"{path} cannot be written: {error.strerror}") from None


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    ruled = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in ruled)


def _rows(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    plain = {row["mode"]: row["seconds_p50"] for row in rows if row["preset"] == "reference"}
    enriched = [
        {
            **row,
            "gflops": row["flops"] / 1e9,
            "peak_mb": row["peak_bytes"] / 1e6,
            "speedup": plain[row["mode"]] / row["seconds_p50"] if row["mode"] in plain else None,
        }
        for row in rows
    ]
    columns = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in enriched)]
    lines = [
        [form.format(row[key]) if row.get(key) is not None else "" for key, _, form in columns] for row in enriched
    ]
    (conditions, targets), (width, height) = first["views"], first["size"]
    head = (
        f"Model {first['model']}, {conditions}+{targets} views of {width}x{height}, "
        f"{first['runs']} requests a row"
        + (f", quality over {first['targets']} targets:" if "targets" in first else ":")
    )
    return f"{head}\n\n{table([heading for _, heading, _ in columns], lines)}"


def _full_size(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["preset"],
            "{0[0]}+{0[1]}".format(row["updates"]),
            str(row["evaluations"]),
            f"{row['flops'] / 1e15:.3f}",
        ]
        for row in rows
    ]
    head = "Published sizes, 4+4 views of 504x280, computed; quality of these settings on released weights is unproven:"
    return f"{head}\n\n{table(['preset', 'updates', 'evaluations', 'PFLOP'], lines)}"


def _streaming(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["preset"],
            "{0[0]}x{0[1]}".format(row["size"]),
            f"{row['cold_p50']:.3f}",
            f"{row['steady_p50']:.3f}",
            f"{row['cold_over_steady']:.1f}x",
            f"{row['prepare_p50']:.3f}",
            f"{row['hz']:.1f}",
            f"{row['psnr_cold']:.2f} / {row['psnr_steady']:.2f}",
            f"{row['psnr_generated_cold']:.2f} / {row['psnr_generated_steady']:.2f}",
        ]
        for row in rows
    ]
    headings = ["preset", "size", "cold s", "steady s", "cold / steady", "keyframe s", "Hz"]
    headings += ["composed dB cold / steady", "generated dB cold / steady"]
    head = "One virtual camera beside a moving one, a keyframe every third picture, whole requests:"
    return f"{head}\n\n{table(headings, lines)}"


def _budget(found: dict[str, Any]) -> str:
    p95 = found["actual_over_budget_p95"]
    shown = "none was accepted" if p95 is None else f"p50 {found['actual_over_budget_p50']:.2f}, p95 {p95:.2f}"
    budgets = [run["budget"] for run in found["runs"]]
    return (
        f"{len(budgets)} time budgets from {min(budgets):.2f} to {max(budgets):.2f} s, actual / budget: {shown}; "
        f"{found['refused']} refused, of these {found['refused_above_floor']} well above the floor of "
        f"{found['floor']:.2f} s."
    )


def _ros(found: dict[str, Any]) -> str:
    words = {True: "yes", False: "**no**", None: ""}
    lines = [
        [
            row["name"] + (f" ({row['note']})" if row["note"] else ""),
            f"{row['value']:.4g} {row['unit']}",
            "" if row["target"] is None else f"{'>=' if row['at_least'] else '<='} {row['target']:g}",
            words[row["met"]],
        ]
        for row in found["rows"]
    ]
    head = f"Model {found['model']}, a run of {found['seconds']:g} s, load {found['load_before']:.1f} before it:"
    return f"{head}\n\n{table(['figure', 'found', 'asked', 'met'], lines)}"


def _verdict(verdicts: list[dict[str, Any]]) -> str:
    words = {True: "yes", False: "**no**", None: "not measured"}
    lines = [[v["target"], v["asked"], v["found"], words[v["met"]]] for v in verdicts]
    return table(["target", "asked", "found", "met"], lines)

"""Requests with more condition views than an engine should read at once: every target gets the nearest ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gld_ros.errors import Status
from gld_ros.geometry.camera import view_costs
from gld_ros.synthesis.types import CancelCheck, Cloud, Engine, PosedView, ProgressCallback, Request, Result

MAX_VIEWS = 8  # matching and cross-checks grow with the square of the views


def synthesize_nearest(
    engine: Engine,
    views: Sequence[PosedView],
    request: Request,
    progress: ProgressCallback | None = None,
    cancelled: CancelCheck | None = None,
) -> Result:
    """Run ``engine`` with the MAX_VIEWS condition views nearest to each target; see ``Engine.synthesize``."""
    if len(views) <= MAX_VIEWS or not request.targets:
        return engine.synthesize(views, request, progress, cancelled)
    cameras = [v.camera for v in views]
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, target in enumerate(request.targets):
        nearest = np.argsort(view_costs(cameras, target), kind="stable")[:MAX_VIEWS]
        groups.setdefault(tuple(sorted(int(k) for k in nearest)), []).append(i)
    results: dict[int, tuple[Result, int]] = {}
    seed = request.seed
    for chosen, members in groups.items():
        part = replace(request, targets=[request.targets[i] for i in members], seed=seed)
        made = engine.synthesize([views[k] for k in chosen], part, progress, cancelled)
        seed = made.seed  # one drawn seed for the whole request
        results.update({i: (made, k) for k, i in enumerate(members)})
    return _joined(results, len(views))


def _joined(results: dict[int, tuple[Result, int]], count: int) -> Result:
    ordered = [results[i] for i in sorted(results)]
    parts = list({id(made): made for made, _ in ordered}.values())
    first = parts[0]
    made_views = [made.views[k] for made, k in ordered]
    good = next((made for made in parts if made.status == Status.OK), first)
    seconds: dict[str, float] = {}
    for made in parts:
        for name, taken in made.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + taken
    note = f"each view was made from the {MAX_VIEWS} nearest of {count} condition views"
    return replace(
        first,
        status=good.status,
        message=good.message,
        views=made_views,
        points_observed=join_clouds([made.points_observed for made in parts]),
        points_generated=join_clouds([made.points_generated for made in parts]),
        scale_valid=all(made.scale_valid for made in parts),
        carved=all(made.carved for made in parts),
        seconds=seconds,
        notes=(*dict.fromkeys(n for made in parts for n in made.notes), note),
    )


def join_clouds(clouds: Sequence[Cloud | None]) -> Cloud | None:
    """All points of the clouds that are there; None without any."""
    there = [c for c in clouds if c is not None]
    if not there:
        return None
    return Cloud(*(np.concatenate([getattr(c, name) for c in there]) for name in ("xyz", "rgb", "confidence")))

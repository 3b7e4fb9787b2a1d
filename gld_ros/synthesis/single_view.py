"""One condition view without depth: there is no geometry, so the network draws whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gld_ros.errors import Status
from gld_ros.synthesis.classical import empty_view
from gld_ros.synthesis.types import GENERATED, Request, Result, SynthesizedView

NOTE = (
    "1 condition view without depth: no geometry, so the network draws whole pictures; their depth has no scale; "
    "give a second view or a depth image for what is real"
)


def blank_result(request: Request) -> Result:
    """What geometry knows in this case: nothing of any target, and no scale."""
    blank = [empty_view(target, "", Status.OK) for target in request.targets]
    return Result(
        status=Status.OK,
        message="",
        views=[replace(v, provenance=np.full_like(v.provenance, GENERATED)) for v in blank],
        points_observed=None,
        points_generated=None,
        model="",
        preset=request.preset,
        updates=(0, 0),
        seed=request.seed,
        scale=1.0,
        scale_valid=False,
        carved=False,
        confidence_kind="",
        seconds={"total": 0.0},
        notes=(NOTE,),
    )


def without_blanks(views: Sequence[SynthesizedView], budget_s: float) -> list[SynthesizedView]:
    """The views; those that nobody drew before the time was over say so."""
    message = f"time_budget {budget_s:g} s was used up: ask for fewer views or more time"
    return [
        empty_view(v.camera, message, Status.BUDGET_EXCEEDED)
        if v.status == Status.OK and np.isnan(v.depth).all()
        else v
        for v in views
    ]

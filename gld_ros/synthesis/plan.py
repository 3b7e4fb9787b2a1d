"""How a request is run: targets in parts that a network makes at once, and the preset that fits a time budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.model.config import ModelConfig
from gld_ros.synthesis.budget import SLACK, NetworkCosts, Work, fit_updates
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.network_inputs import best_size
from gld_ros.synthesis.presets import NetworkPreset
from gld_ros.synthesis.types import PosedView, Request

MAX_CONDITIONS = 4  # released models were trained with 1 to 4
LEAST_SHARE = 0.5  # of its updates that a preset is run with before a faster one is taken


class Planner:
    """Plans for one model, from what earlier work took on this machine."""

    def __init__(
        self, config: ModelConfig, presets: Mapping[str, NetworkPreset], geometry: ClassicalEngine, costs: NetworkCosts
    ) -> None:
        self._config = config
        self._presets = presets
        self._geometry = geometry
        self._costs = costs

    def preset(self, name: str) -> NetworkPreset:
        """The preset of this name. Raises GldError for an unknown one."""
        if name not in self._presets:
            raise GldError(f"preset '{name}' is unknown: use one of {', '.join(self._presets)}")
        return self._presets[name]

    def choose(self, views: Sequence[PosedView], request: Request, notes: list[str]) -> tuple[str, NetworkPreset]:
        """The preset asked for, or as much of it or of a faster one as fits. Raises BUDGET_EXCEEDED below the floor."""
        asked, budget = self.preset(request.preset), request.time_budget_s
        if budget <= 0:
            return request.preset, asked

        def fits(preset: NetworkPreset) -> bool:
            return SLACK * self.expected_seconds(views, request, preset) <= budget

        names = list(self._presets)[list(self._presets).index(request.preset) :]
        for name in names:
            preset = self._presets[name]
            fewest = 1 if name == names[-1] else math.ceil(LEAST_SHARE * (preset.level1.points - 1))
            fitting = fit_updates(preset, fits, fewest)
            if fitting is not None:
                if fitting != asked:
                    ran = fitting.level1.points - 1
                    notes.append(f"preset {name} with {ran} updates instead of {request.preset} to keep {budget:g} s")
                return name, fitting
        floor = SLACK * self.expected_seconds(views, request, self._presets[names[-1]].with_updates(1))
        raise GldError(
            f"time_budget {budget:g} s is below the floor of {floor:.2g} s for {len(request.targets)} views "
            f"with preset {names[-1]}: ask for fewer views or more time",
            Status.BUDGET_EXCEEDED,
        )

    def expected_seconds(self, views: Sequence[PosedView], request: Request, preset: NetworkPreset) -> float:
        """What the whole request will take with this preset."""
        total = self._geometry.expected_seconds(views, request.targets, preset.geometry)
        for part in self.parts(len(views), list(range(len(request.targets)))):
            work = self.work(len(views), [request.targets[i] for i in part], request.num_samples)
            total += self._costs.seconds(preset, work)
        return total

    def parts(self, conditions: int, targets: list[int]) -> list[list[int]]:
        """Targets that are made in one run of the network."""
        per_run = max(1, self._config.trained_views - min(conditions, MAX_CONDITIONS))
        return [targets[first : first + per_run] for first in range(0, len(targets), per_run)]

    def work(self, conditions: int, targets: Sequence[Camera], samples: int) -> Work:
        """Size of one run of the network."""
        config = self._config
        width, height = best_size(config.trained_sizes, targets[0])
        conditions = min(conditions, MAX_CONDITIONS)
        return Work(
            to_encode=conditions + (len(targets) if config.level1.warp_channels else 0),
            views=conditions + len(targets),
            samples=samples,
            tokens=(width // config.encoder.patch) * (height // config.encoder.patch),
            pixels=sum(t.width * t.height for t in targets),
        )

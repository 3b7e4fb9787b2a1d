"""Recomputing the golden files of whole runs: sampler trajectories and complete requests."""

from __future__ import annotations

import torch
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.evaluation.goldens import GoldenFile, GoldenFolder, output
from gld_ros.model.config import SamplerConfig
from gld_ros.model.dit import DiTInputs
from gld_ros.model.encoder import grid_of
from gld_ros.model.gld_model import Latents
from gld_ros.model.layers import tokens_to_map
from gld_ros.model.rays import cameras_from_rays
from gld_ros.model.sampler import sample, time_grid
from gld_ros.synthesis.gld import GldOutput, GldRequest, generate


class SamplerFile(GoldenFile):
    """Specification section 10; weights of ``ddt_level1``."""

    name = "sampler"

    @output(r"t_grid/shift_([\d.]+)_points_(\d+)")
    def grid(self, shift: str, points: str) -> Tensor:
        return time_grid(_shift(shift), int(points))

    @output(r"shift([\d.]+)_(?:cfg([\d.]+)|nocfg)/trajectory")
    def trajectory(self, shift: str, guidance: str | None) -> Tensor:
        name = f"out/shift{shift}_{f'cfg{guidance}' if guidance else 'nocfg'}/trajectory"
        config = SamplerConfig(len(self.tensors[name]), _shift(shift), float(guidance or 1.0))
        inputs = DiTInputs(
            int(self.given("cond_num")),
            self.given("ref_cond").unsqueeze(0),
            self.given("camera_map").unsqueeze(0),
            self.given("viewmats"),
            self.given("K"),
        )
        states: list[Tensor] = []
        noise = self.given("noise").unsqueeze(0)
        last = sample(self.folder.level1, inputs, noise, config, lambda _step, _steps, x: states.append(x))
        return torch.cat([*states, last])


class RequestFile(GoldenFile):
    """Specification section 0: whole requests with the tiny model, any number of cases."""

    name = "e2e"

    def __init__(self, folder: GoldenFolder) -> None:
        super().__init__(folder)
        self._results: dict[str, GldOutput] = {}

    def _scenes(self, case: str, name: str, trailing: int) -> Tensor:
        """An input whose leading axes are scenes and views, or views alone, as (B, V, ...)."""
        value = self.given(case + name)
        scenes = self.given(case + "cond_rgb01").shape[0]
        return value.reshape(scenes, -1, *value.shape[-trailing:])

    def _statistic(self, case: str, name: str) -> Tensor:
        return self.given(case + name if self.has(case + name) else name)

    def _result(self, case: str) -> GldOutput:
        if case in self._results:
            return self._results[case]
        cond_rgb = self.given(case + "cond_rgb01")
        if self.has(case + "cond_num") and int(self.given(case + "cond_num")) != cond_rgb.shape[1]:
            raise GldError(f"in/{case}cond_num is {int(self.given(case + 'cond_num'))}, pictures: {cond_rgb.shape[1]}")
        model = self.folder.model
        for level in range(2):
            model.level_statistics(level).set(
                self._statistic(case, f"stats_level{level}_mean"), self._statistic(case, f"stats_level{level}_var")
            )
        sampler = SamplerConfig(
            int(self.given(case + "grid_points")),
            float(self.given(case + "shift")),
            float(self.given(case + "cfg_scale")),
        )
        request = GldRequest(
            cond_rgb,
            self._scenes(case, "c2w", 2),
            self._scenes(case, "K", 2),
            sampler,
            sampler,
            noise=Latents(self._scenes(case, "noise_level0", 3), self._scenes(case, "noise_level1", 3)),
        )
        self._results[case] = generate(model, request)
        return self._results[case]

    @output(r"(\w+/)?(rgb|depth|depth_conf|ray|ray_conf)")
    def picture(self, case: str | None, name: str) -> Tensor:
        result = self._result(case or "")
        value: Tensor = getattr(result if name == "rgb" else result.depth, name)
        return value

    @output(r"(\w+/)?(cond_)?level([01])_norm")
    def latents(self, case: str | None, condition: str | None, level: str) -> Tensor:
        result = self._result(case or "")
        value: Tensor = getattr(result.conditions if condition else result.latents, f"level{level}")
        return value

    @output(r"(\w+/)?cls_level1_norm")
    def cls(self, case: str | None) -> Tensor:
        result = self._result(case or "")
        value: Tensor = self.folder.model.level_statistics(1).normalise(result.cls)
        return value

    @output(r"(\w+/)?level([0-3])_raw")
    def raw(self, case: str | None, level: str) -> Tensor:
        rgb = self.given((case or "") + "cond_rgb01")
        grid = grid_of(rgb, self.folder.model.config.encoder.patch)
        return tokens_to_map(self._result(case or "").levels[int(level)], grid)

    @output(r"(\w+/)?level([0-3])_ln")
    def layer_normed(self, case: str | None, level: str) -> Tensor:
        return self.folder.encoder.layer_normed(self._result(case or "").levels[int(level)])

    @output(r"(\w+/)?recovered_(c2w|K)")
    def recovered(self, case: str | None, name: str) -> Tensor:
        result = self._result(case or "")
        assert result.depth is not None
        assert result.depth.ray is not None
        assert result.depth.ray_conf is not None
        height, width = self.given((case or "") + "cond_rgb01").shape[-2:]
        poses, K = cameras_from_rays(result.depth.ray[0], result.depth.ray_conf[0], (height, width))
        return poses if name == "c2w" else K


def _shift(text: str) -> float:
    """Names carry four decimals; the default shift is meant in full."""
    full = SamplerConfig().shift
    return full if text == f"{full:.4f}" else float(text)


RUN_FILES: list[type[GoldenFile]] = [SamplerFile, RequestFile]

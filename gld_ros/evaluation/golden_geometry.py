"""Recomputing the golden files that need no network: pictures, cameras, PRoPE, statistics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.evaluation.goldens import GoldenFile, find_grid, output
from gld_ros.model.camera_map import RelativeCameras, relative_cameras
from gld_ros.model.config import CameraConfig
from gld_ros.model.preprocess import preprocess, preprocess_intrinsics
from gld_ros.model.prope import Prope, prope
from gld_ros.model.rays import cameras_from_rays
from gld_ros.model.statistics import LatentStatistics


class PreprocessFile(GoldenFile):
    """Specification section 1."""

    name = "preprocess"

    def _case(self, case: str) -> tuple[tuple[int, int], tuple[int, int]]:
        target = self.given(f"{case}/target_wh").tolist()
        if self.has(f"{case}/image_u8"):
            height, width = self.given(f"{case}/image_u8").shape[:2]
        else:
            width, height = self.given(f"{case}/size_wh").tolist()
        return (width, height), (target[0], target[1])

    @output(r"(\w+)/K")
    def intrinsics(self, case: str) -> Tensor:
        K = preprocess_intrinsics(self.given(f"{case}/K").cpu().numpy(), *self._case(case))[0]
        return torch.from_numpy(K)

    @output(r"(\w+)/image_u8")
    def picture(self, case: str) -> Tensor:
        K = self.given(f"{case}/K").cpu().numpy()
        picture, _ = preprocess(self.given(f"{case}/image_u8").cpu().numpy(), K, self._case(case)[1])
        return torch.from_numpy(picture.copy())


class CameraFile(GoldenFile):
    """Specification sections 6 and 7."""

    name = "camera"

    @cached_property
    def cameras(self) -> RelativeCameras:
        return relative_cameras(self.given("c2w"), self.given("K"))

    @output(r"camera_map")
    def map(self) -> Tensor:
        height, width = self.tensors["out/camera_map"].shape[-2:]
        return self.cameras.map(int(self.given("cond_num")), (height, width), CameraConfig().ray_offset_px)

    @output(r"scale")
    def scale(self) -> Tensor:
        return self.cameras.scale

    @output(r"c2w_relative_to_last")
    def relative(self) -> Tensor:
        return self.cameras.ref_from_cam

    @output(r"viewmats_relative_scaled")
    def viewmats(self) -> Tensor:
        return self.cameras.cam_from_ref_scaled()

    @output(r"viewmats_world_scaled")
    def viewmats_world(self) -> Tensor:
        cam_from_world = torch.linalg.inv(self.given("c2w").double())
        cam_from_world[..., :3, 3] *= self.cameras.scale.view(-1, 1, 1)
        return cam_from_world


class PropeFile(GoldenFile):
    """Specification section 7."""

    name = "prope"

    @cached_property
    def _grid(self) -> tuple[int, int]:
        tokens = self.given("q").shape[2] // self.given("K").shape[1]
        patch = int(self.folder.architecture.part("common").get("patch", 14))
        candidates: list[tuple[int, int] | None] = [self.folder.common_grid()]
        for name in self.tensors:
            if match := re.match(r"out/size_(\d+)x(\d+)/", name):
                candidates.append((int(match.group(2)) // patch, int(match.group(1)) // patch))
        if "out/rope_cos_x" in self.tensors:
            # The columns of a row-major grid start over after each row.
            table = self.tensors["out/rope_cos_x"].flatten(0, -2)
            restarts = (table == table[0]).all(dim=-1).nonzero().flatten().tolist()
            columns = restarts[1] if len(restarts) > 1 else tokens
            candidates.insert(0, (tokens // columns, columns))
        return find_grid(tokens, candidates)

    def _prope(self, width: str, height: str, viewmats: str = "viewmats") -> Prope:
        head = self.given("q").shape[-1]
        size = (float(width), float(height))
        return prope(self.given(viewmats), self.given("K"), size, self._grid, head)

    @output(r"rope_(cos|sin)_(x|y)")
    def table(self, function: str, axis: str) -> Tensor:
        transform = self._prope("1", "1")
        return (transform.cos if function == "cos" else transform.sin)[:, "xy".index(axis)]

    @output(r"size_(\d+)x(\d+)/(P|P_tilde)")
    def matrix(self, width: str, height: str, name: str) -> Tensor:
        value: Tensor = getattr(self._prope(width, height), name)
        return value

    @output(r"size_(\d+)x(\d+)/attention(_world)?")
    def attention(self, width: str, height: str, world: str | None) -> Tensor:
        transform = self._prope(width, height, "viewmats_world_scaled" if world else "viewmats")
        return transform.attend(*(self.given(name).to(self.folder.dtype) for name in "qkv"))

    @output(r"size_(\d+)x(\d+)/([qkv])_transformed")
    def transformed(self, width: str, height: str, name: str) -> Tensor:
        transform = self._prope(width, height)
        x = self.given(name).to(self.folder.dtype)
        return transform.query(x) if name == "q" else transform.key(x)

    @output(r"size_(\d+)x(\d+)/inverse_output_transform_of_v")
    def output_side(self, width: str, height: str) -> Tensor:
        return self._prope(width, height).output(self.given("v").to(self.folder.dtype))


class RaysFile(GoldenFile):
    """Specification section 5.3."""

    name = "camera_from_ray"

    @output(r"(c2w|K)(_unweighted)?")
    def cameras(self, name: str, unweighted: str | None) -> Tensor:
        height, width = self.given("image_hw").tolist()
        found = [
            cameras_from_rays(ray, None if unweighted else conf, (height, width))
            for ray, conf in zip(self.given("ray"), self.given("ray_conf"), strict=True)
        ]
        return torch.stack([poses if name == "c2w" else K for poses, K in found])


class StatisticsFile(GoldenFile):
    """Specification section 3: real statistics, which hold their own check (the deviation that training stored)."""

    name = "da3_stats"

    def expected(self) -> Iterator[tuple[str, Tensor]]:
        """The stored deviations."""
        for name in sorted(self.tensors):
            if name.endswith("/std"):
                yield name, self.tensors[name]

    @output(r"(level\d)/std")
    def deviation(self, level: str) -> Tensor:
        mean, var = (self.tensors.get(f"{level}/{name}") for name in ("mean", "var"))
        if mean is None or var is None:
            raise GldError(f"{level}/mean or {level}/var is missing")
        statistics = LatentStatistics(mean.numel(), eps=0.0).to(self.folder.device)
        statistics.set(mean, var)
        return statistics.denormalise(torch.ones_like(statistics.mean)) - statistics.mean


GEOMETRY_FILES: list[type[GoldenFile]] = [PreprocessFile, CameraFile, PropeFile, RaysFile, StatisticsFile]

"""Peak memory of one request, measured in a process that does nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gld_ros.evaluation.bench.compare import run_request
from gld_ros.evaluation.bench.machine import peak_bytes
from gld_ros.evaluation.bench.targets import BenchScene
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import WorkView
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.checkpoint import ModelFile
from gld_ros.synthesis.classical import empty_view
from gld_ros.synthesis.network_inputs import network_inputs
from gld_ros.synthesis.types import PosedView


def request_peak(path: Path, mode: str, preset: str, views: tuple[int, int], device: str, threads: int) -> int:
    """Bytes at the highest point of loading the model in ``path`` and answering one request; run it in a child."""
    torch.set_num_threads(threads)
    model = ModelFile(path).load(torch.device(device), torch.float32)
    run_request(model, noise_scene(model.config.trained_sizes[0], views), mode, preset)
    return peak_bytes(torch.device(device))


def noise_scene(size: tuple[int, int], views: tuple[int, int]) -> BenchScene:
    """A request without a room: memory depends on sizes alone, and rendering would be counted."""
    width, height = size
    rng = np.random.default_rng(0)
    K = np.array([[0.8 * width, 0, (width - 1) / 2], [0, 0.8 * width, (height - 1) / 2], [0, 0, 1]])
    cameras = []
    for i in range(sum(views)):
        pose = np.eye(4)
        pose[0, 3] = 0.1 * i
        cameras.append(Camera(width, height, K, pose))
    known = [
        PosedView(str(i), camera, rng.integers(0, 256, (height, width, 3), np.uint8))
        for i, camera in enumerate(cameras[: views[0]])
    ]
    inputs = network_inputs(known, cameras[views[0] :], size)
    flat = torch.full((height, width), 0.5)
    depths = [
        ViewDepth(WorkView(view.camera, inputs.cond_rgb[0, i]), flat, flat, 0.01, flat * 0, flat > 0, flat)
        for i, view in enumerate(known)
    ]
    truth = np.zeros((views[1], height, width, 3), np.uint8)
    seen = [empty_view(camera, "a request without a room") for camera in cameras[views[0] :]]
    return BenchScene(0, inputs, depths, seen, truth, np.zeros(truth.shape[:3], np.bool_))

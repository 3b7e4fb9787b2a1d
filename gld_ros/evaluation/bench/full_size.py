"""The published sizes with random weights: time, operations and memory of a model nobody needs to have."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.machine import peak_bytes
from gld_ros.evaluation.bench.rows import Row
from gld_ros.evaluation.bench.verdict import Verdict, limit
from gld_ros.evaluation.cost import part_costs, request_flops
from gld_ros.model.checkpoint import Entry, ModelFile, model_metadata, skeleton, write_stream
from gld_ros.model.config import ModelConfig, released_config
from gld_ros.model.precision import dtype_named, fp32_names
from gld_ros.synthesis.gld import GldRequest, generate, synchronise

FULL_SIZE = (504, 280)
PEAK_BYTES = 6e9  # what a robot's GPU has to spare


def full_size_row(path: Path, device: str, dtype: str, updates: int, guidance: float, threads: int) -> Row:
    """One request through the model in ``path``: one condition view, one target, transformers read one at a time."""
    if threads:
        torch.set_num_threads(threads)
    where = torch.device(device)
    file = ModelFile(path)
    model = file.load(where, dtype_named(dtype), lazy=True)
    sampler = dataclasses.replace(file.config.sampler, points=updates + 1, guidance=guidance)
    width, height = FULL_SIZE
    generator = torch.Generator().manual_seed(0)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = 0.3
    K = torch.tensor([[400.0, 0, width / 2 - 0.5], [0, 400.0, height / 2 - 0.5], [0, 0, 1]]).repeat(1, 2, 1, 1)
    request = GldRequest(torch.rand(1, 1, 3, height, width, generator=generator), poses, K, sampler, sampler)
    seconds: dict[str, float] = {}
    with tqdm(total=2 * updates, desc="updates", unit="") as bar:
        begun = time.perf_counter()
        marks = [("encode", begun)]

        def step(stage: str, index: int, _steps: int) -> None:
            if index == 0:
                marks.append((stage, time.perf_counter()))
            bar.set_postfix_str(stage)
            bar.update(1)

        output = generate(model, request, step)
        synchronise(where)
        ended = time.perf_counter()
    for (name, start), (_, end) in zip(marks, [*marks[1:], ("", ended)], strict=True):
        seconds[name] = end - start
    assert output.rgb is not None
    if not torch.isfinite(output.rgb).all():
        raise GldError("the network made values that are not finite: try another dtype")
    rows = part_costs(file.config, FULL_SIZE, 2, 1)
    flops, evaluations = request_flops(rows, file.config, sampler, sampler)
    return Row(
        model=file.config.name,
        mode="full-size",
        preset=f"{updates} updates",
        views=(1, 1),
        size=FULL_SIZE,
        seconds_p50=ended - begun,
        seconds_p95=ended - begun,
        updates=(updates, updates),
        evaluations=evaluations,
        flops=flops,
        peak_bytes=peak_bytes(where),
        device=device,
        dtype=dtype,
        seconds=seconds,
    )


def full_size_verdicts(row: Row) -> list[Verdict]:
    """Whether the published sizes fit a robot; judged in bf16 only, in which a robot would run them."""
    if row.dtype != "bf16":
        return []
    return [
        limit("published sizes, peak memory", "gigabytes", row.peak_bytes / 1e9, PEAK_BYTES / 1e9, True, "{:.2f} GB")
    ]


def write_random_model(path: Path, config: ModelConfig | None = None, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write a model file with random weights, tensor by tensor: for timing and memory, not for pictures."""
    config = config or released_config()
    model = skeleton(config)
    kept = fp32_names(model)
    generator = torch.Generator().manual_seed(0)

    def make(name: str, shape: tuple[int, ...]) -> Callable[[], Tensor]:
        def read() -> Tensor:
            if name.endswith((".var", "gamma")) or (len(shape) == 1 and name.endswith("weight")):
                return torch.ones(shape)
            if name.endswith(("bias", ".mean")):
                return torch.zeros(shape)
            return torch.empty(shape).normal_(0, 0.02, generator=generator)

        return read

    entries = [
        Entry(name, tuple(tensor.shape), torch.float32 if name in kept else dtype, make(name, tuple(tensor.shape)))
        for name, tensor in model.state_dict().items()
    ]
    total = sum(entry.nbytes for entry in entries)
    free = shutil.disk_usage(path.parent).free
    if free < total:
        raise GldError(f"{path.parent} has {free / 1e9:.1f} GB free, {total / 1e9:.1f} GB are needed: set TMPDIR")
    with tqdm(total=total, unit="B", unit_scale=True, desc="writing random weights") as bar:
        write_stream(path, entries, model_metadata(config, dtype, {"weights": "random"}), bar.update)

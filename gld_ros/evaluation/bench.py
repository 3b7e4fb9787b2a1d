"""Measured rows of ``gld bench``: each in a child process of its own, so that its peak memory is its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gld_ros import __version__
from gld_ros.errors import GldError, Status
from gld_ros.evaluation.cost import part_costs, request_flops
from gld_ros.model.checkpoint import Entry, ModelFile, model_metadata, skeleton, write_stream
from gld_ros.model.config import ModelConfig, released_config
from gld_ros.model.precision import dtype_named, fp32_names
from gld_ros.synthesis.gld import GldRequest, generate

FULL_SIZE = (504, 280)


@dataclass(frozen=True)
class Row:
    """One line of the benchmark. ``None`` means not measured in this mode, and is left out of the JSON."""

    model: str
    mode: str
    preset: str
    views: tuple[int, int]  # condition, target
    size: tuple[int, int]  # (W, H)
    seconds_p50: float
    seconds_p95: float
    updates: tuple[int, int]  # level 1, cascade
    evaluations: int
    flops: int
    peak_bytes: int  # of the device for the network; of this process on a CPU
    runs: int = 1
    device: str = "cpu"
    dtype: str = "fp32"
    seconds: dict[str, float] = field(default_factory=dict)  # per stage of the last run
    psnr: float | None = None
    psnr_drop_vs_reference: float | None = None
    psnr_drop_vs_best: float | None = None
    psnr_to_reference: float | None = None
    perceptual: float | None = None
    sharpness_holes: float | None = None
    sample_std_holes: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def report(rows: list[Row]) -> dict[str, Any]:
    """The whole benchmark file: where it ran, with what, and the rows."""
    return {
        "machine": machine(),
        "versions": {
            "gld_ros": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "revision": revision(),
        "rows": [row.to_dict() for row in rows],
    }


def machine() -> dict[str, Any]:
    """Processor, memory and accelerator."""
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory,
        "gpu": cuda,
        "system": platform.platform(),
    }


def revision() -> str:
    """Commit of the source tree, with a mark when it has changes; "unknown" outside one."""
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def in_child(job: Callable[..., Row], **arguments: Any) -> Row:
    """Run ``job`` in a fresh process and return its row. Raises GldError with what went wrong there."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, job, arguments))
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        status = Status.OUT_OF_MEMORY if process.exitcode == -9 else Status.INTERNAL
        raise GldError(
            f"the measuring process ended with code {process.exitcode} (-9: out of memory)", status
        ) from None
    finally:
        process.join()
    if isinstance(outcome, Row):
        return outcome
    raise GldError(f"measuring failed: {outcome}")


def _child(sender: Connection, job: Callable[..., Row], arguments: dict[str, Any]) -> None:
    try:
        sender.send(job(**arguments))
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")


def peak_bytes(device: torch.device) -> int:
    """Highest memory so far: of the accelerator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if Path("/proc/self/status").is_file():
        # Not getrusage: its maximum survives exec and would include the parent's.
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
        if where.type == "cuda":
            torch.cuda.synchronize(where)
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

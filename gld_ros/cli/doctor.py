"""``gld doctor``: look at this machine and say, line by line, what is fine and what to do about the rest."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gld_ros import __version__
from gld_ros.errors import GldError
from gld_ros.ros.checkup import check_messages, check_ros, check_shared_memory
from gld_ros.ros.findings import ERROR, OK, WARNING, Finding, Findings
from gld_ros.share import share_folder

PYTHONS = ((3, 10), (3, 14))  # Humble's to Lyrical's
DISK_FREE_BYTES = 2 << 30


def check_python() -> Findings:
    """The interpreter, and where this package comes from."""
    version = f"{platform.python_version()} ({sys.executable}), gld_ros {__version__} in {Path(__file__).parents[1]}"
    low, high = PYTHONS
    if low <= sys.version_info[:2] <= high:
        yield Finding(OK, "python", version)
    else:
        yield Finding(WARNING, "python", version, "tested with 3.10 to 3.14: use one of them")
    try:
        yield Finding(OK, "files", str(share_folder()))
    except GldError as error:
        yield Finding(ERROR, "files", str(error), "install gld_ros anew")


def check_libraries() -> Findings:
    """What the product imports at run time, torch and its devices first."""
    try:
        import torch
    except ImportError as error:
        yield Finding(ERROR, "torch", str(error), "pip install torch")
    else:
        yield Finding(OK, "torch", f"{torch.__version__}, CPU with {torch.get_num_threads()} threads")
        yield from _gpus(torch)
    for module, package in (("cv2", "opencv"), ("numpy", "numpy"), ("safetensors", "safetensors"), ("yaml", "pyyaml")):
        try:
            found = importlib.import_module(module)
            yield Finding(OK, package, str(getattr(found, "__version__", "installed")))
        except ImportError as error:
            yield Finding(ERROR, package, str(error), f"pip install {package} (or your system's python3-{package})")


def _gpus(torch: object) -> Findings:
    cuda = torch.cuda  # type: ignore[attr-defined]
    if cuda.is_available():
        for index in range(cuda.device_count()):
            device = cuda.get_device_properties(index)
            memory = f"{device.total_memory / 2**30:.1f} GiB"
            yield Finding(OK, f"cuda:{index}", f"{device.name}, {memory}, compute {device.major}.{device.minor}")
    elif torch.backends.mps.is_available():  # type: ignore[attr-defined]
        yield Finding(OK, "gpu", "mps")
    elif Path("/proc/driver/nvidia").exists() or Path("/etc/nv_tegra_release").exists():
        remedy = "install the torch build that fits your driver (Jetson: NVIDIA's wheel for your JetPack)"
        yield Finding(WARNING, "gpu", "an NVIDIA driver is loaded, but torch cannot use it", remedy)
    else:
        yield Finding(OK, "gpu", "none: the classical engine and small models run on the CPU")


def check_clock() -> Findings:
    """Whether the kernel thinks the clock is synchronised: stamps of several machines meet in TF."""
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    synchronised = clock_synchronised()
    if synchronised is None:
        yield Finding(OK, "clock", f"{now} (whether it is synchronised cannot be told here)")
    elif synchronised:
        yield Finding(OK, "clock", f"{now}, synchronised")
    else:
        remedy = "with cameras or TF from another machine, run chrony or another NTP client on both"
        yield Finding(WARNING, "clock", f"{now}, not synchronised", remedy)


def clock_synchronised() -> bool | None:
    """What adjtimex(2) says; None where it cannot be asked."""
    if sys.platform != "linux":
        return None
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))  # struct timex, all zero: only read
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != 5  # TIME_ERROR


def check_weights() -> Findings:
    """The model that ships with the package."""
    from gld_ros.synthesis.shipped import DEMONSTRATION, FOLDER, NAME, REMEDY, shipped_file, verified_file

    if shipped_file() is None:
        yield Finding(WARNING, "weights", f"none in {FOLDER}", "requests use model:=classical until you name a file")
        return
    try:
        from gld_ros.model.checkpoint import ModelFile

        file = ModelFile(verified_file())
    except GldError as error:
        yield Finding(ERROR, "weights", str(error), REMEDY)
    else:
        size = file.path.stat().st_size / 2**20
        yield Finding(OK, "weights", f"{NAME}, {size:.1f} MiB, {len(file.names)} tensors: {DEMONSTRATION}")


def check_disk() -> Findings:
    """Room for results, logs and bags where one works."""
    usage = shutil.disk_usage(Path.cwd())
    text = f"{usage.free / 2**30:.0f} GiB free at {Path.cwd()}"
    if usage.free < DISK_FREE_BYTES:
        yield Finding(WARNING, "disk", text, "less than 2 GiB: training and bags will not fit")
    else:
        yield Finding(OK, "disk", text)


CHECKS: tuple[Callable[[], Findings], ...] = (
    check_python,
    check_libraries,
    check_ros,
    check_messages,
    check_shared_memory,
    check_clock,
    check_weights,
    check_disk,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``gld doctor``."""
    parser.add_argument("--strict", action="store_true", help="exit with 1 on warnings too")


def run(args: argparse.Namespace) -> int:
    """Print one line per finding; exit status 1 on errors (with --strict on warnings too)."""
    findings = []
    for check in CHECKS:
        for finding in examine(check):
            findings.append(finding)
            print(f"{finding.level:8} {finding.subject:12} {finding.text}")
            if finding.remedy:
                print(f"{'':8} {'':12} -> {finding.remedy}")
    levels = [finding.level for finding in findings]
    print(f"{levels.count(OK)} ok, {levels.count(WARNING)} warnings, {levels.count(ERROR)} errors.")
    print("`gld check-numerics DIR` compares this machine's results with golden files.")
    return int(ERROR in levels or (args.strict and WARNING in levels))


def examine(check: Callable[[], Findings]) -> Findings:
    """The findings of ``check``; a check that breaks is a finding too, and the others still run."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(ERROR, check.__name__, f"{type(error).__name__}: {error}", "please report this")

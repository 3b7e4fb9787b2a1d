"""What ``gld doctor`` finds out about ROS: distro, middleware, profile, interfaces, shared memory."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from gld_ros.errors import GldError, Status
from gld_ros.ros import shm
from gld_ros.ros.findings import ERROR, OK, WARNING, Finding, Findings
from gld_ros.ros.launch_plan import FASTDDS_VARIABLES
from gld_ros.share import installed_share, share_folder

TF_MESSAGE_HASH = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"  # tf2_msgs since Iron
RCLPY_LINES = {"7.1": "jazzy", "9.1": "kilted"}  # of wheels, which carry no distro's name
IMAGE_BYTES = 8 << 20  # largest message the shipped profile sends whole: a 640x480 cloud and then some
PROCESSES = 4  # a driver, the node, RViz, one more


def check_ros() -> Findings:
    """ROS itself, its distro and middleware, and what two of them at once would do."""
    try:
        import rclpy
    except ImportError as error:
        remedy = "source /opt/ros/<distro>/setup.bash, or run `make setup`; offline commands work without"
        yield Finding(WARNING, "ros", f"no rclpy: {error}", remedy)
        return
    wheel = _version_of("ros-rclpy")
    sourced = os.environ.get("ROS_DISTRO", "")
    distro = sourced or RCLPY_LINES.get(".".join(wheel.split(".")[:2]), "unknown distro")
    origin = f"wheels, rclpy {wheel}" if wheel else "sourced"
    where = Path(rclpy.__file__).parent
    if wheel and sourced:
        remedy = "use a terminal in which no setup.bash was sourced, or leave the virtual environment"
        yield Finding(WARNING, "ros", f"{sourced} is sourced, but rclpy comes from wheels in {where}", remedy)
    else:
        yield Finding(OK, "ros", f"{distro} ({origin})")
    try:
        rmw = rclpy.get_rmw_implementation_identifier()
        yield Finding(OK, "rmw", rmw)
    except Exception as error:  # a missing RMW library shows as one of several exception types
        yield Finding(ERROR, "rmw", str(error), "install an RMW, e.g. rmw_fastrtps_cpp, or unset RMW_IMPLEMENTATION")
        return
    yield from _network(os.environ)
    yield from _profile(os.environ, rmw, distro)


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _network(environment: Mapping[str, str]) -> Findings:
    domain = environment.get("ROS_DOMAIN_ID", "0") or "0"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        reach = "LOCALHOST (by ROS_LOCALHOST_ONLY)"
    text = f"domain {domain}, discovery {reach or 'of the whole subnet'}"
    if not domain.isdigit() or int(domain) > 101:
        remedy = "0 to 101 keep clear of Linux's ephemeral ports: set ROS_DOMAIN_ID to one of them"
        yield Finding(WARNING, "network", text, remedy)
    else:
        yield Finding(OK, "network", text)


def _profile(environment: Mapping[str, str], rmw: str, distro: str) -> Findings:
    if rmw != "rmw_fastrtps_cpp":
        if rmw == "rmw_cyclonedds_cpp":
            yield from _receive_buffer()
        return
    # Kilted reads the old name too, with a warning; Humble and Jazzy read no other
    read = FASTDDS_VARIABLES[:1] if distro in ("humble", "jazzy") else FASTDDS_VARIABLES
    files = {name: environment[name] for name in read if environment.get(name)}
    shipped = f"start with fastdds:=true, and elsewhere set {read[-1]}={_shipped_profile()}"
    if not files:
        text = f"{read[-1]} is not set: best-effort subscribers lose most images larger than 0.5 MB"
        yield Finding(WARNING, "dds profile", text, shipped)
    for name, file in files.items():
        try:
            segment = segment_bytes(Path(file))
        except (OSError, ElementTree.ParseError, ValueError) as error:
            yield Finding(ERROR, "dds profile", f"{name}={file}: {error}", shipped)
            continue
        text = f"{name}={file}, shared memory segment {segment / 2**20:.1f} MiB"
        if segment < IMAGE_BYTES:
            yield Finding(WARNING, "dds profile", text + f" is below {IMAGE_BYTES >> 20} MiB: images get lost", shipped)
        else:
            yield Finding(OK, "dds profile", text)


def _receive_buffer(path: Path = Path("/proc/sys/net/core/rmem_max")) -> Findings:
    try:
        size = int(path.read_text())
    except (OSError, ValueError):
        return
    text = f"net.core.rmem_max = {size / 2**20:.1f} MiB"
    if size < IMAGE_BYTES:
        remedy = f"images over UDP get lost: sudo sysctl -w net.core.rmem_max={2**31 - 1}"
        yield Finding(WARNING, "udp buffer", text, remedy)
    else:
        yield Finding(OK, "udp buffer", text)


def _shipped_profile() -> str:
    try:
        return str(share_folder() / "config" / "fastdds.xml")
    except GldError:
        return "config/fastdds.xml of gld_ros"


def segment_bytes(profile: Path) -> int:
    """Shared memory segment of a Fast DDS profile, its default of 512 KiB where none is set."""
    root = ElementTree.parse(profile).getroot()
    sizes = [int(e.text or 0) for e in root.iter() if e.tag.rsplit("}", 1)[-1] == "segment_size"]
    return max(sizes, default=512 << 10)


def check_messages() -> Findings:
    """The generated interfaces: built, of today's files, and the same types as everyone else's."""
    share = installed_share("gld_ros")
    try:
        message = importlib.import_module("gld_ros.msg").Status
    except ImportError as error:
        if importlib.util.find_spec("rclpy"):
            yield Finding(
                ERROR, "messages", f"gld_ros has no built interfaces: {error}", "run make setup or colcon build"
            )
        return
    if {code.name: int(code) for code in Status} != {code.name: getattr(message, code.name, None) for code in Status}:
        yield Finding(ERROR, "messages", "built from other status codes than the Python code", "build gld_ros anew")
    elif stale := stale_interfaces(share_folder(), share):
        yield Finding(ERROR, "messages", f"{', '.join(stale)} changed since the build", "make setup or colcon build")
    else:
        yield Finding(OK, "messages", f"gld_ros interfaces, {type_hash(share, 'srv/SynthesizeView')[:20]}…")
    try:
        importlib.import_module("tf2_msgs.msg")
    except ImportError as error:
        yield Finding(ERROR, "tf2_msgs", str(error), "sudo apt install ros-<distro>-tf2-msgs, or make setup")
        return
    found = type_hash(installed_share("tf2_msgs"), "msg/TFMessage")
    if found in (TF_MESSAGE_HASH, ""):  # Humble writes no hashes
        yield Finding(OK, "tf2_msgs", "the official type" if found else "no type hashes in this distro")
    else:
        remedy = "another package hides the real tf2_msgs: remove it"
        yield Finding(ERROR, "tf2_msgs", f"TFMessage is {found}, official is {TF_MESSAGE_HASH}", remedy)


def stale_interfaces(source: Path, installed: Path | None) -> list[str]:
    """Interface files of the source tree that differ from the installed ones."""
    if installed is None or source == installed:
        return []
    files = [path for kind in ("msg", "srv", "action") for path in sorted((source / kind).glob(f"*.{kind}"))]
    names = [path.relative_to(source) for path in files]
    return [
        str(n) for n in names if not (installed / n).exists() or (installed / n).read_text() != (source / n).read_text()
    ]


def type_hash(share: Path | None, name: str) -> str:
    """RIHS01 hash that rosidl wrote beside an installed interface, empty where there is none."""
    file = share / f"{name}.json" if share else None
    if file is None or not file.exists():
        return ""
    package = file.parents[1].name
    hashes = json.loads(file.read_text()).get("type_hashes", [])
    return next((str(e["hash_string"]) for e in hashes if e["type_name"] == f"{package}/{name}"), "")


def check_shared_memory(folder: Path = shm.SHM, profile: Path | None = None) -> Findings:
    """/dev/shm: room for what the profile takes, and what dead processes left there."""
    if not folder.is_dir():
        return
    try:
        segment = segment_bytes(profile or share_folder() / "config" / "fastdds.xml")
    except GldError:
        return
    usage = shutil.disk_usage(folder)
    need = PROCESSES * (segment + (3 << 20))  # measured: 35 MB per process with the 32 MiB segment
    room = f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"
    text = f"{room}, the image profile takes {need >> 20} for {PROCESSES} processes"
    if usage.free < need:
        remedy = f"give it more (docker run --shm-size={2 * need >> 20}m), or a smaller segment_size in fastdds.xml"
        yield Finding(WARNING, str(folder), text, remedy)
    else:
        yield Finding(OK, str(folder), text)
    if old := shm.leftovers(folder):
        size = sum(path.stat().st_size for path in old if path.exists()) / 2**20
        remedy = "python -c 'from gld_ros.ros import shm; shm.clean()'"
        yield Finding(WARNING, str(folder), f"{len(old)} files ({size:.0f} MiB) of processes that died", remedy)

"""Every topic, service and action of the node in one table, for the generated reference and the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gld_ros.errors import GldError


@dataclass(frozen=True)
class Endpoint:
    """One topic, service or action; ``kind`` is in, out, service or action."""

    name: str
    type: str
    kind: str
    description: str


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "<camera>/image_rect", "sensor_msgs/msg/Image", "in", "Rectified picture; preferred where it is published."
    ),
    Endpoint(
        "<camera>/image_raw", "sensor_msgs/msg/Image", "in", "Picture; rectified with the CameraInfo when distorted."
    ),
    Endpoint(
        "<image topic>/compressed",
        "sensor_msgs/msg/CompressedImage",
        "in",
        "In place of the above with transport: compressed.",
    ),
    Endpoint("<camera>/camera_info", "sensor_msgs/msg/CameraInfo", "in", "Calibration of that picture."),
    Endpoint(
        "<camera>/depth",
        "sensor_msgs/msg/Image",
        "in",
        "Optional depth registered to the picture: 32FC1 metres or 16UC1 millimetres.",
    ),
    Endpoint("/tf", "tf2_msgs/msg/TFMessage", "in", "Looked up for each image's stamp when it arrives."),
    Endpoint("/tf_static", "tf2_msgs/msg/TFMessage", "in", "Fixed mounts."),
    Endpoint(
        "~/synthesize", "gld_ros/srv/SynthesizeView", "service", "Views of one or more poses, bounded by time_budget."
    ),
    Endpoint(
        "~/synthesize_views",
        "gld_ros/action/SynthesizeViews",
        "action",
        "The same for long jobs, with feedback and cancel.",
    ),
    Endpoint(
        "~/<virtual camera>/image_rect", "sensor_msgs/msg/Image", "out", "rgb8, composed as parameter compose says."
    ),
    Endpoint("~/<virtual camera>/camera_info", "sensor_msgs/msg/CameraInfo", "out", "Pinhole camera of the picture."),
    Endpoint(
        "~/<virtual camera>/depth/image_rect",
        "sensor_msgs/msg/Image",
        "out",
        "32FC1 metres along z, NaN where nothing is known.",
    ),
    Endpoint(
        "~/<virtual camera>/depth/camera_info",
        "sensor_msgs/msg/CameraInfo",
        "out",
        "The same camera, beside the depth.",
    ),
    Endpoint("~/<virtual camera>/confidence", "sensor_msgs/msg/Image", "out", "32FC1 in [0, 1]."),
    Endpoint(
        "~/<virtual camera>/provenance",
        "sensor_msgs/msg/Image",
        "out",
        "mono8: 0 nothing known, 1 generated, 2 observed.",
    ),
    Endpoint(
        "~/<virtual camera>/points_observed",
        "sensor_msgs/msg/PointCloud2",
        "out",
        "x y z rgb confidence in fixed_frame; real surfaces only.",
    ),
    Endpoint(
        "~/<virtual camera>/points_generated",
        "sensor_msgs/msg/PointCloud2",
        "out",
        "x y z rgb confidence in fixed_frame; invented surfaces only.",
    ),
    Endpoint("~/keyframes", "visualization_msgs/msg/MarkerArray", "out", "Frusta of the real views in use."),
    Endpoint(
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        "out",
        "Rates, ages, drops, TF failures, times, memory, scale.",
    ),
)


def camera_names(names: Sequence[str]) -> list[str]:
    """Names without the empty ones; raises GldError on a repeated name."""
    kept = [name for name in names if name]
    repeated = sorted({name for name in kept if kept.count(name) > 1})
    if repeated:
        raise GldError(f"camera names {repeated} appear more than once: name every camera once")
    return kept


def check_names(real: Sequence[str], virtual: Sequence[str]) -> None:
    """Raise GldError when a virtual camera would share parameters or topics with a real one or with the node."""
    shared = sorted(set(real) & set(virtual))
    if shared:
        raise GldError(f"{shared} are in both cameras and virtual_cameras: rename one of each")
    taken = sorted({"keyframes", "synthesize", "synthesize_views"} & set(virtual))
    if taken:
        raise GldError(f"virtual camera names {taken} are topics of the node: rename them")

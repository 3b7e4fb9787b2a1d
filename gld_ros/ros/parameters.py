"""Every parameter of the node, in tables that drive its declarations, the generated reference and the tests.

Nothing here imports ROS, so that documentation can be made without it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gld_ros.errors import GldError

Value = bool | int | float | str | list[str]

NAME_PATTERN = r"[A-Za-z][A-Za-z0-9_]*"  # of a camera: it becomes part of topic and parameter names
FRAME_PATTERN = r"[^\s/][^\s]*"
TOPIC_PATTERN = r"([A-Za-z_~/{][A-Za-z0-9_~/{}]*)?"


@dataclass(frozen=True)
class Param:
    """One parameter: ``minimum``/``maximum`` bound numbers, ``choices``, ``pattern`` text (each item of lists)."""

    name: str
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    live: bool = True  # may change while the node is active

    @property
    def range_text(self) -> str:
        """The allowed values, in words."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.pattern:
            each = "each " if isinstance(self.default, list) else ""
            return f"{each}matching {self.pattern}"
        return f"{self.minimum:g} to {self.maximum:g}"

    def check(self, value: Value) -> None:
        """Raise GldError naming value, limit and remedy when ``value`` is outside the range."""
        if isinstance(self.default, bool):
            return
        if isinstance(self.default, (int, float)):
            assert self.minimum is not None
            assert self.maximum is not None
            if not self.minimum <= float(value) <= self.maximum:  # type: ignore[arg-type]  # NaN fails too
                raise GldError(f"parameter {self.name} = {value}: must be {self.range_text}")
            return
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if self.choices and item not in self.choices:
                raise GldError(f"parameter {self.name} = '{item}': must be {self.range_text}")
            if self.pattern and not re.fullmatch(self.pattern, str(item)):
                raise GldError(f"parameter {self.name} = '{item}': must be {self.range_text}")


NODE_PARAMS: tuple[Param, ...] = (
    Param(
        "model",
        "default",
        "Engine: 'default' (the best that is shipped), 'classical', 'tiny', or the path of an imported checkpoint.",
        pattern=r"\S.*",
        live=False,
    ),
    Param("device", "auto", "Where the engine computes.", pattern=r"auto|cpu|mps|cuda(:\d+)?", live=False),
    Param(
        "compile",
        "auto",
        "Compile the network's blocks while configuring, which takes minutes once: auto does on CUDA and goes on "
        "without where it fails, on insists. Without effect on the classical engine.",
        choices=("auto", "on", "off"),
        live=False,
    ),
    Param(
        "precision",
        "auto",
        "Numbers the network computes in: auto takes fp16 on Jetson Orin, bf16 on other GPUs and fp32 on CPUs.",
        choices=("auto", "fp32", "bf16", "fp16"),
        live=False,
    ),
    Param(
        "autostart",
        True,
        "Configure and activate by itself at start; false waits for lifecycle transitions.",
        live=False,
    ),
    Param(
        "fixed_frame",
        "odom",
        "Continuous frame in which images are posed and clouds are expressed.",
        pattern=FRAME_PATTERN,
        live=False,
    ),
    Param(
        "cameras",
        ["camera"],
        "Names of the real cameras; each has parameters <name>.*.",
        pattern=NAME_PATTERN,
        live=False,
    ),
    Param(
        "virtual_cameras",
        [""],
        "Names of the virtual cameras that are streamed; each has parameters <name>.*. An empty name means none.",
        pattern=f"({NAME_PATTERN})?",
        live=False,
    ),
    Param("preset", "balanced", "Quality preset of streams, and of requests that name none.", pattern=NAME_PATTERN),
    Param(
        "compose",
        "observed_first",
        "Picture of streams, and of requests that name none.",
        choices=("observed_first", "generated"),
    ),
    Param(
        "queue_size", 4, "Requests that may wait behind the running one; more are refused with BUSY.", 1, 16, live=False
    ),
    Param(
        "service_time_limit",
        60.0,
        "Longest time a service call may take, in seconds; use the action for more.",
        0.1,
        3600.0,
    ),
    Param(
        "inference_nice",
        5,
        "Linux niceness of the inference threads: the higher, the more they give way to images.",
        0,
        19,
        live=False,
    ),
    Param("max_views", 16, "Most poses in one request.", 1, 256),
    Param("max_pixels", 4194304, "Most pixels in one requested view (width x height).", 64, 67108864),
    Param("max_samples", 8, "Most samples per request (num_samples).", 1, 64),
    Param("condition_views", 4, "Real views used for one target pose.", 1, 32),
    Param("tf_timeout", 1.0, "How long an image or a request waits for its transform, in seconds.", 0.0, 30.0),
    Param("tf_cache", 10.0, "How much transform history is kept, in seconds.", 1.0, 600.0, live=False),
    Param(
        "max_future",
        1.0,
        "Images stamped further ahead of the node's clock than this are dropped, in seconds.",
        0.0,
        3600.0,
    ),
    Param("max_age", 600.0, "Keyframes older than this are forgotten, in seconds.", 0.1, 1e6),
    Param(
        "stale_after",
        30.0,
        "Requests are refused with STALE when the newest image is older than this, in seconds.",
        0.1,
        1e6,
    ),
    Param("keyframes_max", 32, "Keyframes kept per node; the most redundant is dropped first.", 2, 1024),
    Param("keyframe_memory", 512.0, "Memory for the pictures and depths of keyframes, in MB.", 16.0, 65536.0),
    Param(
        "keyframe_translation",
        0.10,
        "An image this far from all keyframes of its camera is a new one, in metres.",
        0.0,
        100.0,
    ),
    Param(
        "keyframe_rotation",
        8.0,
        "An image turned this far against all near keyframes is a new one, in degrees.",
        0.0,
        180.0,
    ),
    Param(
        "keyframe_refresh",
        2.0,
        "A keyframe older than this is replaced by a newer image from the same place, in seconds.",
        0.0,
        1e6,
    ),
    Param(
        "keyframe_sharpness",
        0.35,
        "A new keyframe needs this share of the camera's usual sharpness; 0 takes all.",
        0.0,
        1.0,
    ),
    Param("prepare", True, "Compute the depth of new keyframes in the background, ahead of requests."),
    Param("max_width", 640, "Wider images are reduced to this width when they become keyframes, in pixels.", 32, 8192),
    Param(
        "default_width",
        640,
        "Width of a reply when the request names no camera (at most the keyframe's), in pixels.",
        16,
        8192,
    ),
    Param(
        "input_qos",
        "sensor_data",
        "Reliability of image subscriptions: sensor_data is best effort.",
        choices=("sensor_data", "reliable"),
        live=False,
    ),
    Param("input_qos_depth", 20, "Queue depth of image subscriptions.", 1, 1000, live=False),
    Param(
        "output_qos", "reliable", "Reliability of what is published.", choices=("reliable", "sensor_data"), live=False
    ),
    Param("output_qos_depth", 5, "Queue depth of what is published.", 1, 1000, live=False),
    Param("no_data_warning", 5.0, "Silence on an input after which a warning names it, in seconds.", 0.5, 3600.0),
    Param("diagnostics_rate", 1.0, "Rate of /diagnostics, in Hz.", 0.1, 10.0, live=False),
)

CAMERA_PARAMS: tuple[Param, ...] = (
    Param(
        "image_topic",
        "",
        "Image topic; empty takes <camera>/image_rect where published, else <camera>/image_raw.",
        pattern=TOPIC_PATTERN,
        live=False,
    ),
    Param("info_topic", "", "CameraInfo topic; empty is <camera>/camera_info.", pattern=TOPIC_PATTERN, live=False),
    Param(
        "depth_topic",
        "",
        "Depth topic registered to the image; empty is <camera>/depth.",
        pattern=TOPIC_PATTERN,
        live=False,
    ),
    Param(
        "transport",
        "raw",
        "Image transport: compressed subscribes to <image topic>/compressed.",
        choices=("raw", "compressed"),
        live=False,
    ),
    Param(
        "depth_transport",
        "raw",
        "Depth transport: compressedDepth subscribes to <depth topic>/compressedDepth, none to nothing.",
        choices=("raw", "compressedDepth", "none"),
        live=False,
    ),
    Param(
        "rectified",
        "auto",
        "Whether images are rectified: auto says yes where the topic name ends in image_rect*.",
        choices=("auto", "yes", "no"),
        live=False,
    ),
    Param("depth_slop", 0.05, "Largest stamp difference between an image and its depth, in seconds.", 0.0, 1.0),
    Param(
        "frame",
        "",
        "Optical frame to use in place of the header's frame_id; empty uses the header's.",
        pattern=f"({FRAME_PATTERN})?",
        live=False,
    ),
)

VIRTUAL_PARAMS: tuple[Param, ...] = (
    Param("frame", "base_link", "TF frame the virtual camera sits in.", pattern=FRAME_PATTERN, live=False),
    Param(
        "axes",
        "optical",
        "Axes of that frame: optical (z forward) or body (x forward).",
        choices=("optical", "body"),
        live=False,
    ),
    Param("width", 320, "Image width, in pixels.", 16, 4096, live=False),
    Param("height", 240, "Image height, in pixels.", 16, 4096, live=False),
    Param("hfov_deg", 90.0, "Horizontal field of view, in degrees; used where fx is 0.", 1.0, 170.0, live=False),
    Param("fx", 0.0, "Focal length, in pixels; 0 derives it from hfov_deg.", 0.0, 1e5, live=False),
    Param("fy", 0.0, "Focal length, in pixels; 0 is fx.", 0.0, 1e5, live=False),
    Param("cx", -1.0, "Principal point, in pixels; -1 is the centre.", -1.0, 1e5, live=False),
    Param("cy", -1.0, "Principal point, in pixels; -1 is the centre.", -1.0, 1e5, live=False),
    Param("rate", 2.0, "Pictures per second while someone is subscribed.", 0.01, 60.0, live=False),
    Param("clouds", True, "Publish point clouds when the scale is metric.", live=False),
)

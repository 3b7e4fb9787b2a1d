"""Outgoing ROS messages from arrays, built fast: pixel data goes in as ``array.array``, which rclpy does not check
element by element."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.transform_tree import NS, matrix_to_quaternion, quaternion_to_matrix
from gld_ros.synthesis.types import Cloud

ENCODINGS = {("u1", 3): "rgb8", ("u1", 1): "mono8", ("f4", 1): "32FC1", ("u2", 1): "16UC1"}
# rgb is a float32 field whose bits are 0x00RRGGBB: what RViz and PCL read
POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<f4"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)
QUATERNION_TOLERANCE = 1e-2  # of the norm; float32 and rounded YAML stay below


def time_message(stamp_ns: int) -> Time:
    """builtin_interfaces/Time of nanoseconds; negative stamps become 0."""
    stamp_ns = max(0, int(stamp_ns))
    return Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)


def header(stamp_ns: int, frame: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=time_message(stamp_ns), frame_id=frame)


def _bytes(values: NDArray) -> array.array:
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


def image_message(pixels: NDArray, head: Header) -> Image:
    """sensor_msgs/Image: uint8 (H, W, 3) as rgb8, uint8 (H, W) mono8, float32 (H, W) 32FC1, uint16 (H, W) 16UC1."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = pixels.dtype.newbyteorder("<")
    encoding = ENCODINGS[(kind.str[1:], channels)]
    little = pixels.astype(kind, copy=False)
    message = Image(header=head, height=height, width=width, encoding=encoding, is_bigendian=0)
    message.step = width * channels * kind.itemsize
    message.data = _bytes(little)
    return message


def camera_info_message(camera: Camera, head: Header) -> CameraInfo:
    """sensor_msgs/CameraInfo of a pinhole camera: K and P agree, no distortion."""
    k = camera.K
    message = CameraInfo(header=head, height=camera.height, width=camera.width, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = k.ravel().tolist()
    message.r = np.eye(3).ravel().tolist()
    message.p = np.hstack([k, np.zeros((3, 1))]).ravel().tolist()
    return message


def pose_message(world_from_cam: NDArray) -> Pose:
    """geometry_msgs/Pose of a rigid 4x4 transform."""
    x, y, z = (float(v) for v in world_from_cam[:3, 3])
    qx, qy, qz, qw = (float(v) for v in matrix_to_quaternion(world_from_cam[:3, :3]))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def pose_stamped(world_from_cam: NDArray, head: Header) -> PoseStamped:
    """geometry_msgs/PoseStamped of a rigid 4x4 transform."""
    return PoseStamped(header=head, pose=pose_message(world_from_cam))


def pose_matrix(pose: Pose, name: str = "pose") -> NDArray[np.float64]:
    """4x4 transform of a geometry_msgs/Pose; raises GldError(BAD_POSE) on NaN or a quaternion that is no rotation."""
    p = np.array([pose.position.x, pose.position.y, pose.position.z])
    q = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
    if not (np.isfinite(p).all() and np.isfinite(q).all()):
        raise GldError(f"{name} has position {p} and orientation {q}: must be finite", Status.BAD_POSE)
    norm = float(np.linalg.norm(q))
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise GldError(
            f"{name} has a quaternion of length {norm:.4g}, must be 1 within {QUATERNION_TOLERANCE}: normalise it",
            Status.BAD_POSE,
        )
    matrix = np.eye(4)
    matrix[:3, :3] = quaternion_to_matrix(q / norm)
    matrix[:3, 3] = p
    return matrix


def cloud_message(cloud: Cloud | None, head: Header) -> PointCloud2:
    """sensor_msgs/PointCloud2 with x y z rgb confidence, unorganised; empty (but with its fields) for None."""
    count = 0 if cloud is None else len(cloud.xyz)
    data = array.array("B", [0]) * (count * POINT.itemsize)
    if cloud is not None and count:
        points = np.frombuffer(data, POINT)  # filled in place: clouds are large, and each copy would cost its time
        for i, name in enumerate("xyz"):
            points[name] = cloud.xyz[:, i]
        rgb_bytes = points.view(np.uint8).reshape(count, POINT.itemsize)[:, 12:15]  # little endian: b g r 0
        rgb_bytes[:] = cloud.rgb[:, ::-1]
        points["confidence"] = cloud.confidence
    message = PointCloud2(header=head, height=1, width=count, is_bigendian=False, is_dense=True)
    message.fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in (("x", 0), ("y", 4), ("z", 8), ("rgb", 12), ("confidence", 16))
    ]
    message.point_step = POINT.itemsize
    message.row_step = POINT.itemsize * count
    message.data = data
    return message

"""Small rosbag2 folders, written with rosbags: a camera that drives 10 cm a picture along x of odom."""

from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
T = STORE.types
S = 1_000_000_000
START = 1_700_000_000 * S
W, H = 64, 48
K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
OPTICAL = (-0.5, 0.5, -0.5, 0.5)  # body (x forward) from optical
DOUBLES = np.float64


def header(stamp, frame):
    return T["std_msgs/msg/Header"](T["builtin_interfaces/msg/Time"](stamp // S, stamp % S), frame)


def picture(i):
    rng = np.random.default_rng(i)
    return cv2.GaussianBlur(rng.integers(0, 255, (H, W, 3), dtype=np.uint8), (0, 0), 2)


def image(array, stamp, frame="cam_optical", encoding="rgb8"):
    array = np.ascontiguousarray(array)
    data = array.view(np.uint8).reshape(-1)
    step = data.size // array.shape[0]
    return T["sensor_msgs/msg/Image"](header(stamp, frame), array.shape[0], array.shape[1], encoding, 0, step, data)


def jpeg(array, stamp, frame="cam_optical"):
    data = cv2.imencode(".jpg", array[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].reshape(-1)
    return T["sensor_msgs/msg/CompressedImage"](header(stamp, frame), "jpeg", data)


def info(stamp, d=(), model="plumb_bob", frame="cam_optical", size=(W, H), k=K):
    roi = T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    p = np.hstack([k, np.zeros((3, 1))])
    return T["sensor_msgs/msg/CameraInfo"](
        header(stamp, frame), size[1], size[0], model, np.array(d, DOUBLES), k.ravel(), np.eye(3).ravel(), p.ravel(),
        0, 0, roi,
    )  # fmt: skip


def transform(parent, child, stamp, xyz, q=(0.0, 0.0, 0.0, 1.0)):
    vector = T["geometry_msgs/msg/Vector3"](*map(float, xyz))
    rotation = T["geometry_msgs/msg/Quaternion"](*map(float, q))
    body = T["geometry_msgs/msg/Transform"](vector, rotation)
    stamped = T["geometry_msgs/msg/TransformStamped"](header(stamp, parent), child, body)
    return T["tf2_msgs/msg/TFMessage"]([stamped])


def write(path: Path, messages, storage=StoragePlugin.MCAP):
    """Write (topic, time of recording, message) in any order."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        links = {}
        for topic, at, message in sorted(messages, key=lambda m: m[1]):
            kind = message.__msgtype__
            if topic not in links:
                links[topic] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(links[topic], at, STORE.serialize_cdr(message, kind))
    return path


def drive(count=6, image_topic="/cam/image_raw", d=(), world="odom", mount="base", depth=False, as_jpeg=False):
    """A drive of ``count`` pictures 0.1 s and 0.1 m apart; TF at half the stamps only, so that it is interpolated."""
    info_topic = "/cam/camera_info"
    messages = [("/tf_static", START, transform(mount, "cam_optical", START, (0, 0, 0.5), OPTICAL))]
    for i in range(count):
        stamp = START + i * S // 10
        make = jpeg if as_jpeg else image
        messages.append((image_topic, stamp + 1000, make(picture(i), stamp)))
        messages.append((info_topic, stamp + 1000, info(stamp, d)))
        if i % 2 == 0 or i == count - 1:
            messages.append(("/tf", stamp, transform(world, mount, stamp, (0.1 * i, 0, 0))))
        if depth:
            raw = np.full((H, W), 1500 + i, np.uint16)
            raw[:4] = 0
            messages.append(("/cam/depth/image_raw", stamp + 2000, image(raw, stamp + 3_000_000, encoding="16UC1")))
    return messages

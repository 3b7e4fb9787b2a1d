"""Images as camera drivers send them, to arrays; works on any object with the fields of the ROS message.

Encodings: sensor_msgs/image_encodings.hpp. Depth: REP 118 (32FC1 metres, NaN invalid; 16UC1 millimetres, 0 invalid).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError

MAX_PIXELS = 1 << 27  # nothing a camera sends is larger; keeps a corrupt header from asking for the whole memory


class ImageError(GldError):
    """An image message that cannot be used; the message says why."""


@dataclass(frozen=True)
class Encoding:
    """Layout of one packed encoding: ``code`` is OpenCV's conversion to RGB, None when it is RGB already."""

    dtype: str
    channels: int
    code: int | None


# OpenCV names a Bayer pattern after its second row, ROS after its first.
ENCODINGS: dict[str, Encoding] = {
    "mono8": Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC1": Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "mono16": Encoding("u2", 1, cv2.COLOR_GRAY2RGB),
    "rgb8": Encoding("u1", 3, None),
    "bgr8": Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "8UC3": Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "8UC4": Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "rgb16": Encoding("u2", 3, None),
    "bgr16": Encoding("u2", 3, cv2.COLOR_BGR2RGB),
    "rgba16": Encoding("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgra16": Encoding("u2", 4, cv2.COLOR_BGRA2RGB),
    "yuv422": Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUY2),
    **{
        f"bayer_{pattern}{bits}": Encoding(f"u{bits // 8}", 1, code)
        for pattern, code in (
            ("rggb", cv2.COLOR_BayerBG2RGB),
            ("bggr", cv2.COLOR_BayerRG2RGB),
            ("gbrg", cv2.COLOR_BayerGR2RGB),
            ("grbg", cv2.COLOR_BayerGB2RGB),
        )
        for bits in (8, 16)
    },
}
HALF_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
DEPTH_ENCODINGS = {"32FC1": "f4", "16UC1": "u2", "mono16": "u2"}
SUPPORTED = tuple(ENCODINGS) + tuple(HALF_PLANAR)


def _rows(msg: Any, dtype: str, channels: int, rows: int | None = None) -> NDArray:
    """The pixels of a message as (rows, width, channels), without row padding; a view where possible."""
    width, height, step = int(msg.width), int(msg.height), int(msg.step)
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ImageError(f"image is {width}x{height}: send 1 to {MAX_PIXELS} pixels")
    rows = height if rows is None else rows
    kind = np.dtype(dtype).newbyteorder(">" if msg.is_bigendian else "<")
    needed = width * channels * kind.itemsize
    if step < needed:
        raise ImageError(f"step is {step} bytes, a row of {width} {msg.encoding} pixels has {needed}: fix the driver")
    data = np.frombuffer(msg.data, np.uint8)
    if data.size < step * (rows - 1) + needed:
        raise ImageError(
            f"image has {data.size} bytes, {width}x{height} {msg.encoding} with step {step} needs {step * rows}"
        )
    if data.size < step * rows:  # some drivers leave out the padding of the last row
        data = np.concatenate([data, np.zeros(step * rows - data.size, np.uint8)])
    pixels = np.ascontiguousarray(data[: step * rows].reshape(rows, step)[:, :needed])
    return pixels.view(kind).reshape(rows, width, channels)


def image_to_rgb(msg: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/Image as RGB, (H, W, 3) uint8; 16 bits are scaled to 8.

    Raises ImageError on an empty, truncated or unknown image.
    """
    encoding = str(msg.encoding)
    if encoding in HALF_PLANAR:
        if msg.height % 2 or msg.width % 2:
            raise ImageError(f"{encoding} image is {msg.width}x{msg.height}: both must be even")
        planes = _rows(msg, "u1", 1, rows=int(msg.height) * 3 // 2)
        return np.asarray(cv2.cvtColor(planes, HALF_PLANAR[encoding]), np.uint8)
    known = ENCODINGS.get(encoding)
    if known is None:
        return _through_cv_bridge(msg)
    if known.code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2) and msg.width % 2:
        raise ImageError(f"{encoding} image is {msg.width} wide: must be even")
    if encoding.startswith("bayer_") and (msg.width < 2 or msg.height < 2):
        raise ImageError(f"{encoding} image is {msg.width}x{msg.height}: a Bayer pattern needs 2x2")
    pixels = _rows(msg, known.dtype, known.channels)
    if pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16)  # native byte order
    rgb = pixels if known.code is None else cv2.cvtColor(pixels, known.code)
    if rgb.dtype == np.uint16:
        return ((rgb.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(rgb)


def _through_cv_bridge(msg: Any) -> NDArray[np.uint8]:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise ImageError(
            f"encoding '{msg.encoding}' is unknown: set the driver to one of {', '.join(SUPPORTED)}, "
            "or install cv_bridge"
        ) from None
    try:
        return np.ascontiguousarray(CvBridge().imgmsg_to_cv2(msg, "rgb8"))
    except Exception as error:  # cv_bridge raises its own and OpenCV's types
        raise ImageError(f"encoding '{msg.encoding}' is unknown here and cv_bridge refused it: {error}") from error


def depth_to_metres(msg: Any) -> NDArray[np.float32]:
    """A depth sensor_msgs/Image as (H, W) float32 metres, NaN where there is no measurement (also for +-Inf, <= 0)."""
    dtype = DEPTH_ENCODINGS.get(str(msg.encoding))
    if dtype is None:
        raise ImageError(f"depth encoding '{msg.encoding}' is unknown: send 32FC1 in metres or 16UC1 in millimetres")
    return _clean_depth(_rows(msg, dtype, 1)[..., 0])


def _clean_depth(raw: NDArray) -> NDArray[np.float32]:
    depth = raw.astype(np.float32)
    if raw.dtype.kind == "u":
        depth *= 1e-3
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _decode(data: Any, flags: int, what: str) -> NDArray:
    buffer = np.frombuffer(data, np.uint8)
    if not buffer.size:
        raise ImageError(f"{what} has no data")
    try:
        picture = cv2.imdecode(buffer, flags)
    except cv2.error as error:
        raise ImageError(f"{what} of {buffer.size} bytes cannot be decoded: {error}") from error
    if picture is None:
        raise ImageError(f"{what} of {buffer.size} bytes cannot be decoded: must be a whole jpeg or png")
    return picture


def compressed_to_rgb(msg: Any) -> NDArray[np.uint8]:
    """A sensor_msgs/CompressedImage (jpeg, png and what else OpenCV reads) as RGB, (H, W, 3) uint8.

    compressed_image_transport stores OpenCV's BGR whatever its ``format`` field lists, so nothing is swapped by it.
    """
    picture = _decode(msg.data, cv2.IMREAD_COLOR, f"compressed image ('{msg.format}')")
    return np.ascontiguousarray(picture[..., ::-1])


def compressed_depth_to_metres(msg: Any) -> NDArray[np.float32]:
    """A compressedDepth message as (H, W) float32 metres, NaN where there is no measurement.

    Layout of compressed_depth_image_transport: 12 bytes (int32 format, float32 quantisation a, b), then a png. 16UC1 is
    stored as is; 32FC1 as a / z + b, so z = a / (value - b), 0 invalid.
    """
    form = str(msg.format)
    data = bytes(msg.data)
    if "rvl" in form.lower():
        raise ImageError("compressedDepth in RVL format is not read: set the publisher's format to png")
    if len(data) <= 12:
        raise ImageError(f"compressedDepth has {len(data)} bytes, the header alone has 12")
    stored = _decode(data[12:], cv2.IMREAD_UNCHANGED, f"compressedDepth ('{form}')")
    if stored.ndim != 2 or stored.dtype != np.uint16:
        raise ImageError(f"compressedDepth holds {stored.dtype} {stored.shape}: must be 16 bit, one channel")
    if not form.startswith("32FC1"):
        return _clean_depth(stored)
    _, a, b = struct.unpack("<iff", data[:12])
    with np.errstate(divide="ignore"):
        return _clean_depth(np.where(stored == 0, np.nan, a / (stored.astype(np.float32) - b)))

"""Image decoding against an independent implementation (rosbags-image), and what must be refused. No ROS needed."""

import struct
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from gld_ros.data.image_messages import (
    ENCODINGS,
    HALF_PLANAR,
    ImageError,
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)

H, W = 24, 32
# YUV and Bayer are not in the oracle in the same form, or it has no 8-bit conversion: compared with OpenCV or colours
IN_ORACLE = [
    *("mono8", "mono16", "rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16"),
    *("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"),
]


def message(pixels, encoding, pad=0, big_endian=False):
    """A raw image of any layout; ``pixels`` is (H, W[, C])."""
    pixels = np.asarray(pixels)
    height, width = pixels.shape[:2]
    if pixels.dtype.itemsize > 1:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=int(big_endian),
        data=rows.tobytes(),
    )


def noise(encoding, seed=0):
    kind = ENCODINGS[encoding]
    rng = np.random.default_rng(seed)
    shape = (H, W, kind.channels) if kind.channels > 1 else (H, W)
    return rng.integers(0, np.iinfo(kind.dtype).max + 1, shape, dtype=kind.dtype)


@pytest.mark.parametrize("encoding", IN_ORACLE)
def test_agrees_with_rosbags_image(encoding):
    oracle = pytest.importorskip("rosbags.image")
    typesys = pytest.importorskip("rosbags.typesys")
    types = typesys.get_typestore(typesys.Stores.ROS2_JAZZY).types
    raw = message(noise(encoding), encoding)
    stamp = types["builtin_interfaces/msg/Time"](0, 0)
    theirs = types["sensor_msgs/msg/Image"](
        types["std_msgs/msg/Header"](stamp, ""), H, W, encoding, 0, raw.step, np.frombuffer(raw.data, np.uint8)
    )
    expected = oracle.message_to_cvimage(theirs, "rgb8")
    # 16 bits: they truncate or round where we divide by 257
    tolerance = 1 if encoding.endswith("16") else 0
    np.testing.assert_allclose(image_to_rgb(raw).astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_padding_is_ignored(encoding):
    pixels = noise(encoding)
    np.testing.assert_array_equal(
        image_to_rgb(message(pixels, encoding, pad=12)), image_to_rgb(message(pixels, encoding))
    )


@pytest.mark.parametrize("encoding", sorted(e for e in ENCODINGS if ENCODINGS[e].dtype == "u2"))
def test_byte_order_is_honoured(encoding):
    pixels = noise(encoding)
    np.testing.assert_array_equal(
        image_to_rgb(message(pixels, encoding, big_endian=True)), image_to_rgb(message(pixels, encoding))
    )


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv_shows_the_right_colours(encoding):
    """Pure red in BT.601 video range is Y 81, U 90, V 240: a swap of U and V would show blue."""
    y, u, v = 81, 90, 240
    if encoding in HALF_PLANAR:
        chroma = (u, v) if encoding == "nv12" else (v, u)
        data = bytes([y] * (H * W)) + bytes(chroma) * (H * W // 4)
        raw = SimpleNamespace(height=H, width=W, encoding=encoding, step=W, is_bigendian=0, data=data)
    else:
        pair = (u, y, v, y) if encoding in ("yuv422", "uyvy") else (y, u, y, v)
        pixels = np.tile(np.array(pair, np.uint8).reshape(1, 2, 2), (H, W // 2, 1))
        raw = message(pixels, encoding)
    np.testing.assert_allclose(image_to_rgb(raw).reshape(-1, 3).mean(0), [255, 0, 0], atol=3)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_shows_the_right_colours(pattern, bits):
    colour = {"r": 200, "g": 100, "b": 50}
    tile = np.array([[colour[pattern[0]], colour[pattern[1]]], [colour[pattern[2]], colour[pattern[3]]]])
    pixels = np.tile(tile, (H // 2, W // 2)).astype(np.uint8)
    if bits == 16:
        pixels = pixels.astype(np.uint16) * 257
    rgb = image_to_rgb(message(pixels, f"bayer_{pattern}{bits}"))
    np.testing.assert_allclose(rgb[4:-4, 4:-4].reshape(-1, 3), [[200, 100, 50]] * ((H - 8) * (W - 8)), atol=1)


def test_last_row_may_lack_its_padding():
    pixels = noise("rgb8")
    raw = message(pixels, "rgb8", pad=10)
    raw.data = raw.data[:-10]
    np.testing.assert_array_equal(image_to_rgb(raw), pixels)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoding": "hologram8"}, "hologram8"),
        ({"width": 0}, "0x24"),
        ({"height": 0}, "32x0"),
        ({"width": 2**31, "height": 2**31}, "pixels"),
        ({"step": 5}, "step is 5"),
        ({"data": b""}, "0 bytes"),
        ({"data": b"123"}, "3 bytes"),
        ({"encoding": "nv12", "height": 23}, "even"),
        ({"encoding": "yuyv", "width": 31}, "even"),
    ],
)
def test_unusable_images_say_why(change, named):
    raw = message(noise("rgb8"), "rgb8")
    raw.__dict__.update(change)
    with pytest.raises(ImageError, match=named):
        image_to_rgb(raw)


def test_depth_in_millimetres_and_metres():
    millimetres = np.array([[0, 1500], [65535, 1]], np.uint16)
    expected = np.array([[np.nan, 1.5], [65.535, 0.001]], np.float32)
    np.testing.assert_allclose(depth_to_metres(message(millimetres, "16UC1", pad=3)), expected)
    np.testing.assert_allclose(depth_to_metres(message(millimetres, "16UC1", big_endian=True)), expected)
    metres = np.array([[np.nan, 1.5], [np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(
        depth_to_metres(message(metres, "32FC1")), np.array([[np.nan, 1.5], [np.nan, np.nan]], np.float32)
    )
    with pytest.raises(ImageError, match="rgb8"):
        depth_to_metres(message(noise("rgb8"), "rgb8"))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_pictures(extension):
    rgb = np.full((H, W, 3), (200, 100, 50), np.uint8)
    _, data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    raw = SimpleNamespace(format=f"rgb8; {extension[1:]} compressed bgr8", data=data.tobytes())
    np.testing.assert_allclose(compressed_to_rgb(raw).astype(int), rgb.astype(int), atol=3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff\xe0broken", bytes(100)])
def test_broken_compressed_pictures(data):
    with pytest.raises(ImageError, match="compressed image"):
        compressed_to_rgb(SimpleNamespace(format="jpeg", data=data))


def test_compressed_depth_both_ways():
    """The quantisation of compressed_depth_image_transport: value = a / z + b."""
    millimetres = np.array([[0, 1500], [2000, 1]], np.uint16)
    _, png = cv2.imencode(".png", millimetres)
    raw = SimpleNamespace(format="16UC1; compressedDepth png", data=struct.pack("<iff", 0, 0, 0) + png.tobytes())
    np.testing.assert_allclose(compressed_depth_to_metres(raw), [[np.nan, 1.5], [2.0, 0.001]])
    quantisation, depth_max = 100.0, 10.0
    a = quantisation * (quantisation + 1.0)
    b = 1.0 - a / depth_max
    depth = np.array([[1.0, 2.0], [5.0, np.nan]])
    stored = np.where(np.isnan(depth), 0, a / depth + b).astype(np.uint16)
    _, png = cv2.imencode(".png", stored)
    raw = SimpleNamespace(format="32FC1; compressedDepth png", data=struct.pack("<iff", 0, a, b) + png.tobytes())
    np.testing.assert_allclose(compressed_depth_to_metres(raw), depth, rtol=5e-3)


@pytest.mark.parametrize(
    ("form", "data", "named"),
    [
        ("32FC1; compressedDepth rvl", bytes(50), "RVL"),
        ("16UC1; compressedDepth png", b"short", "12"),
        ("16UC1; compressedDepth png", bytes(60), "decoded"),
    ],
)
def test_unusable_compressed_depth(form, data, named):
    with pytest.raises(ImageError, match=named):
        compressed_depth_to_metres(SimpleNamespace(format=form, data=data))


def test_a_640x480_image_converts_fast():
    """A driver's rgb8 must not cost a noticeable part of a 33 ms frame."""
    import timeit

    raw = message(np.zeros((480, 640, 3), np.uint8), "rgb8")
    assert min(timeit.repeat(lambda: image_to_rgb(raw), number=1, repeat=5)) < 0.015

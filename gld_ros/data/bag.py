"""A rosbag2 as a scene: pictures of one camera, posed by the TF that was recorded with them."""

from __future__ import annotations

import bisect
import os.path
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.bag_file import BagFile, Entry, entry_of
from gld_ros.data.camera_info import CameraModel, CameraModels
from gld_ros.data.image_messages import (
    DEPTH_ENCODINGS,
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)
from gld_ros.data.scene import Frame, Scene
from gld_ros.errors import GldError, SceneError
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.transform_tree import NS, TransformException, TransformTree, quaternion_to_matrix

MAX_FRAMES = 200
DEPTH_SLOP_NS = 50_000_000  # between a picture and its depth, as the node's parameter depth_slop
FIXED_FRAMES = ("odom", "map")
WHOLE_BAG_S = 1e9  # the tree keeps all transforms
IMAGE, COMPRESSED, INFO, TF = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
)
BEST_NAMES = ("image_rect_color", "image_rect", "image_color", "image_raw", "image")


@dataclass(frozen=True)
class _Source:
    """A camera of a bag: its picture topic and its CameraInfo topic."""

    image: str
    info: str

    @property
    def is_rectified(self) -> bool:
        return _plain(self.image).name.startswith("image_rect")


def load_bag(path: Path, camera: str | None = None) -> Scene:
    """Read a rosbag2 folder (or one mcap or db3 file) as a metric scene.

    ``camera``: picture topic or camera namespace; by default the first namespace, by name, with pictures and
    CameraInfo. Frames are its pictures in stamp order, posed in odom, else map, else the root of the recorded TF tree,
    at most MAX_FRAMES evenly spaced ones; what was left out is in the notes. Pictures are read when asked for.
    Raises SceneError when the package rosbags, the camera, its CameraInfo or TF is missing.
    """
    bag = BagFile(path)
    source, notes = _choose_camera(bag, camera)
    depth_topics = [t for t in bag.topics if _is_depth(bag, t)]
    entries, infos, tree = _read_index(bag, source, depth_topics)
    entries = _in_stamp_order(entries, source.image, notes)
    fixed, poses = _pose(tree, entries[source.image])
    pictures = [e for e in entries[source.image] if e.stamp_ns in poses]
    lost = len(entries[source.image]) - len(pictures)
    if lost:
        notes.append(f"{lost} of {lost + len(pictures)} pictures are left out: no transform at their stamp")
    notes.append(f"poses are in frame {fixed}")
    if len(pictures) > MAX_FRAMES:
        notes.append(f"{MAX_FRAMES} evenly spaced pictures of {len(pictures)} are used")
        pictures = [pictures[i] for i in np.linspace(0, len(pictures) - 1, MAX_FRAMES).round().astype(int)]
    models = CameraModels()
    model_of = [_model_at(infos, e, models, source) for e in pictures]
    depth_topic = _choose_depth(bag, source, depth_topics, entries, pictures[0], model_of[0], notes)
    frames = []
    for entry, model in zip(pictures, model_of, strict=True):
        near = _nearest(entries[depth_topic], entry.stamp_ns) if depth_topic else None
        frames.append(
            Frame(
                f"{entry.stamp_ns // NS}_{entry.stamp_ns % NS:09d}",
                Camera(model.width, model.height, model.K, poses[entry.stamp_ns]),
                entry.stamp_ns,
                _rgb_reader(bag, source.image, entry, model),
                _depth_reader(bag, depth_topic, near, model) if depth_topic and near else None,
            )
        )
    if any(m.needs_remap for m in model_of):
        notes.append("distortion of the camera is removed; pictures are pinhole")
    name = path.stem if path.is_file() else path.resolve().name
    return Scene(name, frames, True, {}, tuple(notes))


def _plain(topic: str) -> PurePosixPath:
    """The topic without the suffix of its transport."""
    path = PurePosixPath(topic)
    return path.parent if path.name in ("compressed", "compressedDepth") else path


def _is_depth(bag: BagFile, topic: str) -> bool:
    kind = bag.topics[topic]
    if kind == COMPRESSED:
        return PurePosixPath(topic).name == "compressedDepth"
    # 16UC1 and 32FC1 are no pictures; mono16 may be either and is taken for a picture
    return kind == IMAGE and str(bag.first(topic).encoding) in set(DEPTH_ENCODINGS) - {"mono16"}


def _choose_camera(bag: BagFile, camera: str | None) -> tuple[_Source, list[str]]:
    infos = bag.of_type(INFO)
    pictures = [t for t in bag.of_type(IMAGE, COMPRESSED) if not _is_depth(bag, t)]
    sources = []
    for topic in pictures:
        info = str(_plain(topic).parent / "camera_info")
        if info in infos:
            sources.append(_Source(topic, info))
    wanted = "/" + camera.strip("/") if camera else None
    if wanted:
        chosen = [s for s in sources if wanted in (s.image, str(_plain(s.image)), str(_plain(s.image).parent))]
    else:
        first = min((str(_plain(s.image).parent) for s in sources), default="")
        chosen = [s for s in sources if str(_plain(s.image).parent) == first]
    if not chosen:
        found = ", ".join(s.image for s in sources) or "none"
        lonely = sorted(set(pictures) - {s.image for s in sources})
        hint = f"; without a camera_info beside them: {', '.join(lonely)}" if lonely else ""
        what = f"no camera '{camera}'" if camera else "no camera"
        raise SceneError(f"{bag.path} has {what}: pictures with a camera_info are {found}{hint}")
    best = min(chosen, key=_rank)
    others = sorted({str(_plain(s.image).parent) for s in sources} - {str(_plain(best.image).parent)})
    notes = [f"pictures are from {best.image}" + (f"; other cameras: {', '.join(others)}" if others else "")]
    return best, notes


def _rank(source: _Source) -> tuple[int, bool, str]:
    """Rectified and in colour first, uncompressed first."""
    plain = _plain(source.image)
    known = BEST_NAMES.index(plain.name) if plain.name in BEST_NAMES else len(BEST_NAMES)
    return known, source.image != str(plain), source.image


def _read_index(
    bag: BagFile, source: _Source, depth_topics: Sequence[str]
) -> tuple[dict[str, list[Entry]], list[tuple[int, Any]], TransformTree]:
    """One pass: where pictures and depth are, the CameraInfos by stamp, and all transforms."""
    transforms = bag.of_type(TF)
    entries: dict[str, list[Entry]] = {topic: [] for topic in (source.image, *depth_topics)}
    infos: list[tuple[int, Any]] = []
    tree = TransformTree(WHOLE_BAG_S)
    for topic, recorded_ns, raw in bag.scan({*entries, source.info, *transforms}):
        if topic in entries:
            entries[topic].append(entry_of(recorded_ns, raw))
        elif topic == source.info:
            infos.append((entry_of(recorded_ns, raw).stamp_ns, bag.decode(raw, topic)))
        else:
            static = topic.rstrip("/").endswith("tf_static")
            for t in bag.decode(raw, topic).transforms:
                p, q = t.transform.translation, t.transform.rotation
                stamp = t.header.stamp.sec * NS + t.header.stamp.nanosec
                tree.insert(
                    t.header.frame_id, t.child_frame_id, stamp, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w), static=static
                )
    infos.sort(key=lambda pair: pair[0])
    return entries, infos, tree


def _in_stamp_order(entries: dict[str, list[Entry]], image: str, notes: list[str]) -> dict[str, list[Entry]]:
    """Entries by stamp, one per stamp."""
    ordered = {}
    for topic, found in entries.items():
        by_stamp = {e.stamp_ns: e for e in reversed(found)}  # the first of a stamp stays
        ordered[topic] = [by_stamp[stamp] for stamp in sorted(by_stamp)]
    repeated = len(entries[image]) - len(ordered[image])
    if repeated:
        notes.append(f"{repeated} pictures with the stamp of another one are left out")
    return ordered


def _pose(tree: TransformTree, entries: Sequence[Entry]) -> tuple[str, dict[int, NDArray[np.float64]]]:
    """The fixed frame, and world_from_cam by stamp of the pictures that TF can place in it."""
    frame = entries[0].frame_id
    reason = f"no transform leads to frame '{frame}' of its pictures"
    try:
        candidates = [f for f in (*FIXED_FRAMES, tree.root(frame)) if f in tree.frames() and f != frame]
    except TransformException as error:
        raise SceneError(f"no picture can be posed: {error}") from error
    for fixed in dict.fromkeys(candidates):
        poses = {}
        for entry in entries:
            try:
                _, (translation, quaternion) = tree.lookup(fixed, entry.frame_id, entry.stamp_ns)
            except TransformException as error:
                reason = str(error)
                continue
            world_from_cam = np.eye(4)
            world_from_cam[:3, :3] = quaternion_to_matrix(quaternion)
            world_from_cam[:3, 3] = translation
            poses[entry.stamp_ns] = world_from_cam
        if poses:
            return fixed, poses
    known = ", ".join(sorted(tree.frames())) or "none"
    raise SceneError(
        f"no picture can be posed: {reason}. Frames in the bag's TF: {known}. "
        "Record /tf and /tf_static with the pictures"
    )


def _model_at(infos: Sequence[tuple[int, Any]], entry: Entry, models: CameraModels, source: _Source) -> CameraModel:
    stamp = min((s for s, _ in infos), key=lambda s: abs(s - entry.stamp_ns))
    info = next(message for s, message in infos if s == stamp)
    try:
        return models.get(info, source.is_rectified)
    except GldError as error:
        raise SceneError(f"{source.info}: {error}", error.status) from error


def _choose_depth(
    bag: BagFile,
    source: _Source,
    topics: Sequence[str],
    entries: dict[str, list[Entry]],
    picture: Entry,
    model: CameraModel,
    notes: list[str],
) -> str | None:
    """The depth topic registered to the pictures: of their frame and size; the nearest by name where there are many."""
    fitting = []
    for topic in topics:
        if entries[topic][0].frame_id != picture.frame_id:
            notes.append(f"{topic} is not used: its frame is {entries[topic][0].frame_id}, not {picture.frame_id}")
            continue
        first = read_depth(bag, topic, entries[topic][0])
        if (first.shape[1], first.shape[0]) != (model.width, model.height):
            notes.append(
                f"{topic} is not used: {first.shape[1]}x{first.shape[0]}, the pictures {model.width}x{model.height}"
            )
            continue
        fitting.append(topic)
    if not fitting:
        return None

    def distance(topic: str) -> tuple[int, bool, str]:
        shared = os.path.commonpath([source.image, topic])
        return -len(PurePosixPath(shared).parts), "rect" not in topic, topic

    best = min(fitting, key=distance)
    notes.append(f"depth is from {best}")
    return best


def _nearest(entries: Sequence[Entry], stamp_ns: int) -> Entry | None:
    """The entry nearest to a stamp, within DEPTH_SLOP_NS."""
    i = bisect.bisect_left(entries, stamp_ns, key=lambda e: e.stamp_ns)
    near = min(entries[max(0, i - 1) : i + 1], key=lambda e: abs(e.stamp_ns - stamp_ns), default=None)
    return near if near is not None and abs(near.stamp_ns - stamp_ns) <= DEPTH_SLOP_NS else None


def read_depth(bag: BagFile, topic: str, entry: Entry) -> NDArray[np.float32]:
    """A depth message in metres, NaN where there is no measurement."""
    message = bag.read(topic, entry)
    return compressed_depth_to_metres(message) if bag.topics[topic] == COMPRESSED else depth_to_metres(message)


def _rgb_reader(bag: BagFile, topic: str, entry: Entry, model: CameraModel) -> Callable[[], NDArray[np.uint8]]:
    def read() -> NDArray[np.uint8]:
        message = bag.read(topic, entry)
        rgb = compressed_to_rgb(message) if bag.topics[topic] == COMPRESSED else image_to_rgb(message)
        return np.asarray(model.rectify(rgb), np.uint8)

    return read


def _depth_reader(bag: BagFile, topic: str, entry: Entry, model: CameraModel) -> Callable[[], NDArray[np.float32]]:
    def read() -> NDArray[np.float32]:
        depth = read_depth(bag, topic, entry)
        # depth of a rectified topic belongs to the rectified picture already
        return depth if "rect" in topic else np.asarray(model.rectify(depth, nearest=True), np.float32)

    return read

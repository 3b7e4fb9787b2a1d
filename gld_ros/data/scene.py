"""Posed image sets on disk: a folder with cameras.json or nerfstudio transforms.json, or a rosbag2."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, SceneError
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.distortion import Distortion, rectify_depth, rectify_image
from gld_ros.synthesis.types import PosedView

MOST_NAMED = 8  # frames in a note
CV_FROM_GL = np.diag([1.0, -1.0, -1.0, 1.0])  # nerfstudio cameras look along -z with y up


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera of a scene; its picture and depth are read only when asked for and may be missing."""

    name: str
    camera: Camera
    stamp_ns: int = 0
    read_rgb: Callable[[], NDArray[np.uint8]] | None = None
    read_depth: Callable[[], NDArray[np.float32]] | None = None
    distortion: Distortion | None = None

    def load_rgb(self) -> NDArray[np.uint8]:
        """The rectified picture, (H, W, 3) RGB. Raises SceneError when missing, truncated or of another size."""
        if self.read_rgb is None:
            raise SceneError(f"frame {self.name} has no picture: only its pose can be used, as a target")
        rgb = self.read_rgb()
        self._check_size(rgb, "picture")
        return rgb if self.distortion is None else rectify_image(rgb, self.camera.K, self.distortion)

    def load_depth(self) -> NDArray[np.float32] | None:
        """The rectified z-depth in world units, (H, W), NaN = no measurement; None where the set has none."""
        if self.read_depth is None:
            return None
        depth = self.read_depth()
        self._check_size(depth, "depth")
        return depth if self.distortion is None else rectify_depth(depth, self.camera.K, self.distortion)

    def _check_size(self, image: NDArray, what: str) -> None:
        size = (image.shape[1], image.shape[0])
        if size != (self.camera.width, self.camera.height):
            raise SceneError(
                f"{what} of frame {self.name} is {size[0]}x{size[1]}, its camera says "
                f"{self.camera.width}x{self.camera.height}: fix width/height or the file"
            )


@dataclass(frozen=True, eq=False)
class Scene:
    """A set of posed frames in one world frame."""

    name: str
    frames: list[Frame]
    metric: bool
    splits: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)  # condition, target
    notes: tuple[str, ...] = ()

    def split(self, name: str | None = None) -> tuple[list[int], list[int]]:
        """Condition and target indices: the named split, else the first, else every third frame is a target."""
        if name is not None:
            if name not in self.splits:
                known = ", ".join(self.splits) or "none"
                raise SceneError(f"scene {self.name} has no split '{name}': it has {known}")
            return self.splits[name]
        if self.splits:
            return next(iter(self.splits.values()))
        targets = list(range(1, len(self.frames), 3))
        return [i for i in range(len(self.frames)) if i not in targets], targets

    def check_indices(self, indices: Sequence[int], what: str) -> list[int]:
        """Return ``indices`` as a list, or raise SceneError naming the first one out of range."""
        for i in indices:
            if not 0 <= i < len(self.frames):
                raise SceneError(
                    f"{what} frame {i} does not exist: scene {self.name} has frames 0..{len(self.frames) - 1}"
                )
        return list(indices)

    def posed_view(self, index: int, use_depth: bool = True) -> PosedView:
        """Frame ``index`` with its picture and, if wanted and there, its depth."""
        frame = self.frames[index]
        depth = frame.load_depth() if use_depth else None
        return PosedView(f"{self.name}/{frame.name}", frame.camera, frame.load_rgb(), depth, frame.stamp_ns)


def shared_frames_note(condition: Sequence[int], target: Sequence[int]) -> tuple[str, ...]:
    """A note when frames are given and asked for at once: their own pictures answer them."""
    both = sorted(set(condition) & set(target))
    if not both:
        return ()
    named = ", ".join(map(str, both[:MOST_NAMED])) + (", …" if len(both) > MOST_NAMED else "")
    return (f"{len(both)} targets are conditions as well (frame {named}): what they show was given, not synthesised",)


def load_scene(path: str | Path, camera: str | None = None, metric: bool | None = None) -> Scene:
    """Read a scene folder or a rosbag2.

    ``camera`` names the camera namespace of a bag. ``metric`` overrides what the set says of its unit.
    Raises SceneError naming what is missing or malformed.
    """
    root = Path(path)
    if not root.exists():
        raise SceneError(f"no scene at {root}: give a folder with cameras.json or transforms.json, or a rosbag2")
    if (root / "cameras.json").is_file():
        scene = _load_cameras_json(root)
    elif (root / "transforms.json").is_file() or root.suffix == ".json":
        scene = _load_nerfstudio(root if root.is_file() else root / "transforms.json")
    elif is_bag(root):
        from gld_ros.data.bag import load_bag  # needs the optional rosbags package

        scene = load_bag(root, camera)
    else:
        raise SceneError(f"{root} holds no cameras.json, transforms.json or rosbag2 metadata.yaml: not a scene")
    if not scene.frames:
        raise SceneError(f"scene {root} has no frames: nothing to do")
    notes = scene.notes
    if camera is not None and not is_bag(root):
        notes += (f"camera '{camera}' is ignored: it chooses among the cameras of a bag, and {root} is a folder",)
    return replace(scene, metric=scene.metric if metric is None else metric, notes=notes)


def is_bag(root: Path) -> bool:
    """Whether a path is a rosbag2."""
    return (root / "metadata.yaml").is_file() or root.suffix in (".mcap", ".db3")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SceneError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise SceneError(f"{path} has no list 'frames': see docs/scenes.md")
    return data


def _rgb_reader(path: Path) -> Callable[[], NDArray[np.uint8]]:
    def read() -> NDArray[np.uint8]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
        if image is None:
            raise SceneError(f"cannot read picture {path}: missing or not an image")
        return np.ascontiguousarray(image[..., ::-1])

    return read


def _depth_reader(path: Path, units_per_value: float) -> Callable[[], NDArray[np.float32]]:
    def read() -> NDArray[np.float32]:
        raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if raw is None or raw.ndim != 2:
            raise SceneError(f"cannot read depth {path}: missing or not a one-channel image")
        depth = raw.astype(np.float32) * np.float32(units_per_value)
        depth[~(depth > 0)] = np.nan
        return depth

    return read


def _load_cameras_json(root: Path) -> Scene:
    data = _read_json(root / "cameras.json")
    frames = []
    for i, entry in enumerate(data["frames"]):
        try:
            name = str(entry.get("file", f"{i:03d}"))
            camera = Camera(
                int(entry["width"]),
                int(entry["height"]),
                np.asarray(entry["K"], float),
                np.asarray(entry["c2w"], float),
            )
            depth = entry.get("depth")
            read_depth = _depth_reader(root / depth, 1.0 / float(entry.get("depth_scale", 1000.0))) if depth else None
            stamp_ns = int(entry.get("stamp_ns", i * 100_000_000))
        except GldError as error:
            raise SceneError(f"frame {i} of {root}: {error}", error.status) from error
        except KeyError as error:
            raise SceneError(f"frame {i} of {root}/cameras.json has no {error}: add it (docs/scenes.md)") from error
        except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise SceneError(f"frame {i} of {root}/cameras.json is malformed: {error!r}") from error
        has_file = "file" in entry
        frames.append(Frame(name, camera, stamp_ns, _rgb_reader(root / name) if has_file else None, read_depth))
    splits, notes = _read_splits(data.get("splits") or {}, len(frames), root)
    name = str(data.get("name") or root.resolve().name)
    return Scene(name, frames, bool(data.get("metric", False)), splits, notes)


def _read_splits(raw: Any, count: int, root: Path) -> tuple[dict[str, tuple[list[int], list[int]]], tuple[str, ...]]:
    """The splits that can be used, and a note for each that names frames the set does not have."""
    splits, notes = {}, []
    try:
        for name, lists in raw.items():
            condition, target = ([int(i) for i in lists[k]] for k in ("condition", "target"))
            if any(not 0 <= i < count for i in condition + target):
                notes.append(f"split '{name}' of {root} is left out: it names a frame outside 0..{count - 1}")
                continue
            splits[str(name)] = (condition, target)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SceneError(f"splits of {root}/cameras.json are malformed: {error!r}") from error
    return splits, tuple(notes)


def _load_nerfstudio(path: Path) -> Scene:
    """nerfstudio's transforms.json: OpenGL camera axes, intrinsics shared or per frame, unit usually unknown."""
    data = _read_json(path)
    root = path.parent
    model = str(data.get("camera_model", "OPENCV"))
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV_FISHEYE"):
        raise SceneError(f"camera_model '{model}' in {path} is not supported: OPENCV, PINHOLE or OPENCV_FISHEYE")
    frames = []
    for i, entry in enumerate(data["frames"]):
        try:
            merged = {**data, **entry}
            w, h = int(merged["w"]), int(merged["h"])
            fx = float(merged["fl_x"]) if "fl_x" in merged else 0.5 * w / np.tan(0.5 * float(merged["camera_angle_x"]))
            fy = float(merged.get("fl_y", fx))
            # COLMAP and nerfstudio put the centre of the first pixel at 0.5
            cx, cy = float(merged.get("cx", w / 2)) - 0.5, float(merged.get("cy", h / 2)) - 0.5
            world_from_cam = np.asarray(entry["transform_matrix"], float) @ CV_FROM_GL
            camera = Camera(w, h, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), world_from_cam)
            name = str(entry["file_path"])
            image = root / name
            if not image.is_file() and not image.suffix:
                image = next(
                    (p for p in (image.with_suffix(s) for s in (".png", ".jpg", ".jpeg")) if p.is_file()), image
                )
            depth = entry.get("depth_file_path")
            depth_unit = float(merged.get("depth_unit_scale_factor", 1e-3))
            keys = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2", "k3")
            coefficients = [float(merged.get(k, 0.0)) for k in keys]
        except GldError as error:
            raise SceneError(f"frame {i} of {path}: {error}", error.status) from error
        except (KeyError, TypeError, ValueError) as error:
            raise SceneError(f"frame {i} of {path} is malformed: {error!r}") from error
        kind = "equidistant" if model == "OPENCV_FISHEYE" else "plumb_bob"
        distortion = Distortion(kind, tuple(coefficients)) if any(coefficients) else None
        read_depth = _depth_reader(root / depth, depth_unit) if depth else None
        frames.append(Frame(name, camera, i * 100_000_000, _rgb_reader(image), read_depth, distortion))
    notes = ("distortion of the set is removed; pictures are pinhole",) if any(f.distortion for f in frames) else ()
    return Scene(root.resolve().name, frames, bool(data.get("metric", False)), {}, notes)

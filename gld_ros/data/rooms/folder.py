"""Write rendered rooms as a scene folder: images/, depth/, cameras.json."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from gld_ros.data.rooms.render import RenderedScene
from gld_ros.errors import SceneError

DEPTH_SCALE = 1000.0  # millimetres in 16 bits: 65 m at most


def default_splits(views: int) -> dict[str, dict[str, list[int]]]:
    """``interp``: every second view is a target between its neighbours; ``extrapolate``: the last third is unseen."""
    if views < 3:
        return {}
    cut = views - max(1, views // 3)
    return {
        "interp": {"condition": list(range(0, views, 2)), "target": list(range(1, views, 2))},
        "extrapolate": {"condition": list(range(0, cut, 2)), "target": list(range(cut, views))},
    }


def write_scene(
    scene: RenderedScene,
    out: Path,
    name: str,
    note: str,
    splits: dict[str, dict[str, list[int]]] | None = None,
    with_depth: bool = True,
    jpeg_quality: int = 93,
) -> None:
    """Write a scene folder. Raises SceneError when ``out`` cannot be written."""
    frames = []
    try:
        (out / "images").mkdir(parents=True, exist_ok=True)
        if with_depth:
            (out / "depth").mkdir(exist_ok=True)
        for i, (rgb, depth, camera) in enumerate(zip(scene.rgb, scene.depth, scene.cameras, strict=True)):
            frame = {
                "file": f"images/{i:03d}.jpg",
                "width": camera.width,
                "height": camera.height,
                "K": camera.K.round(6).tolist(),
                "c2w": camera.world_from_cam.round(8).tolist(),
            }
            ok = cv2.imwrite(str(out / frame["file"]), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
            if with_depth:
                frame |= {"depth": f"depth/{i:03d}.png", "depth_scale": DEPTH_SCALE}
                steps = np.clip((depth * DEPTH_SCALE).round(), 1, 65535).astype(np.uint16)
                ok = ok and cv2.imwrite(str(out / frame["depth"]), steps, [cv2.IMWRITE_PNG_COMPRESSION, 9])
            if not ok:
                raise OSError("the picture could not be written (disk full or folder not writable?)")
            frames.append(frame)
        text = {
            "name": name,
            "convention": "c2w = 4x4 camera-to-world, OpenCV camera axes (x right, y down, z forward); K in pixels, "
            "integer pixel centres; pinhole, no distortion",
            "metric": True,
            "note": note,
            "frames": frames,
            "splits": default_splits(len(frames)) if splits is None else splits,
        }
        if with_depth:
            text["depth"] = "16-bit png: metres along z = value / depth_scale, 0 = no measurement"
        (out / "cameras.json").write_text(json.dumps(text, indent=1) + "\n")
    except OSError as error:
        raise SceneError(f"cannot write the scene to {out}: {error}") from error

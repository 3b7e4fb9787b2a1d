"""From image messages to keyframes, on one thread of its own: pose first, pixels only when they are worth keeping."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage

from gld_ros.data.camera_info import CameraModel, CameraModels
from gld_ros.data.image_messages import (
    ImageError,
    compressed_depth_to_metres,
    compressed_to_rgb,
    depth_to_metres,
    image_to_rgb,
)
from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.transform_tree import NS
from gld_ros.ros.camera_input import CameraInput
from gld_ros.ros.core import Core
from gld_ros.ros.tf_buffer import nanoseconds
from gld_ros.ros.transforms import JUMP_BACK_S, TransformException
from gld_ros.synthesis.types import PosedView

DEPTH_WAIT_S = 0.15  # for the depth of an image, while depth flows
POLL_S = 0.01  # between two looks for images and late transforms
IDLE_POLL_S = 0.05  # when none has come for a while
IDLE_AFTER_S = 1.0


class Inputs:
    """All cameras of an active node, and the thread that turns their images into keyframes."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._models = CameraModels()
        self._stop = threading.Event()
        self._jumps = core.jumps
        names = core.settings.cameras
        self.cameras = [CameraInput(core.node, name, core.settings) for name in names]
        self._thread = threading.Thread(target=self._run, name="gld_inputs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        busy_at = time.monotonic()
        while not self._stop.is_set():
            for camera in self.cameras:
                try:
                    if self._process(camera):
                        busy_at = time.monotonic()
                except Exception as error:  # one bad message must not end the intake
                    self._bad(camera, f"internal error: {type(error).__name__}: {error}")
                    camera.forget()
            self._stop.wait(POLL_S if time.monotonic() - busy_at < IDLE_AFTER_S else IDLE_POLL_S)

    def _process(self, camera: CameraInput) -> bool:
        """Use the images whose transforms are there, in order; True if there were any.

        Cheap for images that show nothing new; what cannot keep up is pushed out of the short queue by newer ones.
        """
        core = self._core
        if core.jumps != self._jumps:
            self._jumps = core.jumps
            for each in self.cameras:
                each.forget()
        timeout = core.settings["tf_timeout"]
        now = time.monotonic()
        images = camera.pending()
        for message, arrived in images:
            if not self._stamp_is_good(camera, message):
                continue
            problem = self._try(camera, message, now - arrived)
            if problem is not None and now - arrived > timeout:
                camera.discard(message)
                camera.counters.no_transform += 1
                camera.counters.last_error = camera.counters.last_no_transform = problem
                self._warn(camera, f"dropped an image after tf_timeout {timeout:g} s: {problem}")
        return bool(images)

    def _stamp_is_good(self, camera: CameraInput, message: Any) -> bool:
        core, stamp = self._core, nanoseconds(message.header.stamp)
        ahead = (stamp - core.now_ns()) / NS
        limit = core.settings["max_future"]
        if ahead > limit:
            camera.discard(message)
            self._bad(
                camera,
                f"image stamp {stamp / NS:.3f} is {ahead:.3f} s in the future, limit max_future {limit:g} s: "
                "synchronise the clocks, or set use_sim_time and publish /clock when replaying",
            )
            return False
        if stamp < camera.last_stamp_ns - JUMP_BACK_S * NS:
            back = (camera.last_stamp_ns - stamp) / NS
            for each in self.cameras:
                each.last_stamp_ns = 0
            core.time_jumped(f"images of camera {camera.name} went back by {back:.3f} s")
            self._jumps = core.jumps
            return True
        if stamp <= camera.last_stamp_ns:  # out of order or repeated
            camera.discard(message)
            camera.counters.superseded += 1
            return False
        return True

    def _try(self, camera: CameraInput, message: Any, waited_s: float) -> str | None:
        """Use an image; None when it is done with, else what it waits for."""
        core, stamp = self._core, nanoseconds(message.header.stamp)
        info = camera.info
        if info is None:
            return f"no camera_info has arrived on {camera.heard['camera_info'].topic}"
        frame = (camera.frame_override or message.header.frame_id).lstrip("/")
        if not frame:
            camera.discard(message)
            self._bad(camera, f"images have an empty header.frame_id: set it in the driver, or {camera.name}.frame")
            return None
        try:
            world_from_cam, _ = core.transforms.lookup(core.fixed_frame, frame, stamp)
        except TransformException as error:
            return f"no transform {core.fixed_frame} <- {frame}: {error}"
        if not core.store.wants(camera.name, world_from_cam, stamp):
            camera.discard(message)
            camera.counters.familiar += 1
            camera.last_stamp_ns = stamp
            return None
        depth_message = camera.depth_for(stamp)
        if depth_message is None and camera.depth_flows and waited_s < DEPTH_WAIT_S:
            return "its depth image is not there yet"
        camera.discard(message)
        try:
            with camera.counters.intake.measure():
                view = self._view(camera, message, info, depth_message, world_from_cam)
                kept = core.store.add(camera.name, view)
        except GldError as error:
            self._bad(camera, str(error))
            return None
        camera.last_stamp_ns = stamp
        if kept:
            camera.counters.kept += 1
            core.worker.nudge()
        return None

    def _view(
        self, camera: CameraInput, message: Any, info: Any, depth_message: Any, world_from_cam: NDArray
    ) -> PosedView:
        compressed = isinstance(message, CompressedImage)
        model = self._models.get(info, camera.is_rectified)
        rgb = compressed_to_rgb(message) if compressed else image_to_rgb(message)
        rgb = model.rectify(rgb)
        depth = None
        if depth_message is not None:
            try:
                depth = self._depth(camera, depth_message, model)
            except ImageError as error:
                self._bad(camera, f"depth ignored: {error}")
        lens = Camera(rgb.shape[1], rgb.shape[0], model.K, world_from_cam)
        limit = self._core.settings["max_width"]
        if lens.width > limit:
            lens = lens.resized(limit, max(1, round(limit * lens.height / lens.width)))
            rgb = cv2.resize(rgb, (lens.width, lens.height), interpolation=cv2.INTER_AREA)
            if depth is not None:  # blending across an edge would invent surfaces
                depth = cv2.resize(depth, (lens.width, lens.height), interpolation=cv2.INTER_NEAREST)
        stamp = nanoseconds(message.header.stamp)
        return PosedView(f"{camera.name}/{stamp}", lens, np.ascontiguousarray(rgb), depth, stamp)

    def _depth(self, camera: CameraInput, message: Any, model: CameraModel) -> NDArray[np.float32]:
        packed = isinstance(message, CompressedImage)
        depth = compressed_depth_to_metres(message) if packed else depth_to_metres(message)
        height, width = model.height, model.width
        if abs(depth.shape[1] * height - depth.shape[0] * width) > 0.01 * width * depth.shape[0]:
            raise ImageError(
                f"depth is {depth.shape[1]}x{depth.shape[0]} and the image {width}x{height}: publish depth "
                f"registered to the image, or set {camera.name}.depth_transport to none"
            )
        if depth.shape != (height, width):
            depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
        # depth registered to a raw picture has that picture's distortion
        return depth if "rect" in camera.heard["depth"].topic else model.rectify(depth, nearest=True)

    def _bad(self, camera: CameraInput, text: str) -> None:
        camera.counters.bad += 1
        camera.counters.last_error = text
        self._warn(camera, text)

    def _warn(self, camera: CameraInput, text: str) -> None:
        self._core.problems[camera.name] = text
        self._core.warn(f"{camera.name}: {text[:24]}", f"camera {camera.name}: {text}")

    def watch(self) -> None:
        """Find better topics and warn of silence; called once a second."""
        limit = self._core.settings["no_data_warning"]
        for camera in self.cameras:
            camera.find_image_topic()
            silent = camera.silent(limit)
            if silent:
                topics = ", ".join(
                    f"{heard.topic} ({self._core.node.count_publishers(heard.topic)} publishers, "
                    f"last stamp {heard.stamp_ns / NS:.3f})"
                    for heard in silent
                )
                skew = camera.skew_s()
                seen = "" if skew is None else f"; image and camera_info stamps differ by {skew:.3f} s"
                self._warn(
                    camera, f"no data on {topics} for {limit:g} s (node time {self._core.now_ns() / NS:.3f}){seen}"
                )

    def close(self) -> None:
        """Unsubscribe and end the thread."""
        self._stop.set()
        for camera in self.cameras:
            camera.close()
        self._thread.join(5.0)

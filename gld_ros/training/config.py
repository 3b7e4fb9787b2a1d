"""What a training run is: model, data, stages. Read from one YAML file."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import yaml

from gld_ros.errors import GldError
from gld_ros.model.config import ModelConfig, check_ranges, config_from_dict
from gld_ros.training.depth_noise import DepthNoise

STAGES = ("encoder", "statistics", "rgb", "level1", "cascade")
MOST_STEP_PIXELS = 10**9  # of all views of a step: 16 GB of colours and depth before any network
MOST_ROOMS_BYTES = 10**13  # rooms take 5 bytes a pixel on disk


@dataclass(frozen=True)
class DataConfig:
    """Rooms to train on; rendered into ``folder`` first where they are missing."""

    folder: str = "runs/rooms"
    scenes: int = 1000
    views: int = 8
    seed: int = 0
    photos: str | None = None  # texture cache of tools/fetch_assets
    furniture: str | None = None  # furniture cache of tools/fetch_assets --furniture
    validation_scenes: int = 32  # the first rooms of rooms/test, for curves and pictures
    colour_jitter: float = 0.2  # largest relative change of gain, for all and for each channel

    def __post_init__(self) -> None:
        check_ranges(self, scenes=(1, math.inf), views=(2, math.inf), seed=(0, 2**32), validation_scenes=(1, 100))
        check_ranges(self, colour_jitter=(0, 0.8))  # the common gain changes by 1.25 of it and stays above 0


@dataclass(frozen=True)
class StageConfig:
    """Optimisation of one stage; the defaults are those of the released transformers (GLD specification section 11)."""

    steps: int = 1000
    batch: int = 8
    rate: float = 5e-5
    weight_decay: float = 0.0
    warmup: int = 0
    decay_from: float = 1.0  # share of the steps after which the rate falls linearly to 2 %; 1: never
    clip: float = 1.0
    ema: float = 0.9995
    beta2: float = 0.95
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices inside transformer blocks, the rest by AdamW

    def __post_init__(self) -> None:
        check_ranges(self, steps=(1, math.inf), batch=(1, math.inf), rate=(1e-9, 1), weight_decay=(0, 1))
        check_ranges(self, warmup=(0, math.inf), decay_from=(0, 1), clip=(1e-9, math.inf))
        check_ranges(self, ema=(0, 0.999999), beta2=(0, 0.999999))


@dataclass(frozen=True)
class EncoderLoss:
    """Weights of the encoder stage."""

    views: int = 3
    rgb_l1: float = 1.0
    rgb_l2: float = 2.0
    rgb_gradient: float = 0.5
    depth: float = 1.5
    depth_gradient: float = 0.5
    confidence: float = 0.1
    rays: float = 0.2
    rays_every: int = 4  # the ray head runs on every n-th step: it is the dearer half

    def __post_init__(self) -> None:
        check_ranges(self, views=(1, math.inf), rays_every=(1, math.inf))
        weights = ("rgb_l1", "rgb_l2", "rgb_gradient", "depth", "depth_gradient", "confidence", "rays")
        check_ranges(self, **dict.fromkeys(weights, (0, 1e6)))


@dataclass(frozen=True)
class DiffusionLoss:
    """Objective of the level-1 and cascade stages.

    The defaults are those of GLD specification section 11: velocity, uniform time under the shift, all views of a
    scene, no warp. ``data`` prediction, which only small models have, is weighted 1 / max(t, min_time)^2, with
    t = sigmoid(N(*time_logit)) and a share of ``pure_noise`` at t = 1.
    """

    conditions: tuple[int, int] = (1, 4)
    targets: tuple[int, int] | None = None  # None: all other views of the scene
    shift: float = math.sqrt(768 * 16 * 16 * 8 / 4096)  # of velocity's times: 19.60, where sampling has 31.18
    min_time: float = 0.3
    time_logit: tuple[float, float] = (0.6, 1.0)  # mean and standard deviation of data prediction's log odds of t
    pure_noise: float = 0.15
    drop_cameras: float = 0.1  # share of the scenes that train without cameras, for guidance
    warp_depth: tuple[float, float] = (0.0, 0.0)  # shares of steps that warp with the model's own depth and with
    # depth that is known as ``depth_noise`` says; the rest has no warp
    nearest_first: float = 0.0  # share of the steps in which targets are drawn near the conditions
    source_noise: float = 0.0  # tau: level 1 as the cascade reads it has noise of |N(0, tau^2)|, drawn per scene
    pixel_share: float = 0.0  # share of the error that is measured in pixels (linearly) instead of normalised latents
    hole_weight: float = 0.0  # a target patch that geometry does not know counts 1 + this
    condition_weight: float = 1.0  # weight of condition views, whose data the network is given

    def __post_init__(self) -> None:
        check_ranges(self, conditions=(1, math.inf), targets=(1, math.inf), min_time=(1e-3, 1))
        check_ranges(self, pure_noise=(0, 1), drop_cameras=(0, 1), warp_depth=(0, 1), nearest_first=(0, 1))
        check_ranges(self, shift=(1e-3, 1e6), time_logit=(-10, 10))
        check_ranges(self, source_noise=(0, 10), pixel_share=(0, 1), hole_weight=(0, 1e6), condition_weight=(0, 1e6))
        for name, (fewest, most) in (("conditions", self.conditions), ("targets", self.targets or (1, 1))):
            if fewest > most:
                raise GldError(f"{name} is [{fewest}, {most}], must be [fewest, most]: swap them")
        if self.time_logit[1] < 0:
            raise GldError(f"time_logit is {self.time_logit}: the second is a standard deviation, must not be below 0")
        if sum(self.warp_depth) > 1:
            raise GldError(
                f"the shares of warp_depth {self.warp_depth} sum to {sum(self.warp_depth):g}, must not exceed 1"
            )


@dataclass(frozen=True)
class TrainConfig:
    """A whole run; every stage reads what the stages before it left in ``out``."""

    name: str = "nano"
    out: str = "runs/nano"
    size: tuple[int, int] = (504, 504)  # width, height
    seed: int = 0
    bf16: bool = True
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoder: StageConfig = field(default_factory=StageConfig)
    rgb: StageConfig = field(default_factory=StageConfig)
    level1: StageConfig = field(default_factory=StageConfig)
    cascade: StageConfig = field(default_factory=StageConfig)
    encoder_loss: EncoderLoss = field(default_factory=EncoderLoss)
    diffusion: DiffusionLoss = field(default_factory=DiffusionLoss)
    depth_noise: DepthNoise = field(default_factory=DepthNoise)
    rgb_noise: float = 0.2  # rgb stage: largest noise on each channel, in its standard deviations
    statistics_scenes: int = 200
    checkpoint_seconds: float = 300.0
    log_every: int = 20
    validate_every: int = 500

    def __post_init__(self) -> None:
        check_ranges(self, seed=(0, 2**32), rgb_noise=(0, 10), statistics_scenes=(1, math.inf))
        check_ranges(self, checkpoint_seconds=(0, math.inf), log_every=(1, math.inf), validate_every=(1, math.inf))
        patch = self.model.encoder.patch
        if any(side % patch or side < patch for side in self.size):
            raise GldError(f"size {self.size} must be multiples of the patch {patch}")
        loss = self.diffusion
        drawn = self.data.views if loss.targets is None else loss.conditions[1] + loss.targets[1]
        most = max(self.encoder_loss.views, loss.conditions[1] + 1, drawn)
        if most > self.data.views:
            raise GldError(f"a step draws up to {most} views but data.views is {self.data.views}: render more views")
        if not any(w <= self.size[0] and h <= self.size[1] for w, h in self.model.trained_sizes):
            raise GldError(
                f"no size of model.trained_sizes {self.model.trained_sizes} fits into rooms of size {self.size}: "
                "name what the model is to know, or render larger rooms"
            )
        pixels = self.size[0] * self.size[1]
        if (room_bytes := 5 * self.data.scenes * self.data.views * pixels) > MOST_ROOMS_BYTES:
            raise GldError(
                f"{self.data.scenes} rooms of {self.data.views} views of {self.size} pixels take about "
                f"{room_bytes / 1e12:.3g} TB of disk, at most {MOST_ROOMS_BYTES / 1e12:g}: lower data.scenes or size"
            )
        for name in ("encoder", "rgb", "level1", "cascade"):
            batch = self.stage(name).batch
            if batch * most * pixels > MOST_STEP_PIXELS:
                raise GldError(
                    f"a step of {name} with batch {batch} x {most} views of {self.size} pixels takes about "
                    f"{16e-9 * batch * most * pixels:.3g} GB for its pictures alone, at most "
                    f"{16e-9 * MOST_STEP_PIXELS:g}: lower {name}.batch or size"
                )

    def stage(self, name: str) -> StageConfig:
        """Optimisation settings of a stage."""
        result: StageConfig = getattr(self, name)
        return result

    def digest(self) -> str:
        """Ten hex digits of everything that changes results (not folders or logging)."""
        same = replace(self, out="", checkpoint_seconds=0, log_every=1, data=replace(self.data, folder=""))
        fields = asdict(same)
        if self.data.furniture is None:  # checkpoints from before there was furniture stay valid
            del fields["data"]["furniture"]
        transformers = (self.model.level1, self.model.cascade)
        if all(part is None or part.prediction == "data" for part in transformers):  # nor one that nothing reads
            del fields["diffusion"]["shift"]
        if self.diffusion.time_logit == DiffusionLoss().time_logit:
            del fields["diffusion"]["time_logit"]
        if self.model.encoder.pose_input == "none":  # nor does a switch that is off change any
            del fields["model"]["encoder"]["pose_input"]
        for stage in ("encoder", "rgb", "level1", "cascade"):
            if fields[stage]["optimizer"] == "adamw":
                del fields[stage]["optimizer"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]


def read_config(path: Path) -> TrainConfig:
    """Read a YAML file. Raises GldError naming the field for anything unknown or impossible.

    ``extends: other.yaml`` (beside the file) gives the values that it does not set itself.
    """
    config: TrainConfig = config_from_dict(TrainConfig, _read_values(path, ()), "")
    return config


def _read_values(path: Path, readers: tuple[Path, ...]) -> object:
    """What the file says, over what it extends."""
    if path in readers:
        raise GldError(f"{path} extends itself: {' -> '.join(p.name for p in (*readers, path))}")
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise GldError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise GldError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, dict) or "extends" not in values:
        return values
    other = values.pop("extends")
    if not isinstance(other, str):
        raise GldError(f"{path}: extends is {other!r}, must be the name of a YAML file")
    return _merged(_read_values(path.parent / other, (*readers, path)), values)


def _merged(below: object, above: object) -> object:
    """Mappings value by value; anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _merged(below.get(key), value) for key, value in above.items()}

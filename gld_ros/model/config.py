"""Sizes and switches of every network part: the released model and small ones are the same code.

Fields under "quirk" repeat what the released weights were trained with even where another choice
looks more natural (GLD specification section 15); fields marked "open" can only be settled with the
released files and hold the specification's default.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from gld_ros.errors import GldError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SOLVERS = ("euler", "heun", "dpmpp_2m")
MOST = 2**16  # channels of any layer: one square matrix of that width has 17 GB


@dataclass(frozen=True)
class EncoderConfig:
    """The frozen Depth Anything 3 backbone (specification section 2)."""

    patch: int = 14
    width: int = 768
    blocks: int = 12
    heads: int = 12
    mlp_hidden: int = 3072
    position_grid: int = 37  # the position table is position_grid x position_grid plus one
    alt_start: int = 4  # from here odd blocks attend across views; the camera token enters before this block
    rope_start: int = 4
    qk_norm_start: int = 4
    rope_base: float = 100.0
    level_blocks: tuple[int, int, int, int] = (5, 7, 9, 11)  # levels 0..3 are taken after these blocks
    level_features: Literal["concat", "last"] = "concat"  # concat: last local block's output joined with this block's
    block_norm_eps: float = 1e-6
    qk_norm_eps: float = 1e-5
    final_norm_eps: float = 1e-5
    whiten: int = 0  # > 0: pictures enter as this many whitened patch components (small models)
    depth_cells: int = 0  # > 0: known depth enters after level 0, as the means of so many cells a patch side
    pose_input: Literal["none", "rays", "prope"] = "none"  # known poses enter where views first meet (small models):
    # as rays added to the tokens before block alt_start, or as PRoPE in the blocks that attend over all views
    position_offset: float = 0.1  # quirk: the table is resampled by the factor (h + 0.1) / grid, not by size

    def __post_init__(self) -> None:
        check_ranges(self, patch=(1, 256), width=(1, MOST), blocks=(1, 1000), mlp_hidden=(1, MOST))
        check_ranges(self, position_grid=(1, 4096), alt_start=(0, math.inf), level_blocks=(0, math.inf))
        check_ranges(self, rope_base=(1, math.inf), block_norm_eps=(0, 1), qk_norm_eps=(0, 1), final_norm_eps=(0, 1))
        check_ranges(self, whiten=(0, 3 * self.patch**2))  # values of an RGB patch
        _divides("encoder heads", self.width, self.heads, 4)
        if list(self.level_blocks) != sorted(set(self.level_blocks)) or self.level_blocks[-1] >= self.blocks:
            raise GldError(f"level_blocks {self.level_blocks} must rise and stay below blocks = {self.blocks}")
        if self.depth_cells < 0 or (self.depth_cells and self.patch % self.depth_cells):
            raise GldError(f"depth_cells is {self.depth_cells}, must be 0 or divide the patch {self.patch}")
        if self.pose_input != "none" and not any(map(self.is_global, range(self.level_blocks[-1] + 1))):
            raise GldError(
                f"pose_input is {self.pose_input!r}, but no block attends over all views: alt_start is "
                f"{self.alt_start}, must leave an odd block up to {self.level_blocks[-1]}"
            )
        if self.pose_input == "prope":
            _divides("encoder heads with PRoPE", self.width, self.heads, 8)

    @property
    def channels(self) -> int:
        """Channels of one level's feature."""
        return 2 * self.width if self.level_features == "concat" else self.width

    @property
    def encodes_views_alone(self) -> bool:
        """Are levels 0 and 1 of a view independent of the other views and of its place among them?"""
        return self.level_blocks[1] < self.alt_start

    def is_global(self, block: int) -> bool:
        """Does this block attend over all views of the scene?"""
        return block >= self.alt_start and block % 2 == 1


@dataclass(frozen=True)
class DiTConfig:
    """A diffusion transformer with a narrow encoder and a wide decoder (specification sections 7-9)."""

    latent_channels: int = 1536
    patch: int = 14
    encoder_width: int = 768
    encoder_blocks: int = 28
    encoder_heads: int = 16
    decoder_width: int = 2048
    decoder_blocks: int = 6
    decoder_heads: int = 16
    time_frequencies: int = 256
    rope_base: float = 100.0
    norm_eps: float = 1e-6
    split_embedders: bool = True  # condition and target views have input embedders of their own
    source_channels: int = 0  # > 0: the encoder sees this many channels of a source (level 1) instead of x_t
    warp_channels: int = 0  # > 0: both halves also see this many channels of a geometric guess (small models)
    prediction: Literal["velocity", "data"] = "velocity"  # what the last layer means; data adds the warp as residual
    prope_size: tuple[int, int] | None = None  # quirk, open: (W, H) that normalises K; the cascade fixes (504, 504)
    prope_key_inverse: bool = False  # quirk: keys and values use K itself where the published PRoPE uses its inverse
    uncond_intrinsics: Literal["identity", "keep"] = "identity"  # quirk: unguided level 1 drops K, the cascade keeps it

    def __post_init__(self) -> None:
        check_ranges(self, patch=(1, 256), latent_channels=(1, MOST), encoder_width=(1, MOST), decoder_width=(1, MOST))
        check_ranges(self, encoder_blocks=(1, 1000), decoder_blocks=(1, 1000), time_frequencies=(1, MOST))
        check_ranges(self, source_channels=(0, MOST), prope_size=(1, math.inf), rope_base=(1, math.inf))
        # PRoPE cuts a head into d/2 in groups of 4, and twice d/4 in pairs.
        _divides("DiT encoder heads", self.encoder_width, self.encoder_heads, 8)
        _divides("DiT decoder heads", self.decoder_width, self.decoder_heads, 8)
        if self.warp_channels not in (0, self.latent_channels + 1):
            raise GldError(
                f"warp_channels is {self.warp_channels}, must be 0 or latent_channels + 1 = {self.latent_channels + 1} "
                "(the warped latent and its coverage)"
            )


@dataclass(frozen=True)
class RgbDecoderConfig:
    """The masked-autoencoder style picture decoder (specification section 5.1)."""

    in_channels: int = 6144
    width: int = 1152
    layers: int = 28
    heads: int = 16
    mlp_hidden: int = 4096
    base_grid: tuple[int, int] = (36, 36)
    patch: int = 14
    norm_eps: float = 1e-12
    whiten: int = 0  # > 0: patches leave as this many whitened components (small models)
    features: Literal["layer_normed", "raw"] = "layer_normed"  # open: form of the levels it reads

    def __post_init__(self) -> None:
        check_ranges(self, patch=(1, 256), in_channels=(1, MOST), width=(1, MOST), layers=(1, 1000))
        check_ranges(self, mlp_hidden=(1, MOST), base_grid=(1, 4096), whiten=(0, 3 * self.patch**2))
        _divides("RGB decoder heads", self.width, self.heads, 1)


@dataclass(frozen=True)
class DepthHeadConfig:
    """The DualDPT depth and ray head (specification section 5.2)."""

    in_channels: int = 1536
    features: int = 128
    stage_channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    head_channels: int = 32
    patch: int = 14
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_ranges(self, patch=(1, 256), in_channels=(1, MOST), features=(2, MOST))  # half of them leave
        check_ranges(self, stage_channels=(1, MOST), head_channels=(1, MOST))


@dataclass(frozen=True)
class CameraConfig:
    """How cameras become network inputs (specification sections 6 and 7)."""

    ray_offset_px: tuple[float, float] = (-0.5, 0.5)  # quirk: x of the pixel grid is shifted the "wrong" way
    pose_reference: Literal["last", "first"] = "last"  # quirk: poses are relative to the last view, a target


@dataclass(frozen=True)
class SamplerConfig:
    """Sampling of the flow; the defaults are the plain Euler path of specification section 10."""

    points: int = 50  # quirk: this many grid points are one update fewer
    shift: float = math.sqrt(1536 * 18 * 18 * 8 / 4096)  # quirk: 31.18 at evaluation, 19.60 in training
    guidance: float = 1.5  # 1 or less switches guidance off
    last: float = 0.001  # quirk: unshifted time of the last point; the result keeps about 3 % noise. 0 ends at the data
    solver: Literal["euler", "heun", "dpmpp_2m"] = "euler"  # heun evaluates twice an update, dpmpp_2m once
    guidance_interval: tuple[float, float] = (0.0, 1.0)  # times t within which guidance is applied
    encoder_every: int = 1  # run the transformer's narrow half for every n-th evaluation only
    start: float = 1.0  # below 1: start from a guess mixed with this share of noise
    reuse: bool = True  # compute what no update changes once; False repeats it, with equal results

    def __post_init__(self) -> None:
        if self.points < 2:
            raise GldError(f"sampler points is {self.points}, must be at least 2 (one update)")
        check_ranges(self, guidance=(-1e3, 1e3))
        if not self.shift > 0:
            raise GldError(f"sampler shift is {self.shift}, must be above 0")
        if not 0 <= self.last < 1:
            raise GldError(f"sampler last is {self.last}, must lie in [0, 1)")
        if self.solver not in SOLVERS:
            raise GldError(f"sampler solver is {self.solver!r}, must be one of {', '.join(SOLVERS)}")
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise GldError(f"sampler guidance_interval is ({low}, {high}), must rise within [0, 1]")
        if self.encoder_every < 1:
            raise GldError(f"sampler encoder_every is {self.encoder_every}, must be at least 1")
        if self.encoder_every > 1 and not self.reuse:
            raise GldError("sampler encoder_every above 1 needs reuse: the plain path keeps nothing between updates")
        end = self.shift * self.last / (1 + (self.shift - 1) * self.last)
        if not end < self.start <= 1:
            raise GldError(f"sampler start is {self.start}, must lie above the last time {end:.4g} and not above 1")


@dataclass(frozen=True)
class ModelConfig:
    """All parts of one model. ``cascade`` is None when one transformer makes levels 0 and 1 jointly."""

    name: str = "gld-da3-base"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    level1: DiTConfig = field(default_factory=DiTConfig)
    cascade: DiTConfig | None = field(
        default_factory=lambda: DiTConfig(
            decoder_blocks=2,
            split_embedders=False,
            source_channels=1536,
            prope_size=(504, 504),
            uncond_intrinsics="keep",
        )
    )
    rgb: RgbDecoderConfig = field(default_factory=RgbDecoderConfig)
    depth: DepthHeadConfig = field(default_factory=DepthHeadConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    statistics_eps: float = 1e-5
    propagation_cls: Literal["first_alone", "first_joint"] = "first_alone"  # quirk: every view gets the first
    # condition view's class vector, from encoding that view alone (or, cheaper, from the joint encoding)
    trained_views: int = 8  # more views run, with a warning
    trained_sizes: tuple[tuple[int, int], ...] = ((504, 504), (504, 378), (504, 336), (504, 280))  # (W, H)

    def __post_init__(self) -> None:
        check_ranges(self, trained_views=(2, math.inf), statistics_eps=(0, 1))
        patch, channels = self.encoder.patch, self.encoder.channels
        if not self.trained_sizes or any(side < patch or side % patch for size in self.trained_sizes for side in size):
            raise GldError(
                f"trained_sizes is {self.trained_sizes}, must name at least one (width, height), "
                f"all of them multiples of the patch {patch}"
            )
        patches = {part.patch for part in (self.encoder, self.level1, self.rgb, self.depth)}
        expected = channels if self.cascade is not None else 2 * channels
        if self.level1.latent_channels != expected:
            raise GldError(f"level1.latent_channels is {self.level1.latent_channels}, the encoder gives {expected}")
        if self.cascade is not None and self.cascade.latent_channels != channels:
            raise GldError(f"cascade.latent_channels is {self.cascade.latent_channels}, the encoder gives {channels}")
        if self.cascade is not None:
            patches.add(self.cascade.patch)
            if self.cascade.source_channels not in (0, channels):
                raise GldError(
                    f"cascade.source_channels is {self.cascade.source_channels}, must be 0 or level 1's {channels}"
                )
        if self.level1.source_channels:
            raise GldError(f"level1.source_channels is {self.level1.source_channels}, must be 0: nothing precedes it")
        if len(patches) != 1:
            raise GldError(f"patch sizes {sorted(patches)} differ between parts, all must be equal")
        if self.rgb.in_channels != 4 * channels or self.depth.in_channels != channels:
            raise GldError(
                f"decoders read {self.rgb.in_channels} (RGB) and {self.depth.in_channels} (depth) channels, "
                f"the encoder gives {4 * channels} and {channels}"
            )

    @property
    def joint(self) -> bool:
        """Does one transformer make levels 0 and 1 together?"""
        return self.cascade is None

    def to_json(self) -> str:
        """One line of JSON that ``from_json`` reads back to an equal config."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelConfig:
        """Read what ``to_json`` wrote. Raises GldError on unknown names or wrong types."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise GldError(f"model configuration is not JSON: {error}") from None
        result: ModelConfig = config_from_dict(ModelConfig, values)
        return result


def released_config() -> ModelConfig:
    """The published DA3-Base model: 1.8 G parameters."""
    return ModelConfig()


def config_from_dict(kind: type, values: Any, where: str = "") -> Any:
    """Build the frozen dataclass ``kind`` from plain data; unknown names and wrong types raise GldError."""
    if not isinstance(values, dict):
        raise GldError(f"configuration {where or kind.__name__} must be a mapping, is {type(values).__name__}")
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise GldError(f"configuration {where or kind.__name__} has unknown names {unknown}, known: {sorted(hints)}")
    parsed = {name: _parse(hints[name], value, f"{where}.{name}".strip(".")) for name, value in values.items()}
    try:
        return kind(**parsed)
    except GldError as error:
        raise GldError(f"configuration {where}: {error}" if where else str(error), error.status) from None


def _parse(hint: Any, value: Any, where: str) -> Any:
    """One field: nested dataclasses, optionals, tuples, literals and plain numbers."""
    options = [hint]
    if type(None) in getattr(hint, "__args__", ()):
        if value is None:
            return None
        options = [kind for kind in hint.__args__ if kind is not type(None)]
    kind = options[0]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return config_from_dict(kind, value, where)
    origin = getattr(kind, "__origin__", kind)
    if origin is Literal:
        if value in kind.__args__:
            return value
        raise GldError(f"configuration {where} is {value!r}, must be one of {list(kind.__args__)}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise GldError(f"configuration {where} must be a list, is {value!r}")
        inner = kind.__args__
        if inner[-1] is Ellipsis:
            inner = (inner[0],) * len(value)
        if len(inner) != len(value):
            raise GldError(f"configuration {where} has {len(value)} entries, must have {len(inner)}")
        return tuple(_parse(part, entry, where) for part, entry in zip(inner, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise GldError(f"configuration {where} is {value!r}, must be {kind.__name__}")
    return value


def check_ranges(part: object, **limits: tuple[float, float]) -> None:
    """Raise GldError unless each named field of ``part``, or every entry of it, lies in its closed range."""
    for name, (low, high) in limits.items():
        value = getattr(part, name)
        entries = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(low <= entry <= high for entry in entries):  # NaN is in no range
            span = f"at least {low:g}" if high == math.inf else f"in {low:.7g} to {high:.7g}"
            raise GldError(f"{name} is {value}, out of range: it must be {span}")


def _divides(what: str, width: int, heads: int, multiple: int) -> None:
    if heads < 1 or width % heads or (width // heads) % multiple:
        raise GldError(
            f"{what}: width {width} over {heads} heads gives {width / max(heads, 1):g} channels a head, "
            f"must be a multiple of {multiple}"
        )

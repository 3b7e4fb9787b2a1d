"""Golden files: inputs, weights and expected outputs of single parts, recomputed and compared.

A golden file is a safetensors file with names ``in/...``, ``param/<released name>`` and ``out/...``. A subclass of
``GoldenFile`` says how to recompute the outputs of one kind of file; ``check_folder`` compares a whole folder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gld_ros.errors import GldError
from gld_ros.evaluation.golden_config import Architecture, Parameters, checked
from gld_ros.model.config import (
    DepthHeadConfig,
    DiTConfig,
    EncoderConfig,
    ModelConfig,
    RgbDecoderConfig,
)
from gld_ros.model.depth_head import DepthHead
from gld_ros.model.dit import DiT
from gld_ros.model.encoder import Encoder
from gld_ros.model.gld_model import GldModel
from gld_ros.model.precision import cast, full_fp32
from gld_ros.model.rgb_decoder import RgbDecoder

# Largest deviation accepted, as a share of max(1, max |expected|). The shipped goldens, whose random weights amplify
# rounding, need 0.16 in bf16 and 0.022 in fp16 (docs/model.md).
TOLERANCES = {torch.float32: 2e-4, torch.bfloat16: 0.3, torch.float16: 0.05}
ENCODER_PREFIX = "model.backbone.pretrained."
Method = TypeVar("Method", bound=Callable[..., Tensor])
Module = TypeVar("Module", bound=nn.Module)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How one output compares; ``problem`` says why it could not be recomputed."""

    file: str
    output: str
    deviation: float
    limit: float
    relative_l2: float = 0.0
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Recomputed, and within the limit."""
        return not self.problem and self.deviation <= self.limit

    def __str__(self) -> str:
        verdict = "ok  " if self.passed else "FAIL"
        if self.problem:
            return f"{verdict} {self.file} {self.output}: {self.problem}"
        return (
            f"{verdict} {self.file} {self.output}: max deviation {self.deviation:.2e}, limit {self.limit:.2e}, "
            f"relative L2 {self.relative_l2:.1e}"
        )


def output(pattern: str) -> Callable[[Method], Method]:
    """Mark a method as the one that recomputes outputs whose name (without ``out/``) matches; groups are arguments."""

    def mark(method: Method) -> Method:
        patterns = [*getattr(method, "output_patterns", []), re.compile(pattern)]
        method.output_patterns = patterns  # type: ignore[attr-defined]
        return method

    return mark


class GoldenFolder:
    """Files of one folder and the modules their parameters make."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        if not folder.is_dir():
            raise GldError(f"{folder} is not a folder of golden files")
        self.folder, self.device, self.dtype = folder, device, dtype
        self.architecture = Architecture(folder)
        self._files: dict[str, dict[str, Tensor]] = {}

    def tensors(self, name: str) -> dict[str, Tensor]:
        """All tensors of a file. Raises GldError when it is missing or damaged."""
        if name not in self._files:
            path = self.folder / f"{name}.safetensors"
            if not path.is_file():
                raise GldError(f"{path.name} is missing, its parameters are needed")
            try:
                self._files[name] = load_file(path, device=str(self.device))
            except (SafetensorError, OSError) as error:
                raise GldError(f"{path.name} cannot be read: {error}") from None
        return self._files[name]

    def common_grid(self) -> tuple[int, int] | None:
        """Token grid the folder's JSON gives, where tensors do not tell."""
        grid = self.architecture.part("common").get("grid_hw")
        return (int(grid[0]), int(grid[1])) if grid else None

    @cached_property
    def encoder(self) -> Encoder:
        """The backbone of ``da3_encoder``."""
        parameters = self._parameters("da3_encoder", ENCODER_PREFIX)
        config: EncoderConfig = checked(lambda: self.architecture.encoder(parameters), "da3_encoder")
        return self._load(Encoder(config), parameters, "da3_encoder")

    @cached_property
    def level1(self) -> DiT:
        """The transformer of ``ddt_level1``."""
        return self._dit("ddt_level1", cascade=False)

    @cached_property
    def cascade(self) -> DiT:
        """The transformer of ``ddt_cascade``."""
        return self._dit("ddt_cascade", cascade=True)

    @cached_property
    def rgb_decoder(self) -> RgbDecoder:
        """The decoder of ``mae_decoder``."""
        parameters = self._parameters("mae_decoder", "decoder.")
        config: RgbDecoderConfig = checked(lambda: self.architecture.rgb(parameters), "mae_decoder")
        return self._load(RgbDecoder(config), parameters, "mae_decoder")

    @cached_property
    def depth_head(self) -> DepthHead:
        """The head of ``dpt_decoder``."""
        parameters = self._parameters("dpt_decoder", "decoder.")
        patch = self._depth_patch()
        config: DepthHeadConfig = checked(lambda: self.architecture.depth(parameters, patch), "dpt_decoder")
        return self._load(DepthHead(config), parameters, "dpt_decoder")

    @cached_property
    def model(self) -> GldModel:
        """All five parameter files as one model; its statistics are still to be set."""
        config = ModelConfig(
            "golden",
            self.encoder.config,
            self.level1.config,
            self.cascade.config,
            self.rgb_decoder.config,
            self.depth_head.config,
        )
        parts = {"level1": self.level1, "cascade": self.cascade}
        with torch.device("meta"):
            model = GldModel(config)
        model.encoder, model.rgb_decoder, model.depth_head = self.encoder, self.rgb_decoder, self.depth_head
        model.level1, model.cascade = parts["level1"], parts["cascade"]
        model.statistics.to_empty(device=self.device)
        return model

    def _depth_patch(self) -> int:
        """The patch shows in no parameter of the depth head: expected sizes tell, else the encoder, else the JSON."""
        tensors = self.tensors("dpt_decoder")
        if "out/depth" in tensors and "out/ray" in tensors:
            return int(8 * tensors["out/depth"].shape[2] // tensors["out/ray"].shape[2])
        if (self.folder / "da3_encoder.safetensors").is_file():
            return self.encoder.config.patch
        return int(self.architecture.part("common").get("patch", DepthHeadConfig().patch))

    def _dit(self, name: str, cascade: bool) -> DiT:
        parameters = self._parameters(name, "")
        config: DiTConfig = checked(lambda: self.architecture.dit(parameters, cascade), name)
        return self._load(DiT(config), parameters, name)

    def _parameters(self, file: str, prefix: str) -> Parameters:
        start = "param/" + prefix
        return {name[len(start) :]: value for name, value in self.tensors(file).items() if name.startswith(start)}

    def _load(self, module: Module, parameters: Parameters, what: str) -> Module:
        try:
            module.load_state_dict(parameters)
        except RuntimeError as error:
            raise GldError(f"{what}: parameters do not fit the architecture: {error}") from None
        return cast(module.to(self.device).eval(), self.dtype)


class GoldenFile:
    """One golden file; subclasses recompute its outputs from its inputs."""

    name: ClassVar[str]

    def __init__(self, folder: GoldenFolder) -> None:
        self.folder = folder
        self.tensors = folder.tensors(self.name)

    def given(self, name: str) -> Tensor:
        """An input. Raises GldError when the file lacks it."""
        if f"in/{name}" not in self.tensors:
            raise GldError(f"in/{name} is missing")
        return self.tensors[f"in/{name}"]

    def has(self, name: str) -> bool:
        """Is there such an input?"""
        return f"in/{name}" in self.tensors

    def expected(self) -> Iterator[tuple[str, Tensor]]:
        """Names and values of all expected outputs."""
        for name in sorted(self.tensors):
            if name.startswith("out/"):
                yield name, self.tensors[name]

    def recompute(self, name: str) -> Tensor:
        """The value of an output. Raises GldError when nothing here makes it or an input is missing."""
        for attribute in dir(type(self)):
            method: Any = getattr(type(self), attribute)
            for pattern in getattr(method, "output_patterns", ()):
                if match := pattern.fullmatch(name.removeprefix("out/")):
                    result: Tensor = method(self, *match.groups())
                    return result
        raise GldError("this output is unknown and cannot be recomputed")


class Watch:
    """Remembers what named submodules return while they run."""

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        self.seen: dict[str, Tensor] = {}
        self._handles = [
            module.get_submodule(name).register_forward_hook(
                lambda _module, _args, result, name=name: self.seen.__setitem__(name, result)
            )
            for name in names
        ]

    def __enter__(self) -> dict[str, Tensor]:
        return self.seen

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


@torch.no_grad()
def check_file(golden: GoldenFile, tolerance: float) -> Iterator[Outcome]:
    """Compare every output of a file."""
    for name, expected in golden.expected():
        outcome = Outcome(golden.name, name, float("inf"), 0.0)
        try:
            with full_fp32(golden.folder.device.type):
                value = golden.recompute(name)
        except GldError as error:
            yield replace(outcome, problem=str(error))
            continue
        if value.numel() != expected.numel():
            yield replace(outcome, problem=f"shape {tuple(value.shape)}, expected {tuple(expected.shape)}")
            continue
        wanted = expected.double()
        difference = (value.to(wanted.device).double().reshape(wanted.shape) - wanted).abs()
        # A NaN must fail: it compares false with everything, so it is turned into infinity.
        deviation = float(torch.nan_to_num(difference, nan=float("inf")).max()) if difference.numel() else 0.0
        limit = tolerance * max(1.0, float(wanted.abs().max()) if wanted.numel() else 0.0)
        norm = float(wanted.norm())
        yield replace(
            outcome, deviation=deviation, limit=limit, relative_l2=float(difference.norm()) / norm if norm else 0.0
        )


def check_folder(
    path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, tolerance: float | None = None
) -> Iterator[Outcome]:
    """Compare every golden file of a folder, output by output.

    Args:
        path: holds ``tiny_config.json`` and any of the golden files.
        tolerance: share of max(1, max |expected|); default by type.

    Raises GldError when the folder holds no golden file or the device does not exist.
    """
    from gld_ros.evaluation.golden_geometry import GEOMETRY_FILES
    from gld_ros.evaluation.golden_parts import PART_FILES
    from gld_ros.evaluation.golden_runs import RUN_FILES

    kinds: dict[str, type[GoldenFile]] = {kind.name: kind for kind in GEOMETRY_FILES + PART_FILES + RUN_FILES}
    try:
        folder = GoldenFolder(path, torch.device(device), dtype)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise GldError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    limit = TOLERANCES[dtype] if tolerance is None else tolerance
    files = sorted(file.stem for file in path.glob("*.safetensors"))
    if not files:
        raise GldError(f"{path} holds no .safetensors file")
    for name in files:
        if name not in kinds:
            yield Outcome(name, "(file)", float("inf"), 0.0, problem="unknown kind of golden file")
            continue
        try:
            golden = kinds[name](folder)
        except GldError as error:
            yield Outcome(name, "(file)", float("inf"), 0.0, problem=str(error))
            continue
        yield from check_file(golden, limit)


def find_grid(tokens: int, candidates: list[tuple[int, int] | None]) -> tuple[int, int]:
    """The first candidate of this many tokens. Raises GldError when none fits."""
    for grid in candidates:
        if grid is not None and grid[0] * grid[1] == tokens:
            return grid
    raise GldError(f"no tensor or configuration tells the grid of {tokens} tokens")

"""One safetensors file holds one model: all weights, and its configuration in the metadata.

Reading never executes anything. Transformers can stay in the file until a stage needs them.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gld_ros.errors import GldError
from gld_ros.model.config import ModelConfig
from gld_ros.model.dit import DiT
from gld_ros.model.gld_model import GldModel, Stage
from gld_ros.model.precision import fp32_names

FORMAT = "gld_ros/1"
TRANSFORMERS = ("level1.", "cascade.")
SMALL_BYTES = 512 << 20  # smaller files are held whole everywhere
GPU_SHARE = 0.5  # of a GPU's free memory that a larger model may take, beside what requests need
_CODES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}


@dataclass(frozen=True)
class Entry:
    """One tensor to be written; ``read`` is called when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_stream(
    path: Path, entries: list[Entry], metadata: Mapping[str, str], advance: Callable[[int], object] | None = None
) -> None:
    """Write a safetensors file tensor by tensor, so that only one is in memory; the file appears when complete."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for entry in entries:
                tensor = entry.read().detach().to("cpu", entry.dtype).contiguous()
                if tuple(tensor.shape) != entry.shape:
                    raise GldError(f"{entry.name} has shape {tuple(tensor.shape)}, announced {entry.shape}")
                file.write(tensor.view(torch.uint8).numpy().data if tensor.dim() else _scalar_bytes(tensor))
                if advance is not None:
                    advance(entry.nbytes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise GldError(f"{path} cannot be written: {error.strerror}: check the folder and the free space") from None
    finally:
        partial.unlink(missing_ok=True)


def save_model(
    path: Path, model: GldModel, dtype: torch.dtype = torch.float32, notes: Mapping[str, str] | None = None
) -> None:
    """Write a model that is wholly in memory. ``notes`` go into the metadata (training, licence, quality)."""
    entries = [
        Entry(name, tuple(tensor.shape), kept, lambda tensor=tensor: tensor)  # type: ignore[misc]
        for (name, tensor), kept in zip(model.state_dict().items(), _file_dtypes(model, dtype), strict=True)
    ]
    write_stream(path, entries, model_metadata(model.config, dtype, notes))


def model_metadata(config: ModelConfig, dtype: torch.dtype, notes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Metadata every model file carries."""
    return {"format": FORMAT, "config": config.to_json(), "dtype": str(dtype).removeprefix("torch."), **(notes or {})}


def _file_dtypes(model: GldModel, dtype: torch.dtype) -> Iterator[torch.dtype]:
    kept = fp32_names(model)
    return (torch.float32 if name in kept else dtype for name in model.state_dict())


def skeleton(config: ModelConfig) -> GldModel:
    """The model without memory for its weights (meta device): names, shapes and types."""
    with torch.device("meta"):
        return GldModel(config)


class ModelFile:
    """An open model file, checked name by name against its configuration.

    Raises GldError when it is missing, truncated, not a model of this package, or its tensors do not fit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise GldError(f"{path} is not a file: give a model file made by 'gld weights import' or by training")
        try:
            self._file = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            hint = "import released .pt files with 'gld weights import DIR'"
            raise GldError(f"{path} is damaged or not a safetensors file ({error}): {hint}, or copy it again") from None
        self.metadata: dict[str, str] = self._file.metadata() or {}
        if self.metadata.get("format") != FORMAT or "config" not in self.metadata:
            raise GldError(
                f"{path} is not a model file of this package (format {self.metadata.get('format')!r}, wanted "
                f"{FORMAT!r}): import released files with 'gld weights import DIR'"
            )
        self.config = ModelConfig.from_json(self.metadata["config"])
        expected = skeleton(self.config).state_dict()
        names = set(self._file.keys())
        problems = compare(
            {name: tuple(tensor.shape) for name, tensor in expected.items()},
            {name: tuple(self._file.get_slice(name).get_shape()) for name in names},
        )
        if problems:
            raise GldError(f"{path} does not fit its own configuration: {summary(problems)}")

    @property
    def names(self) -> list[str]:
        """All tensors in the file."""
        return sorted(self._file.keys())

    def nbytes(self, prefix: str = "") -> int:
        """Bytes of the tensors below a prefix."""
        return sum(_slice_bytes(self._file.get_slice(name)) for name in self.names if name.startswith(prefix))

    def to_be_held(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether to hold the whole model rather than load it ``lazy``: it is small, or a GPU has room for it.

        On a CPU the stages of a larger one take so long that reading their transformers hardly counts.
        """
        if self.nbytes() <= SMALL_BYTES:
            return True
        if device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(device.index)
        weights = sum(torch.Size(self._file.get_slice(name).get_shape()).numel() for name in self.names)
        return weights * dtype.itemsize <= GPU_SHARE * free

    def load(
        self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, lazy: bool = False
    ) -> GldModel:
        """Read the model; with ``lazy`` each transformer is read when a stage begins and freed when it ends."""

        def load_transformer(stage: Stage) -> DiT:
            config = self.config.level1 if stage == "level1" else self.config.cascade
            assert config is not None
            with torch.device("meta"):
                dit = DiT(config)
            self._fill(dit, f"{stage}.", device, dtype)
            return dit

        with torch.device("meta"):
            model = GldModel(self.config, load_transformer if lazy else None)
        self._fill(model, "", device, dtype)
        return model

    def _fill(self, module: nn.Module, prefix: str, device: str | torch.device, dtype: torch.dtype) -> None:
        kept = fp32_names(module)
        try:
            state = {
                name: self._file.get_tensor(prefix + name).to(device, torch.float32 if name in kept else dtype)
                for name in module.state_dict()
            }
        except (SafetensorError, OSError) as error:
            raise GldError(f"{self.path} is damaged: {error}") from None
        module.load_state_dict(state, assign=True)
        module.eval().requires_grad_(False)


def load_model(
    path: Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, lazy: bool = False
) -> GldModel:
    """Open a model file and read it; see ``ModelFile``."""
    return ModelFile(path).load(device, dtype, lazy)


Shapes = Mapping[str, tuple[int, ...]]


def compare(expected: Shapes, found: Shapes) -> dict[str, list[str]]:
    """Names that are missing, unexpected, or of another shape; empty when all fit."""
    problems = {
        "missing": sorted(set(expected) - set(found)),
        "unexpected": sorted(set(found) - set(expected)),
        "mismatched": [
            f"{name} is {found[name]}, must be {expected[name]}"
            for name in sorted(set(expected) & set(found))
            if expected[name] != found[name]
        ],
    }
    return {kind: names for kind, names in problems.items() if names}


def summary(problems: Mapping[str, list[str]], limit: int = 5) -> str:
    """Problems in one line, a few names of each kind."""
    parts = []
    for kind, names in problems.items():
        more = f" and {len(names) - limit} more" if len(names) > limit else ""
        parts.append(f"{len(names)} {kind}: {', '.join(names[:limit])}{more}")
    return "; ".join(parts)


def _scalar_bytes(tensor: Tensor) -> bytes:
    return bytes(tensor.reshape(1).view(torch.uint8).numpy())


def _slice_bytes(piece: Any) -> int:
    sizes = {"F32": 4, "BF16": 2, "F16": 2}
    return torch.Size(piece.get_shape()).numel() * sizes.get(piece.get_dtype(), 4)

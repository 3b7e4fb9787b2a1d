"""Reading the files the GLD and Depth Anything 3 authors published (GLD specification section 12).

Pickled files are read by torch's restricted unpickler: tensors, plain containers and the few classes in
``ALLOWED`` only. A file that asks for anything else is refused with the name of what it wanted.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import hashlib
import logging
import pathlib
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import Entry, compare, model_metadata, skeleton, summary, write_stream
from gld_ros.model.config import ModelConfig, released_config
from gld_ros.model.precision import fp32_names

# Plain records that training checkpoints carry beside the weights; building one runs no code of the file's choice.
ALLOWED: list[Any] = [
    argparse.Namespace,
    collections.OrderedDict,
    pathlib.PurePosixPath,
    (pathlib.PurePosixPath, "pathlib.PosixPath"),
    (pathlib.PurePosixPath, "pathlib._local.PosixPath"),
]
SAFE_TORCH = (2, 6)  # earlier restricted unpicklers have a known hole
STATISTICS = ("normalization_stats_level0", "normalization_stats_level1")
logger = logging.getLogger(__name__)


@dataclass
class Part:
    """Weights of one part of the model, still in their file."""

    source: str
    tensors: Mapping[str, Tensor | LazyTensor]
    dropped: list[str] = field(default_factory=list)  # known names that the model does not need
    filled: list[str] = field(default_factory=list)  # names taken from elsewhere, and from where


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a safetensors file, read when asked for."""

    file: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, known without reading."""
        return tuple(self.file.get_slice(self.name).get_shape())

    def read(self) -> Tensor:
        """The values."""
        tensor: Tensor = self.file.get_tensor(self.name)
        return tensor


def import_released(
    folder: Path,
    out: Path,
    config: ModelConfig | None = None,
    dtype: torch.dtype = torch.float32,
    ignore: Sequence[str] = (),
    progress: bool = True,
) -> list[str]:
    """Join the released files below ``folder`` into one model file.

    Args:
        folder: holds model.safetensors (Depth Anything 3 Base), da3_level1.pt, da3_cascade.pt, mae_decoder.pt,
            dpt_decoder.pt and normalization_stats_level{0,1}.pt, at any depth.
        out: file to write.
        config: sizes to expect; the released ones by default.
        dtype: type of the weights in ``out``; what must stay fp32 does.
        ignore: patterns of unexpected names to accept.

    Returns:
        lines that say what was taken from where.

    Raises GldError, and writes nothing, when a file is missing, unsafe or damaged, or names or shapes do not fit.
    """
    config = config or released_config()
    paths = find_files(folder, config)
    containers = {name: open_container(path) for name, path in paths.items()}
    parts = read_parts(containers, config)
    target = skeleton(config)
    expected = {name: tuple(tensor.shape) for name, tensor in target.state_dict().items()}

    sources: dict[str, Tensor | LazyTensor] = {}
    report = []
    for prefix, part in parts.items():
        for name, tensor in part.tensors.items():
            sources[prefix + name] = tensor
        report.append(f"{prefix.rstrip('.')}: {len(part.tensors)} tensors of {part.source}")
        report += [f"  not needed: {_some(part.dropped)}"] if part.dropped else []
        report += [f"  {line}" for line in part.filled]
    problems = compare(expected, {name: tuple(tensor.shape) for name, tensor in sources.items()})
    ignored = [name for name in problems.get("unexpected", []) if any(fnmatch.fnmatch(name, p) for p in ignore)]
    if ignored:
        report.append(f"ignored as asked: {', '.join(ignored)}")
        left = [name for name in problems["unexpected"] if name not in ignored]
        problems = (
            {**problems, "unexpected": left} if left else {k: v for k, v in problems.items() if k != "unexpected"}
        )
    if problems:
        raise GldError(f"{folder} does not hold the model {config.name}, nothing written: {summary(problems, 8)}")

    hashes = {path.name: _sha256(path, progress) for path in paths.values()}
    kept = fp32_names(target)
    entries = [
        Entry(name, shape, torch.float32 if name in kept else dtype, _reader(name, sources[name]))
        for name, shape in expected.items()
    ]
    total = sum(entry.nbytes for entry in entries)
    metadata = model_metadata(config, dtype, {f"sha256 of {name}": value for name, value in hashes.items()})
    with tqdm(total=total, unit="B", unit_scale=True, desc=f"writing {out.name}", disable=not progress) as bar:
        write_stream(out, entries, metadata, bar.update)
    report.append(f"wrote {out}: {len(entries)} tensors, {total / 1e9:.2f} GB")
    return report


def find_files(folder: Path, config: ModelConfig) -> dict[str, Path]:
    """Where each released file is, by its name without ending. Raises GldError when one is missing or twice there."""
    if not folder.is_dir():
        raise GldError(f"{folder} is not a folder")
    wanted = ["model", "da3_level1", "mae_decoder", "dpt_decoder", *STATISTICS]
    wanted += ["da3_cascade"] if config.cascade is not None else []
    found: dict[str, Path] = {}
    missing = []
    for name in wanted:
        endings = (".safetensors",) if name == "model" else (".pt", ".pth", ".safetensors")
        matches = sorted(path for ending in endings for path in folder.rglob(name + ending))
        if len(matches) > 1:
            raise GldError(f"{folder} holds {name} more than once: {', '.join(map(str, matches))}: keep one")
        if matches:
            found[name] = matches[0]
        else:
            missing.append(name + endings[0])
    if missing:
        raise GldError(f"{folder} lacks {', '.join(missing)}: put all released files below one folder")
    return found


def open_container(path: Path) -> dict[str, Any]:
    """The mapping a file holds, tensors left in the file. Raises GldError when it is unsafe or damaged."""
    try:
        if path.suffix == ".safetensors":
            file = safe_open(path, framework="pt", device="cpu")
            return {name: LazyTensor(file, name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        content = _restricted_load(path)
    except GldError:
        raise
    except Exception as error:  # a damaged or hostile file can make the unpickler fail in any way
        raise GldError(_why_refused(path, error)) from None
    if not isinstance(content, Mapping):
        raise GldError(f"{path} holds a {type(content).__name__}, must be a mapping of names to tensors")
    return dict(content)


def _restricted_load(path: Path) -> Any:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < SAFE_TORCH:
        raise GldError(f"torch {torch.__version__} cannot read pickled files safely: install torch >= 2.6")
    with torch.serialization.safe_globals(ALLOWED):
        # Files in the old format cannot be mapped into memory and are read whole.
        with open(path, "rb") as file:
            mapped = file.read(2) == b"PK"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _why_refused(path: Path, error: Exception) -> str:
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"class ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return (
            f"{path} is refused: unpickling it would use {wanted.group(1)}, which is not on the list of plain data; "
            "nothing of it was executed. If you trust its origin, save only its tensors to a new file and import that"
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{path} is damaged or not a checkpoint ({first}): download or copy it again"


def read_parts(containers: Mapping[str, Mapping[str, Any]], config: ModelConfig) -> dict[str, Part]:
    """Map released names to this package's, part by part (prefix -> weights)."""
    stock = containers["model"]
    parts = {
        "encoder.": _below(stock, "model.backbone.pretrained.", "model.safetensors"),
        "level1.": _transformer(containers["da3_level1"], "da3_level1", config.level1.split_embedders),
        "rgb_decoder.": _rgb_decoder(containers["mae_decoder"]),
        "depth_head.": _depth_head(containers["dpt_decoder"], stock),
    }
    unused = ("model.head.", "model.cam_enc.", "model.cam_dec.")
    strangers = {
        name: tensor for name, tensor in stock.items() if not name.startswith(("model.backbone.pretrained.", *unused))
    }
    parts["encoder."].dropped += [name for name in stock if name.startswith(unused)]
    parts["model.safetensors: "] = Part("model.safetensors", strangers)
    if not strangers:
        del parts["model.safetensors: "]
    if config.cascade is not None:
        parts["cascade."] = _transformer(containers["da3_cascade"], "da3_cascade", config.cascade.split_embedders)
    for level, name in enumerate(STATISTICS):
        parts[f"statistics.{level}."] = _statistics(containers[name], name, level)
    return parts


def _weights(container: Mapping[str, Any], file: str, keys: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The state dict in a container: under the first of ``keys`` that is there, else the container itself."""
    state, where = container, file
    for key in keys:
        inner = container.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            state, where = inner, f"{file} [{key}]"
            break
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor | LazyTensor)}
    if not tensors:
        raise GldError(f"{file} holds no tensors under {', '.join(keys)} or at top level; found: {sorted(state)[:8]}")
    return {name.replace("module.", ""): value for name, value in tensors.items()}, where


def _transformer(container: Mapping[str, Any], file: str, split: bool) -> Part:
    """Drop the old label embedder, and copies of single embedders under the names of split ones."""
    tensors, where = _weights(container, file, ("ema", "model"))
    part = Part(where, tensors)
    for name in [name for name in tensors if name.startswith("y_embedder.")]:
        part.dropped.append(name)
        del tensors[name]
    if split:
        return part
    for name in [name for name in tensors if re.match(r"[xs]_embedder_(ref|tgt)\.", name)]:
        single = re.sub(r"_(ref|tgt)\.", ".", name)
        copy = tensors.pop(name)
        if single not in tensors:
            tensors[single] = copy
            part.filled.append(f"{single} from its alias {name}")
        elif not torch.equal(_values(tensors[single]), _values(copy)):
            raise GldError(
                f"{file}: {name} differs from {single}, but this model has one embedder for all views: "
                "the file belongs to another kind of transformer"
            )
        else:
            part.dropped.append(name)
    return part


def _rgb_decoder(container: Mapping[str, Any]) -> Part:
    tensors, where = _weights(container, "mae_decoder", ("ema", "model"))
    kept = {name.replace("decoder.", ""): value for name, value in tensors.items() if name.startswith("decoder.")}
    return Part(where, kept, [name for name in tensors if not name.startswith("decoder.")])


def _depth_head(container: Mapping[str, Any], stock: Mapping[str, Any]) -> Part:
    """The fine-tuned head over the stock one, whose names it may lack."""
    tensors, where = _weights(container, "dpt_decoder", ("model", "ema"))
    tuned: dict[str, Any] = {}
    dropped = []
    for name, value in tensors.items():
        for prefix in ("decoder.", "pred."):
            if name.startswith(prefix):
                tuned[name[len(prefix) :]] = value
                break
        else:
            dropped.append(name)
    if not tuned:
        raise GldError("dpt_decoder holds no name that begins with decoder. or pred.: it is another model's file")
    base = _fill_shared_norm(dict(_below(stock, "model.head.", "model.safetensors").tensors))
    tuned = _fill_shared_norm(tuned)
    borrowed = sorted(set(base) - set(tuned))
    filled = [f"from the stock head: {_some(borrowed)}"] if borrowed else []
    return Part(where, {**base, **tuned}, dropped, filled)


def _fill_shared_norm(tensors: dict[str, Any]) -> dict[str, Any]:
    """One LayerNorm has four names; files saved without duplicates hold the first only."""
    for index in (1, 2, 3):
        for name in ("weight", "bias"):
            first = f"scratch.output_conv2_aux.0.2.{name}"
            if first in tensors:
                tensors.setdefault(f"scratch.output_conv2_aux.{index}.2.{name}", tensors[first])
    return tensors


def _statistics(container: Mapping[str, Any], file: str, level: int) -> Part:
    if "level" in container and int(_number(container["level"])) != level:
        raise GldError(f"{file} says it is for level {container['level']}, must be level {level}")
    for name in ("mean", "var"):
        if not isinstance(container.get(name), Tensor | LazyTensor):
            raise GldError(f"{file} holds no tensor {name!r}; found: {sorted(map(str, container))[:8]}")
    values = {name: _values(container[name]).float().flatten() for name in ("mean", "var")}
    if not torch.isfinite(values["var"]).all() or (values["var"] < 0).any():
        raise GldError(f"{file}: var has negative or non-finite entries: the file is damaged")
    return Part(file, values, sorted(set(container) - {"mean", "var"}))


def _some(names: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _below(container: Mapping[str, Any], prefix: str, source: str) -> Part:
    return Part(source, {name[len(prefix) :]: value for name, value in container.items() if name.startswith(prefix)})


def _values(tensor: Tensor | LazyTensor) -> Tensor:
    return tensor.read() if isinstance(tensor, LazyTensor) else tensor


def _number(value: Any) -> float:
    if isinstance(value, LazyTensor | Tensor):
        return float(_values(value))
    return float(value)


def _reader(name: str, tensor: Tensor | LazyTensor) -> Callable[[], Tensor]:
    def read() -> Tensor:
        values = _values(tensor)
        if not values.is_floating_point() or not torch.isfinite(values).all():
            raise GldError(f"{name} has entries that are not finite numbers: the file is damaged")
        return values

    return read


def _sha256(path: Path, progress: bool) -> str:
    digest = hashlib.sha256()
    with (
        open(path, "rb") as file,
        tqdm(
            total=path.stat().st_size, unit="B", unit_scale=True, desc=f"hashing {path.name}", disable=not progress
        ) as bar,
    ):
        while block := file.read(1 << 22):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()

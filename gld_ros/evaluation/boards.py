"""What the released model would take on common boards: computed from its operations and tensors, not measured.

``python -m gld_ros.evaluation.boards PAGE`` writes the tables between the marks of a page.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gld_ros.errors import GldError
from gld_ros.evaluation.cost import preset_flops, without_poses
from gld_ros.model.config import DiTConfig, ModelConfig, released_config
from gld_ros.model.depth_head import DepthHead
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.encoder import Encoder
from gld_ros.model.precision import cast, dtype_of_capability
from gld_ros.model.rgb_decoder import RgbDecoder
from gld_ros.synthesis.presets import network_presets

SIZE = (504, 280)
CASES = (("reference", 4, 4), ("full", 4, 4), ("balanced", 4, 4), ("fast", 4, 4), ("fast", 4, 1))
SHARE = 0.35  # of the published peak that the network is assumed to reach
GB = 1e9
BEGIN, END = "<!-- computed: begin -->", "<!-- computed: end -->"
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Board:
    """Published figures of a GPU; dense 16-bit tensor operations with fp32 sums."""

    name: str
    capability: tuple[int, int]
    processors: int  # streaming multiprocessors
    flops_per_cycle: int  # of each
    clock_ghz: float
    memory_gb: float
    reserved_gb: float  # taken by the system, ROS and CUDA itself; Jetsons share one memory with the CPU

    @property
    def peak_flops(self) -> float:
        """Operations per second at the highest clock."""
        return self.processors * self.flops_per_cycle * self.clock_ghz * 1e9

    @property
    def dtype(self) -> torch.dtype:
        """What precision ``auto`` picks there."""
        return dtype_of_capability(self.capability)


BOARDS = (
    Board("Jetson Orin Nano 8 GB (super mode)", (8, 7), 8, 2048, 1.02, 8, 2.0),
    Board("Jetson Orin NX 16 GB", (8, 7), 8, 2048, 0.918, 16, 2.0),
    Board("Jetson AGX Orin 64 GB", (8, 7), 16, 2048, 1.3, 64, 2.0),
    Board("Jetson Thor T5000 128 GB", (11, 0), 20, 8192, 1.575, 128, 2.0),
    Board("GeForce RTX 4060 8 GB", (8, 9), 24, 512, 2.46, 8, 0.7),
    Board("GeForce RTX 4090 24 GB", (8, 9), 128, 512, 2.52, 24, 0.7),
)


class LiveBytes(TorchDispatchMode):
    """Follows the memory of tensors made within: ``peak`` is the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:  # not a view
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.now -= self._alive.pop(key)


class FusedAttention(TorchFunctionMode):
    """Attention that holds no scores, as GPUs run it; the meta device would spell them out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Memory:
    """Bytes of a request: weights held at once, and the most that one part works on beside them."""

    weights: int
    working: int

    @property
    def total(self) -> int:
        """Both."""
        return self.weights + self.working


@functools.lru_cache(maxsize=16)
def request_memory(
    config: ModelConfig, size: tuple[int, int], views: int, cond_num: int, dtype: torch.dtype, decoded: int
) -> Memory:
    """Memory of one request with one transformer held at a time, from the sizes of all tensors it makes.

    Args:
        size: (W, H) of the pictures.
        decoded: views that pictures and depth are made of.
    """
    patch = config.encoder.patch
    grid = (size[1] // patch, size[0] // patch)
    with torch.device("meta"):
        encoder, rgb = cast(Encoder(without_poses(config.encoder)), dtype), cast(RgbDecoder(config.rgb), dtype)
        depth = DepthHead(config.depth)
        pictures = torch.empty(1, cond_num, 3, size[1], size[0])
        level = torch.empty(1, views, grid[0] * grid[1], config.encoder.channels)
        shown = [level[:, :decoded]] * 4
        dits = [cast(DiT(c), dtype) for c in (config.level1, config.cascade) if c is not None]
    working = [
        _live(lambda: encoder(pictures, 1)),
        _live(lambda: encoder.propagate(level, level[:, :, 0], grid)),
        _live(lambda: rgb(torch.cat(shown, dim=-1), grid)),
        _live(lambda: depth(shown, grid)),
        *(_dit_live(dit, dit.config, grid, views, cond_num) for dit in dits),
    ]
    held = sum(_weight_bytes(part) for part in (encoder, rgb, depth)) + max(_weight_bytes(dit) for dit in dits)
    return Memory(held, max(working))


def _dit_live(dit: DiT, config: DiTConfig, grid: tuple[int, int], views: int, cond_num: int) -> int:
    with torch.device("meta"):
        latent = torch.empty(1, views, config.latent_channels, *grid)
        source = torch.empty(1, views, config.source_channels, *grid) if config.source_channels else None
        warp = torch.empty(1, views, config.warp_channels, *grid) if config.warp_channels else None
        camera_map = torch.empty(1, views, 7, grid[0] * config.patch, grid[1] * config.patch)
        inputs = DiTInputs(
            cond_num, latent, camera_map, torch.empty(1, views, 4, 4), torch.empty(1, views, 3, 3), source, warp
        )

    def two_branches() -> None:
        conditions = [dit.prepare(inputs), dit.prepare(inputs.unconditional(config))]
        kept = [dit(latent, torch.empty(1, device="meta"), condition) for condition in conditions]
        del kept

    return _live(two_branches)


def _live(run: Callable[[], object]) -> int:
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        run()
    return live.peak


def _weight_bytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in (*module.parameters(), *module.buffers()))


def tables(config: ModelConfig | None = None, boards: Sequence[Board] = BOARDS) -> str:
    """Both tables in Markdown: operations and memory per preset, and what that makes of each board."""
    config = config or released_config()
    presets = network_presets(config)
    lines = [
        "| preset | views | PFLOP | weights (GB) | working set (GB) | together (GB) |",
        "|---|---|---|---|---|---|",
    ]
    costs = []
    for name, conditions, targets in CASES:
        views = conditions + targets
        flops = preset_flops(config, presets[name], SIZE, views, conditions)
        decoded = views if presets[name].decode_conditions else targets
        memory = request_memory(config, SIZE, views, conditions, torch.bfloat16, decoded)
        costs.append((flops, memory))
        gigabytes = " | ".join(f"{n / GB:.2f}" for n in (memory.weights, memory.working, memory.total))
        lines.append(f"| `{name}` | {conditions}+{targets} | {flops / 1e15:.3f} | {gigabytes} |")
    heads = [f"`{name}` {conditions}+{targets}" for name, conditions, targets in CASES]
    lines += ["", f"| board | peak (TFLOP/s) | precision | free (GB) | {' | '.join(heads)} |"]
    lines.append("|---|---|---|---|" + "---|" * len(heads))
    for board in boards:
        free = board.memory_gb - board.reserved_gb
        cells = [
            _seconds(flops / (SHARE * board.peak_flops)) if memory.total <= free * GB else "does not fit"
            for flops, memory in costs
        ]
        row = [board.name, f"{board.peak_flops / 1e12:.0f}", TYPES[board.dtype], f"{free:.1f}", *cells]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def fill(page: str, text: str) -> str:
    """The page with ``text`` between its marks. Raises GldError when they are missing."""
    if BEGIN not in page or END not in page:
        raise GldError(f"the page has no marks {BEGIN} and {END}")
    return f"{page[: page.index(BEGIN) + len(BEGIN)]}\n{text}\n{page[page.index(END) :]}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text(), tables()))

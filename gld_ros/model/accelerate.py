"""The same numbers sooner: compiled blocks, uploads that do not wait, and memory errors that say what to do.

The transformers spend nearly all their time in a few kinds of block that repeat many times. Each kind is compiled
once, for the shapes it meets, and all its blocks share the code; the rest of the model stays as it is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gld_ros.errors import GldError, Status, is_out_of_memory
from gld_ros.model.dit import DiTBlock
from gld_ros.model.encoder import EncoderBlock
from gld_ros.model.gld_model import GldModel
from gld_ros.model.precision import DTYPES

log = logging.getLogger(__name__)
COMPILE_CHOICES = ("auto", "on", "off")
PRECISION_CHOICES = ("auto", *DTYPES)
REPEATED = (DiTBlock, EncoderBlock)
MOST_SHAPES = 64  # compiled per kind of block, before torch would give up; each number of views and size is one
Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Acceleration:
    """How a network computes. Raises GldError on a choice that does not exist.

    ``compile``: ``auto`` compiles on CUDA and falls back, saying so, where that fails; ``on`` insists; ``off``.
    ``precision``: ``auto`` goes by the device (see ``precision.dtype_for``), or one of fp32, bf16, fp16.
    """

    compile: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in (("compile", COMPILE_CHOICES), ("precision", PRECISION_CHOICES)):
            if getattr(self, name) not in choices:
                raise GldError(f"{name} is '{getattr(self, name)}', must be one of {', '.join(choices)}")

    def compiles_on(self, device: torch.device) -> bool:
        """Whether blocks are compiled there; on CPUs it gains too little to wait for."""
        return self.compile == "on" or (self.compile == "auto" and device.type == "cuda")


def accelerate(
    model: GldModel, acceleration: Acceleration, warm_up: Callable[[], object], backend: str | Callable = "inductor"
) -> tuple[str, ...]:
    """Compile the repeated blocks as configured and run ``warm_up``, which makes the compiler do its work now.

    Returns notes: with ``auto``, that compiling failed and the plain blocks run instead.
    Raises GldError when it fails with ``on``, and what ``warm_up`` itself raises.
    """
    if not acceleration.compiles_on(model.device):
        warm_up()
        return ()
    compile_blocks(model, backend)
    try:
        warm_up()
        return ()
    except GldError:
        raise
    except Exception as error:  # dynamo, inductor, Triton and C++ compilers raise types of their own
        if is_out_of_memory(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join([f"{type(error).__name__}:", *lines[:2]])  # the first names the backend, the second says why
    if acceleration.compile == "on":
        raise GldError(f"torch.compile failed on {model.device} ({reason}): set compile to auto or off")
    uncompile_blocks(model)
    note = f"torch.compile does not work here, blocks run uncompiled ({reason})"
    log.warning("%s: install Triton for this torch, or set compile to off", note)
    warm_up()
    return (note,)


def compile_blocks(model: GldModel, backend: str | Callable = "inductor") -> None:
    """Compile every repeated block in place, also of transformers that are read from the file later."""
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, MOST_SHAPES)
    dynamo.accumulated_recompile_limit = max(dynamo.accumulated_recompile_limit, 8 * MOST_SHAPES)

    def compile_all(module: nn.Module) -> None:
        for block in repeated_blocks(module):
            block.compile(backend=backend, fullgraph=True, dynamic=False)

    compile_all(model.encoder)
    model.on_transformers(compile_all)


def uncompile_blocks(model: GldModel) -> None:
    """Undo ``compile_blocks``."""

    def plain(module: nn.Module) -> None:
        for block in repeated_blocks(module):
            block._compiled_call_impl = None

    plain(model.encoder)
    model.on_transformers(plain)


def repeated_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks that are worth compiling."""
    return (block for block in module.modules() if isinstance(block, REPEATED))


def refuses_out_of_memory(method: Call) -> Call:
    """Decorate a method: running out of memory becomes GldError(OUT_OF_MEMORY) with a remedy, and caches are freed."""

    @functools.wraps(method)
    def guarded(*args: Any, **keywords: Any) -> Any:
        try:
            return method(*args, **keywords)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        # outside of the handler: the traceback no longer holds the tensors that took the memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise GldError(
            f"out of memory ({reason}): ask for fewer or smaller views, fewer samples or a faster preset, lower "
            "condition_views, or close other programs that use this device",
            Status.OUT_OF_MEMORY,
        )

    return guarded  # type: ignore[return-value]


def check_finite(maps: Tensor, dtype: torch.dtype) -> None:
    """Raise GldError when a network's result has values that are not finite: fp16 overflows where bf16 does not."""
    bad = int((~torch.isfinite(maps)).sum())
    if bad:
        remedy = (
            "set precision to bf16 or fp32" if dtype == torch.float16 else "check the model file (gld weights info)"
        )
        raise GldError(f"the network made {bad} values that are not finite, in {dtype}: {remedy}")

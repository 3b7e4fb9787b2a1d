"""Compiled blocks give the same numbers, the denoising loop never waits for the device, and memory errors are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import lens, orbit, random_model, small_config
from torch.utils._python_dispatch import TorchDispatchMode

from gld_ros.errors import GldError, Status
from gld_ros.evaluation.bench.full_size import write_random_model
from gld_ros.model.accelerate import (
    Acceleration,
    accelerate,
    check_finite,
    compile_blocks,
    refuses_out_of_memory,
    repeated_blocks,
    uncompile_blocks,
)
from gld_ros.model.checkpoint import ModelFile
from gld_ros.model.config import SamplerConfig
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.gld_model import GldModel
from gld_ros.model.precision import cast, dtype_for, dtype_of_capability, upload
from gld_ros.model.prope import prope
from gld_ros.model.sampler import sample
from gld_ros.synthesis.gld import GldRequest, generate

SIZE = (70, 56)


class CountingBackend:
    """Runs what is compiled as it is, and counts how often something was."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


def broken_backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    raise RuntimeError("no compiler on this machine")


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def model() -> GldModel:
    return random_model(small_config())


def picture(model: GldModel, views: int = 3) -> torch.Tensor:
    rgb = torch.rand(1, views - 1, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0))
    out = generate(model, GldRequest(rgb, orbit(views), lens(views, SIZE), seed=1))
    assert out.rgb is not None
    return out.rgb


def test_compiled_blocks_share_their_code_and_change_nothing(model: GldModel) -> None:
    plain = picture(model)
    backend = CountingBackend()
    try:
        assert accelerate(model, Acceleration("on"), lambda: picture(model), backend) == ()
        warmed = backend.graphs
        torch.testing.assert_close(picture(model), plain, rtol=1e-4, atol=1e-5)
        assert backend.graphs == warmed, "the warm-up left something to compile"
        blocks = sum(1 for module in (model.encoder, model.level1, model.cascade) for _ in repeated_blocks(module))
        assert 0 < warmed < blocks + 4  # several shapes of the encoder, but one graph for blocks that are alike
        assert model.state_dict().keys() == random_model(small_config()).state_dict().keys()
    finally:
        uncompile_blocks(model)
    before = backend.graphs
    picture(model, views=4)
    assert backend.graphs == before, "still compiled"


def test_a_block_survives_the_whole_compiler_front_end(model: GldModel) -> None:
    """As far as this can be tested without a GPU: traced, functionalised, and run for two numbers of views."""
    block = model.level1.blocks[0]
    cases = []
    for views in (2, 3):
        transform = prope(orbit(views), lens(views, SIZE), SIZE, (4, 5), 16)
        cases.append((torch.randn(1, views, 20, 32), torch.randn(1, views, 1, 32), transform))
    plain = [block(*case) for case in cases]
    block.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    try:
        for case, expected in zip(cases, plain, strict=True):
            torch.testing.assert_close(block(*case), expected, rtol=1e-4, atol=1e-5)
    finally:
        block._compiled_call_impl = None


def test_transformers_that_are_read_per_stage_are_compiled_too(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_random_model(path, small_config(), torch.float32)
    model = ModelFile(path).load(lazy=True)
    plain = picture(model)
    backend = CountingBackend()
    compile_blocks(model, backend)
    with model.diffusion("level1") as dit:
        assert all(block._compiled_call_impl is not None for block in repeated_blocks(dit))
    torch.testing.assert_close(picture(model), plain, rtol=1e-4, atol=1e-5)
    first = backend.graphs
    picture(model)
    assert backend.graphs == first, "compiled anew for every request"


def test_auto_goes_on_without_a_compiler_and_says_so(model: GldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = picture(model)
    monkeypatch.setattr(Acceleration, "compiles_on", lambda self, device: True)
    (note,) = accelerate(model, Acceleration("auto"), lambda: picture(model), broken_backend)
    assert "no compiler on this machine" in note
    torch.testing.assert_close(picture(model), plain, rtol=0, atol=0)


def test_on_insists(model: GldModel) -> None:
    try:
        with pytest.raises(GldError, match="set compile to auto or off"):
            accelerate(model, Acceleration("on"), lambda: picture(model), broken_backend)
    finally:
        uncompile_blocks(model)


def test_a_warm_up_that_runs_out_of_memory_is_no_compiler_failure(model: GldModel) -> None:
    def warm_up() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    try:
        with pytest.raises(torch.OutOfMemoryError):
            accelerate(model, Acceleration("on"), warm_up, CountingBackend())
    finally:
        uncompile_blocks(model)


def test_cpus_do_not_compile_by_themselves() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [Acceleration("auto").compiles_on(d) for d in (cpu, cuda)] == [False, True]
    assert [Acceleration("off").compiles_on(d) for d in (cpu, cuda)] == [False, False]
    assert Acceleration("on").compiles_on(cpu)


@pytest.mark.parametrize("options", [{"compile": "yes"}, {"precision": "int8"}])
def test_choices_are_checked(options: dict[str, str]) -> None:
    with pytest.raises(GldError, match="must be one of"):
        Acceleration(**options)


class NoWaiting(TorchDispatchMode):
    """Fails on operators that read a value on the host or move data between devices, once ``armed``."""

    READS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.armed = False
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.armed:
            self.seen += 1
            name = func.overloadpacket.__name__
            devices = {x.device for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
            target = kwargs.get("device")
            assert name not in self.READS, f"{name} waits for the device"
            alone = torch.device("cpu") in devices and all(d.type == "cpu" for d in devices)
            moved = len(devices) > 1 or (devices and target is not None and torch.device(target) not in devices)
            assert not moved or alone, f"{name} copies between {devices} and {target}"
        return func(*args, **kwargs)


def denoise_on_meta(sampler: SamplerConfig, on_step: Callable[[int, int, torch.Tensor], None]) -> None:
    config = small_config().level1
    with torch.device("meta"):
        dit = DiT(config)
        inputs = DiTInputs(
            1,
            torch.empty(1, 3, config.latent_channels, 4, 5),
            torch.empty(1, 3, 7, 4 * config.patch, 5 * config.patch),
            torch.empty(1, 3, 4, 4),
            torch.empty(1, 3, 3, 3),
        )
        noise = torch.empty(1, 3, config.latent_channels, 4, 5)
    sample(dit, inputs, noise, sampler, on_step)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("reuse", [True, False])
def test_the_denoising_loop_never_waits_for_the_device(solver: str, reuse: bool) -> None:
    sampler = replace(
        SamplerConfig(points=5),
        solver=solver,
        guidance=1.5,
        guidance_interval=(0.2, 0.97),
        reuse=reuse,
        encoder_every=2 if reuse else 1,
    )
    with NoWaiting() as guard:

        def on_step(step: int, steps: int, x: torch.Tensor) -> None:
            guard.armed = step < steps

        denoise_on_meta(sampler, on_step)
    assert guard.seen > 100


@pytest.mark.parametrize("wait", [lambda x: x.mean().item(), lambda x: x.to("cpu"), lambda x: bool((x > 0).any())])
def test_the_guard_sees_waiting(wait: Callable[[torch.Tensor], object]) -> None:
    x = torch.empty(3, device="meta")
    with NoWaiting() as guard:
        guard.armed = True
        with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
            wait(x)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] can't allocate memory"),
    ],
)
def test_out_of_memory_has_a_remedy(error: Exception) -> None:
    @refuses_out_of_memory
    def work() -> None:
        raise error

    with pytest.raises(GldError, match="fewer or smaller views") as caught:
        work()
    assert caught.value.status == Status.OUT_OF_MEMORY
    assert caught.value.__context__ is None  # nothing holds on to the frames whose tensors took the memory


def test_other_errors_stay_what_they_are() -> None:
    @refuses_out_of_memory
    def work() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        work()


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        ((8, 7), torch.float16),  # Orin
        ((8, 0), torch.bfloat16),
        ((8, 9), torch.bfloat16),
        ((11, 0), torch.bfloat16),  # Thor
        ((7, 2), torch.float16),  # Xavier
        ((6, 1), torch.float32),
    ],
)
def test_precision_goes_by_the_device(capability: tuple[int, int], dtype: torch.dtype) -> None:
    assert dtype_of_capability(capability) == dtype


def test_precision_can_be_named() -> None:
    assert dtype_for(torch.device("cpu")) == torch.float32
    assert dtype_for(torch.device("cpu"), "fp16") == torch.float16


def test_fp16_is_nearer_to_fp32_than_bf16(model: GldModel) -> None:
    exact = picture(model)
    errors = [
        float((picture(cast(random_model(small_config()), dtype)).float() - exact).abs().mean())
        for dtype in (torch.float16, torch.bfloat16)
    ]
    assert 0 < errors[0] < errors[1] < 0.2 * float(exact.abs().mean())


def test_values_that_overflowed_are_refused() -> None:
    check_finite(torch.ones(3), torch.float16)
    with pytest.raises(GldError, match="bf16"):
        check_finite(torch.tensor([1.0, float("inf")]), torch.float16)


def test_uploads_go_through_pinned_memory_to_gpus_only() -> None:
    x = torch.ones(3)
    assert upload(x, torch.device("cpu")) is x

    class Recorder:
        device = torch.device("cpu")
        calls: list[tuple[str, Any]] = []  # noqa: RUF012

        def pin_memory(self) -> Recorder:
            self.calls.append(("pin", None))
            return self

        def to(self, device: torch.device, non_blocking: bool = False) -> Recorder:
            self.calls.append(("to", non_blocking))
            return self

    upload(Recorder(), torch.device("cuda"))  # type: ignore[arg-type]
    assert Recorder.calls == [("pin", None), ("to", True)]

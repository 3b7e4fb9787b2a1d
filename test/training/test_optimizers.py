"""Which optimiser has which parameter, what Muon's steps look like, and going on from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gld_ros.errors import GldError
from gld_ros.model.gld_model import GldModel
from gld_ros.training.config import StageConfig, TrainConfig, read_config
from gld_ros.training.optimizers import StageOptimizer, in_block
from gld_ros.training.run import run_stage

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


def parameters() -> dict[str, nn.Parameter]:
    """A block's matrix and bias, and an embedding."""
    torch.manual_seed(0)
    shapes = {"blocks.0.mlp.w3.weight": (24, 16), "blocks.0.mlp.w3.bias": (24,), "embed.weight": (24, 16)}
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def stepped(optimizer: StageOptimizer, values: dict[str, nn.Parameter], seed: int) -> None:
    """One update with gradients named by the seed."""
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    for value in values.values():
        value.grad = torch.randn(value.shape, generator=generator)
    optimizer.step()


def test_muon_takes_the_matrices_of_attention_and_mlp_only():
    model = GldModel(read_config(NANO).model)
    taken = {name for name, p in model.named_parameters() if in_block(name, p)}
    assert {
        "level1.blocks.0.attn.qkv.weight",
        "level1.blocks.3.mlp.w3.weight",
        "encoder.blocks.0.mlp.fc1.weight",
    } <= taken
    for part in ("adaLN", "embed", "final_layer", "norm", "bias"):
        assert not [name for name in taken if part in name]


def test_muon_moves_a_matrix_alike_in_all_directions_and_as_far_as_adamw():
    moved = {}
    for kind in ("adamw", "muon"):
        values = parameters()
        before = {name: value.detach().clone() for name, value in values.items()}
        stepped(StageOptimizer(values, StageConfig(rate=0.01, weight_decay=0.0, optimizer=kind)), values, seed=1)
        moved[kind] = {name: (value.detach() - before[name]) for name, value in values.items()}
    matrix = "blocks.0.mlp.w3.weight"
    spread = {k: torch.linalg.svdvals(m[matrix].double()) for k, m in moved.items()}
    assert spread["muon"].max() / spread["muon"].min() < 2 < spread["adamw"].max() / spread["adamw"].min()
    sizes = {kind: m[matrix].square().mean().sqrt() for kind, m in moved.items()}
    assert 0.1 < sizes["muon"] / sizes["adamw"] < 1
    for name in ("blocks.0.mlp.w3.bias", "embed.weight"):
        assert torch.equal(moved["muon"][name], moved["adamw"][name])


def test_the_rate_reaches_every_part():
    values = parameters()
    optimizer = StageOptimizer(values, StageConfig(weight_decay=0.0, optimizer="muon"))
    optimizer.set_rate(0.0)
    before = {name: value.detach().clone() for name, value in values.items()}
    stepped(optimizer, values, seed=1)
    assert all(torch.equal(values[name], before[name]) for name in values)


def test_a_stored_state_goes_on_where_it_was():
    settings = StageConfig(rate=0.01, optimizer="muon")
    straight, paused = parameters(), parameters()
    first, second = StageOptimizer(straight, settings), StageOptimizer(paused, settings)
    for step in range(3):
        stepped(first, straight, step)
    for step in range(2):
        stepped(second, paused, step)
    third = StageOptimizer(paused, settings)
    third.load_state_dict(second.state_dict())
    stepped(third, paused, 2)
    assert all(torch.equal(straight[name], paused[name]) for name in straight)


def test_the_state_of_another_optimiser_is_refused():
    values = parameters()
    state = StageOptimizer(values, StageConfig()).state_dict()
    with pytest.raises(GldError, match="holds the state of adamw, this stage trains with adamw, muon"):
        StageOptimizer(values, StageConfig(optimizer="muon")).load_state_dict(state)


def test_muon_is_refused_before_any_work_where_pytorch_has_none(monkeypatch, tmp_path):
    monkeypatch.delattr(torch.optim, "Muon")
    config = read_config(NANO)
    config = replace(config, out=str(tmp_path / "run"), level1=replace(config.level1, optimizer="muon"))
    with pytest.raises(GldError, match=r"needs PyTorch 2\.9 or newer"):
        run_stage("all", config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(GldError, match=r"needs PyTorch 2\.9 or newer"):
        StageOptimizer(parameters(), config.level1)


def test_only_another_optimiser_changes_the_digest():
    config: TrainConfig = read_config(NANO)
    assert replace(config, level1=replace(config.level1, optimizer="muon")).digest() != config.digest()
    assert config.digest() == "10f38de5d8"

"""Training in several processes: files are made once, every process draws its own batches, all keep one model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from gld_ros.model.checkpoint import load_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training import run
from gld_ros.training.config import StageConfig, TrainConfig, read_config
from gld_ros.training.run import make_stage, run_stage
from gld_ros.training.stages import TrainingStage
from gld_ros.training.trainer import Trainer

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


def config_in(folder: Path) -> TrainConfig:
    """The nano model for two steps a stage, with figures after the first."""
    config = read_config(NANO)
    few = StageConfig(steps=2, batch=1, warmup=1, ema=0.5)
    data = replace(config.data, folder=str(folder / "rooms"), scenes=2, validation_scenes=1, views=4)
    return replace(config, out=str(folder / "run"), data=data, encoder=few, rgb=few, level1=few,
                   statistics_scenes=2, log_every=1, validate_every=1, bf16=False)  # fmt: skip


def train(folder: Path) -> None:
    """One of the processes: all stages, and what it held at the end of each and drew in it."""
    kept = {}
    ends = Trainer.run

    def noted(self: Trainer, *args: bool, **switches: bool) -> dict[str, float]:
        figures = ends(self, *args, **switches)
        rooms = run.open_rooms(self.config)
        kept[self.stage.name] = {
            "weights": {n: p.detach() for n, p in self.parameters.items()},
            "batch": self.stage.draw(rooms, 0, self.rank).rgb,
            "noise": torch.randn(8, generator=self.stage.generator(0)),
        }
        return figures

    Trainer.run = noted  # type: ignore[method-assign]
    torch.set_num_threads(1)
    run_stage("all", config_in(folder))
    torch.save(kept, folder / f"rank{os.environ['RANK']}.pt")


def test_two_processes_train_one_model(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(tmp_path)]
    both = [subprocess.Popen(command, env={**common, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(2)]
    try:
        assert [process.wait(timeout=120) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    first, second = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2))
    for stage in ("encoder", "rgb", "level1"):
        one, other = first[stage], second[stage]
        assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())
        assert one["batch"].shape != other["batch"].shape or not torch.equal(one["batch"], other["batch"])
        assert not torch.equal(one["noise"], other["noise"])
    model = load_model(tmp_path / "run" / "level1" / "model.safetensors")
    assert (model.level_statistics(0).var != 1).any()


def test_the_first_process_draws_what_a_single_one_does():
    config = read_config(NANO)
    stage: TrainingStage = make_stage("level1", config, GldModel(config.model))
    alone = torch.Generator().manual_seed((config.seed * 1_000_003 + 7) * 31 + len("level1"))
    assert stage.generator(7).initial_seed() == alone.initial_seed()
    firsts = set()
    for stage.rank in range(64):
        firsts |= {float(torch.rand(1, generator=stage.generator(step))) for step in range(50)}
    assert len(firsts) > 0.99 * 64 * 50


if __name__ == "__main__":
    train(Path(sys.argv[1]))

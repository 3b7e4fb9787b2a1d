"""The one training loop: steps, EMA, guard against bad numbers, checkpoints that survive a kill at any moment."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gld_ros.data.disk_space import require_space
from gld_ros.data.rooms.shards import RoomShards, missing_bytes
from gld_ros.errors import GldError, is_out_of_memory
from gld_ros.model.checkpoint import save_model
from gld_ros.training import processes
from gld_ros.training.batches import Batch, open_rooms, to_batch, validation_batch
from gld_ros.training.config import StageConfig, TrainConfig
from gld_ros.training.curves import plot_curves
from gld_ros.training.optimizers import StageOptimizer
from gld_ros.training.run_folder import Curve, writing
from gld_ros.training.stages import TrainingStage, prepare_new_model
from gld_ros.training.validate import reconstruction_figures, synthesis_figures

logger = logging.getLogger(__name__)
LARGEST_LOSS = 1000.0
MOST_BAD_STEPS = 25  # in a row, then training stops


def learning_rate(step: int, stage: StageConfig) -> float:
    """Warm-up, flat, then linear to 2 %."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    start = stage.decay_from * stage.steps
    if step < start or stage.decay_from >= 1:
        return stage.rate
    return stage.rate * max(0.02, 1 - 0.98 * (step - start) / (stage.steps - start))


class Trainer:
    """Runs a stage from its first to its last step; everything it needs to go on is in ``checkpoint.pt``."""

    def __init__(self, stage: TrainingStage, config: TrainConfig, folder: Path) -> None:
        self.config = config
        self.settings = config.stage(stage.name)
        self.folder = folder
        self.curve = Curve(folder / "curve.jsonl")
        self.rank, self.world, self.device = processes.rank(), processes.world(), processes.device()
        self.stage = stage.to(self.device)
        self.stage.rank = self.rank
        self.runner: nn.Module = stage
        self.parameters = {n: p for n, p in stage.named_parameters() if p.requires_grad}
        self.optimizer = StageOptimizer(self.parameters, self.settings)
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.step = 0
        self.seconds = 0.0  # spent training, over all runs of this stage

    def run(self, resume: bool = False, new: bool = False) -> dict[str, float]:
        """Train to the last step; returns the held-out figures of the averaged weights.

        resume: go on from the checkpoint if there is one, which holds the whole model; new: the model's weights are
        random, give them their start values.
        """
        rooms = processes.rank_0_first(self._open_rooms)
        checkpoint = self.folder / "checkpoint.pt"
        if resume and checkpoint.is_file():
            self._load(checkpoint)
        elif new:
            prepare_new_model(self.stage.model, self._some_pictures(rooms))
            self._restart_average()
        self.stage.begin(rooms)
        validation = validation_batch(self.config)
        if not self.rank:
            self.curve.trim(self.step)
        if self.world > 1:  # sends all processes the weights of rank 0
            self.runner = nn.parallel.DistributedDataParallel(self.stage, find_unused_parameters=True)
        saved, bad = time.monotonic(), 0
        progress = tqdm(total=self.settings.steps, initial=self.step, desc=self.stage.name, disable=self.rank > 0)
        figures: dict[str, float] = {}
        try:
            while self.step < self.settings.steps:
                started = time.monotonic()
                batch = self.stage.draw(rooms, self.step, self.rank).to(self.device)
                terms = self._update(batch)
                bad = 0 if terms is not None else bad + 1
                if bad >= MOST_BAD_STEPS:
                    raise GldError(
                        f"loss was not finite or above {LARGEST_LOSS:g} for {bad} steps in a row at step {self.step}: "
                        f"lower {self.stage.name}.rate ({self.settings.rate:g}) in the configuration and start this "
                        "stage again with --overwrite (another rate is another configuration, which --resume refuses)"
                    )
                self.step += 1
                self.seconds += time.monotonic() - started
                progress.update()
                if terms is not None and self.step % self.config.log_every == 0 and not self.rank:
                    self._log({k: float(v) for k, v in terms.items()})
                    progress.set_postfix(loss=f"{float(terms['loss']):.4f}")
                if self.step % self.config.validate_every == 0 and self.step < self.settings.steps:
                    if not self.rank:
                        figures = self._validate(validation)
                    processes.wait()
                if time.monotonic() - saved > self.config.checkpoint_seconds and not self.rank:
                    self._save(checkpoint)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if not self.rank:
                self._save(checkpoint)
                logger.warning("interrupted at step %d: go on with --resume", self.step)
            raise
        finally:
            progress.close()
        if not self.rank:
            self._save(checkpoint)
            figures = self._validate(validation)
            self._with_average(lambda: self._export(self.folder / "model.safetensors", figures))
        processes.wait()
        return figures

    def _update(self, batch: Batch) -> dict[str, Tensor] | None:
        """One optimiser step; None when it was skipped because of bad numbers."""
        self.optimizer.set_rate(learning_rate(self.step, self.settings))
        self.optimizer.zero_grad()
        context = torch.autocast(self.device.type, torch.bfloat16) if self.config.bf16 else nullcontext()
        with context:
            terms: dict[str, Tensor] = self.runner(batch, self.step)
        loss = terms["loss"]
        usable = torch.isfinite(loss) & (loss < LARGEST_LOSS)
        if self.world > 1:
            votes = usable.float()
            torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MIN)
            usable = votes > 0
        if not bool(usable):
            return None
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        if not torch.isfinite(norm):
            return None
        self.optimizer.step()
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)
        return {**{k: v.detach() for k, v in terms.items()}, "gradient_norm": norm.detach()}

    def _validate(self, batch: Batch) -> dict[str, float]:
        pictures = self.folder / "pictures" / f"{self.step:07d}.png"
        figures: dict[str, float] = {}

        def work() -> None:
            self.stage.eval()
            try:
                figures.update(self._measure(batch.to(self.device), pictures))
            except (RuntimeError, MemoryError) as error:
                if self.device.type == "cpu" or not is_out_of_memory(error):
                    raise
                logger.warning("held-out figures need more memory than %s has free: measuring on the CPU", self.device)
                self.stage.cpu()
                figures.update(self._measure(batch, pictures))
            self.stage.to(self.device).train()

        with writing(pictures):
            self._with_average(work)
        if figures:
            self._log({f"held_out/{k}": v for k, v in figures.items()})
            with writing(self.folder / "curve.png"):
                plot_curves(self.curve.path, self.folder / "curve.png")
            logger.info("step %d: %s", self.step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
        return figures

    def _measure(self, batch: Batch, pictures: Path) -> dict[str, float]:
        """Held-out figures of the weights as they are now, and a picture of them in a file."""
        if self.stage.name in ("encoder", "rgb"):
            return reconstruction_figures(self.stage.model, batch, pictures)
        if self.stage.name == "level1" and not self.config.model.joint:
            return {}  # pictures need level 0, which the cascade learns next
        return synthesis_figures(self.stage.model, batch, pictures)

    def _export(self, path: Path, figures: dict[str, float]) -> None:
        """Write what the next stage starts from."""
        save_model(path, self.stage.model, notes=self._notes(figures))

    def _with_average(self, work: Callable[[], None]) -> None:
        """Run ``work`` with the averaged weights in the model."""
        current = {n: p.detach().clone() for n, p in self.parameters.items()}
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])
            work()
            for name, parameter in self.parameters.items():
                parameter.copy_(current[name])

    def _restart_average(self) -> None:
        for name, parameter in self.parameters.items():
            self.average[name].copy_(parameter.detach())

    def _open_rooms(self) -> RoomShards:
        """The rooms; before any is rendered, the disk must have space for them and for what this stage writes."""
        data = self.config.data
        rooms = missing_bytes(Path(data.folder), data.seed, data.scenes, data.views, *self.config.size)
        model = sum(tensor.nbytes for tensor in self.stage.model.state_dict().values())
        checkpoint = model + 3 * sum(p.nbytes for p in self.parameters.values())  # average and two moments
        written = (self.folder / "checkpoint.pt", self.folder / "model.safetensors")
        there = sum(path.stat().st_size for path in written if path.is_file())
        own = 2 * checkpoint + model - there  # a new checkpoint is complete before the old one goes
        require_space({Path(data.folder): rooms, self.folder: max(0, own)})
        return open_rooms(self.config)

    def _some_pictures(self, rooms: Any) -> Tensor:
        batch = to_batch(next(rooms.chunks(64)))
        return batch.rgb.flatten(0, 1)

    def _log(self, values: dict[str, float]) -> None:
        self.curve.add(self.step, self.seconds, values)

    def _notes(self, figures: dict[str, float]) -> dict[str, str]:
        return {
            "stage": self.stage.name,
            "steps": str(self.step),
            "training_seconds": f"{self.seconds:.0f}",
            "config_digest": self.config.digest(),
            "held_out": json.dumps({k: round(v, 4) for k, v in figures.items() if math.isfinite(v)}),
        }

    def _save(self, path: Path) -> None:
        """Write beside, then rename: a kill leaves the old checkpoint or the new one, never half of one."""
        state = {
            "digest": self.config.digest(),
            "stage": self.stage.name,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.stage.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        partial = path.with_suffix(".partial")
        try:
            with open(partial, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise GldError(f"cannot write {path}: {error}: free some space, then --resume") from None

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise GldError(f"{path} cannot be read ({error}): delete it to start the stage again") from None
        if state["digest"] != self.config.digest() or state["stage"] != self.stage.name:
            raise GldError(
                f"{path} belongs to configuration {state['digest']} stage {state['stage']}, "
                f"this is {self.config.digest()} {self.stage.name}: restore the configuration, "
                "or start again with --overwrite"
            )
        self.stage.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("resumed %s at step %d", path, self.step)

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

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model, save_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training.batches import Batch, open_rooms, to_batch, validation_batch
from gld_ros.training.config import STAGES, StageConfig, TrainConfig
from gld_ros.training.curves import plot_curves
from gld_ros.training.optimizers import StageOptimizer
from gld_ros.training.stages import (
    DiffusionStage,
    EncoderStage,
    RgbStage,
    TrainingStage,
    measure_statistics,
    prepare_new_model,
)
from gld_ros.training.validate import reconstruction_figures, synthesis_figures

logger = logging.getLogger(__name__)
LARGEST_LOSS = 1000.0
MOST_BAD_STEPS = 25  # in a row


def run_stage(name: str, config: TrainConfig, resume: bool = False, init_from: Path | None = None) -> dict[str, float]:
    """Train one stage, or ``all`` of them in order; returns the last held-out figures.

    Raises GldError for impossible configurations, missing earlier stages, and folders that cannot be written.
    """
    if name == "all":
        figures: dict[str, float] = {}
        for stage in STAGES:
            if stage == "cascade" and config.model.joint:
                continue
            finished = Path(config.out) / stage / "model.safetensors"
            if resume and finished.is_file():
                continue
            figures = run_stage(stage, config, resume, init_from if stage == "encoder" else None)
        return figures
    if name not in STAGES:
        raise GldError(f"stage {name!r} is unknown: use one of {', '.join(STAGES)}, all")
    if name == "cascade" and config.model.joint:
        raise GldError(f"model {config.model.name} makes both levels jointly: it has no cascade to train")
    folder = Path(config.out) / name
    _check_writable(folder)
    if resume and (folder / "checkpoint.pt").is_file():
        return Trainer(make_stage(name, config, GldModel(config.model)), config, folder).run(resume=True)
    model = _starting_model(name, config, init_from)
    if name == "statistics":
        return _statistics(model, config, folder)
    if resume:
        logger.info("%s has no checkpoint to resume: starting the stage", folder)
    return Trainer(make_stage(name, config, model), config, folder).run(new=name == "encoder" and init_from is None)


def make_stage(name: str, config: TrainConfig, model: GldModel) -> TrainingStage:
    """The stage of a name."""
    kinds: dict[str, type[TrainingStage]] = {"encoder": EncoderStage, "rgb": RgbStage}
    return kinds.get(name, DiffusionStage)(name, config, model)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise GldError(
            f"cannot write to {folder}: {error.strerror}: set 'out' to a writable folder with free space"
        ) from None


def _starting_model(name: str, config: TrainConfig, init_from: Path | None) -> GldModel:
    """What a stage starts from: a given file, else the latest earlier stage of the run, else new weights."""
    if init_from is None:
        earlier = [Path(config.out) / s / "model.safetensors" for s in STAGES[: STAGES.index(name)]]
        init_from = next((path for path in reversed(earlier) if path.is_file()), None)
        if init_from is None and name != "encoder":
            raise GldError(f"stage {name} needs a trained encoder: run 'gld train encoder' first, or give --init-from")
    if init_from is None:
        torch.manual_seed(config.seed)
        return GldModel(config.model)
    model = load_model(init_from)
    if model.config != config.model:
        raise GldError(f"{init_from} is another model than the configuration describes: sizes or switches differ")
    logger.info("starting from %s", init_from)
    return model


def _statistics(model: GldModel, config: TrainConfig, folder: Path) -> dict[str, float]:
    rooms = open_rooms(config)
    batches = []
    for chunk in rooms.chunks(16):
        batches.append(to_batch(chunk))
        if len(batches) * 16 >= config.statistics_scenes:
            break
    measure_statistics(model, batches)
    save_model(folder / "model.safetensors", model, notes={"config_digest": config.digest()})
    spread = [float(model.level_statistics(level).var.sqrt().mean()) for level in (0, 1)]
    return {"mean_std_level0": spread[0], "mean_std_level1": spread[1]}


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
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device("cpu")
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        self.stage = stage.to(self.device)
        self.runner: nn.Module = stage
        if self.world > 1:
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self.runner = nn.parallel.DistributedDataParallel(stage, find_unused_parameters=True)
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
        rooms = open_rooms(self.config)
        checkpoint = self.folder / "checkpoint.pt"
        if resume and checkpoint.is_file():
            self._load(checkpoint)
        elif new:
            prepare_new_model(self.stage.model, self._some_pictures(rooms))
            self._restart_average()
        self.stage.begin(rooms)
        validation = validation_batch(self.config)
        self._trim_curve()
        saved, bad = time.monotonic(), 0
        progress = tqdm(total=self.settings.steps, initial=self.step, desc=self.stage.name, disable=self.rank > 0)
        figures: dict[str, float] = {}
        try:
            while self.step < self.settings.steps:
                started = time.monotonic()
                batch = self.stage.draw(rooms, self.step, self.rank).to(self.device)
                terms = self._update(batch)
                bad = 0 if terms is not None else bad + 1
                if bad > MOST_BAD_STEPS:
                    raise GldError(
                        f"loss was not finite or above {LARGEST_LOSS:g} for {bad} steps in a row at step {self.step}: "
                        "lower the rate, then --resume"
                    )
                self.step += 1
                self.seconds += time.monotonic() - started
                progress.update()
                if self.rank:
                    continue
                if terms is not None and self.step % self.config.log_every == 0:
                    self._log({k: float(v) for k, v in terms.items()})
                    progress.set_postfix(loss=f"{float(terms['loss']):.4f}")
                if self.step % self.config.validate_every == 0 and self.step < self.settings.steps:
                    figures = self._validate(validation)
                if time.monotonic() - saved > self.config.checkpoint_seconds:
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
            self.stage.cpu()
            figures.update(self._measure(batch, pictures))
            self.stage.to(self.device).train()

        self._with_average(work)
        if figures:
            self._log({f"held_out/{k}": v for k, v in figures.items()})
            plot_curves(self.folder / "curve.jsonl", self.folder / "curve.png")
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

    def _some_pictures(self, rooms: Any) -> Tensor:
        batch = to_batch(next(rooms.chunks(64)))
        return batch.rgb.flatten(0, 1)

    def _log(self, values: dict[str, float]) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1), **{k: round(v, 6) for k, v in values.items()}}
        with open(self.folder / "curve.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")

    def _trim_curve(self) -> None:
        """Drop lines beyond the step we start from, which a killed run may have left."""
        path = self.folder / "curve.jsonl"
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= self.step and self.step > 0]
            path.write_text("".join(line + "\n" for line in kept))

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
                "or start again without --resume"
            )
        self.stage.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("resumed %s at step %d", path, self.step)

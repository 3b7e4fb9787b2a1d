"""Which stages run, in which order, and from which model each of them starts."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model, save_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training import processes
from gld_ros.training.batches import open_rooms, to_batch
from gld_ros.training.config import STAGES, TrainConfig
from gld_ros.training.run_folder import check_writable
from gld_ros.training.stages import DiffusionStage, EncoderStage, RgbStage, TrainingStage, measure_statistics
from gld_ros.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_stage(name: str, config: TrainConfig, resume: bool = False, init_from: Path | None = None) -> dict[str, float]:
    """Train one stage, or ``all`` of them in order; returns the last held-out figures.

    Raises GldError for impossible configurations, missing earlier stages, and folders that cannot be written.
    """
    processes.join()
    figures: dict[str, float]
    if name == "all":
        figures = {}
        for stage in STAGES:
            if stage == "cascade" and config.model.joint:
                continue
            finished = resume and (Path(config.out) / stage / "model.safetensors").is_file()
            processes.wait()  # until all have looked, before rank 0 writes it
            if finished:
                continue
            figures = run_stage(stage, config, resume, init_from if stage == "encoder" else None)
        return figures
    if name not in STAGES:
        raise GldError(f"stage {name!r} is unknown: use one of {', '.join(STAGES)}, all")
    if name == "cascade" and config.model.joint:
        raise GldError(f"model {config.model.name} makes both levels jointly: it has no cascade to train")
    folder = Path(config.out) / name
    if not processes.rank():
        check_writable(folder)
    if resume and (folder / "checkpoint.pt").is_file():
        return Trainer(make_stage(name, config, GldModel(config.model)), config, folder).run(resume=True)
    model = _starting_model(name, config, init_from)
    if name == "statistics":
        figures = {} if processes.rank() else _statistics(model, config, folder)
        processes.wait()
        return figures
    if resume:
        logger.info("%s has no checkpoint to resume: starting the stage", folder)
    return Trainer(make_stage(name, config, model), config, folder).run(new=name == "encoder" and init_from is None)


def make_stage(name: str, config: TrainConfig, model: GldModel) -> TrainingStage:
    """The stage of a name."""
    kinds: dict[str, type[TrainingStage]] = {"encoder": EncoderStage, "rgb": RgbStage}
    return kinds.get(name, DiffusionStage)(name, config, model)


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

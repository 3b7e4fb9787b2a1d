"""Which stages run, in which order, and from which model each of them starts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import ModelFile, load_model, save_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training import processes
from gld_ros.training.batches import open_rooms, to_batch
from gld_ros.training.config import STAGES, TrainConfig
from gld_ros.training.optimizers import require_optimizer
from gld_ros.training.run_folder import check_writable
from gld_ros.training.stages import DiffusionStage, EncoderStage, RgbStage, TrainingStage, measure_statistics
from gld_ros.training.trainer import Trainer

logger = logging.getLogger(__name__)


def run_stage(
    name: str, config: TrainConfig, resume: bool = False, init_from: Path | None = None, overwrite: bool = False
) -> dict[str, float]:
    """Train one stage, or ``all`` of them in order; returns the last held-out figures.

    overwrite: what earlier runs trained in these stages is removed first.
    Raises GldError for impossible configurations, missing earlier stages, folders that cannot be written, and, with
    neither ``resume`` nor ``overwrite``, stages that were trained before.
    """
    joint = config.model.joint
    stages = [s for s in STAGES if name in (s, "all") and not (joint and s == "cascade")]
    if not stages and name == "cascade":
        raise GldError(f"model {config.model.name} makes both levels jointly: it has no cascade to train")
    if not stages:
        raise GldError(f"stage {name!r} is unknown: use one of {', '.join(STAGES)}, all")
    for stage in set(stages) - {"statistics"}:
        require_optimizer(config.stage(stage))
    processes.join()
    if not processes.rank():
        _make_way([Path(config.out) / stage for stage in stages], resume, overwrite, init_from)
    figures: dict[str, float] = {}
    for stage in stages:
        finished = resume and name == "all" and _finished(Path(config.out) / stage / "model.safetensors", config)
        processes.wait()  # until all have looked, before rank 0 writes it
        if not finished:
            figures = _run(stage, config, resume, init_from if stage == stages[0] else None)
    return figures


def _make_way(folders: list[Path], resume: bool, overwrite: bool, init_from: Path | None) -> None:
    """Nothing that took hours is lost without a word; what is to be overwritten cannot be taken for the new run's."""
    for folder in folders:
        check_writable(folder)
        trained = any((folder / file).is_file() for file in ("checkpoint.pt", "model.safetensors"))
        if overwrite and init_from is not None and folder.resolve() in init_from.resolve().parents:
            raise GldError(f"--overwrite removes {init_from}, which is to be started from: move it elsewhere")
        if trained and not overwrite and not resume and folder.name != "statistics":
            raise GldError(
                f"{folder} holds an earlier training of this stage: go on with --resume, start again with --overwrite "
                "(which removes it), or set another 'out'"
            )
    if overwrite:
        for folder in folders:
            for file in ("checkpoint.pt", "model.safetensors", "curve.jsonl"):
                (folder / file).unlink(missing_ok=True)


def _finished(path: Path, config: TrainConfig) -> bool:
    """Whether a stage's model is there. Raises GldError when another configuration made it."""
    if not path.is_file():
        return False
    digest = ModelFile(path).metadata.get("config_digest")
    if digest != config.digest():
        raise GldError(
            f"{path} was trained with configuration {digest}, this is {config.digest()}: restore the configuration, "
            "set another 'out', or run the stages one by one"
        )
    return True


def _run(name: str, config: TrainConfig, resume: bool, init_from: Path | None) -> dict[str, float]:
    folder = Path(config.out) / name
    if resume and (folder / "checkpoint.pt").is_file():
        return Trainer(make_stage(name, config, GldModel(config.model)), config, folder).run(resume=True)
    model = starting_model(name, config, init_from)
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


def starting_model(name: str, config: TrainConfig, init_from: Path | None) -> GldModel:
    """What a stage starts from: a given file, else the latest earlier stage of the run, else new weights.

    Sizes and numbers of views that a file was trained with may change. Raises GldError for other models than the
    configuration's.
    """
    if init_from is None:
        earlier = [Path(config.out) / s / "model.safetensors" for s in STAGES[: STAGES.index(name)]]
        init_from = next((path for path in reversed(earlier) if path.is_file()), None)
        if init_from is None and name != "encoder":
            raise GldError(f"stage {name} needs a trained encoder: run 'gld train encoder' first, or give --init-from")
    if init_from is None:
        torch.manual_seed(config.seed)
        return GldModel(config.model)
    model = load_model(init_from)
    seen = replace(model.config, trained_views=config.model.trained_views, trained_sizes=config.model.trained_sizes)
    if seen != config.model:
        raise GldError(f"{init_from} is another model than the configuration describes: sizes or switches differ")
    model.config = config.model
    if name in ("rgb", "level1", "cascade") and not (_measured(model, 0) and _measured(model, 1)):
        raise GldError(
            f"{init_from} has no measured statistics (mean 0 and variance 1 in every channel), so stage {name} would "
            "learn latents of another scale than it meets later: run 'gld train statistics' on it first"
        )
    logger.info("starting from %s", init_from)
    return model


def _measured(model: GldModel, level: int) -> bool:
    found = model.level_statistics(level)
    return bool(found.mean.any() or (found.var != 1).any())


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

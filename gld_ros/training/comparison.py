"""The same diffusion network in three latent spaces: which one learns views in fewer steps?

The question of the GLD paper's central claim (geometric features converge faster than a VAE's latents), at a size that
trains in minutes. Every part is trained once and kept: a killed comparison goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model as load_weights

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model
from gld_ros.training.batches import Batch, open_rooms, to_batch, validation_batch
from gld_ros.training.config import TrainConfig
from gld_ros.training.latent_spaces import GeometricSpace, LatentSpace, PixelSpace, VaeSpace
from gld_ros.training.latent_stages import (
    DecoderStage,
    Judges,
    PlainDiffusionStage,
    SpaceDiffusion,
    SpaceStage,
    SpaceTrainer,
    VaeStage,
)
from gld_ros.training.run import run_stage
from gld_ros.training.stages import prepare_autoencoder
from gld_ros.training.validate import copy_nearest, write_grid

ARMS = ("geometric", "vae", "pixels")
MORE_IS_BETTER = {
    "psnr": True, "absrel_judge": False, "absrel": False, "turn_deg": False, "ate_share": False, "rpe_deg": False,
}  # fmt: skip
BOARD_SCENES = 6
Curves = dict[str, list[dict[str, float]]]  # arm/seed -> held-out figures with their step


@dataclass(frozen=True)
class Comparison:
    """How long everything trains."""

    steps: int = 600  # of the diffusion network, for every arm and seed
    every: int = 50  # steps between held-out figures
    seeds: tuple[int, ...] = (0, 1, 2)  # start weights, batches, times and noise of the diffusion network
    autoencoder_steps: int = 1200  # of the geometric encoder with its decoders, and of the VAE
    decoder_steps: int = 200  # then of both spaces' decoders alone, on noisy latents
    rate: float = 4e-3  # learning rate of the diffusion network, constant after the warm-up
    updates: tuple[int, ...] = (1, 4)  # of the sampler where figures are taken

    def __post_init__(self) -> None:
        least = min(self.steps, self.every, self.autoencoder_steps, self.decoder_steps, *self.updates)
        if least < 1 or not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise GldError(f"comparison out of range: {self}: steps and updates >= 1, seeds distinct and at least one")


def prepare_config(config: TrainConfig, settings: Comparison, out: Path) -> TrainConfig:
    """The training configuration all parts share.

    Three views and more often rays than nano has, because the judge must see cameras; a constant rate and no
    curriculum in the diffusion stage, because a schedule would decide when a curve rises.
    """
    if not config.model.joint:
        raise GldError(f"model {config.model.name} has a cascade: the comparison needs a configuration without one")
    if config.model.encoder.pose_input != "none":
        raise GldError(
            f"model {config.model.name} reads camera poses (pose_input: {config.model.encoder.pose_input}), which no "
            "VAE and no picture holds: the comparison needs a configuration with pose_input none"
        )
    return replace(
        config,
        out=str(out),
        data=replace(config.data, folder=str(out / "rooms")),
        encoder=replace(config.encoder, steps=settings.autoencoder_steps),
        encoder_loss=replace(config.encoder_loss, views=3, rays_every=2),
        rgb=replace(config.rgb, steps=settings.decoder_steps),
        level1=replace(config.level1, steps=settings.steps, rate=settings.rate, decay_from=1.0, ema=0.99),
        diffusion=replace(config.diffusion, nearest_first=0.0),
        log_every=10,
    )


def compare(config: TrainConfig, settings: Comparison, out: Path, judge: Path | None = None) -> dict[str, Any]:
    """Train what is missing, measure, and write ``comparison.json`` and ``pictures.png`` into ``out``.

    judge: a model file that also reads the depth of the generated pictures; see ``Judges``.

    Raises GldError for impossible configurations and folders that cannot be written.
    """
    config = prepare_config(config, settings, out)
    same = {name: value for name, value in asdict(settings).items() if name != "seeds"}  # seeds can be added later
    other = None if judge is None else load_model(judge).eval()
    _check_same(out / "settings.json", {**same, "digest": config.digest(), "judge": judge and judge.stem})
    cost = Cost(out / "cost.json")
    with cost.of("rooms"):
        open_rooms(config)
    for stage in ("encoder", "statistics"):
        if not (out / stage / "model.safetensors").is_file():
            with cost.of(stage):
                run_stage(stage, config, resume=True)
    spaces = train_spaces(config, out, cost)
    judges = Judges(load_model(out / "statistics" / "model.safetensors").eval(), other)
    stages = [_arm(arm, seed, spaces, judges, config, settings) for seed in settings.seeds for arm in ARMS]
    curves: Curves = {}
    for (arm, seed), stage in zip(((a, s) for s in settings.seeds for a in ARMS), stages, strict=True):
        own = replace(stage.config, validate_every=settings.every)
        train_part(stage, own, out / f"{arm}_{seed}", cost)
        curves[f"{arm}/{seed}"] = read_curve(out / f"{arm}_{seed}" / "curve.jsonl")
    held_out = validation_batch(config)
    board(stages[: len(ARMS)], held_out, settings.updates[-1], out / "pictures.png")
    found = {
        "settings": asdict(settings),
        "digest": config.digest(),
        "scenes": len(held_out.rgb),
        "cpu_seconds": cost.seconds,
        "bounds": bounds(spaces, judges, held_out),
        "curves": curves,
        "ratios": ratios(curves, settings),
    }
    (out / "comparison.json").write_text(json.dumps(found, indent=1) + "\n")
    return found


def train_spaces(config: TrainConfig, out: Path, cost: Cost) -> dict[str, LatentSpace]:
    """The three spaces, frozen: the VAE as long as the geometric encoder, then both their decoders as long."""
    rooms = open_rooms(config)
    some = [to_batch(chunk) for _, chunk in zip(range(8), rooms.chunks(16), strict=False)]
    geometric = GeometricSpace(load_model(out / "statistics" / "model.safetensors"))
    torch.manual_seed(config.seed)
    vae, pixels = VaeSpace(config.model), PixelSpace(config.model.encoder.patch)
    prepare_autoencoder(vae.encoder, vae.rgb_decoder, some[0].rgb.flatten(0, 1))
    train_part(VaeStage("encoder", config, vae), config, out / "vae", cost)  # type: ignore[arg-type]
    vae.measure(some)
    pixels.measure(some)
    spaces: dict[str, LatentSpace] = {"geometric": geometric, "vae": vae, "pixels": pixels}
    for name, space in spaces.items():
        if space.decoders():
            stage = DecoderStage("rgb", config, space)  # type: ignore[arg-type]
            train_part(stage, config, out / f"{name}_decoder", cost)
        space.requires_grad_(False).eval()
    return spaces


def train_part(stage: SpaceStage, config: TrainConfig, folder: Path, cost: Cost) -> None:
    """Train a stage unless its folder has the finished weights; they are in its model afterwards."""
    finished = folder / "model.safetensors"
    if not finished.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with cost.of(folder.name):
            SpaceTrainer(stage, config, folder).run(resume=True)
            stage.cpu()  # what is measured between trainings is
    load_weights(stage.model, str(finished))


def _arm(
    arm: str, seed: int, spaces: dict[str, LatentSpace], judges: Judges, config: TrainConfig, settings: Comparison
) -> PlainDiffusionStage:
    own = replace(config, seed=seed)
    return PlainDiffusionStage(own, SpaceDiffusion(spaces[arm], own), judges, settings.updates)


class Cost:
    """CPU seconds of every part, over all runs that finished it; kept in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def of(self, part: str) -> Cost:
        """``with cost.of(part)`` adds what happens inside, also when it is interrupted."""
        self._part = part
        return self

    def __enter__(self) -> None:
        self._started = time.process_time()

    def __exit__(self, *_: object) -> None:
        spent = self.seconds.get(self._part, 0.0) + time.process_time() - self._started
        self.seconds[self._part] = round(spent, 1)
        self.path.write_text(json.dumps(self.seconds, indent=1) + "\n")


def _check_same(path: Path, wanted: dict[str, Any]) -> None:
    """Parts of another comparison must not be mixed in."""
    text = json.dumps(wanted, sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            path.write_text(text)
        found = path.read_text()
    except OSError as error:
        raise GldError(f"cannot write {path}: {error.strerror}: choose a writable folder") from None
    if found != text:
        raise GldError(f"{path.parent} holds a comparison with other settings ({found}): choose another folder")


def read_curve(path: Path) -> list[dict[str, float]]:
    """Held-out figures of a curve.jsonl with their steps."""
    curve = []
    for line in path.read_text().splitlines():
        values = json.loads(line)
        figures = {k.removeprefix("held_out/"): v for k, v in values.items() if k.startswith("held_out/")}
        if figures:
            curve.append({"step": values["step"], **figures})
    return curve


def bounds(spaces: dict[str, LatentSpace], judges: Judges, batch: Batch) -> dict[str, dict[str, float]]:
    """What no arm can beat, and what every arm must: real pictures, decoded true latents, the nearest condition."""
    c = batch.cond_num
    pictures = {"true pictures": batch.rgb[:, c:], "copy of the nearest": copy_nearest(batch)}
    with torch.no_grad():
        for name, space in spaces.items():
            decoded = space.decode(space.encode(batch.rgb), batch.rgb[:, :c])
            pictures[f"decoded true latents, {name}"] = decoded.rgb[:, c:].clamp(0, 1)
    return {name: judges.figures(batch, rgb) for name, rgb in pictures.items()}


def steps_to_reach(steps: Sequence[float], values: Sequence[float], goal: float, more_is_better: bool) -> float | None:
    """First step at which a curve is as good as the goal, linear between its points; None if it never is.

    Before its first point a curve is unknown: a goal reached there gives that point's step, an upper bound.
    """
    sign = 1.0 if more_is_better else -1.0
    before: tuple[float, float] | None = None
    for step, value in zip(steps, values, strict=True):
        if sign * value >= sign * goal:
            if before is None:
                return float(step)
            share = (goal - before[1]) / (value - before[1])
            return float(before[0] + share * (step - before[0]))
        before = (step, value)
    return None


def ratios(curves: Curves, settings: Comparison) -> dict[str, dict[str, dict[str, Any]]]:
    """Per other arm and figure: steps it needs to its best over steps ours needs to the same, and the reverse.

    On the mean over seeds, and seed by seed. None: never reached in the steps there were.
    """
    measured = next(iter(curves.values()))[0]
    names = [f"{figure}_{count}" for count in settings.updates for figure in MORE_IS_BETTER]
    names = [name for name in names if name in measured]  # there need not be a second judge
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for other in ARMS[1:]:
        result[other] = {}
        for name in names:
            up = MORE_IS_BETTER[name.rpartition("_")[0]]
            pairs = [(curves[f"geometric/{s}"], curves[f"{other}/{s}"]) for s in settings.seeds]
            steps = [point["step"] for point in pairs[0][0]]
            own, their = (np.array([[p[name] for p in pair[i]] for pair in pairs]) for i in (0, 1))
            result[other][name] = {
                "geometric_best": _best(own.mean(0), up),
                f"{other}_best": _best(their.mean(0), up),
                **_ratio_both_ways(steps, own.mean(0), their.mean(0), up),
                "ratio_per_seed": [_ratio(steps, a, b, up) for a, b in zip(own, their, strict=True)],
            }
    return result


def _best(values: np.ndarray, more_is_better: bool) -> float:
    return float(values.max() if more_is_better else values.min())


def _ratio(steps: Sequence[float], fast: np.ndarray, slow: np.ndarray, up: bool) -> float | None:
    goal = _best(slow, up)
    reached, needed = steps_to_reach(steps, fast, goal, up), steps_to_reach(steps, slow, goal, up)
    return None if reached is None or needed is None else needed / reached


def _ratio_both_ways(steps: Sequence[float], own: np.ndarray, their: np.ndarray, up: bool) -> dict[str, float | None]:
    return {"ratio": _ratio(steps, own, their, up), "ratio_reversed": _ratio(steps, their, own, up)}


def board(stages: Sequence[PlainDiffusionStage], batch: Batch, updates: int, path: Path) -> None:
    """Two conditions, the truth, and what each arm makes of it; a row a scene."""
    c = batch.cond_num
    few = replace(batch, **_first(batch, BOARD_SCENES))
    made = [s.model.space.decode(s.generate(few, updates), few.rgb[:, :c]).rgb[:, c].clamp(0, 1) for s in stages]
    views = [few.rgb[:, 0], few.rgb[:, 1], few.rgb[:, c], *made]
    write_grid(path, [[view[i] for view in views] for i in range(len(few.rgb))])


def _first(batch: Batch, count: int) -> dict[str, Any]:
    return {name: getattr(batch, name)[:count] for name in ("rgb", "depth", "K", "world_from_cam")}

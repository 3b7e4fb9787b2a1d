"""The full configuration has the published names, shapes, types, sizes and operations; no weights are needed."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import pytest
import torch

from gld_ros.evaluation.cost import (
    CASCADE,
    CONDITIONS,
    DEPTH_REFERENCE,
    ENCODER,
    LEVEL1,
    PROPAGATION,
    RGB,
    Cost,
    part_costs,
    request_flops,
)
from gld_ros.model.checkpoint import skeleton
from gld_ros.model.config import released_config
from gld_ros.model.gld_model import GldModel

KEYS = Path(__file__).parents[1] / "golden" / "keys"


@pytest.fixture(scope="module")
def released() -> GldModel:
    return skeleton(released_config())


def published(file: str, prefix: str) -> dict[str, tuple[tuple[int, ...], str]]:
    with open(KEYS / file, newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return {
            row["name"][len(prefix) :]: (tuple(int(n) for n in row["shape"].split("x")), row["dtype"])
            for row in rows
            if row["name"].startswith(prefix)
        }


@pytest.mark.parametrize(
    ("part", "file", "prefix"),
    [
        ("encoder", "da3_base_model_safetensors.tsv", "model.backbone.pretrained."),
        ("depth_head", "da3_base_model_safetensors.tsv", "model.head."),
        ("depth_head", "dpt_decoder_pt.tsv", "decoder."),
        ("rgb_decoder", "mae_decoder_pt.tsv", "decoder."),
        ("level1", "da3_level1_pt.tsv", ""),
        ("cascade", "da3_cascade_pt.tsv", ""),
    ],
)
def test_keys_of_part(released: GldModel, part: str, file: str, prefix: str) -> None:
    ours = {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in released.get_submodule(part).state_dict().items()
    }
    assert ours == published(file, prefix)


@pytest.mark.parametrize(
    ("part", "millions"),
    [("encoder", 86.58), ("level1", 783.33), ("cascade", 472.54), ("rgb_decoder", 422.5), ("depth_head", 15.39)],
)
def test_keys_parameter_counts(released: GldModel, part: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in released.get_submodule(part).parameters())
    assert count / 1e6 == pytest.approx(millions, rel=2e-4)


# (W, H) -> part -> 1e12 operations, from the specification's section 13.
TABLE = {
    (504, 280): {
        ENCODER: 1.49,
        CONDITIONS: 0.42,
        PROPAGATION: 0.56,
        LEVEL1: 12.25,
        CASCADE: 7.69,
        RGB: 5.39,
        DEPTH_REFERENCE: 0.87,
    },
    (504, 504): {
        ENCODER: 3.42,
        CONDITIONS: 0.88,
        PROPAGATION: 1.33,
        LEVEL1: 28.5,
        CASCADE: 18.7,
        RGB: 10.5,
        DEPTH_REFERENCE: 1.57,
    },
}


@functools.cache
def released_costs(size: tuple[int, int]) -> tuple[Cost, ...]:
    return part_costs(released_config(), size, views=8, cond_num=4)


@pytest.mark.parametrize("size", sorted(TABLE))
def test_keys_operations(size: tuple[int, int]) -> None:
    config = released_config()
    rows = released_costs(size)
    counted = {row.part: row.flops / 1e12 for row in rows}
    for part, expected in TABLE[size].items():
        assert counted[part] == pytest.approx(expected, rel=0.01), part
    total, evaluations = request_flops(rows, config, config.sampler, config.sampler)
    assert evaluations == 49 * 2 * 2
    assert total / 1e15 == pytest.approx({280: 1.95, 504: 4.63}[size[1]], rel=0.01)


def test_keys_attention_is_counted() -> None:
    level1 = next(row for row in released_costs((504, 280)) if row.part == LEVEL1)
    assert level1.attention_flops / 1e12 == pytest.approx(4.49, rel=0.01)
    assert (level1.flops - level1.attention_flops) / 1e12 == pytest.approx(7.77, rel=0.01)


def test_keys_skeleton_needs_no_memory(released: GldModel) -> None:
    assert all(tensor.device == torch.device("meta") for tensor in released.state_dict().values())

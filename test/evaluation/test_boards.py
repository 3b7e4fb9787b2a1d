"""The computed board tables: the written page says what the code says, and memory is counted as it is used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gld_ros.errors import GldError
from gld_ros.evaluation.boards import BOARDS, LiveBytes, fill, request_memory, tables
from gld_ros.model.config import released_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "jetson.md"


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == fill(page, tables()), "run: python -m gld_ros.evaluation.boards docs/jetson.md"


def test_peaks_are_the_published_ones() -> None:
    """Sparse 8-bit operations of the data sheets, in T/s, are four times the dense 16-bit ones (Thor: 4-bit, eight)."""
    published = {"Orin Nano": 67 / 4, "Orin NX": 60 / 4, "AGX Orin": 170 / 4, "Thor": 2070 / 8, "4060": 30, "4090": 165}
    for name, peak in published.items():
        (board,) = (board for board in BOARDS if name in board.name)
        assert board.peak_flops == pytest.approx(peak * 1e12, rel=0.02), name


def test_live_memory_is_what_is_alive_at_once() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(1000, 1000, bias=False), torch.empty(10, 1000)
    with torch.no_grad(), LiveBytes() as live:
        for _ in range(5):
            x = layer(x)  # one result dies as the next is made; weights and what was there before do not count
        y = x.view(100, 100)
        del x, y
    assert live.peak == 2 * 40_000
    assert live.now == 0


def test_memory_of_the_released_model() -> None:
    """Weights: 1.6 GB of the larger transformer, 0.85 + 0.17 + 0.06 of the rest (specification section 13)."""
    full = request_memory(released_config(), (504, 280), 5, 4, torch.bfloat16, 1)
    assert full.weights == pytest.approx(2.65e9, rel=0.02)
    assert full.working < 0.6e9
    wider = request_memory(released_config(), (504, 280), 8, 4, torch.bfloat16, 4)
    assert wider.working > 1.4 * full.working


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(GldError, match="marks"):
        fill("nothing", "text")

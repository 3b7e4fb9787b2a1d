"""Camera errors: alignment undoes any similarity, and cameras read from exact rays have none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gld_ros.evaluation.trajectory import trajectory_errors, umeyama
from gld_ros.model.rays import cameras_from_rays


def rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def cameras(rng, count=5):
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        pose[:3, :3], pose[:3, 3] = rotation(rng), rng.normal(size=3)
    return poses


def moved(poses, scale, R, shift):
    """The same cameras in another frame and scale."""
    out = poses.copy()
    out[:, :3, :3] = R @ poses[:, :3, :3]
    out[:, :3, 3] = scale * poses[:, :3, 3] @ R.T + shift
    return out


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_frame_and_scale_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    poses = cameras(rng)
    errors = trajectory_errors(moved(poses, scale, rotation(rng), rng.normal(size=3)), poses)
    assert max(errors["ate"], errors["ate_share"], errors["rpe"]) < 1e-6
    assert errors["rpe_deg"] < 1e-3


def test_umeyama_finds_the_similarity():
    rng = np.random.default_rng(0)
    points, R, shift = rng.normal(size=(9, 3)), rotation(rng), rng.normal(size=3)
    found = umeyama(points, 2.5 * points @ R.T + shift)
    assert found[0] == pytest.approx(2.5)
    np.testing.assert_allclose(found[1], R, atol=1e-9)
    np.testing.assert_allclose(found[2], shift, atol=1e-9)


def test_a_mirror_image_is_no_rotation():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(9, 3))
    assert np.linalg.det(umeyama(points, points * [1, 1, -1])[1]) == pytest.approx(1)


def test_known_errors_by_hand():
    truth = np.tile(np.eye(4), (4, 1, 1))
    truth[:, 0, 3] = [0, 1, 2, 3]
    same_place = np.tile(np.eye(4), (4, 1, 1))
    errors = trajectory_errors(same_place, truth)
    assert errors["ate_share"] == pytest.approx(1)
    assert errors["rpe"] == pytest.approx(1)
    assert errors["rpe_deg"] == pytest.approx(0)
    turned = truth.copy()
    turned[2, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    errors = trajectory_errors(turned, truth)
    assert errors["ate"] == pytest.approx(0, abs=1e-9)
    assert errors["rpe_deg"] == pytest.approx(np.sqrt(2 * 90**2 / 3))


def test_too_few_views_and_broken_predictions_have_no_error():
    poses = cameras(np.random.default_rng(0), 2)
    assert all(np.isnan(v) for v in trajectory_errors(poses, poses).values())
    broken = cameras(np.random.default_rng(0), 4)
    broken[1, 0, 3] = np.nan
    assert np.isnan(trajectory_errors(broken, broken)["ate"])


def test_cameras_of_exact_rays():
    rng = np.random.default_rng(3)
    poses = cameras(rng, 4)
    K = np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
    first = np.linalg.inv(poses[0]) @ poses
    v, u = np.meshgrid(np.arange(24.0), np.arange(32.0), indexing="ij")
    directions = np.einsum("vij,jk,khw->vhwi", first[:, :3, :3], np.linalg.inv(K), np.stack([u, v, np.ones_like(u)]))
    centres = np.broadcast_to(first[:, None, None, :3, 3], directions.shape)
    ray = torch.from_numpy(np.concatenate([directions, centres], axis=-1))
    errors = trajectory_errors(cameras_from_rays(ray, None, (24, 32))[0].numpy(), poses)
    assert errors["ate"] < 1e-6
    assert errors["rpe_deg"] < 1e-3


def test_same_errors_as_evo():
    """Figures of evo 1.38.1 (GPL, so no dependency) for these cameras: APE after Sim(3) alignment, RPE per frame."""
    i = np.arange(6)[:, None]
    truth = np.tile(np.eye(4), (6, 1, 1))
    turns = 0.1 * np.sin(i * [1, 2, 3] + [0, 1, 2]) * [3, 2, 1]
    truth[:, :3, :3] = Rotation.from_euler("xyz", turns).as_matrix()
    truth[:, :3, 3] = np.sin(i * [0.7, 1.1, 1.9] + [0, 1, 2]) * [2, 1, 0.5]
    found = truth.copy()
    found[:, :3, 3] += 0.1 * np.cos(i * [2.0, 3.0, 5.0])
    found[:, :3, :3] @= Rotation.from_euler("xyz", 0.05 * np.cos(i * [5.0, 2.0, 3.0])).as_matrix()
    found = moved(found, 2.5, Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix(), np.array([1, -2, 3]))
    errors = trajectory_errors(found, truth)
    assert errors["ate"] == pytest.approx(0.10463429206736484, rel=1e-9)
    assert errors["rpe"] == pytest.approx(0.23870127416411457, rel=1e-9)
    assert errors["rpe_deg"] == pytest.approx(6.297608751346445, rel=1e-9)

"""``gld synthesize`` from folder to files, on a tiny rendered room."""

import json

import cv2
import numpy as np
import planes
import pytest

from gld_ros.cli.main import main
from gld_ros.evaluation.metrics import psnr
from gld_ros.geometry.cloud import read_ply

PER_VIEW = (".png", ".generated.png", ".depth.png", ".provenance.png", ".confidence.png")


def synthesize(scene, out, *options):
    return main(["synthesize", str(scene), "--model", "classical", "--out", str(out), *map(str, options)])


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return planes.write_folder(tmp_path_factory.mktemp("scene") / "room")


@pytest.fixture(scope="module")
def out(room, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "made"
    assert synthesize(room, folder) == 0
    return folder


def test_every_file_of_the_contract_with_its_size(out):
    expected = {f"{stem}{end}" for stem in ("001", "003") for end in PER_VIEW}
    assert {p.name for p in out.iterdir()} == expected | {
        "result.json",
        "points_observed.ply",
        "points_generated.ply",
    }
    for name in expected:
        picture = read(out / name)
        assert picture.shape[:2] == (planes.H, planes.W), name
        assert picture.dtype == (np.uint16 if "depth" in name or "confidence" in name else np.uint8)
    assert set(np.unique(read(out / "001.provenance.png"))) <= {0, 1, 2}


def test_result_says_what_was_run(out):
    text = json.loads((out / "result.json").read_text())
    assert (text["status"], text["model"], text["preset"], text["seed"]) == ("OK", "classical", "balanced", 0)
    assert (text["depth_unit"], text["scale_metric"]) == ("m", True)
    assert text["seconds"]["total"] > 0
    assert [v["stem"] for v in text["views"]] == ["001", "003"]
    for view in text["views"]:
        assert sum(view["provenance"].values()) == pytest.approx(1, abs=1e-3)


def test_pictures_and_depth_are_right(out):
    views = json.loads((out / "result.json").read_text())["views"]
    for view, i in zip(views, (1, 3), strict=True):
        truth, true_depth = planes.render(planes.cameras()[i])
        neighbour = planes.render(planes.cameras()[i - 1])[0]
        picture = read(out / f"00{i}.png")[..., ::-1]
        assert psnr(picture, truth) > 24
        assert psnr(picture, truth) > psnr(neighbour, truth) + 6
        depth = read(out / f"00{i}.depth.png") / view["depth_scale"]
        seen = read(out / f"00{i}.provenance.png") == 2
        assert seen.mean() > 0.8
        assert np.median(np.abs(depth[seen] / true_depth[seen] - 1)) < 0.02


def test_clouds_lie_in_the_scenes_world(out):
    points = read_ply(out / "points_observed.ply")
    assert len(points) > 1000
    xyz = np.stack([points[n] for n in "xyz"], 1)
    near_plane = np.minimum.reduce([np.abs(xyz[:, 2] - 3.0), np.abs(xyz[:, 1] - 0.7), np.abs(xyz[:, 2] - 2.1)])
    assert np.median(near_plane) < 0.03
    assert points["confidence"].min() >= 0
    assert points["confidence"].max() <= 1


def test_the_same_again_and_target_pictures_are_never_read(room, out, tmp_path):
    """The same pictures come out when those of the targets are gone or nonsense."""
    other = planes.write_folder(tmp_path / "room")
    (other / "images/001.png").unlink()
    (other / "images/001_depth.png").unlink()
    (other / "images/003.png").write_bytes(b"nonsense")
    cv2.imwrite(str(other / "images/003_depth.png"), np.ones((4, 4), np.uint16))
    assert synthesize(other, tmp_path / "made") == 0
    for path in out.iterdir():
        if path.name != "result.json":
            assert path.read_bytes() == (tmp_path / "made" / path.name).read_bytes(), path.name


def test_size_scales_both_axes_and_depth_stays_out(room, tmp_path):
    options = ("--condition", "0,2-3", "--target", "1", "--size", 64, 32, "--no-depth", "--preset", "fast")
    assert synthesize(room, tmp_path, *options) == 0
    text = json.loads((tmp_path / "result.json").read_text())
    assert text["confidence_kind"] == "plane_sweep"
    assert text["preset"] == "fast"
    assert text["views"][0]["size"] == [64, 32]
    assert read(tmp_path / "001.depth.png").shape == (32, 64)
    k = np.array(text["views"][0]["K"])
    np.testing.assert_allclose(k[0], [80 * 64 / 96, 0, 48 * 64 / 96 - 0.5])
    np.testing.assert_allclose(k[1], [0, 80 * 32 / 72, 36 * 32 / 72 - 0.5])
    truth = cv2.resize(planes.render(planes.cameras()[1])[0], (64, 32), interpolation=cv2.INTER_AREA)
    assert psnr(read(tmp_path / "001.png")[..., ::-1], truth) > 20


def test_poses_without_unit_are_said_so(tmp_path, capsys):
    room = planes.write_folder(tmp_path / "room", depth=False, metric=False)
    assert synthesize(room, tmp_path / "out", "--preset", "fast") == 0
    text = json.loads((tmp_path / "out/result.json").read_text())
    assert (text["scale_metric"], text["depth_unit"]) == (False, "scene")
    assert "not metric" in capsys.readouterr().out


def test_what_has_no_effect_is_said_in_log_and_result(room, tmp_path, capsys):
    frames = ("--condition", "0,2", "--target", "2", "--preset", "fast")
    assert synthesize(room, tmp_path, *frames, "--camera", "/front") == 0
    notes = json.loads((tmp_path / "result.json").read_text())["notes"]
    said = capsys.readouterr().out
    for named in ("camera '/front' is ignored", "frame 2): what they show was given"):
        assert any(named in note for note in notes)
        assert named in said


def test_a_view_of_nothing_has_its_status(tmp_path, capsys):
    room = planes.write_folder(tmp_path / "room")
    data = json.loads((room / "cameras.json").read_text())
    data["frames"][3]["c2w"] = planes.camera(yaw_deg=180).world_from_cam.tolist()
    (room / "cameras.json").write_text(json.dumps(data))
    assert synthesize(room, tmp_path / "out", "--preset", "fast") == 0
    views = json.loads((tmp_path / "out/result.json").read_text())["views"]
    assert [v["status"] for v in views] == ["OK", "NO_OVERLAP"]
    assert (read(tmp_path / "out/003.provenance.png") == 0).all()
    assert (read(tmp_path / "out/003.depth.png") == 0).all()
    assert "NO_OVERLAP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--split", "night"), "night"),
        (("--split", "interp", "--target", "1"), "--split"),
        (("--target", "1"), "--condition"),
        (("--condition", "0,9", "--target", "1"), "frame 9"),
        (("--condition", "0,x", "--target", "1"), "0,x"),
        (("--size", "4", "64"), "4 64"),
        (("--preset", "best"), "best"),
        (("--samples", "0"), "num_samples is 0"),
        (("--condition", "0", "--target", "1", "--no-depth"), "1 condition view without depth"),
    ],
)
def test_bad_options_are_named(room, tmp_path, capsys, options, named):
    assert synthesize(room, tmp_path / "out", *options) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""Scene folders: cameras.json and nerfstudio, what they may leave out, and how malformed ones are named."""

import json

import cv2
import numpy as np
import planes
import pytest

from gld_ros.data.scene import load_scene
from gld_ros.errors import SceneError, Status


@pytest.fixture
def folder(tmp_path):
    return planes.write_folder(tmp_path / "room")


def edit(folder, change, name="cameras.json"):
    """Rewrite the description after ``change(data)``."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    return folder


def test_frames_as_written(folder):
    scene = load_scene(folder)
    assert (scene.name, scene.metric, len(scene.frames)) == ("room", True, 5)
    for frame, camera in zip(scene.frames, planes.cameras(), strict=True):
        rgb, depth = planes.render(camera)
        np.testing.assert_array_equal(frame.load_rgb(), rgb)
        np.testing.assert_allclose(frame.load_depth(), depth, atol=2e-4)
        np.testing.assert_allclose(frame.camera.world_from_cam, camera.world_from_cam)
        np.testing.assert_allclose(frame.camera.K, camera.K)


def test_zero_depth_is_no_measurement(folder):
    path = str(folder / "images/000_depth.png")
    raw = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    raw[3:5] = 0
    cv2.imwrite(path, raw)
    depth = load_scene(folder).frames[0].load_depth()
    assert np.isnan(depth[3:5]).all()
    assert np.isfinite(depth[5:]).all()


def test_posed_view_with_and_without_depth(folder):
    scene = load_scene(folder)
    assert scene.posed_view(2).depth is not None
    assert scene.posed_view(2, use_depth=False).depth is None
    assert scene.posed_view(2).key != scene.posed_view(3).key


def test_pictures_of_targets_may_be_missing(folder):
    (folder / "images/001.png").unlink()
    edit(folder, lambda d: [d["frames"][3].pop(k) for k in ("file", "depth")])
    scene = load_scene(folder)
    assert len(scene.frames) == 5
    with pytest.raises(SceneError, match=r"001\.png"):
        scene.frames[1].load_rgb()
    with pytest.raises(SceneError, match="no picture"):
        scene.frames[3].load_rgb()
    assert scene.frames[3].load_depth() is None


def test_splits(folder):
    scene = load_scene(folder)
    assert scene.split() == ([0, 2, 4], [1, 3])
    assert scene.split("extrapolate") == ([0, 1, 2], [3, 4])
    with pytest.raises(SceneError, match=r"'night'.*interp, extrapolate"):
        scene.split("night")


def test_a_split_of_missing_frames_is_left_out_with_a_note(folder):
    edit(folder, lambda d: d["splits"]["interp"]["target"].append(5))
    scene = load_scene(folder)
    assert "interp" not in scene.splits
    assert "extrapolate" in scene.splits
    assert any("'interp'" in note and "0..4" in note for note in scene.notes)


def test_without_splits_every_third_frame_is_a_target(folder):
    edit(folder, lambda d: d.pop("splits"))
    assert load_scene(folder).split() == ([0, 2, 3], [1, 4])
    with pytest.raises(SceneError, match="none"):
        load_scene(folder).split("interp")


@pytest.mark.parametrize("index", [-1, 5, 99])
def test_frames_that_do_not_exist(folder, index):
    scene = load_scene(folder)
    assert scene.check_indices([0, 4], "condition") == [0, 4]
    with pytest.raises(SceneError, match=rf"condition frame {index} .*0\.\.4"):
        scene.check_indices([0, index], "condition")


def test_unit_may_be_overridden(folder):
    assert load_scene(folder, metric=False).metric is False
    edit(folder, lambda d: d.pop("metric"))
    assert load_scene(folder).metric is False
    assert load_scene(folder, metric=True).metric is True


def broken(key, value):
    return lambda d: d["frames"][2].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (broken("K", [[0, 0, 5], [0, 10, 5], [0, 0, 1]]), "frame 2.*focal"),
        (broken("K", [[10, 0, float("nan")], [0, 10, 5], [0, 0, 1]]), "frame 2.*non-finite"),
        (broken("K", "wide"), "frame 2"),
        (broken("c2w", np.diag([1.0, 1, 2, 1]).tolist()), "frame 2.*rotation"),
        (broken("c2w", np.diag([1.0, 1, -1, 1]).tolist()), "frame 2.*rotation"),
        (broken("c2w", np.full((4, 4), float("nan")).tolist()), "frame 2.*non-finite"),
        (broken("c2w", np.eye(3).tolist()), r"frame 2.*\(3, 3\)"),
        (broken("width", 0), "frame 2.*0x72"),
        (broken("width", None), "frame 2"),
        (broken("depth_scale", 0), "frame 2"),
        (lambda d: d["frames"][2].pop("c2w"), "frame 2.*c2w"),
        (lambda d: d["frames"].__setitem__(2, "images/2.png"), "frame 2"),
        (lambda d: d.__setitem__("frames", {}), "frames"),
        (lambda d: d.update(frames=[], splits={}), "no frames"),
        (lambda d: d["splits"]["interp"].pop("target"), "splits"),
        (lambda d: d.__setitem__("splits", [1, 2]), "splits"),
    ],
)
def test_malformed_descriptions_are_named(folder, change, named):
    edit(folder, change)
    with pytest.raises(SceneError, match=named):
        load_scene(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b'{"frames": 3}'])
def test_descriptions_that_are_no_json_object(folder, content):
    (folder / "cameras.json").write_bytes(content)
    with pytest.raises(SceneError, match=r"cameras\.json"):
        load_scene(folder)


def test_bad_poses_and_lenses_keep_their_status(folder):
    edit(folder, broken("c2w", np.zeros((4, 4)).tolist()))
    with pytest.raises(SceneError) as caught:
        load_scene(folder)
    assert caught.value.status == Status.BAD_POSE


def test_places_that_are_no_scene(tmp_path):
    with pytest.raises(SceneError, match="nowhere"):
        load_scene(tmp_path / "nowhere")
    with pytest.raises(SceneError, match="not a scene"):
        load_scene(tmp_path)


def test_pictures_of_another_size_or_kind(folder):
    cv2.imwrite(str(folder / "images/000.png"), np.zeros((10, 20, 3), np.uint8))
    (folder / "images/001.png").write_text("not a picture")
    cv2.imwrite(str(folder / "images/000_depth.png"), np.zeros((planes.H, planes.W, 3), np.uint8))
    cv2.imwrite(str(folder / "images/001_depth.png"), np.zeros((10, 20), np.uint16))
    scene = load_scene(folder)
    with pytest.raises(SceneError, match=r"20x10.*96x72"):
        scene.frames[0].load_rgb()
    with pytest.raises(SceneError, match=r"001\.png"):
        scene.frames[1].load_rgb()
    with pytest.raises(SceneError, match="one-channel"):
        scene.frames[0].load_depth()
    with pytest.raises(SceneError, match="20x10"):
        scene.frames[1].load_depth()


def nerfstudio(folder, **shared):
    """The same room as nerfstudio writes it: OpenGL axes, pixel centres at 0.5."""
    cams = planes.cameras()
    frames = []
    for i, cam in enumerate(cams):
        opengl = cam.world_from_cam.copy()
        opengl[:3, 1:3] *= -1
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": opengl.tolist()})
    lens = {"w": planes.W, "h": planes.H, "fl_x": planes.K[0, 0], "fl_y": planes.K[1, 1]}
    lens |= {"cx": planes.K[0, 2] + 0.5, "cy": planes.K[1, 2] + 0.5}
    (folder / "cameras.json").unlink()
    (folder / "transforms.json").write_text(json.dumps({**lens, **shared, "frames": frames}))
    return folder


def test_nerfstudio_axes_and_lens(folder):
    scene = load_scene(nerfstudio(folder))
    assert scene.metric is False
    for frame, camera in zip(scene.frames, planes.cameras(), strict=True):
        np.testing.assert_allclose(frame.camera.world_from_cam, camera.world_from_cam, atol=1e-12)
        np.testing.assert_allclose(frame.camera.K, camera.K)
        np.testing.assert_array_equal(frame.load_rgb(), planes.render(camera)[0])
    assert load_scene(folder / "transforms.json").frames[0].name == "images/000.png"


def test_nerfstudio_lens_by_angle_and_per_frame(folder):
    nerfstudio(folder, camera_angle_x=2 * np.arctan(0.5 * planes.W / 64.0))

    def change(data):
        for key in ("fl_x", "fl_y", "cx", "cy"):
            data.pop(key)
        data["frames"][1]["fl_x"] = 99.0

    scene = load_scene(edit(folder, change, "transforms.json"))
    np.testing.assert_allclose(scene.frames[0].camera.K, [[64, 0, 47.5], [0, 64, 35.5], [0, 0, 1]])
    assert scene.frames[1].camera.K[0, 0] == scene.frames[1].camera.K[1, 1] == 99.0


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
def test_nerfstudio_distortion_is_removed(folder, model):
    scene = load_scene(nerfstudio(folder, camera_model=model, k1=-0.2, k2=0.05))
    raw, k = planes.render(planes.cameras()[1])[0], planes.K
    if model == "OPENCV":
        expected = cv2.undistort(raw, k, np.array([-0.2, 0.05, 0, 0, 0]), newCameraMatrix=k)
    else:
        expected = cv2.fisheye.undistortImage(raw, k, np.array([-0.2, 0.05, 0, 0]), Knew=k)
    difference = np.abs(scene.frames[1].load_rgb().astype(int) - expected)
    assert difference.mean() < 0.5
    assert np.abs(scene.frames[1].load_rgb().astype(int) - raw).mean() > 3
    assert any("pinhole" in note for note in scene.notes)


def test_nerfstudio_models_that_are_unknown(folder):
    with pytest.raises(SceneError, match="EQUIRECTANGULAR"):
        load_scene(nerfstudio(folder, camera_model="EQUIRECTANGULAR"))

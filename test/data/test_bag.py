"""A rosbag2 as a scene, in both storages. No ROS needed."""

import json
import sys

import cv2
import numpy as np
import planes
import pytest

pytest.importorskip("rosbags")

from bags import START, H, K, S, W, drive, image, info, picture, transform, write
from rosbags.rosbag2 import StoragePlugin

from gld_ros.cli.main import main
from gld_ros.data import bag as bag_module
from gld_ros.data.scene import load_scene
from gld_ros.errors import SceneError
from gld_ros.evaluation.metrics import psnr
from gld_ros.geometry.transform_tree import matrix_to_quaternion


@pytest.fixture(params=[StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def storage(request):
    return request.param


def test_pictures_poses_and_depth(tmp_path, storage):
    scene = load_scene(write(tmp_path / "run", drive(depth=True), storage))
    assert (scene.name, scene.metric, len(scene.frames)) == ("run", True, 6)
    assert any("odom" in note for note in scene.notes)
    for i, frame in enumerate(scene.frames):
        assert frame.stamp_ns == START + i * S // 10
        np.testing.assert_allclose(frame.camera.K, K)
        np.testing.assert_allclose(frame.camera.centre, [0.1 * i, 0, 0.5], atol=1e-9)  # odd ones interpolated
        np.testing.assert_allclose(frame.camera.forward, [1, 0, 0], atol=1e-9)
        np.testing.assert_array_equal(frame.load_rgb(), picture(i))
        depth = frame.load_depth()
        assert np.isnan(depth[:4]).all()
        assert depth[5, 5] == pytest.approx(1.5 + 0.001 * i)


def test_one_file_without_its_folder(tmp_path, storage):
    folder = write(tmp_path / "run", drive(2), storage)
    (file,) = [p for p in folder.iterdir() if p.suffix in (".mcap", ".db3")]
    assert len(load_scene(file).frames) == 2


def test_pictures_are_read_late_and_only_when_asked_for(tmp_path, monkeypatch):
    folder = write(tmp_path / "run", drive())
    scene = load_scene(folder)
    read = []
    original = bag_module.BagFile.read
    monkeypatch.setattr(bag_module.BagFile, "read", lambda self, *a: read.append(a) or original(self, *a))
    scene.frames[3].load_rgb()
    assert len(read) == 1


def test_compressed_pictures(tmp_path):
    scene = load_scene(write(tmp_path / "run", drive(2, "/cam/image_raw/compressed", as_jpeg=True)))
    error = np.abs(scene.frames[1].load_rgb().astype(int) - picture(1))
    assert error.mean() < 6


def test_rectified_topic_is_preferred_and_not_rectified_again(tmp_path):
    messages = drive(3, "/cam/image_rect", d=(-0.3, 0.1, 0, 0, 0))
    messages += [m for m in drive(3, "/cam/image_raw") if m[0] == "/cam/image_raw"]
    scene = load_scene(write(tmp_path / "run", messages))
    assert "/cam/image_rect" in scene.notes[0]
    np.testing.assert_array_equal(scene.frames[0].load_rgb(), picture(0))


def test_raw_pictures_are_rectified(tmp_path):
    scene = load_scene(write(tmp_path / "run", drive(2, d=(-0.3, 0.1, 0, 0, 0))))
    assert any("distortion" in note for note in scene.notes)
    rgb = scene.frames[0].load_rgb()
    np.testing.assert_allclose(rgb[H // 2, W // 2], picture(0)[H // 2, W // 2], atol=6)  # the centre stays
    assert np.abs(rgb.astype(int) - picture(0))[:, :8].mean() > 5


@pytest.mark.parametrize(("world", "expected"), [("map", "map"), ("vicon", "vicon"), ("odom", "odom")])
def test_fixed_frame(tmp_path, world, expected):
    scene = load_scene(write(tmp_path / "run", drive(2, world=world)))
    assert f"poses are in frame {expected}" in scene.notes


def test_odom_wins_over_the_map_above_it(tmp_path):
    messages = drive(3)
    messages.append(("/tf_static", START, transform("map", "odom", START, (100, 0, 0))))
    scene = load_scene(write(tmp_path / "run", messages))
    assert scene.frames[0].camera.centre[0] == pytest.approx(0)


def test_camera_is_chosen_by_topic_or_namespace(tmp_path):
    messages = drive(3)
    for i in range(2):
        stamp = START + i * S // 10
        messages.append(("/aux/image_raw", stamp, image(picture(90 + i), stamp)))
        messages.append(("/aux/camera_info", stamp, info(stamp)))
    folder = write(tmp_path / "run", messages)
    assert len(load_scene(folder, "/cam/image_raw").frames) == 3
    assert len(load_scene(folder, "cam").frames) == 3
    chosen = load_scene(folder)  # the first by name
    np.testing.assert_array_equal(chosen.frames[0].load_rgb(), picture(90))
    assert "/cam" in chosen.notes[0]
    with pytest.raises(SceneError, match=r"rear.*/aux/image_raw, /cam/image_raw"):
        load_scene(folder, "rear")


def test_frames_without_transform_are_left_out_and_counted(tmp_path):
    late = START + 5 * S
    messages = [*drive(4), ("/cam/image_raw", late, image(picture(9), late))]
    scene = load_scene(write(tmp_path / "run", messages))
    assert len(scene.frames) == 4
    assert any(note.startswith("1 of 5 pictures") for note in scene.notes)


def test_order_is_by_stamp_and_repeated_stamps_go(tmp_path):
    stamp = START + S // 20
    messages = [*drive(4), *[("/cam/image_raw", START + S + i, image(picture(50 + i), stamp)) for i in range(2)]]
    scene = load_scene(write(tmp_path / "run", messages))
    assert [f.stamp_ns for f in scene.frames] == sorted(f.stamp_ns for f in scene.frames)
    assert len({f.name for f in scene.frames}) == len(scene.frames) == 5
    np.testing.assert_array_equal(scene.frames[1].load_rgb(), picture(50))
    assert any("1 pictures with the stamp" in note for note in scene.notes)


def test_long_bags_are_thinned_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(bag_module, "MAX_FRAMES", 5)
    scene = load_scene(write(tmp_path / "run", drive(17)))
    assert [(f.stamp_ns - START) * 10 // S for f in scene.frames] == [0, 4, 8, 12, 16]
    assert "5 evenly spaced pictures of 17 are used" in scene.notes


def test_depth_of_another_frame_or_size_is_not_used(tmp_path):
    messages = drive(2)
    for topic, frame, size in (("/a/depth", "other", (H, W)), ("/b/depth", "cam_optical", (H // 2, W // 2))):
        array = np.ones(size, np.float32)
        messages.append((topic, START, image(array, START, frame, "32FC1")))
    scene = load_scene(write(tmp_path / "run", messages))
    assert scene.frames[0].load_depth() is None
    assert any("/a/depth is not used: its frame is other" in n for n in scene.notes)
    assert any("/b/depth is not used: 32x24" in n for n in scene.notes)


def test_depth_far_in_time_is_not_used(tmp_path):
    stamp = START + 3 * S
    messages = [*drive(2), ("/cam/depth", stamp, image(np.ones((H, W), np.float32), stamp, encoding="32FC1"))]
    assert load_scene(write(tmp_path / "run", messages)).frames[0].load_depth() is None


def test_a_bag_without_transforms(tmp_path):
    messages = [m for m in drive(2) if m[2].__msgtype__ != "tf2_msgs/msg/TFMessage"]
    with pytest.raises(SceneError, match=r"cam_optical.*Record /tf"):
        load_scene(write(tmp_path / "run", messages))


def test_a_bag_without_camera_info(tmp_path):
    messages = [m for m in drive(2) if m[0] != "/cam/camera_info"]
    with pytest.raises(SceneError, match="without a camera_info beside them: /cam/image_raw"):
        load_scene(write(tmp_path / "run", messages))


def test_a_calibration_that_is_none(tmp_path):
    messages = [m for m in drive(2) if m[0] != "/cam/camera_info"]
    messages.append(("/cam/camera_info", START, info(START, k=np.diag([0.0, 0, 1]))))
    with pytest.raises(SceneError, match=r"/cam/camera_info.*focal"):
        load_scene(write(tmp_path / "run", messages))


def test_a_picture_of_another_size_than_its_calibration(tmp_path):
    messages = [m for m in drive(2) if m[0] != "/cam/camera_info"]
    messages.append(("/cam/camera_info", START, info(START, size=(32, 24))))
    scene = load_scene(write(tmp_path / "run", messages))
    with pytest.raises(Exception, match="64x48"):
        scene.frames[0].load_rgb()


@pytest.mark.parametrize("damage", ["metadata", "storage", "empty"])
def test_damaged_bags_are_named(tmp_path, storage, damage):
    folder = write(tmp_path / "run", drive(2), storage)
    (file,) = [p for p in folder.iterdir() if p.suffix in (".mcap", ".db3")]
    if damage == "metadata":
        (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: nonsense")
    else:
        file.write_bytes(b"" if damage == "empty" else file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(SceneError, match="run"):
        [frame.load_rgb() for frame in load_scene(folder).frames]


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    folder = write(tmp_path / "run", drive(1))
    for name in [m for m in sys.modules if m.split(".")[0] == "rosbags"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SceneError, match="pip install rosbags"):
        load_scene(folder)


def test_a_bag_goes_through_gld_synthesize(tmp_path):
    """Frames of a bag are named by their stamps; the picture of the target is right."""
    messages = []
    for i, camera in enumerate(planes.cameras()):
        stamp = START + i * S // 10
        rgb, depth = planes.render(camera)
        q = matrix_to_quaternion(camera.world_from_cam[:3, :3])
        messages += [
            ("/tf", stamp, transform("odom", "cam_optical", stamp, camera.centre, q)),
            ("/cam/image_raw", stamp, image(rgb, stamp)),
            ("/cam/camera_info", stamp, info(stamp, size=(planes.W, planes.H), k=planes.K)),
            ("/cam/depth", stamp, image(depth, stamp, encoding="32FC1")),
        ]
    folder, out = write(tmp_path / "run", messages), tmp_path / "out"
    command = ["synthesize", str(folder), "--camera", "cam", "--model", "classical", "--preset", "fast"]
    assert main([*command, "--condition", "0,2,4", "--target", "1", "--out", str(out)]) == 0
    picture = cv2.imread(str(out / "1700000000_100000000.png"))[..., ::-1]
    assert psnr(picture, planes.render(planes.cameras()[1])[0]) > 24
    text = json.loads((out / "result.json").read_text())
    assert (text["scale_metric"], text["depth_unit"]) == (True, "m")


def test_header_of_both_byte_orders_and_too_short():
    little = b"\0\1\0\0" + (7).to_bytes(4, "little") + (5).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"a\0"
    big = b"\0\0\0\0" + (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"a\0"
    for raw in (little, big):
        assert bag_module.entry_of(1, raw) == bag_module.Entry(1, 7 * S + 5, "a")
    with pytest.raises(SceneError, match="header"):
        bag_module.entry_of(1, little[:9])
    assert bag_module.entry_of(3, bytes(16)).stamp_ns == 3  # an unset stamp is replaced

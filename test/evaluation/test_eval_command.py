"""``gld eval``: keys of metrics.json, the page, honest gaps, and no leaks between splits."""

import json
import re

import numpy as np
import planes
import pytest

from gld_ros.cli.main import main
from gld_ros.evaluation.evaluate import summarise
from gld_ros.evaluation.predictors import warp
from gld_ros.synthesis.types import PosedView

PREDICTORS = {"composed", "generated", "copy_nearest", "mean", "blur", "warp_predicted"}
KEYS = {"psnr", "ssim", "perceptual", "sharpness", "psnr_holes", "psnr_observed", "depth_absrel"}


def evaluate(out, *arguments):
    return main(["eval", *map(str, arguments), "--model", "classical", "--preset", "fast", "--out", str(out)])


def metrics(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return planes.write_folder(tmp_path_factory.mktemp("scene") / "room")


@pytest.fixture(scope="module")
def out(room, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    assert evaluate(folder, room) == 0
    return folder


def test_all_splits_predictors_and_figures(out):
    found = metrics(out)
    assert set(found["sets"]) == {"room/interp", "room/extrapolate"}
    for figures in found["sets"].values():
        assert set(figures) == PREDICTORS | {"warp_true", "real"}
        assert all(set(row) >= KEYS for name, row in figures.items() if name != "real")
    assert found["config"]["model"] == "classical"
    assert found["config"]["use_depth"] is True
    assert found["revision"]


def test_figures_are_in_the_order_one_expects(out):
    figures = metrics(out)["sets"]["room/interp"]
    assert figures["composed"]["psnr"] > figures["copy_nearest"]["psnr"] + 3
    assert figures["warp_true"]["psnr_observed"] > figures["copy_nearest"]["psnr_observed"]
    assert figures["composed"]["depth_absrel"] < 0.05
    assert figures["blur"]["sharpness"] < figures["copy_nearest"]["sharpness"]
    assert figures["copy_nearest"]["depth_absrel"] is None
    assert figures["composed"]["ssim"] <= 1


def test_cameras_are_recovered_from_pictures_and_the_page_says_so(out):
    figures = metrics(out)["sets"]["room/interp"]
    assert figures["real"]["pnp_recovered"] == figures["composed"]["pnp_recovered"] == 1
    assert figures["real"]["pnp_deg"] < 0.3
    assert figures["real"]["pnp_ate"] < 0.02
    assert figures["copy_nearest"]["pnp_deg"] == pytest.approx(1.5, abs=0.3)  # that of the nearest view
    assert figures["copy_nearest"]["pnp_centre_share"] == pytest.approx(0.5, abs=0.1)
    assert "pnp_deg" not in figures["warp_true"]
    page = (out / "index.html").read_text()
    assert "<th>cameras recovered</th>" in page
    assert "<td>real</td>" in page
    assert "camera off by" in page


def test_the_page_holds_its_pictures(out):
    page = (out / "index.html").read_text()
    sources = re.findall(r"src='([^']{0,40})", page)
    assert len(sources) >= 4 * 8
    assert all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert "room/interp" in page
    assert "http" not in page


def test_one_split_alone_gives_the_same_figures(room, out, tmp_path):
    """Depth swept for one split's conditions must not serve another, whose targets those may be."""
    assert evaluate(tmp_path, room, "--split", "extrapolate") == 0
    alone = metrics(tmp_path)["sets"]
    assert set(alone) == {"room/extrapolate"}
    assert alone["room/extrapolate"] == metrics(out)["sets"]["room/extrapolate"]


def test_depth_can_be_left_out_of_the_engine(room, out, tmp_path):
    assert evaluate(tmp_path, room, "--split", "interp", "--no-depth", "--size", 48, 36) == 0
    found = metrics(tmp_path)
    assert found["config"]["size"] == [48, 36]
    figures = found["sets"]["room/interp"]
    assert "warp_true" in figures
    assert figures["composed"]["depth_absrel"] > metrics(out)["sets"]["room/interp"]["composed"]["depth_absrel"]


def test_no_depth_no_splits_no_unit(tmp_path):
    room = planes.write_folder(tmp_path / "room", depth=False, metric=False, splits=None)
    assert evaluate(tmp_path / "out", room) == 0
    figures = metrics(tmp_path / "out")["sets"]["room/default"]
    assert set(figures) == PREDICTORS | {"real"}
    assert figures["composed"]["depth_absrel"] is None


def test_targets_without_picture_are_left_out_aloud(tmp_path, capsys):
    room = planes.write_folder(tmp_path / "room")
    (room / "images/001.png").unlink()
    assert evaluate(tmp_path / "out", room, "--split", "interp") == 0
    assert "target 1 is left out" in capsys.readouterr().out
    (room / "images/003.png").unlink()
    assert evaluate(tmp_path / "out2", room, "--split", "interp") == 2
    assert "no target has a picture" in capsys.readouterr().err


def test_an_engine_that_cannot_leaves_the_baselines_and_a_failure(tmp_path, capsys):
    room = planes.write_folder(tmp_path / "room", depth=False, splits={"one": ([0], [1])})
    assert evaluate(tmp_path / "out", room) == 1
    assert set(metrics(tmp_path / "out")["sets"]["room/one"]) == {"copy_nearest", "mean", "blur"}
    assert "NO_KEYFRAMES" in capsys.readouterr().out
    assert (tmp_path / "out/index.html").stat().st_size > 1000


def test_scenes_of_the_same_name_are_told_apart(tmp_path):
    rooms = [planes.write_folder(tmp_path / d / "room", splits={"a": ([0, 2], [1])}) for d in ("x", "y")]
    assert evaluate(tmp_path / "out", *rooms) == 0
    assert set(metrics(tmp_path / "out")["sets"]) == {"x_room/a", "y_room/a"}
    assert evaluate(tmp_path / "out", rooms[0], rooms[0]) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "SCENE"),
        (("{room}", "--split", "night"), "night"),
        (("{room}", "--size", "3", "3"), "3 3"),
        (("{room}", "--rooms-limit", "2"), "--rooms"),
        (("nowhere",), "nowhere"),
    ],
)
def test_bad_options_are_named(room, tmp_path, capsys, options, named):
    assert evaluate(tmp_path / "out", *(o.format(room=room) for o in options)) == 2
    assert named in capsys.readouterr().err


def test_the_frozen_rooms(tmp_path):
    pytest.importorskip("numba")
    assert evaluate(tmp_path, "--rooms", "--rooms-limit", 1, "--no-depth") == 0
    found = metrics(tmp_path)
    assert set(found["sets"]) == {"rooms/test[:1]"}
    assert set(found["sets"]["rooms/test[:1]"]) == PREDICTORS | {"warp_true", "real"}
    assert len(found["config"]["rooms"]["hash"]) >= 8


def test_warp_with_true_depth_lands_on_the_truth():
    cams = planes.cameras()
    rendered = [planes.render(c) for c in cams]
    views = [PosedView(str(i), cams[i], rendered[i][0]) for i in (0, 2)]
    made = warp(views, [rendered[i][1] for i in (0, 2)], cams[1])
    assert 0.7 < made.covered.mean() <= 1
    error = np.abs(made.prediction.depth - rendered[1][1])[made.covered]
    assert np.median(error) < 0.01
    assert np.isnan(made.prediction.depth[~made.covered]).all()


def test_cracks_between_source_pixels_are_no_holes():
    near = planes.camera(z=0.8)  # closer than the only view: its pixels spread out
    view = PosedView("0", planes.camera(), planes.render(planes.camera())[0])
    made = warp([view], [planes.render(planes.camera())[1]], near)
    assert (~made.covered).mean() > 0.2
    assert made.holes().mean() < 0.5 * (~made.covered).mean()
    assert not (made.holes() & made.covered).any()


def test_means_are_over_the_views_that_have_a_figure():
    views = [{"a": {"x": 1.0, "y": float("nan")}}, {"a": {"x": 3.0, "y": float("nan")}, "b": {"x": 5.0}}]
    assert summarise(views) == {"a": {"x": 2.0, "y": None}, "b": {"x": 5.0}}

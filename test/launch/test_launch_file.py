"""gld.launch.py: arguments, processes, parameters, environment."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from gld_ros.errors import GldError
from gld_ros.ros.launch_plan import ARGUMENTS, FASTDDS_VARIABLES

ROOT = Path(__file__).resolve().parents[2]


def nodes(actions, executable):
    return [a for a in actions if a.kind == "Node" and a.kwargs["executable"] == executable]


def test_every_argument_is_declared_with_its_description_and_choices(launch_run) -> None:
    assert list(launch_run.declared) == [argument.name for argument in ARGUMENTS]
    for argument in ARGUMENTS:
        declared = launch_run.declared[argument.name]
        assert declared["default_value"] == argument.default
        assert len(declared["description"]) > 20
        assert tuple(declared.get("choices", ())) == argument.choices


def test_defaults_start_the_node_alone_from_the_shipped_file(launch_run) -> None:
    (node,) = launch_run()
    assert node.kwargs["package"] == "gld_ros"
    assert node.kwargs["name"] == "gld"
    (parameters,) = node.kwargs["parameters"]
    assert Path(parameters) == ROOT / "config" / "gld.yaml" or Path(parameters).parts[-2:] == ("config", "gld.yaml")
    assert yaml.safe_load(Path(parameters).read_text())


def test_executables_are_installed(launch_run) -> None:
    (node,) = launch_run()
    installed = re.search(r"install\(PROGRAMS ([^)]+?) DESTINATION", (ROOT / "CMakeLists.txt").read_text()).group(1)
    script = ROOT / "scripts" / node.kwargs["executable"]
    assert f"scripts/{script.name}" in installed.split()
    assert script.stat().st_mode & 0o111


def test_arguments_go_over_the_file(launch_run) -> None:
    (node,) = launch_run(model="classical", cameras="front,rear", autostart="false", use_sim_time="true")
    file, overrides = node.kwargs["parameters"]
    assert file.endswith("gld.yaml")
    assert overrides == {
        "model": "classical",
        "cameras": ["front", "rear"],
        "autostart": False,
        "use_sim_time": True,
    }


def test_topics_are_given_per_camera(launch_run) -> None:
    (node,) = launch_run(cameras="a,b", image_topics="/x/image_raw,/y/image_raw", info_topics="/x/i,/y/i")
    overrides = node.kwargs["parameters"][1]
    assert overrides["a.image_topic"] == "/x/image_raw"
    assert overrides["b.image_topic"] == "/y/image_raw"
    assert overrides["b.info_topic"] == "/y/i"


def test_fastdds_sets_both_names_to_a_file_that_exists(launch_run) -> None:
    actions = launch_run(fastdds="true")
    environment = {a.args[0]: a.args[1] for a in actions if a.kind == "SetEnvironmentVariable"}
    assert set(environment) == set(FASTDDS_VARIABLES)
    assert all(Path(file).is_file() for file in environment.values())
    # the variables must be set before the process that reads them starts
    assert actions[-1].kind == "Node"


def test_rviz_starts_only_when_asked_and_with_the_users_names(launch_run) -> None:
    assert not nodes(launch_run(), "rviz2")
    (rviz,) = nodes(launch_run(rviz="true", cameras="front", virtual_cameras="chase,left", namespace="robot1"), "rviz2")
    file = Path(rviz.kwargs["arguments"][1])
    text = file.read_text()
    file.unlink()
    assert "/robot1/gld/chase/image_rect" in text
    assert "/robot1/gld/left/points_observed" in text
    assert "/robot1/front/image_raw" in text
    assert "/gld/virtual/" not in text


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cameras": "1x"}, "cameras"),
        ({"cameras": "a,b", "image_topics": "/x"}, "one per camera"),
        ({"params_file": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"device": "abacus"}, "device"),
        ({"log_level": "loud"}, "one of debug"),
    ],
)
def test_bad_values_are_named(launch_run, values, says) -> None:
    with pytest.raises(GldError, match=says):
        launch_run(**values)


@pytest.mark.skipif(importlib.util.find_spec("launch_ros") is None, reason="the real launch_ros is not installed")
def test_with_the_real_launch() -> None:
    from launch import LaunchContext  # only where a whole ROS is sourced
    from launch_ros.actions import Node

    spec = importlib.util.spec_from_file_location("gld_launch_file", ROOT / "launch" / "gld.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    description = module.generate_launch_description()
    assert [a.name for a in description.get_launch_arguments()] == [a.name for a in ARGUMENTS]
    context = LaunchContext()
    context.launch_configurations.update({a.name: a.default for a in ARGUMENTS})
    assert [type(action) for action in module.launch_setup(context)] == [Node]

"""The shipped configuration files say only what the node, RViz, Fast DDS and Nav2 understand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from gld_ros.errors import GldError
from gld_ros.ros.interface import ENDPOINTS
from gld_ros.ros.launch_plan import file_parameters, make_plan
from gld_ros.ros.parameters import CAMERA_PARAMS, NODE_PARAMS, VIRTUAL_PARAMS
from gld_ros.ros.rviz import configuration
from gld_ros.share import share_folder

SHARE = share_folder()
RVIZ_TYPES = {  # display class -> message type; None: no topic
    "rviz_default_plugins/Grid": None,
    "rviz_default_plugins/TF": None,
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}


def test_parameter_file_holds_known_parameters_in_range() -> None:
    parameters = file_parameters(SHARE / "config" / "gld.yaml")
    tables = {"": NODE_PARAMS}
    tables |= dict.fromkeys(parameters["cameras"], CAMERA_PARAMS)
    tables |= dict.fromkeys(parameters["virtual_cameras"], VIRTUAL_PARAMS)
    flat = {("", name): value for name, value in parameters.items() if not isinstance(value, dict)}
    flat |= {
        (group, name): value
        for group, body in parameters.items()
        if isinstance(body, dict)
        for name, value in body.items()
    }
    for (group, name), value in flat.items():
        (param,) = [param for param in tables[group] if param.name == name]
        assert type(value) is type(param.default), name
        param.check(value)


def topics(plan) -> dict[str, str]:
    """Every topic of the interface table with its type, names filled in."""
    found = {}
    prefix = f"/{plan.namespace}" if plan.namespace else ""
    for endpoint in ENDPOINTS:
        for camera in plan.cameras:
            for virtual in plan.virtual_cameras:
                name = endpoint.name.replace("<camera>", camera).replace("<virtual camera>", virtual)
                name = name.replace("~", "/gld", 1) if name.startswith("~") else f"/{name.lstrip('/')}"
                found[prefix + name] = endpoint.type
    return found


@pytest.mark.parametrize(
    "values",
    [{}, {"cameras": "front,rear", "virtual_cameras": "chase,left", "namespace": "robot1", "fixed_frame": "map_local"}],
)
def test_rviz_shows_what_is_published(values: dict[str, str]) -> None:
    plan = make_plan({**values, "rviz": "true"})
    config = configuration((SHARE / "rviz" / "gld.rviz").read_text(), plan)
    manager = config["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == plan.fixed_frame
    published = topics(plan)
    shown = []
    for display in manager["Displays"]:
        expected = RVIZ_TYPES[display["Class"]]
        if expected is None:
            assert "Topic" not in display
            continue
        topic = display["Topic"]
        assert published[topic["Value"]] == expected
        shown.append(topic["Value"])
        # our outputs are reliable and volatile; a best-effort reader is right for camera drivers only
        ours = "/gld/" in topic["Value"]
        assert topic["Reliability Policy"] == ("Reliable" if ours else "Best Effort")
        assert topic["Durability Policy"] == "Volatile"
        assert display["Enabled"] is True
    assert len(set(shown)) == len(shown)
    outputs = ("image_rect", "depth/image_rect", "confidence", "points_observed", "points_generated")
    prefix = f"/{plan.namespace}" if plan.namespace else ""
    wanted = {f"{prefix}/gld/{camera}/{output}" for camera in plan.virtual_cameras for output in outputs}
    assert wanted | {f"{prefix}/gld/keyframes"} <= set(shown)


def test_rviz_file_itself_is_for_the_default_names() -> None:
    plain = yaml.safe_load((SHARE / "rviz" / "gld.rviz").read_text())
    assert configuration((SHARE / "rviz" / "gld.rviz").read_text(), make_plan({})) == plain


def test_rviz_shows_the_topic_a_camera_was_given() -> None:
    plan = make_plan({"cameras": "a,b", "image_topics": "/x/image,y/image", "namespace": "r"})
    displays = configuration((SHARE / "rviz" / "gld.rviz").read_text(), plan)["Visualization Manager"]["Displays"]
    shown = {display["Name"]: display["Topic"]["Value"] for display in displays if "Topic" in display}
    assert shown["Real camera (a)"] == "/x/image"
    assert shown["Real camera (b)"] == "/r/y/image"


def test_fastdds_segment_holds_whole_clouds() -> None:
    root = ElementTree.parse(SHARE / "config" / "fastdds.xml").getroot()
    name = "{http://www.eprosima.com}"
    (shm,) = [t for t in root.iter(f"{name}transport_descriptor") if t.findtext(f"{name}type") == "SHM"]
    cloud_bytes = 640 * 480 * 20  # x y z rgb confidence
    largest = int(shm.findtext(f"{name}maxMessageSize"))
    assert largest > cloud_bytes
    assert int(shm.findtext(f"{name}segment_size")) >= 4 * largest
    used = {e.text for e in root.iter(f"{name}transport_id") if e.text}
    assert used == {"gld_shm", "gld_udp"}


def test_nav2_example_marks_and_never_clears() -> None:
    costmap = yaml.safe_load((SHARE / "config" / "nav2_example.yaml").read_text())["local_costmap"]["local_costmap"]
    layer = costmap["ros__parameters"]["obstacle_layer"]
    for name in layer["observation_sources"].split():
        source = layer[name]
        assert source["marking"] is True
        assert source["clearing"] is False
        assert source["sensor_frame"]
        assert topics(make_plan({}))[source["topic"]] == "sensor_msgs/msg/PointCloud2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("other:\n  ros__parameters: {a: 1}\n", "no parameters for node gld"),
        ("[1]", "no parameters"),
    ],
)
def test_a_bad_parameter_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(GldError, match=says):
        file_parameters(file)

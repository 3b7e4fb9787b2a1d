"""The parameter tables: complete, in range, used, and agreeing with what the repository ships. No ROS needed."""

import re
from pathlib import Path

import pytest
import yaml

from gld_ros.errors import GldError
from gld_ros.ros.interface import ENDPOINTS, camera_names, check_names
from gld_ros.ros.parameters import CAMERA_PARAMS, NODE_PARAMS, VIRTUAL_PARAMS

ROOT = Path(__file__).resolve().parents[2]
ALL = [*NODE_PARAMS, *CAMERA_PARAMS, *VIRTUAL_PARAMS]
SOURCE = "\n".join(path.read_text() for path in (ROOT / "gld_ros" / "ros").glob("*.py") if path.name != "parameters.py")


@pytest.mark.parametrize("param", ALL, ids=lambda param: param.name)
def test_every_parameter_has_a_description_a_range_and_a_use(param):
    assert re.fullmatch(r"[A-Z].*\.", param.description), "a sentence"
    assert len(param.description) > 15
    bounded = param.minimum is not None and param.maximum is not None and param.minimum < param.maximum
    assert isinstance(param.default, bool) or bounded or param.choices or param.pattern
    assert param.range_text
    param.check(param.default)
    assert f'"{param.name}"' in SOURCE or f".{param.name}" in SOURCE, "declared but never read"


@pytest.mark.parametrize("rows", [NODE_PARAMS, CAMERA_PARAMS, VIRTUAL_PARAMS])
def test_names_are_unique(rows):
    names = [param.name for param in rows]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("param", [p for p in ALL if isinstance(p.default, float)], ids=lambda param: param.name)
def test_numbers_outside_are_refused_with_the_limit(param):
    for value in (param.minimum - 1, param.maximum * 2 + 1, float("nan")):
        with pytest.raises(GldError, match=param.name) as error:
            param.check(value)
        assert f"{param.minimum:g} to {param.maximum:g}" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fixed_frame", ""),
        ("fixed_frame", "two words"),
        ("cameras", ["front camera"]),
        ("cameras", ["a/b"]),
        ("device", "gpu"),
        ("preset", "Très beau"),
        ("compose", "both"),
    ],
)
def test_bad_text_is_refused(name, value):
    (param,) = (p for p in NODE_PARAMS if p.name == name)
    with pytest.raises(GldError, match=name):
        param.check(value)


def test_names_of_cameras_do_not_clash():
    assert camera_names(["", "a"]) == ["a"]
    with pytest.raises(GldError, match="more than once"):
        camera_names(["a", "a"])
    with pytest.raises(GldError, match="both"):
        check_names(["a"], ["a"])
    with pytest.raises(GldError, match="keyframes"):
        check_names(["a"], ["keyframes"])


def test_endpoint_names_are_unique():
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))


def test_the_shipped_configuration_names_real_parameters_in_range():
    config = yaml.safe_load((ROOT / "config" / "gld.yaml").read_text())
    (node,) = config.values()
    values = node["ros__parameters"]
    rows = {param.name: param for param in NODE_PARAMS}
    cameras = {name: CAMERA_PARAMS for name in values.get("cameras", [])}
    cameras |= {name: VIRTUAL_PARAMS for name in values.get("virtual_cameras", []) if name}
    for key, value in values.items():
        if key in cameras:
            for inner, inner_value in value.items():
                (row,) = (p for p in cameras[key] if p.name == inner)
                row.check(inner_value)
                assert isinstance(inner_value, type(row.default)), f"{key}.{inner} would be refused for its type"
        else:
            rows[key].check(value)
            assert isinstance(value, type(rows[key].default)), f"{key} would be refused for its type"

"""What a launch starts: one table of arguments and one plan behind ``gld.launch.py`` and ``gld launch``.

Nothing here imports ROS, so that both front ends and the tests can use it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gld_ros.errors import GldError
from gld_ros.ros.parameters import CAMERA_PARAMS, NODE_PARAMS, Param, Value
from gld_ros.share import share_folder

NODE_NAME = "gld"
BOOLEANS = ("true", "false")
# Fast DDS reads the first up to Jazzy, the second since Kilted
FASTDDS_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_NODE_PARAMS = {param.name: param for param in NODE_PARAMS}
_CAMERA_PARAMS = {param.name: param for param in CAMERA_PARAMS}


def use_image_profile() -> None:
    """Give this process and its children the shipped Fast DDS profile unless one is set; before rclpy starts."""
    for name in FASTDDS_VARIABLES:
        os.environ.setdefault(name, str(share_folder() / "config" / "fastdds.xml"))


@dataclass(frozen=True)
class Argument:
    """A launch argument; an empty value leaves the parameter to the YAML file."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


def _from_param(name: str) -> Argument:
    param = _NODE_PARAMS[name]
    if isinstance(param.default, bool):
        choices: tuple[str, ...] = ("", *BOOLEANS)
    else:
        choices = ("", *param.choices) if param.choices else ()
    several = " Several: a comma between them." if isinstance(param.default, list) else ""
    return Argument(name, "", f"{param.description}{several} Empty: as in params_file.", choices)


PARAMETER_ARGUMENTS = ("model", "device", "fixed_frame", "cameras", "virtual_cameras", "preset", "compose", "autostart")
CAMERA_ARGUMENTS = {"image_topics": "image_topic", "info_topics": "info_topic", "depth_topics": "depth_topic"}

ARGUMENTS: tuple[Argument, ...] = (
    Argument("params_file", "", "Parameter file of the node. Empty: the package's config/gld.yaml."),
    Argument("namespace", "", "Namespace of the node and of relative camera topics."),
    *(_from_param(name) for name in PARAMETER_ARGUMENTS),
    *(
        Argument(name, "", f"{_CAMERA_PARAMS[param].description} One per camera, a comma between them.")
        for name, param in CAMERA_ARGUMENTS.items()
    ),
    Argument(
        "use_sim_time", "", "Take time from /clock (bags, simulators). Empty: as in params_file.", ("", *BOOLEANS)
    ),
    Argument(
        "fastdds", "false", "Give the node the Fast DDS profile for images; other processes need it too.", BOOLEANS
    ),
    Argument("rviz", "false", "Also start RViz with frames, keyframes, images and both clouds.", BOOLEANS),
    Argument("rviz_config", "", "RViz configuration. Empty: the package's, with the names of your cameras."),
    Argument("log_level", "info", "Least severity the node logs.", ("debug", "info", "warn", "error")),
)


@dataclass(frozen=True)
class Plan:
    """Everything needed to start the processes; ``parameters`` go over those of ``params_file``."""

    params_file: Path
    parameters: dict[str, Value]
    namespace: str
    log_level: str
    environment: dict[str, str] = field(default_factory=dict)
    rviz_config: Path | None = None
    cameras: tuple[str, ...] = ()
    virtual_cameras: tuple[str, ...] = ()
    fixed_frame: str = "odom"


def make_plan(values: Mapping[str, str]) -> Plan:
    """Turn argument values (text, as typed) into a plan; raises GldError naming what is wrong and what is allowed."""
    known = {argument.name: argument for argument in ARGUMENTS}
    for name, text in values.items():
        if name not in known:
            raise GldError(f"launch argument '{name}' does not exist: use one of {', '.join(known)}")
        if known[name].choices and text not in known[name].choices:
            choices = ", ".join(choice or "(empty)" for choice in known[name].choices)
            raise GldError(f"launch argument {name}:={text}: must be one of {choices}")
    full = {argument.name: values.get(argument.name, argument.default) for argument in ARGUMENTS}

    share = share_folder()
    params_file = existing_file(full["params_file"] or str(share / "config" / "gld.yaml"), "params_file")
    in_file = file_parameters(params_file)
    parameters: dict[str, Value] = {
        name: parse_value(_NODE_PARAMS[name], full[name]) for name in PARAMETER_ARGUMENTS if full[name]
    }
    if full["use_sim_time"]:
        parameters["use_sim_time"] = full["use_sim_time"] == "true"

    def effective(name: str) -> Any:
        return parameters.get(name, in_file.get(name, _NODE_PARAMS[name].default))

    cameras = tuple(name for name in effective("cameras") if name)
    for argument, param in CAMERA_ARGUMENTS.items():
        topics = split_list(full[argument])
        if topics and len(topics) != len(cameras):
            raise GldError(
                f"launch argument {argument} names {len(topics)} topics for {len(cameras)} cameras "
                f"({', '.join(cameras)}): give one per camera, in that order"
            )
        for camera, topic in zip(cameras, topics, strict=False):
            parameters[f"{camera}.{param}"] = parse_value(_CAMERA_PARAMS[param], topic)

    profile = str(share / "config" / "fastdds.xml")
    environment = dict.fromkeys(FASTDDS_VARIABLES, profile) if full["fastdds"] == "true" else {}
    rviz_config = None
    if full["rviz"] == "true":
        rviz_config = existing_file(full["rviz_config"] or str(share / "rviz" / "gld.rviz"), "rviz_config")
    return Plan(
        params_file=params_file,
        parameters=parameters,
        namespace=full["namespace"].strip("/"),
        log_level=full["log_level"],
        environment=environment,
        rviz_config=rviz_config,
        cameras=cameras,
        virtual_cameras=tuple(name for name in effective("virtual_cameras") if name),
        fixed_frame=str(effective("fixed_frame")),
    )


def split_list(text: str) -> list[str]:
    """The items of a comma-separated list, [a, b] included; an empty text has none."""
    return [item.strip() for item in text.strip().strip("[]").split(",") if item.strip()]


def parse_value(param: Param, text: str) -> Value:
    """``text`` as the type of ``param``, checked against its range; raises GldError."""
    value: Value
    try:
        if isinstance(param.default, bool):
            value = {"true": True, "false": False}[text.lower()]
        elif isinstance(param.default, int):
            value = int(text)
        elif isinstance(param.default, float):
            value = float(text)
        else:
            value = split_list(text) if isinstance(param.default, list) else text
    except (KeyError, ValueError) as error:
        raise GldError(f"launch argument {param.name}:={text}: must be {param.range_text}") from error
    param.check(value)
    return value


def existing_file(text: str, argument: str) -> Path:
    """The file as an absolute path; raises GldError when there is none."""
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise GldError(f"launch argument {argument}: no file {path}: name an existing one")
    return path


def file_parameters(path: Path) -> dict[str, Any]:
    """Parameters a ROS parameter file gives to a node called ``gld``, dotted names left nested; raises GldError."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise GldError(f"{path} is not YAML: {error}") from error
    found: dict[str, Any] = {}
    for node, body in content.items() if isinstance(content, dict) else ():
        if node.rsplit("/", 1)[-1] in (NODE_NAME, "**") and isinstance(body, dict):
            found |= body.get("ros__parameters") or {}
    if not found:
        raise GldError(
            f"{path} has no parameters for node {NODE_NAME}: start it with '/**/gld:' and 'ros__parameters:'"
        )
    return found

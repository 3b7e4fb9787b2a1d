"""The RViz configuration with a user's own names in it."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml

from gld_ros.ros.launch_plan import CAMERA_ARGUMENTS, Plan

TEMPLATE_CAMERA, TEMPLATE_VIRTUAL = "camera", "virtual"  # the names in rviz/gld.rviz


def configuration(template: str, plan: Plan) -> dict[str, Any]:
    """``template`` (text of an .rviz file) with one copy of each camera's displays per camera of ``plan``."""
    config = yaml.safe_load(template)
    manager = config["Visualization Manager"]
    prefix = f"/{plan.namespace}" if plan.namespace else ""
    displays: list[dict[str, Any]] = []
    for display in manager["Displays"]:
        topic = display.get("Topic", {}).get("Value", "")
        if topic.startswith(f"/gld/{TEMPLATE_VIRTUAL}/"):
            kind, names = TEMPLATE_VIRTUAL, plan.virtual_cameras
        elif topic.startswith(f"/{TEMPLATE_CAMERA}/"):
            kind, names = TEMPLATE_CAMERA, plan.cameras
        else:
            kind, names = "", ("",)
        for name in names:
            made = copy.deepcopy(display)
            if kind:
                made["Name"] = made["Name"].replace(f"({kind})", f"({name})")
                topic_of_name = topic.replace(f"/{kind}/", f"/{name}/", 1)
            else:
                topic_of_name = topic
            if topic:
                own = plan.parameters.get(f"{name}.{CAMERA_ARGUMENTS['image_topics']}", "")
                made["Topic"]["Value"] = _absolute(str(own), prefix) if own else prefix + topic_of_name
            displays.append(made)
    manager["Displays"] = displays
    manager["Global Options"]["Fixed Frame"] = plan.fixed_frame
    return config


def write_configuration(plan: Plan) -> Path:
    """Write the configuration of ``plan`` to a temporary file; it outlives this process, since RViz reads it later."""
    assert plan.rviz_config is not None
    text = yaml.safe_dump(configuration(plan.rviz_config.read_text(), plan), sort_keys=False)
    with tempfile.NamedTemporaryFile("w", prefix="gld_", suffix=".rviz", delete=False) as file:
        file.write(text)
    return Path(file.name)


def _absolute(topic: str, prefix: str) -> str:
    return topic if topic.startswith("/") else f"{prefix}/{topic}"

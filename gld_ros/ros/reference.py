"""Prints docs/interface.md from the tables the node declares itself with:

``python -m gld_ros.ros.reference > docs/interface.md``
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gld_ros.errors import Status
from gld_ros.ros.interface import ENDPOINTS
from gld_ros.ros.parameters import CAMERA_PARAMS, NODE_PARAMS, VIRTUAL_PARAMS, Param, Value
from gld_ros.share import share_folder

INTRODUCTION = """# Interface of the node `gld`

Made by `python -m gld_ros.ros.reference > docs/interface.md` from the tables that
the node declares itself with: edit those.

The node is a lifecycle node: *configure* loads the model, *activate* subscribes and serves, *deactivate* stops and
forgets what was seen, *cleanup* frees the model. With `autostart` (the default) it goes to *active* by itself.
Service and action exist in every state and always answer; `status` says why when there is no picture.

Header stamps of all outputs are the stamp of the newest real image used. Pictures of replies carry the frame
`gld_view_<i>`, which is not broadcast: use the `pose` beside them.
"""

STATUS_HELP = {
    Status.OK: "it worked",
    Status.BUSY: "more requests than `queue_size` wait: retry later",
    Status.NOT_ACTIVE: "the node is not active; the message says why",
    Status.NO_KEYFRAMES: "no posed image yet: check topics, calibration, TF; or one without depth for `classical`",
    Status.STALE: "the newest image is older than `stale_after`",
    Status.NO_TRANSFORM: "TF does not connect the pose's frame to `fixed_frame` at that time",
    Status.NO_OVERLAP: "no keyframe sees what the requested camera looks at",
    Status.BAD_POSE: "the pose is not finite, its quaternion not of length 1, or there are too few or too many poses",
    Status.BAD_INTRINSICS: "the requested camera has no focal length or size, or too many pixels",
    Status.BUDGET_EXCEEDED: "`time_budget` is below what is possible (nothing was run), or the time ran out",
    Status.OUT_OF_MEMORY: "ask for fewer or smaller views, or a faster preset",
    Status.CANCELLED: "the action's goal was cancelled",
    Status.INTERNAL: "another value of the request is out of range, or an error of ours; the message says which",
}


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if value != int(value) else f"{value:.1f}"
    if isinstance(value, list):
        return "[" + ", ".join(item or "''" for item in value) + "]"
    return str(value) if value != "" else "''"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _parameters(params: Sequence[Param], prefix: str) -> str:
    rows = [
        (
            f"`{prefix}{param.name}`",
            f"`{_text(param.default)}`",
            f"`{param.range_text}`" if param.pattern else param.range_text,
            "yes" if param.live else "no",
            param.description,
        )
        for param in params
    ]
    return _table(("parameter", "default", "range", "live", "meaning"), rows)


def _endpoints(kinds: Sequence[str]) -> str:
    rows = [(f"`{e.name}`", f"`{e.type}`", e.description) for e in ENDPOINTS if e.kind in kinds]
    return _table(("name", "type", "meaning"), rows)


def _definition(folder: Path, name: str) -> str:
    return f"### {name}\n\n```\n{(folder / name).read_text().strip()}\n```\n"


def markdown(repository: Path) -> str:
    """The whole page; ``repository`` holds msg/, srv/ and action/."""
    statuses = [(str(int(s)), f"`{s.name}`", STATUS_HELP[s]) for s in Status]
    parts = [
        INTRODUCTION,
        "## Inputs\n",
        "Subscriptions are best effort by default (`input_qos`), which matches every camera driver.\n",
        _endpoints(("in",)),
        "## Service and action\n",
        _endpoints(("service", "action")),
        "## Outputs\n",
        "Virtual cameras are computed only while someone is subscribed. Clouds come only when the scale is metric.\n",
        _endpoints(("out",)),
        "## Status codes\n",
        _table(("code", "name", "meaning"), statuses),
        "## Parameters\n",
        "Those that are not live change only while the node is unconfigured; other attempts are refused.\n",
        _parameters(NODE_PARAMS, ""),
        "### Of each real camera\n",
        "`<camera>` is a name in `cameras`.\n",
        _parameters(CAMERA_PARAMS, "<camera>."),
        "### Of each virtual camera\n",
        "`<name>` is a name in `virtual_cameras`. With `axes: body` the pictures carry the frame\n"
        "`<name>_optical_frame`, which the node broadcasts on `/tf_static`; with `axes: optical` that is\n"
        "`frame` itself.\n",
        _parameters(VIRTUAL_PARAMS, "<name>."),
        "## Definitions\n",
        *(
            _definition(repository, name)
            for name in (
                "srv/SynthesizeView.srv",
                "action/SynthesizeViews.action",
                "msg/SynthesizedView.msg",
                "msg/Status.msg",
            )
        ),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown(share_folder()), end="")

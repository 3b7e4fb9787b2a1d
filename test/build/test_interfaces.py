"""The ROS interfaces agree with the code, with each other, and with an independent reading of their files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gld_ros.errors import Status

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL_TF_HASH = "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087"
SERVICE = ("srv/SynthesizeView_Request", "srv/SynthesizeView_Response")
ACTION = tuple(f"action/SynthesizeViews_{half}" for half in ("Goal", "Result", "Feedback"))


def sections(path: Path) -> list[list[str]]:
    """Fields of each part of a .msg, .srv or .action file, comments and spacing removed."""
    parts = re.split(r"^---$", path.read_text(), flags=re.MULTILINE)
    lines = [[re.sub(r"#.*", "", line) for line in part.splitlines()] for part in parts]
    return [[" ".join(line.split()) for line in part if line.strip()] for part in lines]


def test_status_file_has_every_code_with_its_number() -> None:
    (fields,) = sections(ROOT / "msg" / "Status.msg")
    constants = dict(re.fullmatch(r"uint8 (\w+)=(\d+)", field).groups() for field in fields if "=" in field)
    assert {name: int(number) for name, number in constants.items()} == {code.name: int(code) for code in Status}


def test_service_and_action_carry_the_same_fields() -> None:
    service = sections(ROOT / "srv" / "SynthesizeView.srv")
    action = sections(ROOT / "action" / "SynthesizeViews.action")
    assert service == action[:2]


def test_every_interface_file_is_built() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    files = {str(path.relative_to(ROOT)) for kind in ("msg", "srv", "action") for path in (ROOT / kind).glob("*.*")}
    assert files == set(re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', cmake))


def test_built_status_equals_the_codes() -> None:
    message = pytest.importorskip("gld_ros.msg").Status
    assert {code.name: getattr(message, code.name) for code in Status} == {code.name: int(code) for code in Status}


def test_request_defaults_are_a_usable_request() -> None:
    request = pytest.importorskip("gld_ros.srv").SynthesizeView.Request()
    assert (request.seed, request.clouds, request.time_budget, request.num_samples) == (-1, True, 0.0, 0)


@pytest.fixture(scope="module")
def typestore():
    """rosbags' reading of our .msg files: no rosidl takes part."""
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)

    def register(text: str, name: str) -> None:
        # rosbags puts /msg/ into the name of everything it reads; the halves of services have none
        types = typesys.get_types_from_msg(text, name)
        store.register({key.replace("/srv/msg/", "/srv/").replace("/action/msg/", "/action/"): types[key] for key in types})

    for name in ("Status", "SynthesizedView"):
        register((ROOT / "msg" / f"{name}.msg").read_text(), f"gld_ros/msg/{name}")
    for file, halves in (("srv/SynthesizeView.srv", SERVICE), ("action/SynthesizeViews.action", ACTION)):
        for text, name in zip((ROOT / file).read_text().split("\n---\n"), halves, strict=True):
            register(text, f"gld_ros/{name}")
    return store


def built_hashes(package: str) -> dict[str, str]:
    """Type hashes that rosidl wrote beside the installed interfaces, by type name."""
    share = pytest.importorskip("gld_ros.share").installed_share(package)
    if share is None:
        pytest.skip(f"needs ROS: {package} is not installed with its interfaces")
    hashes: dict[str, str] = {}
    for path in share.glob("*/*.json"):
        content = json.loads(path.read_text())
        if "type_hashes" in content:
            hashes |= {entry["type_name"]: entry["hash_string"] for entry in content["type_hashes"]}
    if not hashes:
        pytest.skip(f"needs ROS: {share} has no type hashes")
    return hashes


@pytest.mark.parametrize("name", ["msg/Status", "msg/SynthesizedView", *SERVICE, *ACTION])
def test_type_hash_equals_an_independent_one(typestore, name: str) -> None:
    assert built_hashes("gld_ros")[f"gld_ros/{name}"] == typestore.hash_rihs01(f"gld_ros/{name}")


def test_tf_message_is_the_official_type() -> None:
    assert built_hashes("tf2_msgs")["tf2_msgs/msg/TFMessage"] == OFFICIAL_TF_HASH
